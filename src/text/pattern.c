/* pattern.c - searches UTF-8 text for regular expressions and literal texts.
 * Layer 3. Includes base/ and PCRE2. */
#include "text/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "text/pieces.h"
#include "text/utf8.h"

/* A match that needs more backtracking steps than this is given up with an error. */
#define MATCH_LIMIT 200000000u

struct plumb_pattern {
    char *literal; /* NULL if the pattern is a regular expression */
    int64_t len;
    pcre2_code *code;
    pcre2_match_context *context;
    bool jit;
};

void plumb_matches_fini(struct plumb_matches *m)
{
    free(m->m);
    pcre2_match_data_free(m->work);
    *m = (struct plumb_matches){0};
}

void plumb_pattern_free(plumb_pattern **p)
{
    if (!*p)
        return;
    free((*p)->literal);
    pcre2_code_free((*p)->code);
    pcre2_match_context_free((*p)->context);
    free(*p);
    *p = NULL;
}

static plumb_status compile(plumb_pattern *p, const char *text, int64_t len, const char *where)
{
    int error = 0;
    PCRE2_SIZE at = 0;
    pcre2_compile_context *how = pcre2_compile_context_create(NULL);
    PLUMB_REQUIRE(how, PLUMB_ERR_NOMEM, "%s: cannot compile a regular expression", where);
    pcre2_set_newline(how, PCRE2_NEWLINE_LF); /* in Ruby, only LF ends a line */
    pcre2_set_parens_nest_limit(how, 100);
    p->code = pcre2_compile((PCRE2_SPTR)text, (size_t)len,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                            &error, &at, how);
    pcre2_compile_context_free(how);
    if (!p->code) {
        PCRE2_UCHAR why[128] = "unknown error";
        pcre2_get_error_message(error, why, sizeof why);
        PLUMB_FAIL(PLUMB_ERR_FORMAT, "%s: regular expression %.200s: %s at byte %lld", where, text,
                   (const char *)why, (long long)at);
    }
    p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
    p->context = pcre2_match_context_create(NULL);
    PLUMB_REQUIRE(p->context, PLUMB_ERR_NOMEM, "%s: cannot compile a regular expression", where);
    pcre2_set_match_limit(p->context, MATCH_LIMIT);
    return PLUMB_OK;
}

plumb_status plumb_pattern_compile(plumb_pattern **out, enum plumb_pattern_kind kind,
                                   const char *text, int64_t len, const char *where)
{
    PLUMB_REQUIRE(len > 0, PLUMB_ERR_UNSUPPORTED, "%s: an empty pattern is not supported", where);
    plumb_status st = PLUMB_OK;
    struct plumb_buf own = {0};
    plumb_pattern *p = calloc(1, sizeof *p);
    PLUMB_REQUIRE(p, PLUMB_ERR_NOMEM, "%s: cannot compile a pattern", where);
    switch (kind) {
    case PLUMB_PATTERN_LITERAL:
        p->literal = malloc((size_t)len);
        if (!p->literal)
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "%s: cannot compile a pattern", where);
        memcpy(p->literal, text, (size_t)len);
        p->len = len;
        break;
    case PLUMB_PATTERN_ONIG:
        PLUMB_TRY_GOTO(st, plumb_pattern_from_onig(&own, text, len, where), fail);
        PLUMB_TRY_GOTO(st, compile(p, own.data, own.len, where), fail);
        break;
    case PLUMB_PATTERN_PCRE2:
        PLUMB_TRY_GOTO(st, compile(p, text, len, where), fail);
        break;
    }
    *out = p;
    p = NULL;
fail:
    plumb_pattern_free(&p);
    plumb_buf_fini(&own);
    return st;
}

/* Finds the next match at or after `from`; *found tells whether there is one. */
static plumb_status next_match(const plumb_pattern *p, pcre2_match_data *work, const char *s,
                               int64_t n, int64_t from, bool *found, int64_t *begin, int64_t *end)
{
    if (p->literal) {
        const char *at = memmem(s + from, (size_t)(n - from), p->literal, (size_t)p->len);
        *found = at != NULL;
        if (at) {
            *begin = at - s;
            *end = *begin + p->len;
        }
        return PLUMB_OK;
    }
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (p->jit)
        rc = pcre2_jit_match(p->code, (PCRE2_SPTR)s, (size_t)n, (size_t)from, 0, work, p->context);
    /* If there is no JIT code, or if the JIT's stack was too small, use the interpreter, whose
     * stack is on the heap. */
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(p->code, (PCRE2_SPTR)s, (size_t)n, (size_t)from,
                         PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, work, p->context);
    *found = rc >= 0;
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
        PCRE2_UCHAR why[128] = "unknown error";
        pcre2_get_error_message(rc, why, sizeof why);
        PLUMB_FAIL(PLUMB_ERR_FORMAT, "a regular expression failed on a text of %lld bytes: %s",
                   (long long)n, (const char *)why);
    }
    if (*found) {
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(work);
        *begin = (int64_t)v[0];
        *end = (int64_t)v[1];
        if (*end < *begin) /* \K in a lookahead can set the begin after the end */
            *end = *begin;
    }
    return PLUMB_OK;
}

static plumb_status add(struct plumb_matches *m, int64_t begin, int64_t end, bool hit)
{
    PLUMB_TRY(plumb_grow((void **)&m->m, m->n, &m->cap, sizeof *m->m));
    m->m[m->n++] = (struct plumb_match){begin, end, hit};
    return PLUMB_OK;
}

plumb_status plumb_pattern_find(const plumb_pattern *p, struct plumb_matches *m, const char *s,
                                int64_t n)
{
    m->n = 0;
    if (!p->literal && !m->work) {
        m->work = pcre2_match_data_create(1, NULL);
        PLUMB_REQUIRE(m->work, PLUMB_ERR_NOMEM, "cannot match a regular expression");
    }
    /* from: where the next search begins; done: end of the slices that are stored in m; last: end
     * of the previous match, or -1 if there is none. */
    int64_t from = 0, done = 0, last = -1;
    while (from <= n) {
        bool found;
        int64_t begin = 0, end = 0;
        PLUMB_TRY(next_match(p, m->work, s, n, from, &found, &begin, &end));
        if (!found)
            break;
        if (begin == end && last == end) {
            from += from < n ? plumb_utf8_size(s[from]) : 1;
            continue;
        }
        if (done < begin)
            PLUMB_TRY(add(m, done, begin, false));
        PLUMB_TRY(add(m, begin, end, true));
        done = from = last = end;
    }
    if (done < n)
        PLUMB_TRY(add(m, done, n, false));
    return PLUMB_OK;
}
