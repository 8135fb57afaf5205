/* test_chat.c - checks messages with chat templates: token ids and loss masks must be those of
 * TRL's trainers. Also checks the settings stored in a model folder, and what is refused.
 * Test. Fixture: tests/reference/chat_fixtures.py. */
#include "data/chat.h"

#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "config/config.h"
#include "data/dataset.h"
#include "harness.h"
#include "io/file.h"

#define USER(t) "{\"role\":\"user\",\"content\":\"" t "\"}"
#define BOT(t)  "{\"role\":\"assistant\",\"content\":\"" t "\"}"

static const char *const plain =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

static char dir[] = "/tmp/plumb-chat-XXXXXX";

static void put_file(const char *name, const char *text)
{
    char path[256];
    CHECK_OK(plumb_path_join(path, sizeof(path), dir, name));
    CHECK_OK(plumb_file_write_atomic(path, text, (int64_t)strlen(text)));
}

static void remove_file(const char *name)
{
    char path[256];
    CHECK_OK(plumb_path_join(path, sizeof(path), dir, name));
    unlink(path);
}

static struct plumb_config *load(const char *const *override, int n)
{
    struct plumb_config *cfg;
    CHECK_OK(plumb_config_load(&cfg, "sft", NULL, (char *const *) override, n));
    return cfg;
}

/* Copies the tokenizer fixture `name` to the temporary folder, and opens it. */
static plumb_tokenizer *open_words(const char *name)
{
    char path[4200];
    struct plumb_buf text = {0};
    plumb_json *root;
    plumb_tokenizer *t;
    snprintf(path, sizeof(path), "%s/tests/fixtures/tokenizer/%s.json", getenv("PLUMB_SOURCE_ROOT"),
             name);
    CHECK_OK(plumb_json_read_file(&root, path));
    CHECK_OK(plumb_json_put_node(&text, plumb_json_get(root, "tokenizer")));
    put_file("tokenizer.json", plumb_buf_text(&text));
    CHECK_OK(plumb_tokenizer_open(&t, dir));
    plumb_buf_fini(&text);
    plumb_json_free(&root);
    return t;
}

/* ---- the fixture ----------------------------------------------------------------------------- */

static int32_t id_at(const struct plumb_record *r, int side, int64_t i)
{
    return i < r->prompt.n ? r->prompt.ids[i] : r->completion[side].ids[i - r->prompt.n];
}

static void check_ids(const struct plumb_record *r, int side, const plumb_json *want, int n)
{
    const int64_t all = r->prompt.n + r->completion[side].n;
    CHECKF(all == plumb_json_count(want), "case %d: %d ids, expected %d", n, (int)all,
           (int)plumb_json_count(want));
    for (int64_t i = 0; i < all; i++)
        CHECKF(id_at(r, side, i) == plumb_json_int(plumb_json_at(want, i), -1),
               "case %d: id %d is %d, expected %d", n, (int)i, (int)id_at(r, side, i),
               (int)plumb_json_int(plumb_json_at(want, i), -1));
}

static void check_mask(const struct plumb_record *r, const plumb_json *want, int n)
{
    for (int64_t i = 0; i < plumb_json_count(want); i++) {
        const int64_t j = i - r->prompt.n;
        const int got = j >= 0 && (!r->trained || r->trained[j]);
        CHECKF(got == plumb_json_int(plumb_json_at(want, i), -1),
               "case %d: token %d is %strained on", n, (int)i, got ? "" : "not ");
    }
}

static void check_case(const plumb_json *c, const struct plumb_chat_setting *chat,
                       const plumb_tokenizer *t, int n)
{
    const char *kind = plumb_json_string(plumb_json_get(c, "kind"), "");
    const bool pairs = !strcmp(kind, "pairs"), all = !strcmp(kind, "all");
    const struct plumb_data_options o = {.kind = !strcmp(kind, "prompts") ? PLUMB_DATA_PROMPTS
                                                 : pairs                  ? PLUMB_DATA_PAIRS
                                                                          : PLUMB_DATA_SFT,
                                         .tokenizer = t,
                                         .chat = chat,
                                         .append_eos = true,
                                         .all_tokens = all};
    struct plumb_buf text = {0};
    struct plumb_dataset *d;
    const char *refused = plumb_json_string(plumb_json_get(c, "refused"), NULL);
    CHECK_OK(plumb_json_put_node(&text, plumb_json_get(c, "record")));
    if (refused) {
        CHECK_FAILS(plumb_dataset_parse(&d, text.data, text.len, "case", &o), PLUMB_ERR_FORMAT,
                    refused);
        plumb_buf_fini(&text);
        return;
    }
    CHECK_OK(plumb_dataset_parse(&d, text.data, text.len, "case", &o));
    const struct plumb_record *r = &d->record[0];
    const int64_t begin = plumb_json_int(plumb_json_get(c, "begin"), -1);
    check_ids(r, 0, plumb_json_get(c, "ids"), n);
    if (pairs)
        check_ids(r, 1, plumb_json_get(c, "other"), n);
    CHECKF(begin < 0 || r->prompt.n == begin, "case %d: the completion begins at %d, expected %d",
           n, (int)r->prompt.n, (int)begin);
    check_mask(r, plumb_json_get(c, "mask"), n);
    CHECKF(!all || (r->prompt.n == 1 && !r->trained), "case %d: not all tokens are trained on", n);
    plumb_dataset_close(&d);
    plumb_buf_fini(&text);
}

static void test_fixture(void)
{
    char path[4200];
    plumb_json *root;
    int n = 0;
    snprintf(path, sizeof(path), "%s/tests/fixtures/chat/cases.json", getenv("PLUMB_SOURCE_ROOT"));
    CHECK_OK(plumb_json_read_file(&root, path));
    const plumb_json *sets = plumb_json_get(root, "sets");
    for (int64_t i = 0; i < plumb_json_count(sets); i++) {
        const plumb_json *s = plumb_json_at(sets, i), *cases = plumb_json_get(s, "cases");
        struct plumb_buf special = {0};
        struct plumb_chat_setting chat;
        struct plumb_config *cfg = load(NULL, 0);
        CHECK_OK(plumb_json_put_node(&special, plumb_json_get(s, "special")));
        put_file("tokenizer_config.json", plumb_buf_text(&special));
        put_file("chat_template.jinja", plumb_json_string(plumb_json_get(s, "template"), ""));
        plumb_tokenizer *t = open_words(plumb_json_string(plumb_json_get(s, "tokenizer"), ""));
        CHECK_OK(plumb_chat_open(&chat, cfg, dir, dir));
        CHECK(chat.template && chat.tokens == 2 && !chat.parts);
        for (int64_t k = 0; k < plumb_json_count(cases); k++)
            check_case(plumb_json_at(cases, k), &chat, t, n++);
        plumb_chat_close(&chat);
        plumb_tokenizer_close(&t);
        plumb_config_free(&cfg);
        plumb_buf_fini(&special);
    }
    CHECKF(n > 300, "%d cases", n);
    plumb_json_free(&root);
}

/* ---- settings -------------------------------------------------------------------------------- */

static plumb_status prompt_of(struct plumb_buf *out, const struct plumb_config *cfg,
                              const char *record, enum plumb_data_kind kind)
{
    struct plumb_chat_setting chat;
    struct plumb_dataset *d;
    const struct plumb_data_options base = {.kind = kind};
    struct plumb_data_options o = base;
    PLUMB_TRY(plumb_chat_open(&chat, cfg, dir, dir));
    o.chat = &chat;
    const plumb_status st = plumb_dataset_parse(&d, record, (int64_t)strlen(record), "record", &o);
    plumb_buf_clear(out);
    if (st == PLUMB_OK) {
        CHECK_OK(plumb_buf_add(out, d->record[0].prompt.text, d->record[0].prompt.len));
        plumb_dataset_close(&d);
    }
    plumb_chat_close(&chat);
    return st;
}

static void check_prompt(const char *const *override, int n, const char *record, const char *want)
{
    struct plumb_config *cfg = load(override, n);
    struct plumb_buf out = {0};
    CHECK_OK(prompt_of(&out, cfg, record, PLUMB_DATA_PROMPTS));
    CHECKF(strcmp(plumb_buf_text(&out), want) == 0, "\"%s\", not \"%s\"", plumb_buf_text(&out),
           want);
    plumb_buf_fini(&out);
    plumb_config_free(&cfg);
}

#define TURN(role, text) "<|im_start|>" role "\n" text "<|im_end|>\n"
#define ASKS             "<|im_start|>assistant\n"

static void test_settings(void)
{
    static const char *const record = "{\"prompt\":[" USER("a") "]}";
    static const char *const none[] = {"data.chat_template=none"};
    static const char *const automatic[] = {"data.chat_template=auto"};
    static const char *const system[] = {"data.system=be brief", "template_arguments.x=1",
                                         "template_arguments={y: no, z: true}"};
    static const char *const both[] = {"chat_template=t.jinja", "prompt_template=Q: {prompt}"};
    struct plumb_config *cfg;
    struct plumb_chat_setting chat;
    put_file("chat_template.jinja", plain);
    check_prompt(NULL, 0, record, TURN("user", "a") ASKS);
    check_prompt(NULL, 0, "{\"prompt\":\"a\"}", "a");
    check_prompt(none, 1, record, "a");
    check_prompt(system, 1, record, TURN("system", "be brief") TURN("user", "a") ASKS);
    check_prompt(system, 1,
                 "{\"prompt\":[{\"role\":\"system\",\"content\":\"own\"}," USER("a") "]}",
                 TURN("system", "own") TURN("user", "a") ASKS);

    cfg = load(system, 3);
    CHECK(strcmp(cfg->data.template_arguments, "{\"y\": \"no\", \"z\": true}") == 0);
    CHECK_OK(plumb_chat_open(&chat, cfg, dir, dir));
    CHECK_OK(plumb_chat_write(dir, &chat));
    plumb_chat_close(&chat);
    plumb_config_free(&cfg);
    /* The next command reads these settings from the folder. */
    check_prompt(NULL, 0, record, TURN("system", "be brief") TURN("user", "a") ASKS);
    remove_file(PLUMB_CHAT_NAME);

    cfg = load(none, 1);
    CHECK_OK(plumb_chat_open(&chat, cfg, dir, dir));
    CHECK(chat.none && !chat.template);
    CHECK_OK(plumb_chat_write(dir, &chat));
    plumb_chat_close(&chat);
    plumb_config_free(&cfg);
    check_prompt(NULL, 0, record, "a");
    check_prompt(automatic, 1, record, TURN("user", "a") ASKS);
    CHECK_OK(plumb_chat_open_folder(&chat, dir));
    CHECK(chat.none && !chat.template);
    plumb_chat_close(&chat);
    put_file(PLUMB_CHAT_NAME, "{\"chat_template\": \"never\"}");
    CHECK_FAILS(plumb_chat_open_folder(&chat, dir), PLUMB_ERR_FORMAT, "auto or none");
    remove_file(PLUMB_CHAT_NAME);

    cfg = load(both, 2);
    CHECK_FAILS(plumb_chat_open(&chat, cfg, dir, dir), PLUMB_ERR_CONFIG, "data.prompt_template");
    plumb_config_free(&cfg);
    remove_file("chat_template.jinja");
    cfg = load(system, 1);
    CHECK_FAILS(plumb_chat_open(&chat, cfg, dir, dir), PLUMB_ERR_CONFIG, "data.system");
    plumb_config_free(&cfg);
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void check_refused(const char *record, enum plumb_data_kind kind, plumb_status code,
                          const char *text)
{
    struct plumb_config *cfg = load(NULL, 0);
    struct plumb_buf out = {0};
    CHECK_FAILS(prompt_of(&out, cfg, record, kind), code, text);
    plumb_buf_fini(&out);
    plumb_config_free(&cfg);
}

static void test_refused(void)
{
    put_file("chat_template.jinja", plain);
    check_refused("{\"prompt\":[{\"role\":\"system\",\"content\":\"a\"}]}", PLUMB_DATA_PROMPTS,
                  PLUMB_ERR_FORMAT, "the last message of the prompt is from \"system\"");
    check_refused("{\"prompt\":[" USER("a") "],\"tools\":[{\"name\":\"f\"}]}", PLUMB_DATA_PROMPTS,
                  PLUMB_ERR_UNSUPPORTED, "the chat template does not read it");
    check_refused("{\"messages\":[" USER("a") "]}", PLUMB_DATA_SFT, PLUMB_ERR_FORMAT,
                  "no message is from \"assistant\"");
    check_refused("{\"prompt\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}",
                  PLUMB_DATA_PROMPTS, PLUMB_ERR_UNSUPPORTED, "a part of type \"image\"");
    check_refused("{\"messages\":[[" USER("a") "," BOT("b") "]]}", PLUMB_DATA_SFT, PLUMB_ERR_FORMAT,
                  "record:1: field \"messages[0]\": found array, expected a message");
    check_refused("{\"prompt\":[" USER("a") "],\"chat_template_kwargs\":{\"chat_template\":\"x\"}}",
                  PLUMB_DATA_PROMPTS, PLUMB_ERR_UNSUPPORTED,
                  "record:1: the template arguments have \"chat_template\"");
    check_refused("{\"messages\":null}", PLUMB_DATA_SFT, PLUMB_ERR_FORMAT,
                  "the record has \"messages\" (null)");
    check_refused("{\"instruction\":\"a\",\"output\":[\"b\"]}", PLUMB_DATA_SFT, PLUMB_ERR_FORMAT,
                  "record:1: field \"output\": found array, expected a string");
    check_refused("{\"chosen\":\"a\",\"rejected\":[" USER("a") "," BOT("b") "]}", PLUMB_DATA_PAIRS,
                  PLUMB_ERR_FORMAT, "field \"chosen\": found string, expected a list of messages");
    /* an answer that asks again, but not what the prompt asks */
    check_refused("{\"prompt\":\"c\",\"chosen\":[" USER("a") "," BOT("b") "],\"rejected\":[" USER(
                      "a") "," BOT("d") "]}",
                  PLUMB_DATA_PAIRS, PLUMB_ERR_FORMAT,
                  "field \"chosen\": the first message is from \"user\"");
    check_refused(
        "{\"prompt\":[" USER("a") "],\"completion\":[{\"role\":\"system\",\"content\":\"s\"}," USER(
            "a") "," BOT("b") "]}",
        PLUMB_DATA_SFT, PLUMB_ERR_FORMAT,
        "field \"completion\": the first message is from \"system\"");
    put_file("chat_template.jinja",
             "{{ tools }}{{ x }}{% for m in messages %}{{ m.content }}{% if m.tool_calls %}"
             "{% for c in m.tool_calls %}{{ c }}{% endfor %}{% endif %}{% endfor %}");
    check_refused("{\"prompt\":[" USER("a") "],\"tools\":[\"{}\"]}", PLUMB_DATA_PROMPTS,
                  PLUMB_ERR_FORMAT, "field \"tools\"[0]: found string, expected an object");
    check_refused("{\"prompt\":[" USER("a") "],\"chat_template_kwargs\":\"{}\"}",
                  PLUMB_DATA_PROMPTS, PLUMB_ERR_FORMAT,
                  "\"chat_template_kwargs\": found string, expected an object");
    check_refused("{\"messages\":[" USER("a") ",{\"role\":\"assistant\",\"content\":\"\","
                                              "\"tool_calls\":\"[{}]\"}]}",
                  PLUMB_DATA_SFT, PLUMB_ERR_FORMAT,
                  "field \"messages[1].tool_calls\": found string, expected a list");
    put_file("chat_template.jinja",
             "{% for m in messages %}{{ m.role }}:{% if loop.last %}{{ m.content }}{% endif %}|"
             "{% endfor %}");
    check_refused("{\"messages\":[" USER("a") "," BOT("b") "," USER("c") "," BOT("d") "]}",
                  PLUMB_DATA_SFT, PLUMB_ERR_UNSUPPORTED, "data.assistant_only=false");
}

/* Checks the whole text of a pair's answer: that all answers of a pair are rendered by the
 * template, and that an answer may repeat the prompt in other words of JSON. */
static void check_rejected(const char *record, const char *want)
{
    struct plumb_config *cfg = load(NULL, 0);
    struct plumb_chat_setting chat;
    struct plumb_dataset *d;
    CHECK_OK(plumb_chat_open(&chat, cfg, dir, dir));
    const struct plumb_data_options o = {.kind = PLUMB_DATA_PAIRS, .chat = &chat};
    CHECK_OK(plumb_dataset_parse(&d, record, (int64_t)strlen(record), "record", &o));
    const struct plumb_piece *prompt = &d->record[0].prompt;
    CHECKF(!strcmp(prompt->text, want), "\"%s\", not \"%s\"", prompt->text, want);
    CHECK(!strcmp(d->record[0].completion[PLUMB_CHOSEN].text, "b"));
    CHECK(!strcmp(d->record[0].completion[PLUMB_REJECTED].text, "c"));
    plumb_dataset_close(&d);
    plumb_chat_close(&chat);
    plumb_config_free(&cfg);
}

static void test_pairs(void)
{
    static const char *const asked = TURN("user", "a") ASKS;
    put_file("chat_template.jinja", plain);
    check_rejected("{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":[" BOT("c") "]}", asked);
    check_rejected(
        "{\"prompt\":[" USER("a") "],\"chosen\":[{\"content\":\"a\",\"role\":\"user\"}"
                                  "," BOT("b") "],\"rejected\":[{\"role\":\"user\","
                                               "\"content\":\"a\",\"name\":null}," BOT("c") "]}",
        asked);
    check_rejected("{\"prompt\":\"a\",\"chosen\":[{\"role\":\"user\",\"content\":[{\"type\":"
                   "\"text\",\"text\":\"a\"}]}," BOT("b") "],\"rejected\":[" BOT("c") "]}",
                   asked);
    check_rejected("{\"chosen\":[" USER("a") "," BOT("b") "],\"rejected\":[{\"content\":\"a\","
                                                          "\"role\":\"user\"}," BOT("c") "]}",
                   asked);
}

/* Checks which of several templates of a folder is used. Source: transformers 5.24. */
static void test_sources(void)
{
    static const char *const record = "{\"prompt\":[" USER("a") "]}";
    static const char *const with_tools =
        "{\"prompt\":[" USER("a") "],\"tools\":[{\"name\":\"f\"}]}";
    static const char *const named =
        "[{\"name\":\"default\",\"template\":\"d{{ messages[0].content "
        "}}\"},{\"name\":\"tool_use\",\"template\":\"t{{ tools | "
        "length }}{{ messages[0].content }}\"}]";
    char config[1024];
    remove_file("chat_template.jinja");
    snprintf(config, sizeof(config), "{\"chat_template\":%s}", named);
    put_file("tokenizer_config.json", config);
    check_prompt(NULL, 0, record, "da");
    check_prompt(NULL, 0, with_tools, "t1a");
    put_file("chat_template.jinja", "f{{ messages[0].content }}{{ tools | length if tools }}");
    check_prompt(NULL, 0, with_tools, "fa1");
    remove_file("chat_template.jinja");
    put_file("tokenizer_config.json",
             "{\"chat_template\":{\"default\":\"o{{ messages[0].content }}\"}}");
    check_prompt(NULL, 0, record, "oa");
    put_file("tokenizer_config.json", "{\"chat_template\":{\"rag\":\"o\"}}");
    check_refused(record, PLUMB_DATA_PROMPTS, PLUMB_ERR_CONFIG,
                  "found rag, expected one with the name \"default\"");
    /* named templates in files: the string of tokenizer_config.json has no effect */
    char path[256];
    CHECK_OK(plumb_path_join(path, sizeof(path), dir, "additional_chat_templates"));
    CHECK_OK(plumb_dir_create(path));
    put_file("additional_chat_templates/rag.jinja", "r{{ messages[0].content }}");
    put_file("tokenizer_config.json", "{\"chat_template\":\"c\"}");
    check_refused(record, PLUMB_DATA_PROMPTS, PLUMB_ERR_CONFIG,
                  "found rag, expected one with the name \"default\"");
    remove_file("tokenizer_config.json");
    check_prompt(NULL, 0, record, "a");
    CHECK_OK(plumb_dir_remove(path));
}

/* ---- record shapes of other programs --------------------------------------------------------- */

static void test_shapes(void)
{
    struct plumb_config *cfg = load(NULL, 0);
    struct plumb_buf out = {0};
    put_file("chat_template.jinja", plain);
    CHECK_OK(prompt_of(&out, cfg,
                       "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},"
                       "{\"from\":\"gpt\",\"value\":\"b\"}]}",
                       PLUMB_DATA_SFT));
    CHECK(!strcmp(plumb_buf_text(&out), TURN("user", "a") TURN("assistant", "b")));
    CHECK_OK(prompt_of(&out, cfg, "{\"instruction\":\"a\",\"input\":\"i\",\"output\":\"b\"}",
                       PLUMB_DATA_SFT));
    CHECK(!strcmp(plumb_buf_text(&out), TURN("user", "a\n\ni") ASKS));
    CHECK_OK(prompt_of(&out, cfg,
                       "{\"prompt\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                       "\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]}",
                       PLUMB_DATA_PROMPTS));
    CHECK(!strcmp(plumb_buf_text(&out), TURN("user", "a b") ASKS));
    put_file("chat_template.jinja",
             "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
             "{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}");
    CHECK_OK(prompt_of(&out, cfg,
                       "{\"prompt\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                       "\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]}",
                       PLUMB_DATA_PROMPTS));
    CHECK(!strcmp(plumb_buf_text(&out), "ab"));
    plumb_buf_fini(&out);
    plumb_config_free(&cfg);
}

/* Checks that a principle is added to the message with the role that method.principle_role
 * names. */
static void test_principles(void)
{
    static const char *const record = "{\"prompt\":[{\"role\":\"system\",\"content\":\"s\"}," USER(
        "a") "]}\n{\"prompt\":[" USER("a") "]}";
    struct plumb_config *cfg = load(NULL, 0);
    struct plumb_chat_setting chat;
    struct plumb_dataset *d;
    put_file("chat_template.jinja", plain);
    CHECK_OK(plumb_chat_open(&chat, cfg, dir, dir));
    struct plumb_data_options o = {
        .kind = PLUMB_DATA_PROMPTS, .chat = &chat, .principle = "be good\n"};
    for (int system = 0; system < 2; system++) {
        plumb_tokenizer *t = open_words("smollm");
        o.tokenizer = t;
        o.principle_in_system = system;
        CHECK_OK(plumb_dataset_parse(&d, record, (int64_t)strlen(record), "record", &o));
        CHECK(!strcmp(d->record[0].principled.text,
                      system ? TURN("system", "be good\n\ns") TURN("user", "a") ASKS
                             : TURN("system", "s") TURN("user", "be good\na") ASKS));
        CHECK(!strcmp(d->record[1].principled.text, system ? TURN("system", "be good")
                                                                 TURN("user", "a") ASKS
                                                           : TURN("user", "be good\na") ASKS));
        plumb_dataset_close(&d);
        plumb_tokenizer_close(&t);
    }
    plumb_chat_close(&chat);
    plumb_config_free(&cfg);
}

/* ---- records that are too long --------------------------------------------------------------- */

static struct plumb_dataset *cut(const plumb_tokenizer *t, enum plumb_overlong how, int64_t most,
                                 const char *record)
{
    const struct plumb_data_options o = {
        .kind = PLUMB_DATA_SFT, .tokenizer = t, .max_tokens = most, .overlong = how};
    struct plumb_dataset *d;
    CHECK_OK(plumb_dataset_parse(&d, record, (int64_t)strlen(record), "record", &o));
    return d;
}

/* Checks that from the left a record keeps its last tokens, also where the whole prompt is removed.
 * r is the first record, not shortened. */
static void check_left(const plumb_tokenizer *t, const char *record, const struct plumb_record *r)
{
    const struct plumb_piece *c = &r->completion[0];
    for (int64_t most = c->n; most > 1; most--) {
        struct plumb_dataset *d = cut(t, PLUMB_OVERLONG_TRUNCATE_LEFT, most, record);
        const struct plumb_record *x = &d->record[0];
        CHECK(x->line == 1 && x->prompt.n == 1 && x->completion[0].n == most - 1);
        CHECK(x->prompt.ids[0] == c->ids[c->n - most]);
        CHECK(!memcmp(x->completion[0].ids, c->ids + c->n - most + 1, (size_t)(most - 1) * 4));
        plumb_dataset_close(&d);
    }
}

/* Checks that the mask of a conversation moves with its tokens, and that a record is left out if no
 * trained token remains. */
static void check_left_turns(const plumb_tokenizer *t)
{
    static const char *const turns = "{\"messages\":[" USER("the dog") "," BOT(
        "and the cat") "," USER("sat on") "," BOT("the mat") "]}";
    struct plumb_config *cfg = load(NULL, 0);
    struct plumb_chat_setting chat;
    put_file("chat_template.jinja", plain);
    CHECK_OK(plumb_chat_open(&chat, cfg, dir, dir));
    struct plumb_data_options o = {.kind = PLUMB_DATA_SFT,
                                   .tokenizer = t,
                                   .chat = &chat,
                                   .overlong = PLUMB_OVERLONG_TRUNCATE_LEFT};
    struct plumb_dataset *whole, *d;
    CHECK_OK(plumb_dataset_parse(&whole, turns, (int64_t)strlen(turns), "record", &o));
    const struct plumb_record *w = &whole->record[0];
    const int64_t n = w->completion[0].n;
    CHECK(w->trained && w->n_trained < n - 1);
    for (o.max_tokens = n; o.max_tokens > 1; o.max_tokens--) {
        const int64_t kept = o.max_tokens - 1;
        int64_t sum = 0;
        for (int64_t j = n - kept; j < n; j++)
            sum += w->trained[j];
        CHECK_OK(plumb_dataset_parse(&d, turns, (int64_t)strlen(turns), "record", &o));
        CHECK(d->n == (sum > 0) && d->skipped == (sum == 0));
        if (d->n > 0) {
            CHECK(d->record[0].completion[0].n == kept && d->record[0].n_trained == sum);
            CHECK(!memcmp(d->record[0].trained, w->trained + n - kept, (size_t)kept));
        }
        plumb_dataset_close(&d);
    }
    plumb_dataset_close(&whole);
    plumb_chat_close(&chat);
    plumb_config_free(&cfg);
}

static void test_overlong(void)
{
    static const char *const record =
        "{\"prompt\":\"the dog and the cat\",\"completion\":\" sat on the mat\"}\n"
        "{\"prompt\":\"a\",\"completion\":\" b\"}";
    plumb_tokenizer *t = open_words("smollm");
    struct plumb_dataset *whole = cut(t, PLUMB_OVERLONG_ERROR, 0, record);
    const struct plumb_record *r = &whole->record[0];
    const int64_t p = r->prompt.n, c = r->completion[0].n;
    CHECK(p > 3 && c > 3 && whole->record[1].prompt.n + whole->record[1].completion[0].n < c);
    struct plumb_dataset *d = cut(t, PLUMB_OVERLONG_TRUNCATE_RIGHT, p + c - 2, record);
    CHECK(d->n == 2 && d->truncated == 1 && d->truncated_line == 1 && !d->skipped);
    CHECK(d->record[0].prompt.n == p && d->record[0].completion[0].n == c - 2);
    CHECK(!memcmp(d->record[0].completion[0].ids, r->completion[0].ids, (size_t)(c - 2) * 4));
    plumb_dataset_close(&d);
    d = cut(t, PLUMB_OVERLONG_TRUNCATE_LEFT, p + c - 2, record);
    CHECK(d->record[0].prompt.n == p - 2 && d->record[0].completion[0].n == c);
    CHECK(!memcmp(d->record[0].prompt.ids, r->prompt.ids + 2, (size_t)(p - 2) * 4));
    CHECK(d->truncated == 1);
    plumb_dataset_close(&d);
    check_left(t, record, r);
    check_left_turns(t);
    d = cut(t, PLUMB_OVERLONG_TRUNCATE_RIGHT, p, record); /* no token to train on is left */
    CHECK(d->n == 1 && d->skipped == 1 && d->record[0].line == 2);
    plumb_dataset_close(&d);
    d = cut(t, PLUMB_OVERLONG_DROP, p + c - 1, record);
    CHECK(d->n == 1 && d->skipped == 1 && !d->truncated);
    plumb_dataset_close(&d);
    plumb_dataset_close(&whole);
    plumb_tokenizer_close(&t);
}

int main(void)
{
    CHECK(mkdtemp(dir));
    plumb_log_setup(PLUMB_LOG_ERROR, 0, 1);
    test_fixture();
    test_settings();
    test_refused();
    test_pairs();
    test_shapes();
    test_principles();
    test_overlong();
    test_sources();
    CHECK_OK(plumb_dir_remove(dir));
    return 0;
}
