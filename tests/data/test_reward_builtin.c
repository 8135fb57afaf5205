/* test_reward_builtin.c - checks each built-in reward against values computed by hand, and invalid
 * settings. */
#include "data/reward_builtin.h"

#include <string.h>

#include "harness.h"
#include "io/file.h"

static struct plumb_reward_function base(int name)
{
    return (struct plumb_reward_function){.name = name,
                                          .weight = 1,
                                          .pattern = "",
                                          .file = "",
                                          .field = "",
                                          .target = NAN,
                                          .min = NAN,
                                          .max = NAN};
}

static struct plumb_reward_missing missing;

static const char *record; /* the record of the item that is scored; may be NULL */

static double score_of(const struct plumb_reward_function *f, int64_t n, const char *completion,
                       int64_t tokens, const char *solution)
{
    plumb_reward_builtin *b;
    double x = -77;
    const struct plumb_reward_item item = {.prompt = "p",
                                           .prompt_len = 1,
                                           .completion = completion,
                                           .completion_len = (int64_t)strlen(completion),
                                           .solution = solution,
                                           .solution_len = solution ? (int64_t)strlen(solution) : 0,
                                           .record = {record, record ? (int64_t)strlen(record) : 0},
                                           .tokens = tokens};
    memset(&missing, 0, sizeof missing);
    CHECK_OK(plumb_reward_builtin_create(&b, &(struct plumb_reward_functions){f, n}));
    CHECK_OK(plumb_reward_builtin_score(b, &x, &item, 1, &missing));
    plumb_reward_builtin_destroy(&b);
    return x;
}

#define IS(f, completion, tokens, solution, want)                                                  \
    do {                                                                                           \
        const double got_ = score_of(&(f), 1, completion, tokens, solution);                       \
        CHECKF(fabs(got_ - (want)) < 1e-12, "\"%s\": %g", completion, got_);                       \
    } while (0)

static void test_length(void)
{
    struct plumb_reward_function f = base(PLUMB_REWARD_LENGTH);
    f.target = 10;
    IS(f, "x", 10, NULL, 0);
    IS(f, "x", 8, NULL, -0.2);
    IS(f, "x", 15, NULL, -0.5);
    IS(f, "x", 100, NULL, -1);
    f.target = NAN;
    f.min = 4;
    IS(f, "x", 1000, NULL, 0);
    IS(f, "x", 3, NULL, -0.25);
    f.max = 8;
    IS(f, "x", 4, NULL, 0);
    IS(f, "x", 8, NULL, 0);
    IS(f, "x", 10, NULL, -0.25);
    f.min = 0;
    f.max = 0;
    IS(f, "x", 1, NULL, -1);
}

static void test_regex(void)
{
    struct plumb_reward_function f = base(PLUMB_REWARD_REGEX);
    f.pattern = "(?i)please|\\bé";
    IS(f, "Please, please.", 1, NULL, 1);
    IS(f, "now", 1, NULL, 0);
    f.max = 1;
    IS(f, "Please, please.", 1, NULL, 0);
    IS(f, "été", 1, NULL, 1);
    IS(f, "none", 1, NULL, 1); /* only `max` is given, so no occurrence is also good */
    f.max = NAN;
    f.target = 4;
    IS(f, "please please", 1, NULL, 0.5);
    IS(f, "please please please please please", 1, NULL, 1);
    f.pattern = "x*"; /* matches the empty text after each character and at the end */
    IS(f, "aé", 1, NULL, 0.75);
    f.pattern = "^(a+)+$"; /* this search would take too long and is given up */
    CHECK(isnan(score_of(&f, 1, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", 1, NULL)));
}

static void test_words(const char *file)
{
    static const char *list[] = {"Thank", "kind"};
    struct plumb_reward_function f = base(PLUMB_REWARD_WORDS);
    f.words = (struct plumb_texts){list, 2};
    IS(f, "THANK you, kind friend! Thankful.", 1, NULL, 0.4);
    IS(f, "...", 1, NULL, 0);
    /* Unicode punctuation separates words, as ASCII punctuation does. */
    IS(f, "\xE2\x80\x9Cthank\xE2\x80\x9D\xE2\x80\x94kind\xC2\xA0you\xE2\x80\xA6", 1, NULL, 2.0 / 3);
    IS(f, "thanks\xC3\xA9 kind\xCC\x81", 1, NULL, 0);
    static const char *other[] = {"\xC3\x89T\xC3\x89", "don't"};
    f.words = (struct plumb_texts){other, 2};
    IS(f, "\xC3\xA9t\xC3\xA9 Don\xE2\x80\x99t x \xFF", 1, NULL, 2.0 / 3);
    f.words = (struct plumb_texts){list, 2};
    f.target = 4;
    IS(f, "thank kind kin kindly", 1, NULL, 0.5);
    CHECK_OK(plumb_file_write_atomic(file, "sorry\r\ngood  day\n", 17));
    f.words.n = 0;
    f.target = NAN;
    f.file = file;
    IS(f, "good day sorry x", 1, NULL, 0.75);
}

static void test_repetition(void)
{
    struct plumb_reward_function f = base(PLUMB_REWARD_REPETITION);
    IS(f, "a b c d", 1, NULL, 0);
    IS(f, "a", 1, NULL, 0);
    /* 5 pairs of words, of which 2 are distinct */
    IS(f, "the hat, THE hat; the hat", 1, NULL, -0.6);
    f.target = 1;
    IS(f, "a a a b", 1, NULL, -0.5);
    f.target = 3;
    IS(f, "a b c a b c", 1, NULL, -0.25);
    IS(f, "ab c abc abc", 1, NULL, 0); /* words are compared, not letters */
}

static void test_exact(void)
{
    struct plumb_reward_function f = base(PLUMB_REWARD_EXACT);
    IS(f, " Paris\n", 1, "Paris ", 1);
    IS(f, "paris", 1, "Paris", 0);
    IS(f, "1,234.50", 1, "1234.5", 1);
    IS(f, "", 1, "0", 0);
    f.pattern = "#### *(-?[0-9.,]+)";
    IS(f, "so #### 5, no:\n#### 72\n", 1, "72", 1);
    IS(f, "#### 72 then #### 5", 1, "72", 0);
    IS(f, "72", 1, "72", 0);
    IS(f, "#### $72", 1, "72", 0);
    CHECK(isnan(score_of(&f, 1, "#### 72", 1, NULL)));
    CHECK(missing.count[PLUMB_MISSING_SOLUTION] == 1 && missing.example[0]);
}

/* Checks that numbers are compared by their decimal digits, without rounding to double. */
static void test_numbers(void)
{
    static const struct {
        const char *a, *b;
        int same;
    } pair[] = {
        {"72", "72", 1},
        {"1,000", "1000", 1},
        {"12,345,678.90", "12345678.9", 1},
        {"12345678901234567890", "12345678901234567891", 0},
        {"9007199254740993", "9007199254740992", 0},
        {"0.1", "0.10000000000000000000001", 0},
        {"3.14159265358979323846264338327950288419716939937510582097494459230", "3.14159", 0},
        {"1e400", "1e401", 0},
        {"1e-400", "0", 0},
        {"3,4", "34", 0},
        {"1,5", "15", 0},
        {"1,,0", "10", 0},
        {"1,00", "100", 0},
        {"1,0000", "10000", 0},
        {"1000,000", "1000000", 0},
        {"1,234,56", "123456", 0},
        {"1,2345,678", "12345678", 0},
        {",123", "123", 0},
        {"1,234,", "1234", 0},
        {"0,123", "123", 0},
        {"1.234,5", "1234.5", 0},
        {"1.5,000", "1.5", 0},
        {"3,4", "3,4", 1}, /* no numbers, but the same text */
        {"+5", "5", 1},
        {"-5", "5", 0},
        {"\xE2\x88\x92"
         "5",
         "-5", 1},
        {"-0", "0.000", 1},
        {"007", "7", 1},
        {"7.", "7", 1},
        {".5", "0.50", 1},
        {"0.05", "5e-2", 1},
        {"0.05", "0.5", 0},
        {"50", "5", 0},
        {"70e-1", "7", 1},
        {"1.5E+3", "1,500", 1},
        {"1e", "1", 0},
        {"1e99999999999", "1e99999999998", 0},
        {"-$5", "$-5.00", 1},
        {"$1,234.50", "1234.5", 1},
        {"$", "0", 0},
        {".", "0", 0},
        {"-", "0", 0},
        {"--5", "5", 0},
        {"50%", "50.0%", 1},
        {"50%", "0.5", 0},
        {"50%", "50", 0},
        {"1/2", "0.5", 0},
        {"1/2", "1/2", 1},
        {"0x10", "16", 0},
        {"inf", "1e999", 0},
        {"1 000", "1000", 0},
    };
    struct plumb_reward_function f = base(PLUMB_REWARD_EXACT);
    for (size_t i = 0; i < sizeof pair / sizeof pair[0]; i++)
        for (int swap = 0; swap < 2; swap++) {
            const char *a = swap ? pair[i].b : pair[i].a, *b = swap ? pair[i].a : pair[i].b;
            const double x = score_of(&f, 1, a, 1, b);
            CHECKF((int)x == pair[i].same, "\"%s\" and \"%s\": %g", a, b, x);
        }
}

/* Checks reward functions that take the solution from a member of the record. */
static void test_field(void)
{
    struct plumb_reward_function f = base(PLUMB_REWARD_EXACT);
    f.field = "truth";
    record = "{\"truth\":\"72\",\"solution\":\"5\"}";
    IS(f, "72.0", 1, "5", 1);
    IS(f, "5", 1, "5", 0);
    record = "{\"truth\":12345678901234567890}"; /* too large for int64, and not exact in double */
    IS(f, "12345678901234567890", 1, NULL, 1);
    IS(f, "12345678901234567891", 1, NULL, 0);
    record = "{\"truth\":[\"Paris\",\"paris\",7]}";
    IS(f, "paris", 1, NULL, 1);
    IS(f, "7", 1, NULL, 1);
    IS(f, "London", 1, NULL, 0);
    f.field = "reward_model.truth";
    record = "{\"reward_model\":{\"truth\":\"x\"}}";
    IS(f, "x", 1, NULL, 1);
    static const char *const none[] = {
        "{}", "{\"reward_model\":{\"truth\":[]}}", "{\"reward_model\":{\"truth\":{\"a\":1}}}",
        "{\"reward_model\":{\"truth\":null}}", "{\"reward_model\":{\"truth\":[\"x\",null]}}"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        record = none[i];
        CHECKF(isnan(score_of(&f, 1, "x", 1, "x")), "%s", record);
        CHECK(missing.count[PLUMB_MISSING_FIELD] == 1 &&
              missing.count[PLUMB_MISSING_SOLUTION] == 0);
        CHECKF(strstr(missing.example, "reward_model.truth"), "%s", missing.example);
    }
    f = base(PLUMB_REWARD_REGEX);
    f.field = "must";
    record = "{\"must\":\"^a+$\"}";
    IS(f, "aaa", 1, NULL, 1);
    IS(f, "b", 1, NULL, 0);
    record = "{\"must\":\"(\"}";
    CHECK(isnan(score_of(&f, 1, "b", 1, NULL)) && missing.count[PLUMB_MISSING_FIELD] == 1);
    f = base(PLUMB_REWARD_WORDS);
    f.field = "keywords";
    record = "{\"keywords\":[\"Red\",\"blue\"]}";
    IS(f, "red, green: BLUE", 1, NULL, 2.0 / 3);
    record = "{\"keywords\":\"red green\"}";
    IS(f, "red, green: BLUE", 1, NULL, 2.0 / 3);
    record = "{\"keywords\":[]}";
    CHECK(isnan(score_of(&f, 1, "b", 1, NULL)));
    f = base(PLUMB_REWARD_LENGTH);
    f.field = "tokens";
    record = "{\"tokens\":10}";
    IS(f, "x", 8, NULL, -0.2);
    record = "{\"tokens\":\"ten\"}";
    CHECK(isnan(score_of(&f, 1, "b", 1, NULL)));
    record = NULL;
    /* A search that is given up counts as such, not as a missing solution. */
    f = base(PLUMB_REWARD_REGEX);
    f.pattern = "^(a+)+$";
    CHECK(isnan(score_of(&f, 1, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", 1, NULL)));
    CHECK(missing.count[PLUMB_MISSING_SEARCH] == 1);
}

static void test_sum(void)
{
    struct plumb_reward_function f[2] = {base(PLUMB_REWARD_LENGTH), base(PLUMB_REWARD_EXACT)};
    f[0].target = 10;
    f[0].weight = 2;
    f[1].weight = -0.5;
    CHECK(fabs(score_of(f, 2, "7", 5, "7") - (2 * -0.5 - 0.5)) < 1e-12);
    /* one function has no score, so the sum is missing, too */
    CHECK(isnan(score_of(f, 2, "7", 5, NULL)));
}

static void refuse(struct plumb_reward_function f, plumb_status want, const char *words)
{
    plumb_reward_builtin *b;
    const plumb_status st =
        plumb_reward_builtin_create(&b, &(struct plumb_reward_functions){&f, 1});
    CHECKF(st == want && !b && strstr(plumb_trail(), words), "%d: %s", st, plumb_trail());
}

static void test_bad(void)
{
    struct plumb_reward_function f = base(PLUMB_REWARD_LENGTH);
    refuse(f, PLUMB_ERR_CONFIG, "length: this function needs target, min or max");
    f.min = 5;
    f.max = 4;
    refuse(f, PLUMB_ERR_CONFIG, "min is 5, max is 4");
    f.min = -1;
    f.max = (double)NAN;
    refuse(f, PLUMB_ERR_CONFIG, "min is -1, max is not set");
    f.min = 5;
    f.max = 6;
    f.target = 3;
    refuse(f, PLUMB_ERR_CONFIG, "cannot be combined");
    f = base(PLUMB_REWARD_LENGTH);
    f.target = 0;
    refuse(f, PLUMB_ERR_CONFIG, "target is 0");
    f = base(PLUMB_REWARD_REGEX);
    refuse(f, PLUMB_ERR_CONFIG, "regex: this function needs pattern");
    f.pattern = "a(b";
    refuse(f, PLUMB_ERR_CONFIG, "byte 3: missing closing parenthesis");
    f = base(PLUMB_REWARD_WORDS);
    refuse(f, PLUMB_ERR_CONFIG, "words: this function needs words or file");
    f.file = "/no/such/list";
    refuse(f, PLUMB_ERR_IO, "/no/such/list");
    f = base(PLUMB_REWARD_REPETITION);
    f.pattern = "a";
    refuse(f, PLUMB_ERR_CONFIG, "repetition: this function does not use pattern");
    f.pattern = "";
    f.target = 2.5;
    refuse(f, PLUMB_ERR_CONFIG, "whole number");
    f.target = NAN;
    f.field = "x";
    refuse(f, PLUMB_ERR_CONFIG, "repetition: this function does not use field");
    f = base(PLUMB_REWARD_REGEX);
    f.pattern = "a";
    f.field = "x";
    refuse(f, PLUMB_ERR_CONFIG, "replaces pattern");
    f = base(PLUMB_REWARD_LENGTH);
    f.target = 4;
    f.field = "x";
    refuse(f, PLUMB_ERR_CONFIG, "replaces target");
    f = base(PLUMB_REWARD_EXACT);
    f.weight = NAN;
    refuse(f, PLUMB_ERR_CONFIG, "weight");
    plumb_reward_builtin *b;
    CHECK(plumb_reward_builtin_create(&b, &(struct plumb_reward_functions){NULL, 0}) ==
          PLUMB_ERR_CONFIG);
}

int main(void)
{
    char file[] = "/tmp/plumb-words-XXXXXX";
    CHECK(mkstemp(file) >= 0);
    test_length();
    test_regex();
    test_words(file);
    test_repetition();
    test_exact();
    test_numbers();
    test_field();
    test_sum();
    test_bad();
    CHECK(remove(file) == 0);
    return 0;
}
