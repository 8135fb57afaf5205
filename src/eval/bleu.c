/* bleu.c - tokenizes texts as mteval-v13a does, and computes corpus BLEU.
 * Layer 5. Includes eval/bleu.h, eval/ngram.h, base/, io/, text/utf8.h. */
#include "eval/bleu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "eval/ngram.h"
#include "io/file.h"
#include "text/utf8.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Returns true if mteval-v13a puts blanks around c. c is then a blank or an ASCII punctuation
 * character other than ' , - . */
static bool stands_alone(char c)
{
    return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') ||
           (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/';
}

static bool is_stop(char c)
{
    return c == '.' || c == ',';
}

/* Returns true if s begins with white space as Python's str.split defines it. */
static bool is_space(const char *s)
{
    const uint32_t c = plumb_utf8_at(s);
    return plumb_utf8_is_space(c) || (c >= 0x1c && c <= 0x1f);
}

/* Sets b to the text of a with every `from` replaced by `to`. */
static plumb_status replace(struct plumb_buf *b, const struct plumb_buf *a, const char *from,
                            const char *to)
{
    const char *at = plumb_buf_text(a), *hit;
    plumb_buf_clear(b);
    for (; (hit = strstr(at, from)); at = hit + strlen(from)) {
        PLUMB_TRY(plumb_buf_add(b, at, hit - at));
        PLUMB_TRY(plumb_buf_add_text(b, to));
    }
    return plumb_buf_add_text(b, at);
}

/* Sets b to the text of a after substitution `rule`, 0 to 3, of mteval-v13a. It scans from left to
 * right and inserts blanks before and after some ASCII characters. Bytes of other characters are
 * copied, so the text can be processed byte by byte. */
static plumb_status separate(struct plumb_buf *b, const struct plumb_buf *a, int rule)
{
    const char *s = plumb_buf_text(a), *end = s + a->len;
    plumb_buf_clear(b);
    while (s < end) {
        const char c = s[0], next = s + 1 < end ? s[1] : '\0';
        if (rule == 0 && stands_alone(c)) {
            PLUMB_TRY(plumb_buf_addf(b, " %c ", c));
        } else if (next && ((rule == 1 && !is_digit(c) && is_stop(next)) ||
                            (rule == 3 && is_digit(c) && next == '-'))) {
            PLUMB_TRY(plumb_buf_addf(b, "%c %c ", c, next));
            s++;
        } else if (next && rule == 2 && is_stop(c) && !is_digit(next)) {
            PLUMB_TRY(plumb_buf_addf(b, " %c %c", c, next));
            s++;
        } else {
            PLUMB_TRY(plumb_buf_add(b, s, 1));
        }
        s++;
    }
    return PLUMB_OK;
}

/* Sets *a to the text with the blanks that mteval-v13a inserts between tokens; *b is scratch. */
static plumb_status put_blanks(struct plumb_buf *a, struct plumb_buf *b, const char *text)
{
    static const char *const pair[][2] = {{"<skipped>", ""}, {"-\n", ""},    {"\n", " "},
                                          {"&quot;", "\""},  {"&amp;", "&"}, {"&lt;", "<"},
                                          {"&gt;", ">"}};
    const int replacements = sizeof(pair) / sizeof(pair[0]), rules = 4;
    int64_t n = (int64_t)strlen(text);
    while (n > 0) { /* remove white space at the end first, as sacrebleu does */
        const int64_t last = plumb_utf8_before(text, n);
        if (!is_space(text + last))
            break;
        n = last;
    }
    PLUMB_TRY(plumb_buf_addf(a, " %.*s ", (int)n, text));
    for (int i = 0; i < replacements + rules; i++) {
        PLUMB_TRY(i < replacements ? replace(b, a, pair[i][0], pair[i][1])
                                   : separate(b, a, i - replacements));
        const struct plumb_buf swap = *a;
        *a = *b;
        *b = swap;
    }
    return PLUMB_OK;
}

plumb_status plumb_bleu_tokens(struct plumb_buf *out, const char *text)
{
    struct plumb_buf a = {0}, b = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, put_blanks(&a, &b, text), done);
    const char *s = plumb_buf_text(&a), *end = s + a.len;
    for (bool inside = false; s < end; s += plumb_utf8_size(*s)) {
        const bool space = is_space(s);
        if (!space)
            PLUMB_TRY_GOTO(st, plumb_buf_add(out, s, plumb_utf8_size(*s)), done);
        else if (inside)
            PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, "\n"), done);
        inside = !space;
    }
done:
    plumb_buf_fini(&a);
    plumb_buf_fini(&b);
    return st;
}

/* Sets *id (*n,) to the hash of the bytes of each token of the text. The caller frees *id. */
static plumb_status number_tokens(uint64_t **id, int64_t *n, const char *text)
{
    struct plumb_buf b = {0};
    *id = NULL;
    *n = 0;
    plumb_status st = plumb_bleu_tokens(&b, text);
    if (st == PLUMB_OK && !(*id = malloc((size_t)(b.len + 1) * sizeof(**id))))
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "tokens of a text");
    for (const char *s = plumb_buf_text(&b); st == PLUMB_OK && *s; (*n)++) {
        const int64_t len = (int64_t)strcspn(s, "\n");
        (*id)[*n] = plumb_hash(s, len, 0);
        s += len + 1;
    }
    plumb_buf_fini(&b);
    return st;
}

/* Returns the size of the multiset intersection of two ascending lists a (n,) and b (m,). */
static int64_t common(const uint64_t *a, int64_t n, const uint64_t *b, int64_t m)
{
    int64_t shared = 0;
    for (int64_t i = 0, j = 0; i < n && j < m;) {
        shared += a[i] == b[j];
        const bool step_a = a[i] <= b[j], step_b = b[j] <= a[i];
        i += step_a;
        j += step_b;
    }
    return shared;
}

plumb_status plumb_bleu_add(struct plumb_bleu *b, const char *answer, const char *reference)
{
    uint64_t *id[2] = {NULL, NULL}, *gram[2] = {NULL, NULL};
    int64_t n[2] = {0, 0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, number_tokens(&id[0], &n[0], answer), done);
    PLUMB_TRY_GOTO(st, number_tokens(&id[1], &n[1], reference), done);
    for (int k = 0; k < 2; k++)
        if (!(gram[k] = malloc((size_t)(n[k] + 1) * sizeof(*gram[k]))))
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "n-grams of a text");
    for (int order = 1; order <= PLUMB_BLEU_ORDER; order++) {
        int64_t grams[2];
        for (int k = 0; k < 2; k++)
            grams[k] = plumb_ngrams(gram[k], id[k], n[k], order);
        b->total[order - 1] += grams[0];
        b->match[order - 1] += common(gram[0], grams[0], gram[1], grams[1]);
    }
    b->length += n[0];
    b->reference_length += n[1];
done:
    for (int k = 0; k < 2; k++) {
        free(id[k]);
        free(gram[k]);
    }
    return st;
}

double plumb_bleu_score(const struct plumb_bleu *b)
{
    double sum = 0, smooth = 1;
    int64_t any = 0;
    for (int k = 0; k < PLUMB_BLEU_ORDER; k++)
        any += b->match[k];
    if (!any || !b->total[PLUMB_BLEU_ORDER - 1])
        return 0;
    for (int k = 0; k < PLUMB_BLEU_ORDER; k++) {
        if (!b->match[k])
            smooth *= 2;
        sum += log((b->match[k] ? (double)b->match[k] : 1 / smooth) / (double)b->total[k]);
    }
    const double ratio = (double)b->reference_length / (double)b->length;
    return 100 * fmin(1, exp(1 - ratio)) * exp(sum / PLUMB_BLEU_ORDER);
}
