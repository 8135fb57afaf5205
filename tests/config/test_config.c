/* test_config.c - checks the loading of a configuration: the loaded values are those of the file,
 * the command line overrides the file, and every message of refusal names the place of the error.
 * Test. Includes load.h, config/. */
#include "config/config.h"

#include <math.h>
#include <stdbool.h>

#include "load.h"

/* Checks that the file is refused with a message that contains the place `at` (":line:column") and
 * the text `part`. */
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
    /* the value of the file, because the command line does not override this key */
    CHECK(c->train.learning_rate == 3e-4);
    plumb_config_free(&c);
    char *const sft[] = {e};
    c = load("sft", full, sft, 1); /* the file may have sections that only other commands read */
    CHECK(!strcmp(c->data.train, "a.jsonl"));
    plumb_config_free(&c);
    char s[] = "samples=9", t[] = "timeout=7", u[] = "append_eos=false";
    /* `samples` without a section is allowed, because only one section of this command has it */
    char *const names[] = {s};
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

int main(void)
{
    load_begin();
    test_round_trip();
    test_overrides();
    test_bad_yaml();
    test_bad_overrides();
    load_end();
    return 0;
}
