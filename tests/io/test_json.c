/* test_json.c - checks the JSON reader and writer with JSONTestSuite and with further cases.
 * Test. Includes harness.h, io/. */
#include <stdbool.h>
#include <string.h>

#include "harness.h"
#include "io/file.h"
#include "io/json.h"
#include "io/utf8.h"

static plumb_json *good(const char *text)
{
    plumb_json *v = NULL;
    CHECK_OK(plumb_json_parse(&v, text, (int64_t)strlen(text), "test"));
    return v;
}

static void bad(const char *text, const char *says)
{
    plumb_json *v = (plumb_json *)&v;
    const plumb_status st = plumb_json_parse(&v, text, (int64_t)strlen(text), "in.jsonl:7");
    CHECKF(st == PLUMB_ERR_FORMAT, "%s", text);
    CHECK(v == NULL);
    CHECKF(strstr(plumb_trail_message(), says), "'%s' does not say '%s'", plumb_trail_message(),
           says);
    CHECK(!strncmp(plumb_trail_message(), "in.jsonl:7: ", 12));
}

static void test_values(void)
{
    plumb_json *v = good("{\"b\": true, \"i\": -12, \"r\": 1.5, \"s\": \"a\\u0000b\", \"z\": null,"
                         " \"a\": [1, 2.0, \"x\"], \"o\": {\"k\": {}}}");
    CHECK(plumb_json_count(v) == 7);
    CHECK(plumb_json_bool(plumb_json_get(v, "b"), false));
    CHECK(plumb_json_int(plumb_json_get(v, "i"), 0) == -12);
    CHECK(plumb_json_real(plumb_json_get(v, "i"), 0) == -12.0);
    CHECK(plumb_json_real(plumb_json_get(v, "r"), 0) == 1.5);
    CHECK(plumb_json_int(plumb_json_get(v, "r"), 99) == 99);
    CHECK(plumb_json_string_len(plumb_json_get(v, "s")) == 3);
    CHECK(!memcmp(plumb_json_string(plumb_json_get(v, "s"), ""), "a\0b", 4));
    CHECK(plumb_json_get(v, "z") == NULL);
    CHECK(plumb_json_member(v, "z") != NULL);
    CHECK(plumb_json_type_of(plumb_json_member(v, "z")) == PLUMB_JSON_NULL);
    CHECK(plumb_json_member(v, "absent") == NULL);
    const plumb_json *a = plumb_json_get(v, "a");
    CHECK(plumb_json_count(a) == 3 && plumb_json_at(a, 3) == NULL && plumb_json_at(a, -1) == NULL);
    CHECK(plumb_json_int(plumb_json_at(a, 0), 0) == 1);
    CHECK(plumb_json_get(a, "x") == NULL);
    const char *key;
    const plumb_json *value;
    static const char *const order[] = {"b", "i", "r", "s", "z", "a", "o"};
    for (int i = 0; i < 7; i++) {
        CHECK_OK(plumb_json_member_at(v, i, &key, &value));
        CHECK(!strcmp(key, order[i]) && value == plumb_json_member(v, order[i]));
    }
    CHECK(plumb_json_member_at(v, 7, &key, &value) == PLUMB_ERR_ARG);
    CHECK(plumb_json_member_at(a, 0, &key, &value) == PLUMB_ERR_ARG);
    CHECK(plumb_json_count(NULL) == 0 && plumb_json_get(NULL, "a") == NULL);
    CHECK(plumb_json_bool(NULL, true) && plumb_json_int(NULL, 3) == 3);
    plumb_json_free(&v);
    CHECK(v == NULL);
    plumb_json_free(&v);
}

static void test_equal(void)
{
    static const struct {
        const char *a, *b;
        bool equal;
    } cases[] = {
        {"{\"a\": 1, \"b\": [true, \"x\"]}", "{\"b\": [true, \"x\"], \"a\": 1.0}", true},
        {"{\"a\": 1, \"n\": null}", "{\"a\": 1}", true},
        {"{\"a\": 1}", "{\"m\": null, \"a\": 1}", true},
        {"{\"a\": 1}", "{\"a\": 1, \"b\": 2}", false},
        {"{\"a\": 1, \"b\": 2}", "{\"a\": 1}", false},
        {"{\"a\": {\"k\": 1}}", "{\"a\": {\"k\": 2}}", false},
        {"[1, 2]", "[1]", false},
        {"[1]", "[1, 2]", false},
        {"[2, 1]", "[1, 2]", false},
        {"[\"a\\u0000b\"]", "[\"a\\u0000c\"]", false},
        {"[true]", "[false]", false},
        {"[true]", "[1]", false},
        {"[\"1\"]", "[1]", false},
        {"[9007199254740993]", "[9007199254740992]", false},
        {"[0.5]", "[0.25]", false},
        {"[null]", "[null]", true},
        {"[null]", "[0]", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        plumb_json *a = good(cases[i].a), *b = good(cases[i].b);
        CHECKF(plumb_json_equal(a, b) == cases[i].equal, "%s, %s", cases[i].a, cases[i].b);
        plumb_json_free(&a);
        plumb_json_free(&b);
    }
    CHECK(plumb_json_equal(NULL, NULL));
}

/* Checks an integer that is too wide for int64, such as transformers writes for a tokenizer without
 * a limit: reading it as real must not change the other numbers. */
static void test_too_wide(void)
{
    plumb_json *v = good("{\"max\": 1000000000000000019884624838656, \"n\": -3, \"x\": 0.5,"
                         " \"edge\": 9223372036854775807}");
    CHECK(plumb_json_type_of(plumb_json_get(v, "max")) == PLUMB_JSON_REAL);
    CHECK(plumb_json_real(plumb_json_get(v, "max"), 0) == 1e30);
    CHECK(plumb_json_type_of(plumb_json_get(v, "n")) == PLUMB_JSON_INT);
    CHECK(plumb_json_int(plumb_json_get(v, "n"), 0) == -3);
    CHECK(plumb_json_real(plumb_json_get(v, "x"), 0) == 0.5);
    /* This number is not exact in double, so it does not count as an integer. */
    CHECK(plumb_json_type_of(plumb_json_get(v, "edge")) == PLUMB_JSON_REAL);
    plumb_json_free(&v);
}

/* Checks an object with so many members that it has a hash table. The members must keep the order
 * of the file. */
static void test_large_object(void)
{
    enum { N = 5000 };
    struct plumb_buf b = {0};
    CHECK_OK(plumb_buf_add_text(&b, "{"));
    for (int i = 0; i < N; i++)
        CHECK_OK(plumb_buf_addf(&b, "%s\"k%d\":%d", i ? "," : "", (i * 7919) % N, i));
    CHECK_OK(plumb_buf_add_text(&b, "}"));
    plumb_json *v = NULL;
    CHECK_OK(plumb_json_parse(&v, b.data, b.len, "large"));
    CHECK(plumb_json_count(v) == N);
    for (int i = 0; i < N; i++) {
        char want[32];
        snprintf(want, sizeof(want), "k%d", (i * 7919) % N);
        const char *key;
        const plumb_json *value;
        CHECK_OK(plumb_json_member_at(v, i, &key, &value));
        CHECK(!strcmp(key, want) && plumb_json_int(value, -1) == i);
        CHECK(plumb_json_get(v, want) == value);
        want[0] = 'K';
        CHECK(plumb_json_member(v, want) == NULL);
    }
    plumb_json_free(&v);
    plumb_buf_fini(&b);
}

static void test_errors(void)
{
    bad("", "column 0");
    bad("{\"a\": 1, \"a\": 2}", "duplicate object key");
    bad("[1] 2", "end of file expected");
    bad("[1,]", "column 4");
    bad("\n\n  [1, x]", "line 3, column 7");
    bad("1e999", "real number overflow");
    bad("[\"\xff\"]", "unable to decode byte 0xff");
    bad("[\x1b[2J]", "column");
    CHECK(!strchr(plumb_trail_message(), 0x1b));
    plumb_json *v = NULL;
    CHECK(plumb_json_read_file(&v, "/no/such/file.json") == PLUMB_ERR_IO);
    CHECK(strstr(plumb_trail_message(), "/no/such/file.json"));
    CHECK(strstr(plumb_trail_message(), "No such file"));
}

static void test_want(void)
{
    plumb_json *v = good("{\"i\": 3, \"whole\": 4096.0, \"half\": 0.5, \"s\": \"t\", \"z\": null, "
                         "\"b\": true}");
    int64_t i;
    double r;
    bool b;
    const char *s;
    CHECK_OK(plumb_json_want_int(v, "i", &i, NULL, "w"));
    CHECK(i == 3);
    CHECK_OK(plumb_json_want_int(v, "whole", &i, NULL, "w"));
    CHECK(i == 4096);
    CHECK_OK(plumb_json_want_int(v, "z", &i, &(int64_t){8}, "w"));
    CHECK(i == 8);
    CHECK_OK(plumb_json_want_real(v, "i", &r, NULL, "w"));
    CHECK(r == 3.0);
    CHECK_OK(plumb_json_want_real(v, "none", &r, &(double){2.5}, "w"));
    CHECK(r == 2.5);
    CHECK_OK(plumb_json_want_bool(v, "b", &b, NULL, "w"));
    CHECK(b);
    CHECK_OK(plumb_json_want_bool(v, "none", &b, &(bool){false}, "w"));
    CHECK(!b);
    CHECK_OK(plumb_json_want_string(v, "s", &s, NULL, "w"));
    CHECK(!strcmp(s, "t"));
    CHECK_OK(plumb_json_want_string(v, "none", &s, &(const char *){NULL}, "w"));
    CHECK(s == NULL);
    CHECK(plumb_json_want_int(v, "half", &i, NULL, "m/config.json") == PLUMB_ERR_FORMAT);
    CHECK(!strcmp(plumb_trail_message(), "m/config.json: 'half' is real, expected int"));
    CHECK(plumb_json_want_int(v, "none", &i, NULL, "w") == PLUMB_ERR_FORMAT);
    CHECK(!strcmp(plumb_trail_message(), "w: 'none' is missing, expected int"));
    CHECK(plumb_json_want_int(v, "z", &i, NULL, "w") == PLUMB_ERR_FORMAT);
    CHECK(!strcmp(plumb_trail_message(), "w: 'z' is null, expected int"));
    CHECK(plumb_json_want_real(v, "s", &r, NULL, "w") == PLUMB_ERR_FORMAT);
    CHECK(plumb_json_want_bool(v, "i", &b, NULL, "w") == PLUMB_ERR_FORMAT);
    CHECK(plumb_json_want_string(v, "i", &s, NULL, "w") == PLUMB_ERR_FORMAT);
    CHECK(plumb_json_want_int(plumb_json_get(v, "s"), "k", &i, &(int64_t){1}, "w") ==
          PLUMB_ERR_FORMAT);
    plumb_json_free(&v);
}

static void put_is(double x, const char *want)
{
    struct plumb_buf b = {0};
    CHECK_OK(plumb_json_put_real(&b, x));
    CHECKF(!strcmp(plumb_buf_text(&b), want), "%s, expected %s", plumb_buf_text(&b), want);
    plumb_buf_fini(&b);
}

static void test_numbers(void)
{
    put_is(0.1, "0.1");
    put_is(1.0, "1");
    put_is(0.1 + 0.2, "0.30000000000000004");
    put_is(5e-324, "5e-324");
    put_is(-0.0, "-0.0");
    put_is((double)NAN, "null");
    put_is(-(double)INFINITY, "null");
    struct rng r = {0x1234567};
    struct plumb_buf b = {0};
    for (int k = 0; k < 20000; k++) {
        const uint64_t bits = (uint64_t)(rng_u(&r) * 0x1p24) << 40 ^
                              (uint64_t)(rng_u(&r) * 0x1p24) << 20 ^ (uint64_t)(rng_u(&r) * 0x1p24);
        double x;
        memcpy(&x, &bits, sizeof(x));
        const uint32_t low = (uint32_t)(bits >> 16);
        float y;
        memcpy(&y, &low, sizeof(y));
        plumb_buf_clear(&b);
        CHECK_OK(plumb_json_put_real(&b, x));
        CHECK(!isfinite(x) || strtod(b.data, NULL) == x);
        plumb_buf_clear(&b);
        CHECK_OK(plumb_json_put_f32(&b, y));
        CHECK(!isfinite(y) || strtof(b.data, NULL) == y);
        /* A number with fewer digits would be read as another float32. */
        char shorter[32];
        int digits = 0;
        for (const char *c = b.data; *c && *c != 'e'; c++)
            digits += *c >= '0' && *c <= '9' && (digits || *c != '0');
        if (!strpbrk(b.data, ".e"))
            for (size_t z = strlen(b.data); digits > 1 && b.data[z - 1] == '0'; z--)
                digits--;
        snprintf(shorter, sizeof(shorter), "%.*e", digits > 1 ? digits - 2 : 0, (double)y);
        CHECKF(!isfinite(y) || y == 0 || digits == 1 || strtof(shorter, NULL) != y, "%s %s", b.data,
               shorter);
    }
    plumb_buf_clear(&b);
    CHECK_OK(plumb_json_put_f32(&b, 0.1f));
    CHECK(!strcmp(b.data, "0.1"));
    plumb_buf_fini(&b);
}

static void test_strings(void)
{
    static const char in[] = "a\"\\\b\f\n\r\t\x01\x1f/\x7f \xc3\xa9 \xf0\x9f\x98\x80 "
                             "\xff|\xc0\x80|\xed\xa0\x80|\xf4\x90\x80\x80|\xe2\x82";
    static const char want[] =
        "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f/\x7f \xc3\xa9 \xf0\x9f\x98\x80 "
        "\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|"
        "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd\"";
    struct plumb_buf b = {0};
    CHECK_OK(plumb_json_put_string(&b, in, (int64_t)sizeof(in) - 1));
    CHECKF(!strcmp(b.data, want), "%s", b.data);
    plumb_buf_clear(&b);
    CHECK_OK(plumb_json_put_string(&b, "a\0b", 3));
    CHECK(!strcmp(b.data, "\"a\\u0000b\""));
    plumb_buf_clear(&b);
    CHECK_OK(plumb_json_put_string(&b, "", 0));
    CHECK(!strcmp(b.data, "\"\""));
    plumb_buf_clear(&b);
    CHECK_OK(plumb_buf_add_text(&b, "{"));
    CHECK_OK(plumb_json_put_key(&b, "a{"));
    CHECK_OK(plumb_json_put_string(&b, "{", 1));
    CHECK_OK(plumb_json_put_key(&b, "b"));
    CHECK_OK(plumb_buf_add_text(&b, "{"));
    CHECK_OK(plumb_json_put_key(&b, "c"));
    CHECKF(!strcmp(b.data, "{\"a{\":\"{\",\"b\":{\"c\":"), "%s", b.data);
    plumb_buf_fini(&b);
}

static void test_utf8(void)
{
    /* valid: the first and last sequence of each row of table 3-7 in the Unicode standard. invalid:
     * sequences just outside of these rows, a sequence that is cut off, and bytes that never begin
     * a sequence. */
    static const char *const valid[] = {"\x7f",         "\xc2\x80",         "\xdf\xbf",
                                        "\xe0\xa0\x80", "\xed\x9f\xbf",     "\xee\x80\x80",
                                        "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};
    static const char *const invalid[] = {
        "\x80",         "\xc1\xbf",     "\xdf\x7f",         "\xdf\xc0",         "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xe1\x80\x7f", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xe2\x82",     "\xff"};
    char text[16];
    for (size_t i = 0; i < sizeof(valid) / sizeof(*valid); i++) {
        snprintf(text, sizeof(text), "ab%sc", valid[i]);
        CHECKF(plumb_utf8_valid(text, (int64_t)strlen(text)) == (int64_t)strlen(text), "%zu", i);
    }
    for (size_t i = 0; i < sizeof(invalid) / sizeof(*invalid); i++) {
        snprintf(text, sizeof(text), "ab%sc", invalid[i]);
        CHECKF(plumb_utf8_valid(text, (int64_t)strlen(text)) == 2, "%zu", i);
    }
}

static void test_put_node(void)
{
    static const char text[] = "{\"z\":[1,-2.5,1.0,true,false,null,[],{}],\"a\":\"\\u0000\\n\"}";
    plumb_json *v = good(text);
    struct plumb_buf b = {0};
    CHECK_OK(plumb_json_put_node(&b, v));
    CHECKF(!strcmp(b.data, text), "%s", b.data);
    plumb_buf_fini(&b);
    plumb_json_free(&v);
}

/* Checks JSONTestSuite. Files y_ must be read, files n_ must be refused. Three files y_ are refused
 * on purpose: two with duplicate keys, because a file should not give a key two values, and one
 * with a NUL inside a key, because keys are C strings. */
static bool test_suite(void)
{
    static const char *const refused[] = {"y_object_duplicated_key.json",
                                          "y_object_duplicated_key_and_value.json",
                                          "y_object_escaped_null_in_key.json"};
    const char *data = getenv("PLUMB_SHARED_DATA");
    char dir[4096], path[4096];
    CHECK_OK(plumb_path_join(dir, sizeof(dir), data ? data : ".",
                             "conformance/JSONTestSuite/test_parsing"));
    if (!plumb_dir_exists(dir)) {
        printf("skipped: JSONTestSuite is not at %s\n", dir);
        return false;
    }
    struct plumb_names names;
    CHECK_OK(plumb_dir_list(&names, dir));
    int64_t seen[3] = {0};
    for (int64_t i = 0; i < names.n; i++) {
        const char *name = names.name[i];
        CHECK_OK(plumb_path_join(path, sizeof(path), dir, name));
        plumb_json *v = NULL;
        const plumb_status st = plumb_json_read_file(&v, path);
        CHECKF(st == PLUMB_OK || st == PLUMB_ERR_FORMAT, "%s: %s", name, plumb_trail_message());
        CHECK((v != NULL) == (st == PLUMB_OK));
        bool parses = name[0] == 'y';
        for (int k = 0; k < 3; k++)
            parses = parses && strcmp(name, refused[k]) != 0;
        CHECKF(name[0] == 'i' || parses == (st == PLUMB_OK), "%s: status %d", name, (int)st);
        seen[name[0] == 'y' ? 0 : name[0] == 'n' ? 1 : 2]++;
        if (v) { /* what was read can be written and read again */
            struct plumb_buf b = {0};
            CHECK_OK(plumb_json_put_node(&b, v));
            plumb_json *again = NULL;
            CHECK_OK(plumb_json_parse(&again, b.data, b.len, name));
            CHECK(plumb_json_type_of(again) == plumb_json_type_of(v));
            plumb_json_free(&again);
            plumb_buf_fini(&b);
        }
        plumb_json_free(&v);
    }
    plumb_names_fini(&names);
    CHECKF(seen[0] == 95 && seen[1] == 188, "%lld y_, %lld n_", (long long)seen[0],
           (long long)seen[1]);
    return true;
}

int main(void)
{
    test_values();
    test_equal();
    test_too_wide();
    test_large_object();
    test_errors();
    test_want();
    test_numbers();
    test_strings();
    test_utf8();
    test_put_node();
    return test_suite() ? 0 : SKIP;
}
