/* test_dataset.c - checks the record formats and their token ids, and that error messages name the
 * line and the field. Covers src/data/dataset.c, overlong.c. */
#include "data/dataset.h"

#include <string.h>

#include "records.h"

static struct plumb_dataset *open_text(const char *text, struct plumb_data_options o)
{
    struct plumb_dataset *d;
    CHECK_OK(plumb_file_write_atomic(path, text, (int64_t)strlen(text)));
    o.tokenizer = tokenizer;
    CHECK_OK(plumb_dataset_open(&d, path, &o));
    return d;
}

static struct plumb_dataset *open_kind(const char *text, enum plumb_data_kind kind)
{
    return open_text(text, (struct plumb_data_options){.kind = kind, .prompt_template = CHAT});
}

static void check_piece(const struct plumb_piece *p, const char *text)
{
    CHECKF(p->text && strcmp(p->text, text) == 0 && p->len == (int64_t)strlen(text),
           "\"%s\", not \"%s\"", p->text ? p->text : "(none)", text);
}

static void test_shapes(void)
{
    struct plumb_dataset *d =
        open_kind("\xEF\xBB\xBF{\"prompt\":\"ask\",\"id\":7,\"solution\":42}\r\n"
                  "{\"prompt\":[" USER("a") "," BOT("b") "," USER(
                      "c") "],\"answer\":\"x\"}\r\n"
                           "{\"prompt_ids\":[5,6,7],\"id\":\"k\",\"other\":[1]}\r\n\r\n",
                  PLUMB_DATA_PROMPTS);
    CHECK(d->n == 3 && d->record[2].line == 3);
    check_piece(&d->record[0].prompt, "[user]ask\n[assistant]");
    check_piece(&d->record[1].prompt, "[user]a\n[assistant]b\n[user]c\n[assistant]");
    CHECK(strcmp(d->record[0].id, "7") == 0 && strcmp(d->record[0].solution, "42") == 0);
    CHECK(!d->record[1].id && strcmp(d->record[1].solution, "x") == 0);
    CHECK(strcmp(d->record[2].id, "\"k\"") == 0 && !d->record[2].solution);
    CHECK(d->record[2].prompt.text && d->record[2].prompt.n == 3 &&
          d->record[2].prompt.ids[2] == 7);
    CHECK(!d->record[0].principled.n && !d->record[0].completion[0].n);
    plumb_dataset_close(&d);
    CHECK(!d);

    d = open_kind("{\"messages\":[" SYS("s") "," USER("a") "," BOT(
                      "b") "]}\n"
                           "{\"prompt\":\"p\",\"completion\":\" c\"}\n"
                           "{\"prompt\":[" USER("p") "],\"completion\":[" BOT(
                               "c") "]}\n"
                                    "{\"ids\":[3,4,5],\"prompt_tokens\":2}\n{\"ids\":[3,4,5]}",
                  PLUMB_DATA_SFT);
    CHECK(d->n == 5);
    check_piece(&d->record[0].prompt, "[system]s\n[user]a\n[assistant]");
    check_piece(&d->record[0].completion[0], "b");
    check_piece(&d->record[1].completion[0], " c");
    check_piece(&d->record[2].prompt, "[user]p\n[assistant]");
    check_piece(&d->record[2].completion[0], "c");
    CHECK(d->record[3].prompt.n == 2 && d->record[3].completion[0].n == 1 &&
          d->record[3].completion[0].ids[0] == 5);
    CHECK(d->record[4].prompt.n == 1 && d->record[4].completion[0].n == 2);
    plumb_dataset_close(&d);

    static const char pairs[] = "{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":[" BOT(
        "b") "]}\n"
             "{\"prompt\":[" USER("p") "],\"chosen\":[" USER("p") "," BOT(
                 "a") "],"
                      "\"rejected\":[" BOT(
                          "b") "]}\n"
                               "{\"chosen\":[" USER("p") "," BOT(
                                   "a") "],"
                                        "\"rejected\":[" USER("p") "," BOT(
                                            "b") "]}\n"
                                                 "{\"chosen\":\"say it: yes\",\"rejected\":\"say "
                                                 "it: no\"}\n"
                                                 "{\"chosen\":\"q\xC3\xA9\",\"rejected\":"
                                                 "\"q\xC3\xA8\"}";
    d = open_kind(pairs, PLUMB_DATA_PAIRS);
    CHECK(d->n == 5);
    for (int i = 0; i < 3; i++) {
        check_piece(&d->record[i].prompt, "[user]p\n[assistant]");
        check_piece(&d->record[i].completion[PLUMB_CHOSEN], "a");
        check_piece(&d->record[i].completion[PLUMB_REJECTED], "b");
    }
    check_piece(&d->record[3].prompt, "[user]say it:\n[assistant]");
    check_piece(&d->record[3].completion[0], " yes");
    check_piece(&d->record[3].completion[1], " no");
    check_piece(&d->record[4].prompt, "[user]q\n[assistant]");
    check_piece(&d->record[4].completion[1], "\xC3\xA8");
    plumb_dataset_close(&d);

    /* The Alpaca format, and a question that both answers contain. */
    d = open_kind(
        "{\"instruction\":\"q\",\"input\":\"i\",\"chosen\":\"a b\",\"rejected\":\"a c\"}\n"
        "{\"question\":\"say\",\"chosen\":\"say it: yes\",\"rejected\":\"say it: no\"}",
        PLUMB_DATA_PAIRS);
    check_piece(&d->record[0].prompt, "[user]q\n\ni\n[assistant]");
    check_piece(&d->record[0].completion[PLUMB_CHOSEN], "a b");
    check_piece(&d->record[1].prompt, "[user]say it:\n[assistant]");
    plumb_dataset_close(&d);

    d = open_kind("{\"text\":\"a\\u0000b\"}\n{\"messages\":[" USER("a") "]}", PLUMB_DATA_TEXTS);
    CHECK(d->n == 2 && d->record[0].prompt.len == 3 &&
          !memcmp(d->record[0].prompt.text, "a\0b", 4));
    check_piece(&d->record[1].prompt, "[user]a\n[assistant]");
    plumb_dataset_close(&d);

    /* Records in memory of several formats, and the check that ids are below the size of the
     * vocabulary. */
    static const char any[] = "{\"text\":\"a\"}\n{\"prompt\":\"p\"}\n{\"ids\":[9]}\n"
                              "{\"prompt\":\"p\",\"completion\":\"c\"}";
    struct plumb_data_options o = {.kind = PLUMB_DATA_ANY, .vocab = 10};
    CHECK_OK(plumb_dataset_parse(&d, any, sizeof any - 1, "bytes", &o));
    CHECK(d->n == 4 && d->record[2].prompt.ids[0] == 9);
    check_piece(&d->record[0].prompt, "a");
    check_piece(&d->record[1].prompt, "p");
    check_piece(&d->record[3].completion[0], "c");
    plumb_dataset_close(&d);
    o.vocab = 9;
    CHECK(plumb_dataset_parse(&d, any, sizeof any - 1, "bytes", &o) == PLUMB_ERR_FORMAT && !d);
    CHECKF(strstr(plumb_trail(), "bytes:3: field \"ids\"[0]"), "%s", plumb_trail());
}

static void test_principle(void)
{
    static const char file[] =
        "{\"prompt\":\"x {prompt}\"}\n{\"prompt\":[" USER("a") "," BOT("b") "," USER("c") "]}";
    struct plumb_dataset *d = open_text(
        file, (struct plumb_data_options){.principle = "be kind\n\n", .prompt_template = CHAT});
    check_piece(&d->record[0].principled, "[user]be kind\nx {prompt}\n[assistant]");
    check_piece(&d->record[1].principled, "[user]a\n[assistant]b\n[user]be kind\nc\n[assistant]");
    CHECK(d->record[0].principled.n > d->record[0].prompt.n);
    plumb_dataset_close(&d);
    d = open_text("{\"prompt\":\"x\"}",
                  (struct plumb_data_options){.principle = "P",
                                              .principle_template = "{prompt} ({principle})"});
    check_piece(&d->record[0].principled, "x (P)");
    check_piece(&d->record[0].prompt, "x");
    plumb_dataset_close(&d);
    const struct plumb_data_options bad = {.principle = "P", .principle_template = "{prompt}"};
    CHECK(plumb_dataset_open(&d, path, &bad) == PLUMB_ERR_CONFIG && !d);
}

static void check_ids(const struct plumb_piece *p, const char *const *token, int64_t n)
{
    CHECKF(p->n == n, "%lld tokens, not %lld", (long long)p->n, (long long)n);
    for (int64_t i = 0; i < n; i++)
        CHECKF(p->ids[i] == plumb_tokenizer_id(tokenizer, token[i]), "token %lld is %d, not %s",
               (long long)i, p->ids[i], token[i]);
}

static void test_tokens(void)
{
    static const char *const prompt[] = {"<s>", "a", "b"}, *const done[] = {"c", "</s>"},
                             *const alone[] = {"c"};
    struct plumb_data_options o = {.kind = PLUMB_DATA_SFT, .append_eos = true};
    static const char file[] = "{\"prompt\":\"ab\",\"completion\":\"c\"}\n"
                               "{\"prompt\":\"<s>ab\",\"completion\":\"c</s>\"}";
    struct plumb_dataset *d = open_text(file, o);
    for (int i = 0; i < 2; i++) {
        check_ids(&d->record[i].prompt, prompt, 3);
        check_ids(&d->record[i].completion[0], done, 2);
    }
    plumb_dataset_close(&d);
    o.append_eos = false;
    o.no_special = true;
    o.skip = o.limit = 1;
    d = open_text(file, o);
    CHECK(d->n == 1 && d->record[0].line == 2);
    plumb_dataset_close(&d);
    o.skip = 5;
    CHECK(plumb_dataset_parse(&d, file, (int64_t)strlen(file), "x", &o) == PLUMB_ERR_FORMAT);
    CHECK(strstr(plumb_trail_message(), "no records after those that data.skip leaves out"));
    o.skip = 0;
    d = open_text(file, o);
    CHECK(d->n == 1);
    check_ids(&d->record[0].prompt, prompt + 1, 2);
    check_ids(&d->record[0].completion[0], alone, 1);
    plumb_dataset_close(&d);
    /* " the" is one token, even if the boundary of prompt and completion lies within this text. The
     * token then belongs to the completion. */
    static const char *const t[] = {"<s>", "Ġ", "t"}, *const the[] = {"Ġthe"};
    d = open_text("{\"prompt\":\" t\",\"completion\":\"he\"}\n"
                  "{\"prompt\":\"ab\",\"completion\":\"c\"}",
                  (struct plumb_data_options){.kind = PLUMB_DATA_SFT});
    check_ids(&d->record[0].prompt, t, 1);
    check_ids(&d->record[0].completion[0], the, 1);
    check_piece(&d->record[0].prompt, " t");
    CHECK(d->cut == 1 && d->cut_line == 1);
    plumb_dataset_close(&d);
    /* Both answers of a pair begin at the same token: the earlier of the two tokens at which they
     * could begin. */
    static const char *const tx[] = {"t", "x"}, *const the_end[] = {"Ġthe", "</s>"};
    d = open_text("{\"prompt\":\" t\",\"chosen\":\"he\",\"rejected\":\"x\"}",
                  (struct plumb_data_options){.kind = PLUMB_DATA_PAIRS});
    check_ids(&d->record[0].prompt, t, 1);
    check_ids(&d->record[0].completion[0], the, 1);
    CHECK(d->record[0].completion[1].n == 3);
    check_ids(&(struct plumb_piece){.ids = d->record[0].completion[1].ids + 1, .n = 2}, tx, 2);
    plumb_dataset_close(&d);
    /* The prompt for generation has all tokens of its text. The reference answer has tokens of the
     * joined text of prompt and answer, so here it begins within the text of the prompt. */
    d = open_text("{\"prompt\":\" t\",\"completion\":\"he\"}",
                  (struct plumb_data_options){.references = true, .append_eos = true});
    check_ids(&d->record[0].prompt, t, 3);
    check_ids(&d->record[0].context, t, 1);
    check_ids(&d->record[0].completion[0], the_end, 2);
    plumb_dataset_close(&d);
    /* A text that is scored has the same ids as a record with this text as its prompt. */
    static const char *const all[] = {"<s>", "Ġthe", "</s>"};
    d = open_text("{\"text\":\" the\"}\n{\"prompt\":\" the\"}",
                  (struct plumb_data_options){.kind = PLUMB_DATA_ANY, .append_eos = true});
    check_ids(&d->record[0].prompt, all, 3);
    check_ids(&d->record[1].prompt, all, 3);
    plumb_dataset_close(&d);
    d = open_text("{\"prompt_ids\":[0]}", (struct plumb_data_options){0});
    CHECK(d->record[0].prompt.n == 1 && d->record[0].prompt.text);
    plumb_dataset_close(&d);
}

static void test_long(void)
{
    static const char file[] = "{\"prompt\":\"ab\"}\n{\"prompt\":\"abcd\"}\n{\"prompt\":\"b\"}";
    struct plumb_data_options o = {.max_prompt_tokens = 3, .tokenizer = tokenizer};
    struct plumb_dataset *d;
    CHECK_OK(plumb_file_write_atomic(path, file, (int64_t)strlen(file)));
    CHECK(plumb_dataset_open(&d, path, &o) == PLUMB_ERR_ARG);
    CHECKF(strstr(plumb_trail(), ":2: the prompt has 5 tokens, at most 3"), "%s", plumb_trail());
    o.overlong = PLUMB_OVERLONG_DROP;
    d = open_text(file, o);
    CHECK(d->n == 2 && d->skipped == 1 && d->skipped_line == 2 && d->record[1].line == 3);
    plumb_dataset_close(&d);
    o.max_prompt_tokens = 1;
    CHECK(plumb_dataset_open(&d, path, &o) == PLUMB_ERR_ARG && !d);
    /* the longest prompt includes the contrary principle */
    o = (struct plumb_data_options){
        .max_prompt_tokens = 6, .tokenizer = tokenizer, .contrary = "abcdefgh", .principle = "a"};
    CHECK(plumb_dataset_open(&d, path, &o) == PLUMB_ERR_ARG);
    CHECKF(strstr(plumb_trail(), "at most 6 are allowed"), "%s", plumb_trail());
    o = (struct plumb_data_options){.kind = PLUMB_DATA_SFT, .max_tokens = 4};
    d = open_text("{\"prompt\":\"ab\",\"completion\":\"c\"}", o);
    plumb_dataset_close(&d);
    o.max_tokens = 3;
    o.tokenizer = tokenizer;
    CHECK(plumb_dataset_open(&d, path, &o) == PLUMB_ERR_ARG);
    CHECKF(strstr(plumb_trail(), "4 tokens"), "%s", plumb_trail());
}

static void test_bad(void)
{
    static const struct {
        enum plumb_data_kind kind;
        const char *line, *message;
    } bad[] = {
        {PLUMB_DATA_PROMPTS, "{\"prompt\":\"a\"", ":2"},
        {PLUMB_DATA_PROMPTS, "[1]", ":2: found array, expected an object"},
        {PLUMB_DATA_PROMPTS, "{}", ":2: field \"prompt\": found nothing, expected a string or a"},
        {PLUMB_DATA_PROMPTS, "{\"prompt\":3}", "field \"prompt\": found int"},
        {PLUMB_DATA_PROMPTS, "{\"prompt\":\"\"}", "field \"prompt\": the prompt is empty"},
        {PLUMB_DATA_PROMPTS, "{\"prompt\":[]}", "field \"prompt\": 0 messages"},
        {PLUMB_DATA_PROMPTS, "{\"prompt\":[3]}", "\"prompt\"[0]: found int"},
        {PLUMB_DATA_PROMPTS, "{\"prompt\":[{\"content\":\"a\"}]}", "\"prompt\"[0].role: found"},
        {PLUMB_DATA_PROMPTS, "{\"prompt\":[{\"role\":\"user\",\"content\":[]}]}",
         "\"prompt\"[0].content: found array, expected a string"},
        {PLUMB_DATA_PROMPTS, "{\"prompt\":\"a\\u0000b\"}", "NUL character at byte 1"},
        {PLUMB_DATA_PROMPTS, "{\"prompt_ids\":[]}", "\"prompt_ids\": found an empty list"},
        {PLUMB_DATA_PROMPTS, "{\"prompt_ids\":[1,-2]}", "\"prompt_ids\"[1]: -2 is not a token"},
        {PLUMB_DATA_PROMPTS, "{\"prompt_ids\":[1,99999]}", "99999 is not a token id"},
        {PLUMB_DATA_PROMPTS, "{\"prompt_ids\":[1,1.5]}", "\"prompt_ids\"[1]: found real"},
        {PLUMB_DATA_PROMPTS, "{\"prompt\":\"a\",\"id\":[1]}", "field \"id\": found array"},
        {PLUMB_DATA_SFT, "{\"prompt\":\"a\"}", "field \"completion\": found nothing"},
        {PLUMB_DATA_SFT, "{\"messages\":\"a\"}",
         "field \"messages\": found string, expected a list"},
        {PLUMB_DATA_SFT, "{\"messages\":[" BOT("a") "]}", "\"messages\": found one message"},
        {PLUMB_DATA_SFT, "{\"messages\":[" USER("a") "," USER("b") "]}", "the last from \"user\""},
        {PLUMB_DATA_SFT, "{\"ids\":[1,2],\"prompt_tokens\":3}",
         "\"prompt_tokens\": 3, expected 1 to 2"},
        {PLUMB_DATA_SFT, "{\"ids\":[1,2],\"prompt_tokens\":\"1\"}", "prompt_tokens"},
        {PLUMB_DATA_PAIRS, "{\"prompt\":\"a\",\"chosen\":\"b\"}",
         "field \"rejected\": found nothing"},
        {PLUMB_DATA_PAIRS, "{\"chosen\":\"b\",\"rejected\":\"c\"}", "the prompt is empty"},
        {PLUMB_DATA_PAIRS, "{\"chosen\":[" BOT("b") "],\"rejected\":[" BOT("c") "]}",
         "field \"prompt\": found nothing"},
        {PLUMB_DATA_PAIRS, "{\"chosen\":\"b\",\"rejected\":[" BOT("c") "]}",
         "field \"rejected\": found"},
        {PLUMB_DATA_SFT, "{\"instruction\":\"a\",\"input\":5,\"output\":\"b\"}",
         "field \"input\": found int, expected a string"},
        {PLUMB_DATA_SFT, "{\"instruction\":\"a\",\"input\":\"b\\u0000c\",\"output\":\"d\"}",
         "NUL character at byte 4"},
        {PLUMB_DATA_PROMPTS, "\xEF\xBB\xBF{\"prompt\":\"a\"}",
         ":2: the line begins with a byte order mark"},
        {PLUMB_DATA_TEXTS, "{\"txt\":\"a\"}", "text"},
        {PLUMB_DATA_PROMPTS, "", ":2: the line is blank"},
    };
    static const char *const good[] = {
        "{\"prompt\":\"a\"}", "{\"prompt\":\"a\",\"completion\":\"b\"}",
        "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}", "{\"text\":\"a\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct plumb_dataset *d;
        struct plumb_buf b = {0};
        const struct plumb_data_options o = {
            .kind = bad[i].kind, .tokenizer = tokenizer, .prompt_template = CHAT};
        CHECK_OK(plumb_buf_addf(&b, "%s\n%s\n%s\n", good[o.kind], bad[i].line, good[o.kind]));
        CHECK_OK(plumb_file_write_atomic(path, b.data, b.len));
        const plumb_status st = plumb_dataset_open(&d, path, &o);
        CHECKF(st == PLUMB_ERR_FORMAT && !d, "%s: %d", bad[i].line, st);
        CHECKF(strstr(plumb_trail(), bad[i].message) && strstr(plumb_trail(), path) &&
                   strstr(plumb_trail(), ":2"),
               "%s: %s", bad[i].line, plumb_trail());
        plumb_buf_fini(&b);
    }
    struct plumb_dataset *d;
    const struct plumb_data_options o = {0};
    CHECK_OK(plumb_file_write_atomic(path, "\n\n", 2));
    CHECK(plumb_dataset_open(&d, path, &o) == PLUMB_ERR_FORMAT);
    CHECKF(strstr(plumb_trail(), "no records"), "%s", plumb_trail());
    CHECK(plumb_dataset_open(&d, "/no/such.jsonl", &o) == PLUMB_ERR_IO);
    /* This chat template drops earlier messages, so it is refused. */
    static const char chat[] = "{\"prompt\":[" USER("a") "," BOT("b") "," USER("c") "]}";
    CHECK_OK(plumb_file_write_atomic(path, chat, sizeof chat - 1));
    CHECK(plumb_dataset_open(&d, path, &o) == PLUMB_ERR_FORMAT);
    CHECKF(strstr(plumb_trail(), "{#messages}"), "%s", plumb_trail());
    static const char sys[] = "{\"prompt\":[" SYS("a") "," USER("c") "]}";
    CHECK_OK(plumb_file_write_atomic(path, sys, sizeof sys - 1));
    CHECK(plumb_dataset_open(&d, path, &o) == PLUMB_ERR_FORMAT);
    CHECKF(strstr(plumb_trail(), "{system}"), "%s", plumb_trail());
    CHECK(plumb_dataset_open(&d, path, &(struct plumb_data_options){.prompt_template = "{x"}) ==
          PLUMB_ERR_CONFIG);
}

/* Checks files of public data sets. Skipped if the optional shared data do not have them. */
static void test_public(void)
{
    static const struct {
        const char *file;
        enum plumb_data_kind kind;
        int64_t n;
    } set[] = {
        {"preferences/hh_harmless_test.jsonl", PLUMB_DATA_PAIRS, 2307},
        {"preferences/conversational_300.jsonl", PLUMB_DATA_PAIRS, 300},
        {"prompts/instructions.jsonl", PLUMB_DATA_PROMPTS, 332},
        {"sft/sft_messages.jsonl", PLUMB_DATA_SFT, 999},
        {"math/gsm8k_2000.jsonl", PLUMB_DATA_SFT, 2000},
    };
    const char *root = getenv("PLUMB_SHARED_DATA");
    char at[4096];
    if (!root || !plumb_dir_exists(root)) {
        printf("the public data sets are not here: reading them was not tried\n");
        return;
    }
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++) {
        struct plumb_dataset *d;
        const struct plumb_data_options o = {.kind = set[i].kind, .prompt_template = CHAT};
        CHECK_OK(plumb_path_join(at, sizeof at, root, set[i].file));
        CHECK_OK(plumb_dataset_open(&d, at, &o));
        CHECKF(d->n == set[i].n, "%s: %lld", set[i].file, (long long)d->n);
        CHECK(set[i].kind != PLUMB_DATA_SFT || i != 4 || strcmp(d->record[0].solution, "72") == 0);
        plumb_dataset_close(&d);
    }
}

int main(void)
{
    records_begin();
    test_shapes();
    test_principle();
    test_tokens();
    test_long();
    test_bad();
    test_public();
    records_end();
    return 0;
}
