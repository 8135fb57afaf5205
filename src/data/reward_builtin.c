/* reward_builtin.c - built-in rewards: a weighted sum of functions of the completion's text.
 * Layer 4. Includes base/, io/, text/, config/, data/reward.h. */
#include "data/reward_builtin.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "data/decimal.h"
#include "io/file.h"
#include "text/regex.h"
#include "text/utf8.h"

/* A text split into lower-case words: word i is bytes [begin, end) of text, given by at[i]. */
struct words {
    struct plumb_buf text;
    struct plumb_span *at;
    int64_t n, cap;
};
struct function {
    int kind; /* an enum plumb_reward_kind */
    double weight, target, min, max;
    plumb_regex *regex;  /* NULL if no pattern is compiled (it may come from each record) */
    struct words listed; /* function words: the words that it counts, sorted */
    char *field;         /* name of a field of the record; NULL if the function uses none */
    char *pattern;       /* source text of `regex`, if the pattern comes from the record */
};
struct plumb_reward_builtin {
    struct function *f;
    int64_t n;
    struct words words;     /* words of the current completion */
    struct plumb_buf text;  /* text of a field of the current record */
    struct plumb_span *run; /* scratch of the function repetition: sequences of k words, sorted */
    int64_t run_cap;
};

/* ---- words ---- */

static bool in_word(uint32_t cp)
{
    return cp == '\'' || plumb_utf8_is_letter(cp);
}

static void words_fini(struct words *w)
{
    plumb_buf_fini(&w->text);
    free(w->at);
}

static plumb_status add_word(struct words *w, int64_t begin)
{
    if (w->n == w->cap) {
        const int64_t cap = w->cap ? 2 * w->cap : 64;
        void *more = realloc(w->at, (size_t)cap * sizeof *w->at);
        PLUMB_REQUIRE(more, PLUMB_ERR_NOMEM, "cannot store %lld words", (long long)cap);
        w->at = more;
        w->cap = cap;
    }
    w->at[w->n++] = (struct plumb_span){begin, w->text.len};
    return PLUMB_OK;
}

/* Splits text, which must be valid UTF-8, into words of letters, marks, numbers and apostrophes,
 * and appends them to w in lower case. */
static plumb_status add_valid(struct words *w, const char *text, int64_t len)
{
    int64_t begin = -1; /* begin of the current word, or -1 between words */
    for (int64_t i = 0; i < len; i += plumb_utf8_size(text[i])) {
        uint32_t cp = plumb_utf8_at(text + i);
        cp = cp == 0x2019 ? '\'' : cp; /* the typographic apostrophe counts as ' */
        char bytes[4];
        if (!in_word(cp)) {
            if (begin >= 0)
                PLUMB_TRY(add_word(w, begin));
            begin = -1;
            continue;
        }
        if (begin < 0)
            begin = w->text.len;
        PLUMB_TRY(plumb_buf_add(&w->text, bytes, plumb_utf8_put(bytes, plumb_utf8_lower(cp))));
    }
    return begin >= 0 ? add_word(w, begin) : PLUMB_OK;
}

/* Appends the words of text to w; invalid UTF-8 is replaced first. */
static plumb_status words_add(struct words *w, const char *text, int64_t len)
{
    struct plumb_buf valid = {0};
    plumb_status st = plumb_utf8_lossy(&valid, text, len);
    if (!st)
        st = add_valid(w, plumb_buf_text(&valid), valid.len);
    plumb_buf_fini(&valid);
    return st;
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

/* Returns the value of the function regex for a completion (data/reward_builtin.h), or NaN if the
 * search for the pattern exceeds the limit of plumb_regex_search. */
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

/* Argument of compare_runs, which compares k words at two places and ignores punctuation. */
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
        PLUMB_REQUIRE(more, PLUMB_ERR_NOMEM, "cannot compare %lld sequences of words",
                      (long long)n);
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

static struct plumb_span trim(const char *s, struct plumb_span t)
{
    while (t.begin < t.end && isspace((unsigned char)s[t.begin]))
        t.begin++;
    while (t.begin < t.end && isspace((unsigned char)s[t.end - 1]))
        t.end--;
    return t;
}

/* Sets *answer to the last match of the pattern (its first group, if it has one), or to the whole
 * completion if there is no pattern, without white space at its ends. Returns false if there is no
 * match. *given_up becomes true if the search exceeds its limit. */
static bool find_answer(struct plumb_span *answer, bool *given_up, const struct function *f,
                        const struct plumb_reward_item *item)
{
    struct plumb_span group;
    bool hit = true, any = !f->regex;
    *answer = (struct plumb_span){0, item->completion_len};
    for (int64_t from = 0; f->regex && hit;) {
        *given_up = plumb_regex_search(f->regex, item->completion, item->completion_len, from, &hit,
                                       &group, &from) != PLUMB_OK;
        if (*given_up)
            return false;
        if (hit) {
            *answer = group;
            any = true;
        }
    }
    *answer = trim(item->completion, *answer);
    return any;
}

static bool same_answer(const char *text, struct plumb_span t, const char *want, int64_t len)
{
    const struct plumb_span w = trim(want, (struct plumb_span){0, len});
    const int64_t n = t.end - t.begin, m = w.end - w.begin;
    bool numbers;
    const bool same = plumb_decimal_same(text + t.begin, n, want + w.begin, m, &numbers);
    if (numbers)
        return same;
    return n == m && memcmp(text + t.begin, want + w.begin, (size_t)n) == 0;
}

/* Reads the next text of a field, which is a text, a number or a list of them. *at is 0 for the
 * first call. *more becomes false at the end. *usable becomes false if the field has another
 * type. */
static plumb_status next_text(bool *more, bool *usable, plumb_reward_builtin *b,
                              struct plumb_columns field, int64_t *at)
{
    struct plumb_columns value = field;
    struct plumb_span key, span;
    *more = *usable = false;
    if (field.len > 0 && field.text[0] == '[') {
        *usable = true;
        if (!plumb_columns_next(field, at, &key, &span))
            return PLUMB_OK;
        value = (struct plumb_columns){field.text + span.begin, span.end - span.begin};
    } else {
        if (*at > 0) {
            *usable = true;
            return PLUMB_OK;
        }
        *at = 1;
    }
    plumb_buf_clear(&b->text);
    PLUMB_TRY(plumb_columns_text(&b->text, value, usable));
    *more = *usable;
    return PLUMB_OK;
}

/* Sets *out to the value of the function exact: 1 if the answer in the completion is correct, 0 if
 * it is not, NaN if the score is missing. In the last case *why becomes the reason. */
static plumb_status score_exact(double *out, enum plumb_missing *why, plumb_reward_builtin *b,
                                const struct function *f, const struct plumb_reward_item *item)
{
    struct plumb_columns field = {0};
    struct plumb_span answer;
    bool given_up = false, more, usable, same = false;
    *why = f->field ? PLUMB_MISSING_FIELD : PLUMB_MISSING_SOLUTION;
    *out = NAN;
    if (f->field ? !plumb_columns_field(item->record, f->field, &field) : !item->solution)
        return PLUMB_OK;
    const bool any = find_answer(&answer, &given_up, f, item);
    if (given_up) {
        *why = PLUMB_MISSING_SEARCH;
        return PLUMB_OK;
    }
    if (!f->field) {
        *out = any && same_answer(item->completion, answer, item->solution, item->solution_len);
        return PLUMB_OK;
    }
    int64_t at = 0, texts = 0;
    do {
        PLUMB_TRY(next_text(&more, &usable, b, field, &at));
        if (!usable)
            return PLUMB_OK;
        texts += more;
        if (more)
            same = same ||
                   same_answer(item->completion, answer, plumb_buf_text(&b->text), b->text.len);
    } while (more);
    if (texts > 0)
        *out = any && same;
    return PLUMB_OK;
}

static plumb_status add_listed(void *list, const char *line, int64_t len, int64_t line_no)
{
    (void)line_no;
    return words_add(list, line, len);
}

static void sort_listed(struct words *w)
{
    if (w->n)
        qsort_r(w->at, (size_t)w->n, sizeof *w->at, compare_spans, w->text.data);
}

/* Sets the list of words (function words), the target (length) or the pattern (regex) of f from the
 * record's field f->field. *ok becomes false if the field is missing or unusable. */
static plumb_status take_field(bool *ok, plumb_reward_builtin *b, struct function *f,
                               const struct plumb_reward_item *item)
{
    struct plumb_columns field;
    int64_t at = 0;
    bool more = true, usable;
    *ok = plumb_columns_field(item->record, f->field, &field);
    if (!*ok)
        return PLUMB_OK;
    if (f->kind == PLUMB_REWARD_WORDS) {
        plumb_buf_clear(&f->listed.text);
        f->listed.n = 0;
        while (more) {
            PLUMB_TRY(next_text(&more, &usable, b, field, &at));
            if (more)
                PLUMB_TRY(add_listed(&f->listed, plumb_buf_text(&b->text), b->text.len, 0));
        }
        sort_listed(&f->listed);
        *ok = usable && f->listed.n > 0;
        return PLUMB_OK;
    }
    plumb_buf_clear(&b->text);
    PLUMB_TRY(plumb_columns_text(&b->text, field, ok));
    if (!*ok)
        return PLUMB_OK;
    const char *text = plumb_buf_text(&b->text);
    if (f->kind == PLUMB_REWARD_LENGTH) {
        char *end;
        f->min = f->max = strtod(text, &end);
        *ok = end != text && !*end && f->min >= 1 && f->min <= 1e9;
        return PLUMB_OK;
    }
    if (f->regex && strcmp(text, f->pattern) == 0)
        return PLUMB_OK;
    plumb_regex_free(&f->regex);
    free(f->pattern);
    f->pattern = strdup(text);
    PLUMB_REQUIRE(f->pattern, PLUMB_ERR_NOMEM, "cannot store a pattern of the record");
    *ok = *text && plumb_regex_compile(&f->regex, text, "a pattern of the record") == PLUMB_OK;
    return PLUMB_OK;
}

static plumb_status score_one(double *out, enum plumb_missing *why, plumb_reward_builtin *b,
                              struct function *f, const struct plumb_reward_item *item)
{
    *why = PLUMB_MISSING_SEARCH;
    if (f->field && f->kind != PLUMB_REWARD_EXACT) {
        bool ok;
        PLUMB_TRY(take_field(&ok, b, f, item));
        if (!ok) {
            *why = PLUMB_MISSING_FIELD;
            *out = NAN;
            return PLUMB_OK;
        }
    }
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
        return score_exact(out, why, b, f, item);
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
        enum plumb_missing why = PLUMB_MISSING_NUMBER;
        const struct function *by = NULL; /* first function without a score */
        for (int64_t k = 0; k < b->n; k++) {
            double x = NAN;
            enum plumb_missing one;
            PLUMB_TRY(score_one(&x, &one, b, &b->f[k], &item[i]));
            score[i] += b->f[k].weight * x;
            if (isnan(x) && !by) {
                by = &b->f[k];
                why = one;
            }
        }
        if (isfinite(score[i]))
            continue;
        score[i] = NAN;
        if (missing->count[why]++ == 0 && !missing->example[0])
            snprintf(missing->example, sizeof missing->example, "%s%.40s%scompletion \"%.90s\"",
                     by && by->field ? "field " : "", by && by->field ? by->field : "",
                     by && by->field ? ", " : "", item[i].completion);
    }
    return PLUMB_OK;
}

/* ---- configuration ---- */

enum { PATTERN = 1, WORDS = 2, TARGET = 4, RANGE = 8, OF_RECORD = 16 };

/* For each function, bit masks of settings. reads: the settings that it may have; needs: settings
 * of which at least one must be given, or 0. */
static const struct {
    int reads, needs;
} rule[] = {
    [PLUMB_REWARD_LENGTH] = {TARGET | RANGE | OF_RECORD, TARGET | RANGE | OF_RECORD},
    [PLUMB_REWARD_REGEX] = {PATTERN | TARGET | RANGE | OF_RECORD, PATTERN | OF_RECORD},
    [PLUMB_REWARD_WORDS] = {WORDS | TARGET | OF_RECORD, WORDS | OF_RECORD},
    [PLUMB_REWARD_REPETITION] = {TARGET, 0},
    [PLUMB_REWARD_EXACT] = {PATTERN | OF_RECORD, 0},
};

static plumb_status check_function(const struct plumb_reward_function *f, const char *name)
{
    const bool range = !isnan(f->min) || !isnan(f->max);
    const int given = (f->pattern && f->pattern[0] ? PATTERN : 0) |
                      (f->words.n || (f->file && f->file[0]) ? WORDS : 0) |
                      (!isnan(f->target) ? TARGET : 0) | (range ? RANGE : 0) |
                      (f->field && f->field[0] ? OF_RECORD : 0);
    static const char *const field[] = {"pattern", "words or file", "target", "min or max",
                                        "field"};
    for (int k = 0; k < 5; k++)
        PLUMB_REQUIRE(!(given & ~rule[f->name].reads & 1 << k), PLUMB_ERR_CONFIG,
                      "reward function %s: this function does not use %s", name, field[k]);
    PLUMB_REQUIRE(!rule[f->name].needs || (given & rule[f->name].needs), PLUMB_ERR_CONFIG,
                  "reward function %s: this function needs %s", name,
                  f->name == PLUMB_REWARD_LENGTH  ? "target, min or max, or field"
                  : f->name == PLUMB_REWARD_REGEX ? "pattern or field"
                                                  : "words or file, or field");
    const int same = f->name == PLUMB_REWARD_LENGTH ? TARGET | RANGE : PATTERN | WORDS;
    PLUMB_REQUIRE(!(given & OF_RECORD) || f->name == PLUMB_REWARD_EXACT || !(given & same),
                  PLUMB_ERR_CONFIG,
                  "reward function %s: field names a member of the record that replaces "
                  "%s; give only one of them",
                  name,
                  f->name == PLUMB_REWARD_LENGTH  ? "target, min and max"
                  : f->name == PLUMB_REWARD_REGEX ? "pattern"
                                                  : "words and file");
    PLUMB_REQUIRE(!(given & TARGET && range), PLUMB_ERR_CONFIG,
                  "reward function %s: target cannot be combined with min or max", name);
    PLUMB_REQUIRE(isfinite(f->weight), PLUMB_ERR_CONFIG, "reward function %s: weight is not finite",
                  name);
    PLUMB_REQUIRE(!(given & TARGET) || (f->target >= 1 && f->target <= 1e9), PLUMB_ERR_CONFIG,
                  "reward function %s: target is %g, expected 1 to 1e9", name, f->target);
    char min[32] = "not set", max[32] = "not set";
    if (!isnan(f->min))
        snprintf(min, sizeof min, "%g", f->min);
    if (!isnan(f->max))
        snprintf(max, sizeof max, "%g", f->max);
    PLUMB_REQUIRE(
        (isnan(f->min) || f->min >= 0) && (isnan(f->max) || f->max >= 0) && !(f->min > f->max),
        PLUMB_ERR_CONFIG, "reward function %s: min is %s, max is %s, expected 0 <= min <= max",
        name, min, max);
    PLUMB_REQUIRE(f->name != PLUMB_REWARD_REPETITION || isnan(f->target) ||
                      (f->target <= 16 && f->target == floor(f->target)),
                  PLUMB_ERR_CONFIG,
                  "reward function %s: target is %g, expected a whole number from 1 to 16", name,
                  f->target);
    return PLUMB_OK;
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
    if (from->field && from->field[0]) {
        f->field = strdup(from->field);
        PLUMB_REQUIRE(f->field, PLUMB_ERR_NOMEM, "cannot create the %s", where);
    }
    if (from->pattern && from->pattern[0])
        PLUMB_TRY(plumb_regex_compile(&f->regex, from->pattern, where));
    for (int64_t i = 0; i < from->words.n; i++)
        PLUMB_TRY(
            add_listed(&f->listed, from->words.item[i], (int64_t)strlen(from->words.item[i]), i));
    if (from->file && from->file[0]) {
        PLUMB_TRY(plumb_file_check_input(from->file, where));
        PLUMB_TRY(plumb_file_lines(from->file, add_listed, &f->listed));
    }
    PLUMB_REQUIRE(f->kind != PLUMB_REWARD_WORDS || f->listed.n || f->field, PLUMB_ERR_CONFIG,
                  "%s: the list has no words", where);
    sort_listed(&f->listed);
    return PLUMB_OK;
}

plumb_status plumb_reward_builtin_check(const struct plumb_reward_functions *functions)
{
    for (int64_t i = 0; i < functions->n; i++)
        PLUMB_TRY(
            check_function(&functions->item[i], plumb_reward_kind_names[functions->item[i].name]));
    return PLUMB_OK;
}

const char *plumb_reward_builtin_lacks(const plumb_reward_builtin *b, struct plumb_columns record,
                                       bool solved)
{
    struct plumb_columns value;
    for (int64_t i = 0; i < b->n; i++) {
        const struct function *f = &b->f[i];
        if (f->field && !plumb_columns_field(record, f->field, &value))
            return f->field;
        if (!f->field && f->kind == PLUMB_REWARD_EXACT && !solved)
            return "solution";
    }
    return NULL;
}

plumb_status plumb_reward_builtin_create(plumb_reward_builtin **out,
                                         const struct plumb_reward_functions *functions)
{
    plumb_status st = PLUMB_OK;
    *out = NULL;
    PLUMB_REQUIRE(functions->n > 0, PLUMB_ERR_CONFIG, "the list of reward functions is empty");
    plumb_reward_builtin *b = calloc(1, sizeof *b);
    PLUMB_REQUIRE(b, PLUMB_ERR_NOMEM, "cannot create the reward functions");
    b->f = calloc((size_t)functions->n, sizeof *b->f);
    if (!b->f)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "cannot create the reward functions");
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
        free((*b)->f[i].field);
        free((*b)->f[i].pattern);
    }
    words_fini(&(*b)->words);
    plumb_buf_fini(&(*b)->text);
    free((*b)->run);
    free((*b)->f);
    free(*b);
    *b = NULL;
}
