/* pattern.h - regular expressions and literal patterns over UTF-8 text.
 * Layer 3. Includes base/. pattern.c is the only user of PCRE2.
 *
 * tokenizer.json holds expressions of Oniguruma in its Ruby syntax. pattern_onig.c rewrites
 * what PCRE2 understands differently and refuses, by name, what it cannot express. */
#ifndef PLUMB_TEXT_PATTERN_H
#define PLUMB_TEXT_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

typedef struct plumb_pattern plumb_pattern; /* immutable; shared by threads */

enum plumb_pattern_kind {
    PLUMB_PATTERN_LITERAL, /* the text itself, not empty */
    PLUMB_PATTERN_ONIG,    /* an Oniguruma expression */
    PLUMB_PATTERN_PCRE2,   /* one of our own */
};

/* \w of Rust's regex crate, as the inside of a PCRE2 class. */
#define PLUMB_PATTERN_RUST_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}"

struct plumb_match {
    int64_t begin, end;
    bool hit; /* false: text between two matches */
};
/* Zero-initialise; released with plumb_matches_fini; one thread at a time. */
struct plumb_matches {
    struct plumb_match *m;
    int64_t n, cap;
    void *work; /* PCRE2's match data, kept from call to call */
};
void plumb_matches_fini(struct plumb_matches *m);

/* where: file and field, for messages. *out is owned by the caller.
 * Errors: PLUMB_ERR_FORMAT for a malformed expression, PLUMB_ERR_UNSUPPORTED for one that
 * cannot be expressed. */
plumb_status plumb_pattern_compile(plumb_pattern **out, enum plumb_pattern_kind kind,
                                   const char *text, int64_t len, const char *where);
void plumb_pattern_free(plumb_pattern **p); /* NULL is allowed */

/* m = the slices of s (valid UTF-8), matches and what lies between, in order and without gaps.
 * An empty match right after a match does not count. */
plumb_status plumb_pattern_find(const plumb_pattern *p, struct plumb_matches *m, const char *s,
                                int64_t n);

/* out += the PCRE2 form of an Oniguruma expression. */
plumb_status plumb_pattern_from_onig(struct plumb_buf *out, const char *text, int64_t len,
                                     const char *where);

/* The characters of a general category that PCRE2's Unicode tables are too old for, as the inside
 * of a class; NULL when there are none. */
const char *plumb_pattern_newer(const char *category, int64_t len);

#endif
