/* test_fields.c - checks the warnings and errors about members of records that plumb does not read,
 * or reads in another way than the user may expect. Covers src/data/fields.c, misspelt.c. */
#include "data/fields.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/dataset.h"
#include "records.h"

/* Reads a file with this one line. Sets out to the error or, without an error, to the warnings (""
 * if there are none). */
static void read_fields(char *out, size_t size, const char *line, enum plumb_data_kind kind)
{
    struct plumb_dataset *d;
    const struct plumb_data_options o = {
        .kind = kind, .tokenizer = tokenizer, .prompt_template = CHAT};
    char *said = NULL;
    size_t n = 0;
    FILE *mirror = open_memstream(&said, &n);
    CHECK(mirror);
    CHECK_OK(plumb_file_write_atomic(path, line, (int64_t)strlen(line)));
    /* leaves out the message about the tokens in the loss, which is no warning */
    plumb_log_setup(PLUMB_LOG_WARN, 0, 1);
    plumb_log_mirror(mirror);
    const plumb_status st = plumb_dataset_open(&d, path, &o);
    plumb_log_mirror(NULL);
    plumb_log_setup(PLUMB_LOG_INFO, 0, 1);
    fclose(mirror);
    CHECK(st == PLUMB_OK || st == PLUMB_ERR_UNSUPPORTED || st == PLUMB_ERR_FORMAT);
    snprintf(out, size, "%s", st ? plumb_trail() : said);
    CHECK((st != PLUMB_OK) == (strncmp(out, "warning", 7) != 0 && *out));
    free(said);
    plumb_dataset_close(&d);
}

/* Checks the messages of reading one line. want: NULL if there must be none; "!name" if the line
 * must be refused with a message that contains `name`; "name" if a warning must contain `name`. */
static void check_said(const char *line, enum plumb_data_kind kind, const char *want)
{
    char said[4096];
    read_fields(said, sizeof said, line, kind);
    if (!want) {
        CHECKF(!*said, "%s: %s", line, said);
        return;
    }
    const bool refused = *want == '!';
    CHECKF(strstr(said, want + refused) && strstr(said, ":1: ") &&
               refused == (strstr(said, "warning: ") == NULL),
           "%s: wanted %s: %s", line, want, said);
}

static void test_message_fields(void)
{
    static const struct {
        /* member: a member of the answer's message in an SFT record; want: see check_said */
        const char *member, *want;
    } field[] = {
        {"\"tool_calls\":[{\"name\":\"f\"}]", "!\"messages[1].tool_calls\""},
        {"\"tool_calls\":[]", NULL},
        {"\"tool_calls\":null", NULL},
        {"\"tool_call_id\":\"x\"", "tool_call_id"},
        {"\"function_call\":{\"name\":\"f\"}", "!function_call"},
        {"\"name\":\"bob\"", "!\"messages[1].name\""},
        {"\"name\":\"\"", NULL},
        {"\"reasoning_content\":\"long\"", "!\"messages[1].reasoning_content\""},
        {"\"reasoning_content\":\"\"", NULL},
        {"\"reasoning\":\"long\"", "!reasoning"},
        {"\"thinking\":\"long\"", "!thinking"},
        {"\"prefix\":true", "!prefix"},
        {"\"prefix\":false", NULL},
        {"\"images\":[\"a.png\"]", "!images"},
        {"\"audio\":{\"id\":\"x\"}", "!audio"},
        {"\"refusal\":null", NULL},
        {"\"weight\":0", "!\"messages[1].weight\": found 0"},
        {"\"weight\":0.5", "!found 0.5"},
        {"\"weight\":\"1\"", "!weight"},
        {"\"weight\":1", NULL},
        {"\"weight\":1.0", NULL},
        {"\"train\":false", "!\"messages[1].train\": found false"},
        {"\"train\":true", NULL},
        {"\"training\":false", "!training"},
        {"\"loss_mask\":0", "!loss_mask"},
        {"\"mask\":true", "!mask"},
        {"\"mask\":false", NULL},
        {"\"train_detail\":[{\"train\":false}]", "!train_detail"},
        {"\"toxic\":true", "\"messages[1].toxic\""},
        {"\"toxic\":{}", NULL},
    };
    char line[1024];
    for (size_t i = 0; i < sizeof field / sizeof field[0]; i++) {
        snprintf(line, sizeof line,
                 "{\"messages\":[" USER("a") ",{\"role\":\"assistant\",\"content\":\"b\",%s}]}",
                 field[i].member);
        check_said(line, PLUMB_DATA_SFT, field[i].want);
    }
    /* A message of the prompt is never trained on, so a member that excludes this message changes
     * nothing. */
    static const char *const no[] = {"\"weight\":0", "\"train\":false"}, *const yes[] = {
                                                                             "\"weight\":1",
                                                                             "\"train\":true"};
    for (int i = 0; i < 2; i++) {
        static const char form[] = "{\"messages\":[" USER(
            "a") ",{\"role\":\"assistant\",\"content\":\"b\",%s}," USER("c") "," BOT("d") "]}";
        snprintf(line, sizeof line, form, no[i]);
        check_said(line, PLUMB_DATA_SFT, NULL);
        snprintf(line, sizeof line, form, yes[i]);
        check_said(line, PLUMB_DATA_SFT, "trains on answers only");
        check_said(line, PLUMB_DATA_TEXTS, NULL);
    }
    /* the same in pairs and prompts */
    check_said("{\"prompt\":[" USER("a") "],\"chosen\":[" BOT(
                   "b") "],\"rejected\":[{\"role\":\"assistant\",\"content\":\"c\",\"weight\":0}]}",
               PLUMB_DATA_PAIRS, "!\"rejected[0].weight\"");
    check_said("{\"prompt\":[{\"role\":\"user\",\"content\":\"a\",\"thinking\":\"t\"}]}",
               PLUMB_DATA_PROMPTS, "!\"prompt[0].thinking\"");
    check_said("{\"prompt\":[{\"role\":\"user\",\"content\":\"a\",\"weight\":0}]}",
               PLUMB_DATA_PROMPTS, NULL);
}

static void test_record_fields(void)
{
    static const struct {
        const char *member, *sft, *prompts;
    } field[] = {
        {"\"tools\":[{\"name\":\"f\"}]", "!\"tools\"", "!\"tools\""},
        {"\"tools\":\"[]\"", NULL, NULL},
        {"\"functions\":[{\"name\":\"f\"}]", "!\"functions\"", "\"functions\""},
        {"\"documents\":[{\"text\":\"d\"}]", "!\"documents\"", "\"documents\""},
        {"\"chat_template_kwargs\":{\"enable_thinking\":false}", "!chat_template_kwargs",
         "!chat_template_kwargs"},
        {"\"images\":[\"a.png\"]", "!images", "!images"},
        {"\"system\":\"be kind\"", "!\"system\"", "!\"system\": plumb does not write it"},
        {"\"system\":\"\"", NULL, NULL},
        {"\"history\":[[\"a\",\"b\"]]", "!the earlier ones", "!\"history\""},
        {"\"history\":[]", NULL, NULL},
        {"\"weight\":0.5", "!\"weight\": found 0.5", NULL},
        {"\"weight\":1", NULL, NULL},
        {"\"train\":false", "!\"train\"", NULL},
        {"\"labels\":[1,2]", "\"labels\"", NULL},
        {"\"loss_mask\":[1,0]", "\"loss_mask\"", NULL},
        {"\"attention_mask\":[1,1]", "\"attention_mask\"", NULL},
        {"\"mask\":[1]", "\"mask\"", NULL},
        {"\"temperature\":0.5", NULL, "\"temperature\""},
        {"\"stop\":[\"x\"]", NULL, "\"stop\""},
        {"\"seed\":5", NULL, "\"seed\""},
        {"\"category\":\"math\"", NULL, NULL},
        {"\"prompt_ids\":[5]", NULL, "\"prompt_ids\""},
        {"\"messages\":[" USER("a") "," BOT("b") "]", "\"completion\"", NULL},
    };
    char line[1024];
    for (size_t i = 0; i < sizeof field / sizeof field[0]; i++) {
        snprintf(line, sizeof line, "{\"prompt\":\"a\",\"completion\":\"b\",%s}", field[i].member);
        check_said(line, PLUMB_DATA_SFT, field[i].sft);
        snprintf(line, sizeof line, "{\"prompt\":\"a\",%s}", field[i].member);
        check_said(line, PLUMB_DATA_PROMPTS, field[i].prompts);
    }
    check_said("{\"prompt\":\"say it now\",\"completion\":\"say it now, he said\"}", PLUMB_DATA_SFT,
               "the answer begins with the whole prompt");
    check_said(
        "{\"prompt\":\"say it now\",\"chosen\":\"say it now!\",\"rejected\":\"say it now?\"}",
        PLUMB_DATA_PAIRS, "the answer begins with the whole prompt");
    check_said("{\"prompt\":\"say it\",\"completion\":\"say it now\"}", PLUMB_DATA_SFT, NULL);
    check_said("{\"prompt\":\"say it now\",\"completion\":\"say it soon\"}", PLUMB_DATA_SFT, NULL);
    /* A field that other programs use for the prompt of a pair. Without it, plumb would take the
     * common beginning of the answers as the prompt, so it is refused. */
    check_said("{\"question\":\"q\",\"chosen\":\"the a\",\"rejected\":\"the b\"}", PLUMB_DATA_PAIRS,
               "!field \"question\": plumb does not read it in a pair");
    check_said("{\"conversations\":[" USER("q") "],\"chosen\":\"the a\",\"rejected\":\"the b\"}",
               PLUMB_DATA_PAIRS, "!field \"messages\": plumb does not read it in a pair");
    check_said("{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\",\"margin\":2}",
               PLUMB_DATA_PAIRS, "\"margin\"");
    check_said("{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}", PLUMB_DATA_ANY,
               "\"chosen\"");
    /* an answer under the name of another program */
    check_said("{\"prompt\":\"a\",\"response\":\"b\"}", PLUMB_DATA_ANY,
               "field \"response\" is not read, and there is no \"completion\"");
    check_said("{\"prompt\":\"a\",\"completion\":\"b\",\"response\":\"c\"}", PLUMB_DATA_ANY, NULL);
    check_said("{\"prompt\":\"a\",\"completions\":[]}", PLUMB_DATA_ANY, NULL);
    check_said("{\"messages\":[" USER("a") "],\"conversations\":[]}", PLUMB_DATA_TEXTS,
               "both \"messages\" and \"conversations\"");
    /* A warning names a member once, however often the file has it, and many members in one line.
     */
    struct plumb_buf b = {0};
    char said[8192];
    for (int i = 0; i < 50; i++)
        CHECK_OK(plumb_buf_addf(&b,
                                "{\"prompt\":[{\"role\":\"user\",\"content\":\"a\",\"x%d\":1,"
                                "\"same\":1}]}\n",
                                i));
    read_fields(said, sizeof said, plumb_buf_text(&b), PLUMB_DATA_PROMPTS);
    int lines = 0, same = 0;
    for (const char *c = said; *c; c++) {
        lines += *c == '\n';
        same += strncmp(c, ".same\"", 6) == 0;
    }
    CHECKF(same == 1 && lines == 25 && strstr(said, "further fields and messages"),
           "%d lines, %d: %s", lines, same, said);
    plumb_buf_fini(&b);
}

/* Checks misspelt names of fields, in addition to the correct field and instead of it. */
static void test_misspelt(void)
{
    static const struct {
        enum plumb_data_kind kind;
        const char *line, *want; /* see check_said */
    } one[] = {
        {PLUMB_DATA_SFT, "{\"prmopt\":\"a\",\"completion\":\"b\"}", "!did you mean \"prompt\"?"},
        {PLUMB_DATA_SFT, "{\"prompt\":\"a\",\"compeltion\":\"b\"}", "!field \"compeltion\": did"},
        {PLUMB_DATA_SFT, "{\"message\":[" USER("a") "," BOT("b") "]}", "!mean \"messages\"?"},
        {PLUMB_DATA_PAIRS, "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejcted\":\"c\"}",
         "!did you mean \"rejected\"?"},
        {PLUMB_DATA_PAIRS,
         "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\",\"score_choosen\":1}",
         "\"score_choosen\" is not read: did you mean \"score_chosen\"? 1 record"},
        {PLUMB_DATA_PROMPTS, "{\"prompt\":\"a\",\"soluton\":\"b\"}", "did you mean \"solution\"?"},
        {PLUMB_DATA_PROMPTS, "{\"Prompt\":\"a\",\"prompt\":\"b\"}", "\"Prompt\" is not read"},
        {PLUMB_DATA_ANY, "{\"prompt\":\"a\",\"compeltion\":\"b\"}", "\"compeltion\" is not read"},
        /* Fields of the user, about which there is no hint: their names are not similar enough,
         * their values have another type, or another command reads them. */
        {PLUMB_DATA_PROMPTS,
         "{\"prompt\":\"a\",\"prompts\":\"b\",\"prompt_id\":\"7\",\"answer\":\"5\",\"answers\":[1],"
         "\"completions\":[\"c\"],\"ide\":1,\"test\":\"t\",\"passages\":[\"p\"],\"compeltion\":"
         "\"d\"}",
         NULL},
        {PLUMB_DATA_PAIRS,
         "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\",\"selected\":true,\"answers\":"
         "\"x\"}",
         NULL},
    };
    for (size_t i = 0; i < sizeof one / sizeof one[0]; i++)
        check_said(one[i].line, one[i].kind, one[i].want);
    /* There is one warning per file, with the number of records and the first line. */
    char said[8192];
    read_fields(said, sizeof said,
                "{\"prompt\":\"a\"}\n{\"prompt\":\"a\",\"anwser\":\"1\"}\n{\"prompt\":\"a\"}\n"
                "{\"prompt\":\"a\",\"anwser\":\"2\"}\n{\"prompt\":\"a\",\"anwser\":\"3\"}\n",
                PLUMB_DATA_PROMPTS);
    const char *first = strstr(said, ":2: field \"anwser\" is not read: did you mean \"answer\"? 3 "
                                     "records of the file have it");
    CHECKF(first && !strchr(first, '\n')[1], "%s", said);
}

int main(void)
{
    records_begin();
    test_message_fields();
    test_record_fields();
    test_misspelt();
    records_end();
    return 0;
}
