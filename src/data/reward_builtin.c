/* reward_builtin.c - rewards by rule: a weighted list of functions of the completion's text.
 * Layer 4. Includes base/, io/, text/, config/, data/reward.h. */
#include "data/reward_builtin.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "io/file.h"
#include "text/regex.h"

/* Text cut into words: word i is text[begin[i] .. end[i]-1], lower case. */
struct words {
    struct plumb_buf text;
    struct plumb_span *at;
    int64_t n, cap;
};
struct function {
    int kind; /* enum plumb_reward_kind */
    double weight, target, min, max;
    plumb_regex *regex;  /* or NULL */
    struct words listed; /* sorted */
};
struct plumb_reward_builtin {
    struct function *f;
    int64_t n;
    struct words words;     /* of the completion at hand */
    struct plumb_span *run; /* sorted runs of words; scratch of repetition */
    int64_t run_cap;
};

/* ---- words ---- */

static bool in_word(char c)
{
    return isalnum((unsigned char)c) || c == '\'' || (unsigned char)c >= 0x80;
}

static void words_fini(struct words *w)
{
    plumb_buf_fini(&w->text);
    free(w->at);
}

/* w += the words of text. */
static plumb_status words_add(struct words *w, const char *text, int64_t len)
{
    const int64_t base = w->text.len;
    PLUMB_TRY(plumb_buf_add(&w->text, text, len));
    char *s = w->text.data;
    for (int64_t i = base; i < w->text.len; i++)
        s[i] = (char)((unsigned char)s[i] < 0x80 ? tolower((unsigned char)s[i]) : s[i]);
    for (int64_t i = base; i < w->text.len;) {
        const int64_t begin = i;
        while (i < w->text.len && in_word(s[i]))
            i++;
        if (i == begin) {
            i++;
            continue;
        }
        if (w->n == w->cap) {
            const int64_t cap = w->cap ? 2 * w->cap : 64;
            void *more = realloc(w->at, (size_t)cap * sizeof *w->at);
            PLUMB_REQUIRE(more, PLUMB_ERR_NOMEM, "no memory for %lld words", (long long)cap);
            w->at = more;
            w->cap = cap;
        }
        w->at[w->n++] = (struct plumb_span){begin, i};
    }
    return PLUMB_OK;
}

static int compare_spans(const void *a, const void *b, void *text)
{
    const struct plumb_span *x = a, *y = b;
    const int64_t nx = x->end - x->begin, ny = y->end - y->begin;
    const char *s = text;
    const int order = memcmp(s + x->begin, s + y->begin, (size_t)(nx < ny ? nx : ny));
    return order ? order : (nx > ny) - (nx < ny);
}

static bool is_listed(const struct words *list, const char *word, int64_t n)
{
    int64_t low = 0, high = list->n;
    while (low < high) {
        const int64_t mid = (low + high) / 2;
        const struct plumb_span *w = &list->at[mid];
        const int64_t m = w->end - w->begin;
        int order = memcmp(list->text.data + w->begin, word, (size_t)(m < n ? m : n));
        order = order ? order : (m > n) - (m < n);
        if (order == 0)
            return true;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}

/* ---- functions ---- */

static double miss_by(double n, double bound)
{
    return -fmin(1.0, fabs(n - bound) / fmax(bound, 1.0));
}

static double score_length(const struct function *f, double n)
{
    return n < f->min ? miss_by(n, f->min) : n > f->max ? miss_by(n, f->max) : 0.0;
}

/* NaN when the search is given up. */
static double score_regex(const struct function *f, const struct plumb_reward_item *item)
{
    int64_t from = 0;
    double m = 0;
    for (;;) {
        bool hit;
        struct plumb_span group;
        if (plumb_regex_search(f->regex, item->completion, item->completion_len, from, &hit, &group,
                               &from) != PLUMB_OK)
            return NAN;
        if (!hit)
            break;
        m++;
    }
    if (!isnan(f->target))
        return fmin(1.0, m / f->target);
    return m >= f->min && m <= f->max;
}

static double score_words(const struct function *f, const struct words *words)
{
    double hits = 0;
    for (int64_t i = 0; i < words->n; i++)
        hits += is_listed(&f->listed, words->text.data + words->at[i].begin,
                          words->at[i].end - words->at[i].begin);
    if (!isnan(f->target))
        return fmin(1.0, hits / f->target);
    return words->n ? hits / (double)words->n : 0.0;
}

/* Runs of k words are compared word by word: what stands between words does not count. */
struct run_order {
    const struct words *words;
    int64_t k;
};
static int compare_runs(const void *a, const void *b, void *arg)
{
    const struct run_order *o = arg;
    const struct plumb_span *x = a, *y = b;
    for (int64_t i = 0; i < o->k; i++) {
        const int order = compare_spans(&o->words->at[x->begin + i], &o->words->at[y->begin + i],
                                        o->words->text.data);
        if (order)
            return order;
    }
    return 0;
}

static plumb_status score_repetition(double *out, plumb_reward_builtin *b, const struct function *f)
{
    struct run_order o = {&b->words, (int64_t)f->target};
    const int64_t n = b->words.n - o.k + 1;
    *out = 0.0;
    if (n < 1)
        return PLUMB_OK;
    if (n > b->run_cap) {
        void *more = realloc(b->run, (size_t)n * sizeof *b->run);
        PLUMB_REQUIRE(more, PLUMB_ERR_NOMEM, "no memory for %lld runs of words", (long long)n);
        b->run = more;
        b->run_cap = n;
    }
    for (int64_t i = 0; i < n; i++)
        b->run[i] = (struct plumb_span){i, i + o.k};
    qsort_r(b->run, (size_t)n, sizeof *b->run, compare_runs, &o);
    int64_t distinct = 1;
    for (int64_t i = 1; i < n; i++)
        distinct += compare_runs(&b->run[i - 1], &b->run[i], &o) != 0;
    *out = -(double)(n - distinct) / (double)n;
    return PLUMB_OK;
}

/* A decimal number in a text, exactly: its digits from the first to the last that is not 0, which
 * may have commas and a point between them. No digits: the number is 0. */
struct decimal {
    const char *first, *end;
    int64_t exponent; /* the first digit counts 10^exponent */
    bool negative, percent;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Takes "+", "-" or U+2212 off the beginning. */
static bool take_sign(const char **at, const char *end, bool *negative)
{
    static const char minus[] = "\xE2\x88\x92";
    const int64_t left = end - *at;
    const bool wide = left >= 3 && memcmp(*at, minus, 3) == 0;
    if (!wide && (left < 1 || (**at != '-' && **at != '+')))
        return false;
    *negative = wide || **at == '-';
    *at += wide ? 3 : 1;
    return true;
}

/* Whole digits: "1234", or "1,234" with a comma before every three from the right. */
static bool take_whole(const char **at, const char *end)
{
    const char *s = *at;
    int64_t run = 0, groups = 0;
    for (; s < end && (is_digit(*s) || *s == ','); s++) {
        if (*s != ',') {
            run++;
            continue;
        }
        /* the first group is 1 to 3 digits and begins with none of 0, the others are 3 */
        if (groups ? run != 3 : run < 1 || run > 3 || **at == '0')
            return false;
        groups++;
        run = 0;
    }
    *at = s;
    return groups == 0 || run == 3;
}

static bool take_exponent(const char **at, const char *end, int64_t *exponent)
{
    bool negative = false;
    int64_t digits = 0, x = 0;
    *exponent = 0;
    if (*at == end || (**at != 'e' && **at != 'E'))
        return true;
    ++*at;
    take_sign(at, end, &negative);
    for (; *at < end && is_digit(**at) && digits < 10; ++*at, digits++)
        x = 10 * x + (**at - '0');
    *exponent = negative ? -x : x;
    return digits > 0 && digits < 10;
}

static bool as_decimal(struct decimal *d, const char *s, int64_t n)
{
    const char *end = s + n, *point, *after;
    *d = (struct decimal){0};
    const bool sign = take_sign(&s, end, &d->negative);
    if (s < end && *s == '$') {
        s++;
        if (!sign)
            take_sign(&s, end, &d->negative);
    }
    const char *from = s;
    if (!take_whole(&s, end))
        return false;
    point = after = s;
    if (s < end && *s == '.')
        for (s++, after = s; s < end && is_digit(*s);)
            s++;
    if (point == from && s == after)
        return false; /* no digit before the point, none after it */
    const char *last = s;
    int64_t scale;
    if (!take_exponent(&s, end, &scale))
        return false;
    d->percent = s < end && *s == '%';
    s += d->percent;
    while (from < last && !(is_digit(*from) && *from != '0'))
        from++;
    while (last > from && !(is_digit(last[-1]) && last[-1] != '0'))
        last--;
    d->first = from;
    d->end = last;
    d->exponent = scale;
    for (const char *c = from; c < point; c++) /* the first digit has whole digits behind it */
        d->exponent += is_digit(*c);
    if (from < point)
        d->exponent--;
    else
        d->exponent -= from - after + 1;
    return s == end;
}

static bool same_decimal(const struct decimal *a, const struct decimal *b)
{
    const char *x = a->first, *y = b->first;
    if (a->percent != b->percent)
        return false;
    if (x == a->end || y == b->end)
        return x == a->end && y == b->end;
    if (a->negative != b->negative || a->exponent != b->exponent)
        return false;
    while (x < a->end && y < b->end) {
        if (!is_digit(*x))
            x++;
        else if (!is_digit(*y))
            y++;
        else if (*x++ != *y++)
            return false;
    }
    return x == a->end && y == b->end;
}

static struct plumb_span trim(const char *s, struct plumb_span t)
{
    while (t.begin < t.end && isspace((unsigned char)s[t.begin]))
        t.begin++;
    while (t.begin < t.end && isspace((unsigned char)s[t.end - 1]))
        t.end--;
    return t;
}

static double score_exact(const struct function *f, const struct plumb_reward_item *item)
{
    struct plumb_span answer = {0, item->completion_len}, group;
    const char *text = item->completion, *want = item->solution;
    bool hit = true, any = !f->regex;
    for (int64_t from = 0; f->regex && hit;) {
        if (plumb_regex_search(f->regex, text, item->completion_len, from, &hit, &group, &from) !=
            PLUMB_OK)
            return NAN;
        if (hit) {
            answer = group;
            any = true;
        }
    }
    if (!any)
        return 0.0;
    answer = trim(text, answer);
    const struct plumb_span w = trim(want, (struct plumb_span){0, (int64_t)strlen(want)});
    const int64_t n = answer.end - answer.begin, m = w.end - w.begin;
    struct decimal a, b;
    if (as_decimal(&a, text + answer.begin, n) && as_decimal(&b, want + w.begin, m))
        return same_decimal(&a, &b);
    return n == m && memcmp(text + answer.begin, want + w.begin, (size_t)n) == 0;
}

static plumb_status score_one(double *out, plumb_reward_builtin *b, const struct function *f,
                              const struct plumb_reward_item *item)
{
    switch ((enum plumb_reward_kind)f->kind) {
    case PLUMB_REWARD_LENGTH:
        *out = score_length(f, (double)item->tokens);
        break;
    case PLUMB_REWARD_REGEX:
        *out = score_regex(f, item);
        break;
    case PLUMB_REWARD_WORDS:
        *out = score_words(f, &b->words);
        break;
    case PLUMB_REWARD_REPETITION:
        return score_repetition(out, b, f);
    case PLUMB_REWARD_EXACT:
        *out = item->solution ? score_exact(f, item) : NAN;
        break;
    }
    return PLUMB_OK;
}

plumb_status plumb_reward_builtin_score(plumb_reward_builtin *b, double *score,
                                        const struct plumb_reward_item *item, int64_t n,
                                        struct plumb_reward_missing *missing)
{
    for (int64_t i = 0; i < n; i++) {
        plumb_buf_clear(&b->words.text);
        b->words.n = 0;
        PLUMB_TRY(words_add(&b->words, item[i].completion, item[i].completion_len));
        score[i] = 0.0;
        for (int64_t k = 0; k < b->n; k++) {
            double x = NAN;
            PLUMB_TRY(score_one(&x, b, &b->f[k], &item[i]));
            score[i] += b->f[k].weight * x;
        }
        if (isfinite(score[i]))
            continue;
        const enum plumb_missing why =
            item[i].solution ? PLUMB_MISSING_NUMBER : PLUMB_MISSING_SOLUTION;
        score[i] = NAN;
        if (missing->count[why]++ == 0 && !missing->example[0])
            snprintf(missing->example, sizeof missing->example, "%s: %.100s",
                     plumb_missing_text(why), item[i].completion);
    }
    return PLUMB_OK;
}

/* ---- configuration ---- */

enum { PATTERN = 1, WORDS = 2, TARGET = 4, RANGE = 8 };

/* Which fields a function reads, and which of them it needs at least one of. */
static const struct {
    int reads, needs;
} rule[] = {
    [PLUMB_REWARD_LENGTH] = {TARGET | RANGE, TARGET | RANGE},
    [PLUMB_REWARD_REGEX] = {PATTERN | TARGET | RANGE, PATTERN},
    [PLUMB_REWARD_WORDS] = {WORDS | TARGET, WORDS},
    [PLUMB_REWARD_REPETITION] = {TARGET, 0},
    [PLUMB_REWARD_EXACT] = {PATTERN, 0},
};

static plumb_status check_function(const struct plumb_reward_function *f, const char *name)
{
    const bool range = !isnan(f->min) || !isnan(f->max);
    const int given = (f->pattern && f->pattern[0] ? PATTERN : 0) |
                      (f->words.n || (f->file && f->file[0]) ? WORDS : 0) |
                      (!isnan(f->target) ? TARGET : 0) | (range ? RANGE : 0);
    static const char *const field[] = {"pattern", "words or file", "target", "min or max"};
    for (int k = 0; k < 4; k++)
        PLUMB_REQUIRE(!(given & ~rule[f->name].reads & 1 << k), PLUMB_ERR_CONFIG,
                      "reward function %s: it has no use for %s", name, field[k]);
    PLUMB_REQUIRE(!rule[f->name].needs || (given & rule[f->name].needs), PLUMB_ERR_CONFIG,
                  "reward function %s: it needs %s", name,
                  f->name == PLUMB_REWARD_LENGTH  ? "target, min or max"
                  : f->name == PLUMB_REWARD_REGEX ? "pattern"
                                                  : "words or file");
    PLUMB_REQUIRE(!(given & TARGET && range), PLUMB_ERR_CONFIG,
                  "reward function %s: target and min or max do not go together", name);
    PLUMB_REQUIRE(isfinite(f->weight), PLUMB_ERR_CONFIG, "reward function %s: weight is not finite",
                  name);
    PLUMB_REQUIRE(!(given & TARGET) || (f->target >= 1 && f->target <= 1e9), PLUMB_ERR_CONFIG,
                  "reward function %s: target is %g, expected 1 to 1e9", name, f->target);
    PLUMB_REQUIRE((isnan(f->min) || f->min >= 0) && (isnan(f->max) || f->max >= 0) &&
                      !(f->min > f->max),
                  PLUMB_ERR_CONFIG, "reward function %s: min %g, max %g, expected 0 <= min <= max",
                  name, f->min, f->max);
    PLUMB_REQUIRE(f->name != PLUMB_REWARD_REPETITION || isnan(f->target) ||
                      (f->target <= 16 && f->target == floor(f->target)),
                  PLUMB_ERR_CONFIG,
                  "reward function %s: target is %g, expected a whole number from 1 to 16", name,
                  f->target);
    return PLUMB_OK;
}

static plumb_status add_listed(void *list, const char *line, int64_t len, int64_t line_no)
{
    (void)line_no;
    PLUMB_TRY(words_add(list, line, len));
    return plumb_buf_add_text(&((struct words *)list)->text, " ");
}

static plumb_status set_up(struct function *f, const struct plumb_reward_function *from)
{
    const char *name = plumb_reward_kind_names[from->name];
    char where[64];
    PLUMB_TRY(check_function(from, name));
    *f = (struct function){.kind = from->name,
                           .weight = from->weight,
                           .target = from->target,
                           .min = from->min,
                           .max = from->max};
    if (f->kind == PLUMB_REWARD_LENGTH && !isnan(f->target))
        f->min = f->max = f->target;
    if (f->kind == PLUMB_REWARD_REGEX && isnan(f->min) && isnan(f->max))
        f->min = 1;
    f->min = isnan(f->min) ? 0 : f->min;
    f->max = isnan(f->max) ? INFINITY : f->max;
    if (f->kind == PLUMB_REWARD_REPETITION && isnan(f->target))
        f->target = 2;
    snprintf(where, sizeof where, "reward function %s", name);
    if (from->pattern && from->pattern[0])
        PLUMB_TRY(plumb_regex_compile(&f->regex, from->pattern, where));
    for (int64_t i = 0; i < from->words.n; i++)
        PLUMB_TRY(
            add_listed(&f->listed, from->words.item[i], (int64_t)strlen(from->words.item[i]), i));
    if (from->file && from->file[0])
        PLUMB_TRY(plumb_file_lines(from->file, add_listed, &f->listed));
    PLUMB_REQUIRE(f->kind != PLUMB_REWARD_WORDS || f->listed.n, PLUMB_ERR_CONFIG,
                  "%s: the list has no words", where);
    if (f->listed.n)
        qsort_r(f->listed.at, (size_t)f->listed.n, sizeof *f->listed.at, compare_spans,
                f->listed.text.data);
    return PLUMB_OK;
}

plumb_status plumb_reward_builtin_create(plumb_reward_builtin **out,
                                         const struct plumb_reward_functions *functions)
{
    plumb_status st = PLUMB_OK;
    *out = NULL;
    PLUMB_REQUIRE(functions->n > 0, PLUMB_ERR_CONFIG, "the list of reward functions is empty");
    plumb_reward_builtin *b = calloc(1, sizeof *b);
    PLUMB_REQUIRE(b, PLUMB_ERR_NOMEM, "no memory for the reward functions");
    b->f = calloc((size_t)functions->n, sizeof *b->f);
    if (!b->f)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "no memory for the reward functions");
    b->n = functions->n;
    for (int64_t i = 0; i < b->n; i++)
        PLUMB_TRY_GOTO(st, set_up(&b->f[i], &functions->item[i]), fail);
    *out = b;
    b = NULL;
fail:
    plumb_reward_builtin_destroy(&b);
    return st;
}

void plumb_reward_builtin_destroy(plumb_reward_builtin **b)
{
    if (!*b)
        return;
    for (int64_t i = 0; i < (*b)->n; i++) {
        plumb_regex_free(&(*b)->f[i].regex);
        words_fini(&(*b)->f[i].listed);
    }
    words_fini(&(*b)->words);
    free((*b)->run);
    free((*b)->f);
    free(*b);
    *b = NULL;
}
