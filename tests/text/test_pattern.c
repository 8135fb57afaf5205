/* test_pattern.c - checks regular expressions of Oniguruma that plumb rewrites for PCRE2: they must
 * divide texts in the same way.
 * Test. The expected pieces are those of Oniguruma (tokenizers' Split), entered by hand. */
#include "harness.h"
#include "text/pattern.h"

#include <string.h>

static void translates(const char *onig, const char *want)
{
    struct plumb_buf out = {0};
    CHECK_OK(plumb_pattern_from_onig(&out, onig, (int64_t)strlen(onig), "test"));
    CHECKF(strcmp(plumb_buf_text(&out), want) == 0, "'%s' became '%s', expected '%s'", onig,
           plumb_buf_text(&out), want);
    plumb_buf_fini(&out);
}

/* Checks the pieces into which the pattern divides the text. want: the pieces one after another,
 * with matches in brackets. */
static void cuts(enum plumb_pattern_kind kind, const char *pattern, const char *text,
                 const char *want)
{
    plumb_pattern *p = NULL;
    struct plumb_matches m = {0};
    struct plumb_buf out = {0};
    CHECK_OK(plumb_pattern_compile(&p, kind, pattern, (int64_t)strlen(pattern), "test"));
    for (int again = 0; again < 2; again++) {
        plumb_buf_clear(&out);
        CHECK_OK(plumb_pattern_find(p, &m, text, (int64_t)strlen(text)));
        for (int64_t i = 0; i < m.n; i++)
            CHECK_OK(plumb_buf_addf(&out, m.m[i].hit ? "[%.*s]" : "%.*s",
                                    (int)(m.m[i].end - m.m[i].begin), text + m.m[i].begin));
        CHECKF(strcmp(plumb_buf_text(&out), want) == 0, "'%s' on '%s': '%s', expected '%s'",
               pattern, text, plumb_buf_text(&out), want);
    }
    plumb_matches_fini(&m);
    plumb_buf_fini(&out);
    plumb_pattern_free(&p);
}

int main(void)
{
    translates("\\s+(?!\\S)|\\p{Nl}{1,3}", "\\p{White_Space}+(?!\\P{White_Space})|\\p{Nl}{1,3}");
    translates("\\p{Nl}{1,3}+x", "(?:\\p{Nl}{1,3})+x");
    translates("\\p{Sm}[\\p{Sm}]\\P{Sm}[\\P{Sm}]",
               "[\\p{Sm}\\x{10D8E}-\\x{10D8F}][\\p{Sm}\\x{10D8E}-\\x{10D8F}]"
               "[^\\p{Sm}\\x{10D8E}-\\x{10D8F}][\\P{Sm}]");
    /* characters of Unicode 15 and 16: CJK extension I, a Kawi digit, the shaking face */
    cuts(PLUMB_PATTERN_ONIG, "\\p{L}+", "a\U0002EBF0-", "[a\U0002EBF0]-");
    cuts(PLUMB_PATTERN_ONIG, "[^\\s\\p{L}\\p{N}]+", "!\U00011F50 \U0002EBF0?",
         "[!]\U00011F50 \U0002EBF0[?]");
    cuts(PLUMB_PATTERN_ONIG, "[\\p{S}]", "\U0001FAE8", "[\U0001FAE8]");
    translates("(ab|[cd]){2}?", "(?:(ab|[cd]){2})?");
    translates("a{,3}b{2,}?", "a{0,3}b{2,}?");
    translates("{a}x{", "\\{a}x\\{");
    translates("(?m:.)\\h\\v\\u00e9", "(?s:.)[0-9a-fA-F]\\x0b\\x{00e9}");
    translates("[^\\s\\h\\]é[:space:]]", "[^\\p{White_Space}0-9a-fA-F\\]é\\p{White_Space}]");
    translates("[]a](?<n>x)\\k<n>", "[\\]a](?<n>x)\\k<n>");
    translates("(?i)x(?i:y)(?<!a)(?<=b)(?>c)", "(?i)x(?i:y)(?<!a)(?<=b)(?>c)");
    cuts(PLUMB_PATTERN_LITERAL, "ab", "xabab", "x[ab][ab]");
    cuts(PLUMB_PATTERN_LITERAL, ".", "a.b", "a[.]b");
    cuts(PLUMB_PATTERN_ONIG, "x*", "axb", "[]a[x]b[]");
    cuts(PLUMB_PATTERN_ONIG, "\\p{N}{1,3}+", "12345678 1", "[12345678] [1]");
    cuts(PLUMB_PATTERN_ONIG, "\\s",
         "a\xe1\xa0\x8e"
         "b\xe3\x80\x80",
         "a\xe1\xa0\x8e"
         "b[\xe3\x80\x80]");
    cuts(PLUMB_PATTERN_ONIG, "^b$", "a\nb\nb", "a\n[b]\n[b]");
    cuts(PLUMB_PATTERN_ONIG, "\\bth\\w*", "the oth\xc3\xa9 th\xcc\x81",
         "[the] oth\xc3\xa9 [th\xcc\x81]");
    cuts(PLUMB_PATTERN_ONIG, "(?i:'S)", "a's\xc3\xa9'S", "a['s]\xc3\xa9['S]");
    cuts(PLUMB_PATTERN_ONIG, "a", "", "");
    return 0;
}
