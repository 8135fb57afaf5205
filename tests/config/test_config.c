/* test_config.c - the option table, loading, error messages with their place, and writing YAML that
 * loads again.
 * Test. Includes harness.h, config/, io/, train/schedule.h. */
#include <stdbool.h>
#include <string.h>

#include "align/param.h"
#include "base/log.h"
#include "config/config.h"
#include "config/option.h"
#include "harness.h"
#include "io/file.h"
#include "train/schedule.h"

static char root[4096], yaml_path[5000];

static void write_yaml(const char *text)
{
    CHECK_OK(plumb_file_write_atomic(yaml_path, text, (int64_t)strlen(text)));
}

static struct plumb_config *load(const char *command, const char *yaml, char *const *override,
                                 int n)
{
    struct plumb_config *c = NULL;
    if (yaml)
        write_yaml(yaml);
    CHECK_OK(plumb_config_load(&c, command, yaml ? yaml_path : NULL, override, n));
    return c;
}

static void says(const char *part)
{
    CHECKF(strstr(plumb_trail_message(), part), "'%s' does not say '%s'", plumb_trail_message(),
           part);
}

/* The file is refused at :line:column with a message that holds `part`. */
static void bad_yaml(const char *yaml, const char *at, const char *part)
{
    struct plumb_config *c = (struct plumb_config *)&c;
    char place[64];
    write_yaml(yaml);
    const plumb_status st = plumb_config_load(&c, "align", yaml_path, NULL, 0);
    CHECKF(st == PLUMB_ERR_CONFIG, "%s: status %d", yaml, (int)st);
    CHECK(c == NULL);
    snprintf(place, sizeof(place), "test.yaml:%s: ", at);
    says(place);
    says(part);
}

static void bad_override(const char *command, const char *text, const char *part)
{
    struct plumb_config *c;
    char first[] = "seed=1", second[200];
    snprintf(second, sizeof(second), "%s", text);
    char *const override[] = {first, second};
    write_yaml("{}");
    CHECKF(plumb_config_load(&c, command, yaml_path, override, 2) == PLUMB_ERR_CONFIG, "%s", text);
    says("command line argument 4 (");
    says(part);
    CHECK(plumb_config_load(&c, command, NULL, override + 1, 1) == PLUMB_ERR_CONFIG);
    says("command line argument 2 (");
}

/* Within a command a name alone means one option, but for these. */
static void test_names(void)
{
    const struct plumb_option *o, *p;
    const struct plumb_command *k;
    for (int c = 0; (k = plumb_command_at(c)); c++)
        for (int i = 0; (o = plumb_option_at(i)); i++)
            for (int j = i + 1; (p = plumb_option_at(j)); j++)
                CHECKF(strcmp(o->name, p->name) || !plumb_option_used(o, k->name) ||
                           !plumb_option_used(p, k->name) || !strcmp(o->path, "model") ||
                           !strcmp(o->path, "comm.timeout") || !strcmp(o->path, "eval.samples"),
                       "%s: %s", k->name, o->path);
}

static void test_table(void)
{
    const struct plumb_option *o, *p;
    int count = 0;
    struct plumb_config *c = load("align", NULL, NULL, 0); /* every default is readable */
    for (int i = 0; (o = plumb_option_at(i)); i++, count++) {
        CHECKF(*o->name && *o->help && *o->commands, "%s", o->path);
        for (const char *l = o->commands; *l; l++) {
            bool known = false;
            const struct plumb_command *k;
            for (int j = 0; (k = plumb_command_at(j)); j++)
                known = known || (k->letter == *l && k->letter != 'h');
            CHECKF(known && !strchr(l + 1, *l), "%s: %c", o->path, *l);
        }
        CHECKF(!plumb_section_help(o->name) || !strcmp(o->section, "data") ||
                   !strcmp(o->section, "reward"),
               "%s is also a section", o->path);
        if (o->type == PLUMB_TYPE_REAL || o->type == PLUMB_TYPE_INT)
            CHECKF(*o->range == '[' || *o->range == '(', "%s", o->path);
        if (o->type == PLUMB_TYPE_CHOICE || o->type == PLUMB_TYPE_WORD)
            CHECKF(strchr(o->range, '|'), "%s", o->path);
        for (int j = i + 1; (p = plumb_option_at(j)); j++)
            CHECKF(strcmp(o->path, p->path), "%s", o->path);
    }
    test_names();
    CHECK(count > 80);
    CHECK(c->comm.timeout == 60 && c->comm.max_wait == 1800);
    CHECK(c->generate.max_new_tokens == 128 && c->seed == 1);
    CHECK(c->train.learning_rate == 1e-5 && c->checkpoint.shard_bytes == 5000000000);
    CHECK(c->log_level == PLUMB_LOG_INFO && !strcmp(c->device, "auto"));
    CHECK(!strcmp(c->output, "-") && !*c->model && !*c->tokenizer);
    CHECK(c->reward.functions.n == 0 && c->generate.stop.n == 0);
    plumb_config_free(&c);
    plumb_config_free(&c);
}

/* Options and parameters of a method get their defaults from the same line of
 * align/param_list.h, read by two functions: both read the same value. */
static void check_align_defaults(void)
{
    const struct plumb_align_param p = plumb_align_param_default();
    struct plumb_config *c = load("align", NULL, NULL, 0);
#define CHECK_DEFAULT(X, type, c_type, name, ...)                                                  \
    CHECKF((c_type)c->method.name == p.name, "method.%s", #name);
    PLUMB_METHOD_LIST(CHECK_DEFAULT, PLUMB_PARAM_NONE, )
#undef CHECK_DEFAULT
    CHECK(p.tau == 0.2 && p.noise_window == 200 && p.length_normalize && p.rho == -0.5);
    CHECK(p.rank_loss == PLUMB_RANK_HINGE && p.threshold == PLUMB_THRESHOLD_DECAY);
    plumb_config_free(&c);
}

/* Choices are read as enums elsewhere: same names, same order. */
static void test_choices(void)
{
    char text[64];
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof(text), "lr_schedule=%s",
                 plumb_schedule_name((enum plumb_schedule_kind)i));
        char *const override[] = {text};
        struct plumb_config *c = load("sft", NULL, override, 1);
        CHECK(c->train.lr_schedule == i);
        plumb_config_free(&c);
    }
    static const struct {
        const char *path;
        const char *const *names;
    } same[] = {{"rank_loss", plumb_rank_loss_names},
                {"weighted_loss", plumb_weighted_loss_names},
                {"reward_norm", plumb_reward_norm_names},
                {"threshold", plumb_threshold_names},
                {"reverse", plumb_reverse_names}};
    for (size_t k = 0; k < sizeof(same) / sizeof(*same); k++) {
        char range[128] = "";
        for (int i = 0; same[k].names[i]; i++)
            snprintf(range + strlen(range), sizeof(range) - strlen(range), "%s%s", i ? "|" : "",
                     same[k].names[i]);
        CHECKF(!strcmp(plumb_option_find("method", same[k].path)->range, range), "%s: %s",
               same[k].path, range);
    }
    check_align_defaults();
    char init[] = "init=random", level[] = "log_level=debug";
    char *const override[] = {init, level};
    struct plumb_config *c = load("sft", NULL, override, 2);
    CHECK(c->train.init == PLUMB_INIT_RANDOM && c->log_level == PLUMB_LOG_DEBUG);
    plumb_config_free(&c);
}

static const char full[] = "# a comment\n"
                           "model: models/a b\n"
                           "seed: 18446744073709551615\n"
                           "threads:\n"
                           "data: {prompts: \"p\\u00e9.jsonl\", shuffle: false}\n"
                           "generate:\n"
                           "  temperature: 0.7\n"
                           "  stop: [\"\\n\", 'a, b', c]\n"
                           "method:\n"
                           "  principle_template: |\n"
                           "    {principle}\n"
                           "\n"
                           "    {prompt}\n"
                           "  threshold: quantile\n"
                           "reward:\n"
                           "  functions:\n"
                           "    - name: length\n"
                           "      target: 40.5\n"
                           "    - {name: words, weight: -2, words: [good, \"kind\"]}\n"
                           "  command: python3 score.py --x=1\n"
                           "train:\n"
                           "  learning_rate: 3e-4\n"
                           "checkpoint:\n";

static void check_full(const struct plumb_config *c)
{
    CHECK(!strcmp(c->model, "models/a b") && !strcmp(c->tokenizer, "models/a b"));
    CHECK(c->seed == UINT64_MAX && c->threads == 0);
    CHECK(!strcmp(c->data.prompts, "p\xc3\xa9.jsonl") && !c->data.shuffle);
    CHECK(c->generate.temperature == 0.7 && c->generate.stop.n == 3);
    CHECK(!strcmp(c->generate.stop.item[0], "\n") && !strcmp(c->generate.stop.item[1], "a, b"));
    CHECK(!strcmp(c->generate.stop.item[2], "c"));
    CHECK(!strcmp(c->method.principle_template, "{principle}\n\n{prompt}\n"));
    CHECK(c->method.threshold == 1);
    CHECK(c->reward.functions.n == 2);
    const struct plumb_reward_function *f = c->reward.functions.item;
    CHECK(f[0].name == PLUMB_REWARD_LENGTH && f[0].target == 40.5 && f[0].weight == 1);
    CHECK(isnan(f[0].min) && isnan(f[0].max) && !*f[0].pattern && f[0].words.n == 0);
    CHECK(f[1].name == PLUMB_REWARD_WORDS && f[1].weight == -2 && f[1].words.n == 2);
    CHECK(!strcmp(f[1].words.item[1], "kind") && isnan(f[1].target));
    CHECK(!strcmp(c->reward.command, "python3 score.py --x=1"));
    CHECK(c->train.learning_rate == 3e-4 && c->train.beta2 == 0.999);
}

static void test_round_trip(void)
{
    struct plumb_config *c = load("align", full, NULL, 0);
    check_full(c);
    struct plumb_buf once = {0}, twice = {0}, used = {0};
    CHECK_OK(plumb_config_to_yaml(&once, c, NULL));
    const uint64_t hash = plumb_config_hash(c, NULL);
    plumb_config_free(&c);
    c = load("align", once.data, NULL, 0);
    check_full(c);
    CHECK(plumb_config_hash(c, NULL) == hash);
    CHECK_OK(plumb_config_to_yaml(&twice, c, NULL));
    CHECK(!strcmp(once.data, twice.data));
    CHECK_OK(plumb_config_to_yaml(&used, c, "tokenize"));
    CHECK(strstr(used.data, "special: true") && !strstr(used.data, "train:"));
    plumb_config_free(&c);
    plumb_buf_fini(&once);
    plumb_buf_fini(&twice);
    plumb_buf_fini(&used);
}

static void test_overrides(void)
{
    char a[] = "temperature=0", b[] = "model=other", d[] = "generate.stop=x, y,\"\",z",
         e[] = "train=a.jsonl", f[] = "reward.model=rm", g[] = "epochs=3", h[] = "comm.timeout=1.5",
         i[] = "reward.functions=[{name: regex, pattern: \"a{2}, b\"}]",
         j[] = "data.eval=", k[] = "prompt_template=Q: {prompt}\nA: =", l[] = "epochs=4";
    char *const align[] = {a, b, d, f, g, h, i, j, k, l};
    struct plumb_config *c = load("align", full, align, 10);
    CHECK(c->generate.temperature == 0 && !strcmp(c->model, "other"));
    CHECK(!strcmp(c->tokenizer, "other") && !strcmp(c->reward.model, "rm"));
    CHECK(c->generate.stop.n == 4 && !strcmp(c->generate.stop.item[1], " y"));
    CHECK(!*c->generate.stop.item[2] && !strcmp(c->generate.stop.item[3], "z"));
    CHECK(c->train.epochs == 4 && c->comm.timeout == 1.5);
    CHECK(c->reward.functions.n == 1 && c->reward.functions.item[0].name == PLUMB_REWARD_REGEX);
    CHECK(!strcmp(c->reward.functions.item[0].pattern, "a{2}, b"));
    CHECK(!*c->data.eval && !strcmp(c->data.prompt_template, "Q: {prompt}\nA: ="));
    CHECK(c->train.learning_rate == 3e-4); /* the file still holds where nothing overrides */
    plumb_config_free(&c);
    char *const sft[] = {e};
    c = load("sft", full, sft, 1); /* the file's other sections do not disturb */
    CHECK(!strcmp(c->data.train, "a.jsonl"));
    plumb_config_free(&c);
    char s[] = "samples=9", t[] = "timeout=7", u[] = "append_eos=false";
    char *const names[] = {s}; /* only one of the command's options has the name */
    c = load("align", NULL, names, 1);
    CHECK(c->report.samples == 9 && c->eval.samples == 1);
    plumb_config_free(&c);
    char *const sft_names[] = {t, u};
    c = load("sft", NULL, sft_names, 2);
    CHECK(c->comm.timeout == 7 && c->reward.timeout == 30 && !c->data.append_eos);
    plumb_config_free(&c);
    char m[] = "stop=[\"a,b\", c]", n[] = "stop=";
    char *const list[] = {m};
    c = load("generate", NULL, list, 1);
    CHECK(c->generate.stop.n == 2 && !strcmp(c->generate.stop.item[0], "a,b"));
    plumb_config_free(&c);
    char *const none[] = {m, n};
    c = load("generate", NULL, none, 2);
    CHECK(c->generate.stop.n == 0);
    plumb_config_free(&c);
}

static void test_bad_yaml(void)
{
    bad_yaml("seed: 1\ntrain:\n  learning_rat: 1\n", "3:3",
             "unknown key 'train.learning_rat', did you mean 'learning_rate' in section 'train:'?");
    bad_yaml("generat:\n  seed: 1\n", "1:1", "did you mean the section 'generate:'?");
    bad_yaml("temperature: 1\n", "1:1", "did you mean 'temperature' in section 'generate:'?");
    bad_yaml("train.epochs: 1\n", "1:1", "did you mean 'epochs' in section 'train:'?");
    bad_yaml("train:\n  seed: 1\n", "2:3", "did you mean 'seed' at the top of the file?");
    bad_yaml("modle: x\n", "1:1", "did you mean 'model'?");
    bad_yaml("qqqqqqqq: x\n", "1:1", "unknown key 'qqqqqqqq'; 'plumb help COMMAND'");
    bad_yaml("train: {epochs: 1, epochs: 2}\n", "1:20", "in this map already, on line 1");
    bad_yaml("train: 3\n", "1:8", "section 'train' is a scalar");
    bad_yaml("- a\n", "1:1", "a configuration is a list");
    bad_yaml("a: [\n", "2:1", "YAML");
    bad_yaml("a: &x 1\n", "1:5", "an anchor is not supported");
    bad_yaml("generate:\n  temperature: hot\n", "2:16",
             "generate.temperature is 'hot', expected a number in [0, 100]");
    bad_yaml("generate:\n  temperature: -1\n", "2:16", "in [0, 100]");
    bad_yaml("generate:\n  temperature: 100.5\n", "2:16", "is '100.5'");
    bad_yaml("generate:\n  top_p: 0\n", "2:10", "expected a number in (0, 1]");
    bad_yaml("train:\n  beta1: 1\n", "2:10", "expected a number in [0, 1)");
    bad_yaml("train:\n  epochs: 1.5\n", "2:11", "is '1.5', expected an integer in [1, 1000000]");
    bad_yaml("train:\n  epochs: 0\n", "2:11", "expected an integer in [1, 1000000]");
    bad_yaml("train:\n  epochs: 99999999999999999999\n", "2:11", "expected an integer");
    bad_yaml("train:\n  epochs: \"2\"\n", "2:11", "is text in quotes, expected an integer");
    bad_yaml("train:\n  recompute: yes\n", "2:14", "is 'yes', expected true or false");
    bad_yaml("train:\n  lr_schedule: cosin\n", "2:16", "one of constant|linear|cosine");
    bad_yaml("train:\n  epochs: [1]\n", "2:11", "train.epochs is a list");
    bad_yaml("model: {a: 1}\n", "1:8", "model is a map, expected text");
    bad_yaml("seed: -1\n", "1:7", "expected an integer from 0");
    bad_yaml("seed: 18446744073709551616\n", "1:7", "expected an integer from 0");
    static const char *const number[] = {"nan",  ".nan", "inf", ".inf", "-.inf", "1e999",
                                         "0x10", "1_0",  "+",   "1 2",  "1e",    "1,5"};
    for (size_t i = 0; i < sizeof(number) / sizeof(*number); i++) {
        char text[64];
        snprintf(text, sizeof(text), "train:\n  weight_decay: %s\n", number[i]);
        bad_yaml(text, "2:17", "expected a number");
    }
    bad_yaml("generate:\n  stop: a, b\n", "2:9", "write \"a,b\" in quotes for one, [a, b]");
    bad_yaml("generate:\n  stop: {a: b}\n", "2:9", "generate.stop is a map, expected a list");
    bad_yaml("generate:\n  stop: [a, [b]]\n", "2:9", "a list with a list in it");
    bad_yaml("generate:\n  stop: [a, {b: c}]\n", "2:9", "a list with a map in it");
    bad_yaml("generate:\n  stop: [a, ~]\n", "2:9", "a list with null in it");
    bad_yaml("data:\n  prompt_template: {prompt}\n", "2:20", "begins with '[' or '{' needs quotes");
    bad_yaml("train:\n  <<: {epochs: 2}\n", "2:3", "a merge key is not supported");
    bad_yaml("model: !!str x\n", "1:8", "a tag is not supported");
    bad_yaml("train:\n\tepochs: 2\n", "2:1", "tab character may not be used");
    bad_yaml("checkpoint:\n  shard_bytes: 5GB\n", "2:16", "as a plain number of bytes");
    bad_yaml("train:\n  recompute: on\n", "2:14", "is 'on', expected true or false");
    bad_yaml("reward:\n  functions:\n    - name: length\n    - target: 3\n", "4:7", "has no name");
    bad_yaml("reward:\n  functions:\n    - {name: length, wieght: 1}\n", "3:22",
             "unknown key 'wieght' in a reward function, did you mean 'weight'?");
    bad_yaml("reward:\n  functions:\n    - {name: size}\n", "3:14", "one of length|regex");
    bad_yaml("reward:\n  functions: [length]\n", "2:15", "expected a map like");
    bad_yaml("reward:\n  functions: {name: length}\n", "2:14", "is a map, expected a list");
    struct plumb_config *c;
    write_yaml("model: \"a\xff\"\n");
    CHECK(plumb_config_load(&c, "align", yaml_path, NULL, 0) == PLUMB_ERR_CONFIG);
    says(":1: byte 9 (0xff) is not valid UTF-8");
    CHECK(plumb_config_load(&c, "align", "/no/such.yaml", NULL, 0) == PLUMB_ERR_IO);
    says("/no/such.yaml");
    CHECK(plumb_config_load(&c, "alien", NULL, NULL, 0) == PLUMB_ERR_CONFIG);
}

static void test_bad_overrides(void)
{
    bad_override("align", "learning_rat=1", "did you mean 'train.learning_rate'?");
    bad_override("align", "trian.epochs=1", "did you mean 'train.epochs'?");
    bad_override("align", "zzzzzzzz=1", "unknown key 'zzzzzzzz'; 'plumb help");
    bad_override("align", "timeout=1", "'timeout' may mean 'comm.timeout' or 'reward.timeout'");
    bad_override("align", "reward=x", "'reward' is a section");
    bad_override("align", "nothing", "expected key=value");
    bad_override("align", "=1", "expected key=value");
    bad_override("align", "temperature=", "generate.temperature is '', expected a number");
    bad_override("align", "temperature=1e999", "generate.temperature is '1e999'");
    bad_override("generate", "tau=1", "'method.tau' is not used by generate; it belongs to: align");
    bad_override("eval", "learning_rate=1", "it belongs to: align, sft, reward, prefer");
    bad_override("align", "stop=[a", "YAML");
    bad_override("align", "functions=[{name: nothing}]", "one of length|regex");
    bad_override("align", "model=\xff", "model is not valid UTF-8");
}

/* Behind key= and behind "key: " the same text means the same, and config.effective.yaml says what
 * it means. file: the YAML when it is written otherwise there; NULL: the same. */
static const struct {
    const char *section, *name, *value, *file, *effective;
} values[] = {
    {"generate", "stop", "were", NULL, "[were]"},
    {"generate", "stop", "\"were\"", NULL, "[were]"},
    {"generate", "stop", "'were'", NULL, "[were]"},
    {"generate", "stop", "[were]", NULL, "[were]"},
    {"generate", "stop", "[\"were\"]", NULL, "[were]"},
    {"generate", "stop", "\\n", NULL, "[\"\\\\n\"]"},
    {"generate", "stop", "\"\\n\"", NULL, "[\"\\n\"]"},
    {"generate", "stop", "'\\n'", NULL, "[\"\\\\n\"]"},
    {"generate", "stop", "\n", "\"\\n\"", "[\"\\n\"]"},
    {"generate", "stop", "'it''s'", NULL, "[\"it's\"]"},
    {"generate", "stop", "\"a,b\"", NULL, "[\"a,b\"]"},
    {"generate", "stop", "[\"a,b\", c]", NULL, "[\"a,b\", c]"},
    {"generate", "stop", "a,b", "[a, b]", "[a, b]"},
    {"generate", "stop", "a, b", "[a, \" b\"]", "[a, \" b\"]"},
    {"generate", "stop", "\"\\n\",END", "[\"\\n\", END]", "[\"\\n\", END]"},
    {"generate", "stop", "a, '\"' ,b", "[a, '\"', b]", "[a, \"\\\"\", b]"},
    {"generate", "stop", " x", "' x'", "[\" x\"]"},
    {"generate", "stop", " ", "' '", "[\" \"]"},
    {"generate", "stop", "\"\"", NULL, "[\"\"]"},
    {"generate", "stop", "#", "'#'", "[\"#\"]"},
    {"generate", "stop", "a #b", "'a #b'", "[\"a #b\"]"},
    {"generate", "stop", "a: b=c", "'a: b=c'", "[\"a: b=c\"]"},
    {"generate", "stop", "a:b", NULL, "[\"a:b\"]"},
    {"generate", "stop", "3", NULL, "[\"3\"]"},
    {"generate", "stop", "true", NULL, "[\"true\"]"},
    {"generate", "stop", "[1, yes]", NULL, "[\"1\", \"yes\"]"},
    {"generate", "stop", "[]", NULL, "[]"},
    {"generate", "stop", "", NULL, "[]"},
    {"generate", "stop", "~", NULL, "[]"},
    {"generate", "stop", "null", NULL, "[]"},
    {"generate", "stop", "\"null\"", NULL, "[\"null\"]"},
    {"generate", "stop", "[\"\\u00e9\\U0001F600\\x41\\t\"]", NULL,
     "[\"\xc3\xa9\xf0\x9f\x98\x80"
     "A\\t\"]"},
    {"generate", "stop", "\"\xc2\x85\xe2\x80\xa8\xef\xbb\xbf\"", NULL,
     "[\"\xc2\x85\xe2\x80\xa8\xef\xbb\xbf\"]"},
    {"data", "prompt_template", "{prompt}", "'{prompt}'", "\"{prompt}\""},
    {"data", "prompt_template", "\"Q {prompt}\\nA\"", NULL, "\"Q {prompt}\\nA\""},
    {"data", "prompt_template", "'Q {prompt}\\nA'", NULL, "\"Q {prompt}\\\\nA\""},
    {"data", "prompt_template", "Q {prompt}\\nA", NULL, "\"Q {prompt}\\\\nA\""},
    {"data", "prompt_template", "Q: {prompt} # 1 ", "'Q: {prompt} # 1 '", "\"Q: {prompt} # 1 \""},
    {"data", "prompt_template", "null", NULL, "\"{prompt}\""},
    {"data", "prompt_template", " \"x {prompt}\" ", NULL, "\"x {prompt}\""},
    {"data", "prompts", "null", NULL, "\"\""},
    {"data", "prompts", "a=b", NULL, "a=b"},
    {"data", "prompts", "\"a b\"", NULL, "\"a b\""},
    {"data", "prompts", "", NULL, "\"\""},
    {"data", "shuffle", "False", NULL, "false"},
    {"data", "shuffle", " TRUE", NULL, "true"},
    {"data", "shuffle", "~", NULL, "true"},
    {"data", "limit", "5e9", NULL, "5000000000"},
    {"data", "limit", " 7\t", NULL, "7"},
    {"data", "limit", "010", NULL, "10"},
    {"data", "limit", "null", NULL, "0"},
    {"generate", "temperature", ".5", NULL, "0.5"},
    {"generate", "temperature", "1", NULL, "1"},
    {"method", "threshold", "\"none\"", NULL, "none"},
    {"method", "threshold", " decay ", NULL, "decay"},
    {"reward", "functions", "[{name: length, target: 3}]", NULL,
     "[{name: length, weight: 1, target: 3}]"},
    {"reward", "functions", "null", NULL, "[]"},
    {"reward", "functions", "", NULL, "[]"},
};

static const char other_first[] = "generate: {stop: [q], temperature: 0.3}\n"
                                  "data: {prompt_template: \"z{prompt}\", prompts: q, limit: 9}\n"
                                  "reward: {functions: [{name: regex, pattern: q}]}\n";

static void test_values(void)
{
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        char argument[300], file[300], line[300];
        snprintf(argument, sizeof(argument), "%s.%s=%s", values[i].section, values[i].name,
                 values[i].value);
        snprintf(file, sizeof(file), "%s:\n  %s: %s\n", values[i].section, values[i].name,
                 values[i].file ? values[i].file : values[i].value);
        snprintf(line, sizeof(line), "\n  %s: %s\n", values[i].name, values[i].effective);
        char *const override[] = {argument};
        struct plumb_config *a = load("align", other_first, override, 1);
        struct plumb_config *b = load("align", file, NULL, 0);
        struct plumb_buf yaml[2] = {{0}, {0}};
        CHECK_OK(plumb_config_to_yaml(&yaml[0], a, NULL));
        CHECK_OK(plumb_config_to_yaml(&yaml[1], b, NULL));
        for (int k = 0; k < 2; k++)
            CHECKF(strstr(yaml[k].data, line), "%s, %s: no line '%s'", argument,
                   k ? "in the file" : "argument", line + 1);
        struct plumb_config *again = load("align", yaml[0].data, NULL, 0);
        CHECKF(plumb_config_hash(again, NULL) == plumb_config_hash(a, NULL), "%s", argument);
        plumb_config_free(&again);
        plumb_config_free(&a);
        plumb_config_free(&b);
        plumb_buf_fini(&yaml[0]);
        plumb_buf_fini(&yaml[1]);
    }
}

/* What is no value of the option, or may mean two things. */
static void test_bad_values(void)
{
    bad_override("align", "stop=\"a", "the quotation does not end");
    bad_override("align", "stop=\"a\" b", "the quotation ends before the element does");
    bad_override("align", "stop=a,,b", "is empty; write \"\" for an empty text");
    bad_override("align", "stop=a,", "is empty");
    bad_override("align", "stop=a,[b]", "is a list, expected a text");
    bad_override("align", "stop=a,{b}", "is a map, expected a text");
    bad_override("align", "stop=a,null", "write \"null\" in quotes");
    bad_override("align", "stop=[[a]]", "a list with a list in it");
    bad_override("align", "stop={a: b}", "generate.stop is a map");
    bad_override("align", "stop=[a, ~]", "a list with null in it");
    bad_override("align", "prompt_template=\"a\" {prompt}", "the quotation ends before the value");
    bad_override("align", "prompt_template='a", "the quotation does not end");
    bad_override("align", "prompt_template=\"\\q\"", "YAML");
    bad_override("align", "prompt_template=\"a\\0\"", "a NUL byte");
    bad_override("align", "prompt_template=", "is empty; write null for the default");
    bad_override("align", "epochs=\"2\"", "is text in quotes, expected an integer");
    bad_override("align", "shuffle=\"true\"", "is text in quotes, expected true or false");
    bad_override("align", "shuffle=yes", "is 'yes', expected true or false");
    bad_override("align", "shuffle=1", "is '1', expected true or false");
    bad_override("align", "shuffle=", "is '', expected true or false");
    bad_override("align", "limit=1_000", "is '1_000', expected an integer");
    bad_override("align", "limit=1,000", "is '1,000', expected an integer");
    bad_override("align", "limit=0x10", "is '0x10', expected an integer");
    bad_override("align", "limit=1 2", "is '1 2', expected an integer");
    bad_override("align", "shard_bytes=80GB", "as a plain number of bytes");
    bad_override("align", "functions={name: length}", "is a map, expected a list");
    bad_override("align", "functions=length", "reward.functions is a scalar");
    bad_override("align", "stop=a\xff,b", "generate.stop is not valid UTF-8");
}

static uint64_t hash_with(const char *text)
{
    char line[100];
    snprintf(line, sizeof(line), "%s", text);
    char *const override[] = {line};
    struct plumb_config *c = load("align", "model: m\n", override, 1);
    const uint64_t h = plumb_config_hash(c, "align");
    plumb_config_free(&c);
    return h;
}

static void test_hash(void)
{
    const uint64_t h = hash_with("seed=1");
    static const char *const same[] = {"output_dir=x",   "threads=7",          "resume=auto",
                                       "slots=3",        "comm.timeout=5",     "log_level=debug",
                                       "log_level=warn", "checkpoint.every=5", "recompute=true",
                                       "html=false",     "tokenizer=m",        "temperature=1.0"};
    static const char *const other[] = {"seed=2",      "model=n",    "temperature=0.5",
                                        "tau=0.3",     "beta2=0.95", "limit=1",
                                        "stop=a",      "stop=a,b",   "tokenizer=n",
                                        "device=ref",  "name=raft",  "functions=[{name: length}]",
                                        "principles=p"};
    for (size_t i = 0; i < sizeof(same) / sizeof(*same); i++)
        CHECKF(hash_with(same[i]) == h, "%s", same[i]);
    for (size_t i = 0; i < sizeof(other) / sizeof(*other); i++) {
        CHECKF(hash_with(other[i]) != h, "%s", other[i]);
        for (size_t j = 0; j < i; j++)
            CHECKF(hash_with(other[i]) != hash_with(other[j]), "%s %s", other[i], other[j]);
    }
}

/* What one override changes, against the same configuration without it. */
static void test_diff(void)
{
    char lr[] = "learning_rate=2e-5", words[] = "functions=[{name: length, target: 3}]",
         stop[] = "stop=a,b", free_to_change[] = "slots=3", where[] = "output_dir=elsewhere",
         same[] = "temperature=1.0";
    struct plumb_buf then = {0}, diff = {0};
    struct plumb_config *c = load("align", "model: m\n", NULL, 0);
    CHECK_OK(plumb_config_results(&then, c, "align"));
    CHECK(strstr(then.data, "learning_rate: ") && !strstr(then.data, "output_dir") &&
          !strstr(then.data, "slots") && !strstr(then.data, "resume"));
    CHECK_OK(plumb_config_diff(&diff, c, then.data, then.len, "the checkpoint", "align"));
    CHECK(diff.len == 0);
    plumb_config_free(&c);
    char *const override[] = {lr, words, stop, free_to_change, where, same};
    c = load("align", "model: m\n", override, 6);
    CHECK_OK(plumb_config_diff(&diff, c, then.data, then.len, "the checkpoint", "align"));
    CHECKF(!strcmp(diff.data, "generate.stop: [] in the checkpoint, [a, b] now\n"
                              "reward.functions: [] in the checkpoint, "
                              "[{name: length, weight: 1, target: 3}] now\n"
                              "train.learning_rate: 1e-05 in the checkpoint, 2e-05 now\n"),
           "%s", diff.data);
    plumb_buf_clear(&diff); /* by hand: what is not there has its default */
    static const char hand[] = "train: {learning_rate: 2.0e-5}\ndevice: ref\n";
    CHECK_OK(plumb_config_diff(&diff, c, hand, sizeof(hand) - 1, "old.yaml", "align"));
    CHECK(strstr(diff.data, "model: \"\" in old.yaml, m now\n") &&
          strstr(diff.data, "device: ref in old.yaml, auto now\n") &&
          !strstr(diff.data, "learning_rate"));
    CHECK_FAILS(plumb_config_diff(&diff, c, "train: {lr: 1}\n", 15, "old.yaml", "align"),
                PLUMB_ERR_CONFIG, "old.yaml:1");
    plumb_config_free(&c);
    plumb_buf_fini(&then);
    plumb_buf_fini(&diff);
}

static void test_help(void)
{
    const struct plumb_command *k;
    struct plumb_buf b = {0};
    CHECK_OK(plumb_config_help(&b, NULL));
    for (int i = 0; (k = plumb_command_at(i)); i++)
        CHECKF(strstr(b.data, k->name), "%s", k->name);
    for (int i = 0; (k = plumb_command_at(i)); i++) {
        plumb_buf_clear(&b);
        CHECK_OK(plumb_config_help(&b, k->name));
        for (char *line = strtok(b.data, "\n"); line; line = strtok(NULL, "\n"))
            CHECKF(strlen(line) <= 100 && line[strlen(line) - 1] != ' ', "%s: '%s'", k->name, line);
    }
    plumb_buf_clear(&b);
    CHECK_OK(plumb_config_help(&b, "generate"));
    CHECK(strstr(b.data, "temperature") && !strstr(b.data, "learning_rate"));
    CHECK(plumb_config_help(&b, "generat") == PLUMB_ERR_CONFIG);
    says("did you mean 'generate'?");
    plumb_buf_fini(&b);
}

static void test_distance(void)
{
    CHECK(plumb_edit_distance("", "") == 0 && plumb_edit_distance("abc", "") == 3);
    CHECK(plumb_edit_distance("abc", "abc") == 0 && plumb_edit_distance("abc", "acb") == 1);
    CHECK(plumb_edit_distance("kitten", "sitting") == 3 && plumb_edit_distance("ab", "ba") == 1);
    CHECK(plumb_edit_distance("ca", "abc") == 3); /* restricted: no edit inside a swap */
}

int main(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof(root), "%s/plumb_test_config_XXXXXX", base ? base : "/tmp");
    CHECK(mkdtemp(root));
    snprintf(yaml_path, sizeof(yaml_path), "%s/test.yaml", root);
    test_table();
    test_choices();
    test_round_trip();
    test_overrides();
    test_bad_yaml();
    test_bad_overrides();
    test_values();
    test_bad_values();
    test_hash();
    test_diff();
    test_help();
    test_distance();
    CHECK_OK(plumb_dir_remove(root));
    return 0;
}
