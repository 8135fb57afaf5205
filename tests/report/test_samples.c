/* test_samples.c - checks the table of sample answers: columns, texts that are cut, invalid UTF-8
 * and control characters.
 * Test. Includes harness.h, report/. */
#include "report/samples.h"

#include "harness.h"

static void cut(const char *text, int columns, const char *expected, int expected_columns)
{
    struct plumb_buf b = {0};
    int used = -1;
    CHECK_OK(plumb_samples_cut(&b, text, columns, &used));
    CHECKF(!strcmp(plumb_buf_text(&b), expected), "'%s' at %d: '%s', expected '%s'", text, columns,
           plumb_buf_text(&b), expected);
    CHECKF(used == expected_columns, "'%s' at %d: %d columns", text, columns, used);
    plumb_buf_fini(&b);
}

static void test_cut(void)
{
    cut("hello", 5, "hello", 5);
    cut("hello!", 5, "hell\u2026", 5);
    cut("", 5, "", 0);
    cut(NULL, 5, "", 0);
    cut("abc", 0, "", 0);
    cut("a\nb\tc\x1b[31m\x7f", 20, "a b c [31m ", 11);
    cut("\u00e4\u00f6\u00fc", 3, "\u00e4\u00f6\u00fc", 3);
    cut("\u00e4\u00f6\u00fcx", 3, "\u00e4\u00f6\u2026", 3);
    cut("\u65e5\u672c\u8a9e", 6, "\u65e5\u672c\u8a9e", 6);
    cut("\u65e5\u672c\u8a9e", 5, "\u65e5\u672c\u2026", 5);
    cut("\u65e5\u672c\u8a9e", 4, "\u65e5\u2026",
        3); /* a character that is two columns wide does not fit into the one that is left */
    cut("e\u0301e\u0301", 2, "e\u0301e\u0301", 2);
    cut("\U0001F600!", 3, "\U0001F600!", 3);
    cut("a\x80"
        "b",
        9, "a\uFFFDb", 3);
    cut("\xc0\xaf", 9, "\uFFFD\uFFFD", 2);                     /* an overlong encoding */
    cut("\xed\xa0\x80", 9, "\uFFFD\uFFFD\uFFFD", 3);           /* a surrogate */
    cut("\xf4\x90\x80\x80", 9, "\uFFFD\uFFFD\uFFFD\uFFFD", 4); /* above U+10FFFF */
    /* a sequence that is cut off by the end of the text */
    cut("\xe2\x82", 9, "\uFFFD", 1);
    cut("a\u202eb\u200bc\u2028\xc2\x85", 9, "a b c  ", 7);
}

static void tail(const char *text, int columns, const char *expected, int expected_columns)
{
    struct plumb_buf b = {0};
    int used = -1;
    CHECK_OK(plumb_samples_tail(&b, text, columns, &used));
    CHECKF(!strcmp(plumb_buf_text(&b), expected) && used == expected_columns,
           "'%s' at %d: '%s', %d columns", text, columns, plumb_buf_text(&b), used);
    plumb_buf_fini(&b);
}

static void test_tail(void)
{
    tail("hello", 5, "hello", 5);
    tail("hello!", 5, "\u2026llo!", 5);
    tail("", 5, "", 0);
    tail(NULL, 5, "", 0);
    tail("abc", 0, "", 0);
    tail("abc", 1, "\u2026", 1);
    tail("x\na\nb", 4, "\u2026a b", 4);
    tail("\u65e5\u672c\u8a9e", 6, "\u65e5\u672c\u8a9e", 6);
    tail("\u65e5\u672c\u8a9e", 5, "\u2026\u672c\u8a9e", 5);
    /* a character that is two columns wide does not fit */
    tail("\u65e5\u672c\u8a9e", 4, "\u2026\u8a9e", 3);
    tail("xe\u0301e\u0301", 2, "\u2026e\u0301", 2);
}

static void test_table(void)
{
    const struct plumb_sample_row row[] = {
        {"Once upon a time", "there was a cat.\nIt sat.", 0.51234, false},
        {"A very long prompt that goes on and on and on without an end", "x", -12.5, true},
        {"\u732b", NULL, NAN, false},
    };
    struct plumb_buf b = {0};
    CHECK_OK(plumb_samples_format(&b, row, 3, 60));
    const char *expected = "  reward  kind  prompt            completion\n"
                           "  0.5123  plain Once upon a time  there was a cat. It sat.\n"
                           "   -12.5  princ \u2026 without an end  x\n"
                           " missing  plain \u732b                \n";
    CHECKF(!strcmp(plumb_buf_text(&b), expected), "got\n%s", plumb_buf_text(&b));
    plumb_buf_clear(&b);
    CHECK_OK(plumb_samples_format(&b, row, 0, 60));
    CHECK(!strncmp(plumb_buf_text(&b), "  reward", 8));
    plumb_buf_fini(&b);
    CHECK(plumb_samples_width() >= 40);
}

int main(void)
{
    test_cut();
    test_tail();
    test_table();
    return 0;
}
