/* regex.c - searches for one regular expression and returns its first capture group.
 * Layer 3. Includes base/. */
#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#define MATCH_LIMIT 10000000

struct plumb_regex {
    pcre2_code *code;
    pcre2_match_context *context;
    pcre2_match_data *data;
};

plumb_status plumb_regex_compile(plumb_regex **out, const char *pattern, const char *where)
{
    int error = 0;
    PCRE2_SIZE at = 0;
    plumb_status st = PLUMB_OK;
    *out = NULL;
    plumb_regex *r = calloc(1, sizeof *r);
    PLUMB_REQUIRE(r, PLUMB_ERR_NOMEM, "%s: cannot compile a regular expression", where);
    r->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C, &error,
                            &at, NULL);
    if (!r->code) {
        PCRE2_UCHAR why[128] = "unknown error";
        pcre2_get_error_message(error, why, sizeof why);
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_CONFIG, fail,
                        "%s: regular expression \"%.200s\", byte %lld: %s", where, pattern,
                        (long long)at, (const char *)why);
    }
    r->context = pcre2_match_context_create(NULL);
    r->data = pcre2_match_data_create_from_pattern(r->code, NULL);
    if (!r->context || !r->data)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "%s: cannot compile a regular expression",
                        where);
    pcre2_set_match_limit(r->context, MATCH_LIMIT);
    *out = r;
    r = NULL;
fail:
    plumb_regex_free(&r);
    return st;
}

void plumb_regex_free(plumb_regex **r)
{
    if (!*r)
        return;
    pcre2_match_data_free((*r)->data);
    pcre2_match_context_free((*r)->context);
    pcre2_code_free((*r)->code);
    free(*r);
    *r = NULL;
}

plumb_status plumb_regex_search(plumb_regex *r, const char *text, int64_t len, int64_t from,
                                bool *hit, struct plumb_span *group, int64_t *next)
{
    *hit = false;
    *next = from;
    if (from > len)
        return PLUMB_OK;
    const int rc =
        pcre2_match(r->code, (PCRE2_SPTR)text, (size_t)len, (size_t)from, 0, r->data, r->context);
    if (rc == PCRE2_ERROR_NOMATCH)
        return PLUMB_OK;
    if (rc < 0) {
        PCRE2_UCHAR why[128] = "unknown error";
        pcre2_get_error_message(rc, why, sizeof why);
        PLUMB_FAIL(PLUMB_ERR_NUMERIC, "the search for a regular expression was given up: %s",
                   (const char *)why);
    }
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(r->data);
    const int k = rc > 1 && v[2] != PCRE2_UNSET ? 2 : 0;
    *hit = true;
    *group = (struct plumb_span){(int64_t)v[k], (int64_t)v[k + 1]};
    /* After an empty match, the next search begins one character later, so that it does not find
     * the same match again. */
    *next = (int64_t)v[1];
    if (v[1] == v[0]) {
        (*next)++;
        while (*next < len && ((unsigned char)text[*next] & 0xC0) == 0x80)
            (*next)++;
    }
    return PLUMB_OK;
}
