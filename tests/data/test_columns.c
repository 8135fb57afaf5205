/* test_columns.c - checks that members are found in a record's JSON text, and are passed on to
 * rewards. */
#include "data/columns.h"

#include <string.h>

#include "harness.h"
#include "io/json.h"

static struct plumb_columns of(const char *text)
{
    plumb_json *v;
    CHECK_OK(plumb_json_parse(&v, text, (int64_t)strlen(text), "test"));
    plumb_json_free(&v);
    return (struct plumb_columns){text, (int64_t)strlen(text)};
}

static void test_find(void)
{
    static const char text[] =
        " {\"a\" : 1,\"b\":{\"c\":[1,{\"d\":\"}\\\"]\"}],\"e\":\"x\"}, "
        "\"t\\u0061g\":12345678901234567890 ,"
        "\"s\":\"q\\\\\",\"n\":null,\"x.y\":7,\"x\":{\"y\":8,\"z.w\":{\"k\":9}},\"last\":-0.50}";
    const struct plumb_columns c = of(text + 1);
    static const struct {
        const char *name, *value;
    } want[] = {
        {"a", "1"},
        {"b", "{\"c\":[1,{\"d\":\"}\\\"]\"}],\"e\":\"x\"}"},
        {"b.e", "\"x\""},
        {"b.c", "[1,{\"d\":\"}\\\"]\"}]"},
        {"tag", "12345678901234567890"},
        {"s", "\"q\\\\\""},
        {"n", "null"},
        {"x.y", "7"},
        {"x.z.w.k", "9"},
        {"last", "-0.50"},
        {"b.x", NULL},
        {"a.b", NULL},
        {"", NULL},
        {".", NULL},
        {"taG", NULL},
    };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct plumb_columns v;
        const bool hit = plumb_columns_find(c, want[i].name, &v);
        CHECKF(hit == (want[i].value != NULL), "%s", want[i].name);
        if (hit)
            CHECKF((size_t)v.len == strlen(want[i].value) &&
                       !memcmp(v.text, want[i].value, strlen(want[i].value)),
                   "%s: %.*s", want[i].name, (int)v.len, v.text);
    }
    struct plumb_columns v;
    CHECK(!plumb_columns_find((struct plumb_columns){NULL, 0}, "a", &v));
    /* in an output line of generate, a member of the prompt's record takes priority over one of the
     * line */
    static const char line[] = "{\"text\":\"answer\",\"stop_reason\":\"eos\",\"b\":1,"
                               "\"record\":{\"text\":\"own\"}}";
    const struct plumb_columns g = {line, sizeof line - 1};
    CHECK(plumb_columns_field(g, "text", &v) && v.len == 5 && !memcmp(v.text, "\"own\"", 5));
    CHECK(plumb_columns_field(g, "b", &v) && v.len == 1 && *v.text == '1');
    CHECK(plumb_columns_field(g, "record.text", &v) && v.len == 5);
    CHECK(!plumb_columns_field(g, "nothing", &v));
    CHECK(!plumb_columns_find(of("[1,2]"), "a", &v) && !plumb_columns_find(of("{}"), "a", &v));
}

static void test_elements(void)
{
    static const char *const want[] = {"1", "\"a,]\"", "[2, 3]", "{\"b\": [4]}", "true"};
    const struct plumb_columns c = of("[ 1 , \"a,]\", [2, 3],{\"b\": [4]},true ]");
    struct plumb_span key, value;
    int64_t at = 0, n = 0;
    for (; plumb_columns_next(c, &at, &key, &value); n++)
        CHECKF(n < 5 && key.begin == key.end &&
                   value.end - value.begin == (int64_t)strlen(want[n]) &&
                   !memcmp(c.text + value.begin, want[n], strlen(want[n])),
               "%lld: %.*s", (long long)n, (int)(value.end - value.begin), c.text + value.begin);
    CHECK(n == 5);
    at = 0;
    CHECK(!plumb_columns_next(of("[]"), &at, &key, &value));
    CHECK(!plumb_columns_next(of("\"ab\""), &at, &key, &value));
}

static void test_text(void)
{
    struct plumb_buf b = {0};
    bool is_text;
    CHECK_OK(plumb_columns_text(&b, of("\"a\\n\\u00e9\\u0000z\""), &is_text));
    CHECK(is_text && b.len == 6 && !memcmp(b.data, "a\n\xC3\xA9\0z", 6));
    plumb_buf_clear(&b);
    CHECK_OK(plumb_columns_text(&b, of("3.14159265358979323846"), &is_text));
    CHECK(is_text && !strcmp(b.data, "3.14159265358979323846"));
    CHECK_OK(plumb_columns_text(&b, of("[1]"), &is_text));
    CHECK(!is_text);
    CHECK_OK(plumb_columns_text(&b, of("null"), &is_text));
    CHECK(!is_text);
    plumb_buf_fini(&b);
}

/* Checks that the members written for a reward are valid JSON and equal to `want`. */
static void check_put(const char *record, const char *skip, const char *want)
{
    static const char *const taken[] = {"id", "completion"};
    struct plumb_buf b = {0};
    plumb_json *v;
    CHECK_OK(plumb_buf_add_text(&b, "{\"id\": 0"));
    CHECK_OK(plumb_columns_put(&b, of(record), taken, 2, skip));
    CHECK_OK(plumb_buf_add_text(&b, "}"));
    CHECKF(strcmp(b.data + 8, want) == 0, "%s\nnot %s", b.data + 8, want);
    CHECK_OK(plumb_json_parse(&v, b.data, b.len, "what was put"));
    plumb_json_free(&v);
    plumb_buf_fini(&b);
}

static void test_put(void)
{
    check_put(
        "{\"prompt\":\"q\",\"tests\":[\"a\", {\"b\":1}],\"n\":1.50}", NULL,
        ", \"prompt_messages\": [{\"role\": \"user\", \"content\": \"q\"}], \"tests\": [\"a\", "
        "{\"b\":1}], \"n\": 1.50}");
    check_put(
        "{\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],\"id\":\"x\"}", NULL,
        ", \"prompt_messages\": [{\"role\":\"user\",\"content\":\"q\"}], \"record\": {\"id\": "
        "\"x\"}}");
    check_put(
        "{\"text\":\"q\",\"\\u0069d\":5,\"record\":{},\"prompt_messages\":3,\"completion\":\"c\"}",
        NULL,
        ", \"text\": \"q\", \"record\": {\"\\u0069d\": 5, \"record\": {}, \"prompt_messages\": 3, "
        "\"completion\": \"c\"}}");
    check_put("{\"completion\":\"c\",\"k\":null}", "completion", ", \"k\": null}");
    check_put("{}", NULL, "}");
}

int main(void)
{
    test_find();
    test_elements();
    test_text();
    test_put();
    printf("members of a record are found, read and handed over as they are written\n");
    return 0;
}
