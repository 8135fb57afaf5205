/* pattern.h - searches UTF-8 text for regular expressions and literal texts.
 * Layer 3. Includes base/. Only pattern.c and regex.c use PCRE2.
 *
 * The expressions of tokenizer.json are written for Oniguruma with its Ruby syntax. pattern_onig.c
 * rewrites what PCRE2 treats differently, and refuses what PCRE2 cannot express; the message names
 * it. */
#ifndef PLUMB_TEXT_PATTERN_H
#define PLUMB_TEXT_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* A compiled pattern, which does not change. Threads may share it. */
typedef struct plumb_pattern plumb_pattern;

enum plumb_pattern_kind {
    PLUMB_PATTERN_LITERAL, /* searches for the text itself, which must not be empty */
    PLUMB_PATTERN_ONIG,    /* an Oniguruma expression from a file */
    PLUMB_PATTERN_PCRE2,   /* a PCRE2 expression in our source code */
};

/* The characters of \w in Rust's regex crate, to be put inside a PCRE2 character class. */
#define PLUMB_PATTERN_RUST_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}"

struct plumb_match {
    int64_t begin, end;
    bool hit; /* true for a match, false for the text before, between or after the matches */
};
/* Results of a search. Initialise with zeros, release with plumb_matches_fini. Only one thread at a
 * time may use it. */
struct plumb_matches {
    struct plumb_match *m;
    int64_t n, cap;
    /* PCRE2's match data, reused by later calls. */
    void *work;
};
void plumb_matches_fini(struct plumb_matches *m);

/* Compiles a pattern. `where` names the file and the field in messages. The caller owns *out.
 * Returns PLUMB_ERR_FORMAT for a malformed expression, PLUMB_ERR_UNSUPPORTED for one that PCRE2
 * cannot express. */
plumb_status plumb_pattern_compile(plumb_pattern **out, enum plumb_pattern_kind kind,
                                   const char *text, int64_t len, const char *where);
void plumb_pattern_free(plumb_pattern **p); /* does nothing if *p is NULL */

/* Splits s (valid UTF-8) into the matches and the texts between them, in order and without gaps,
 * and stores these slices in m. An empty match directly after another match is ignored. */
plumb_status plumb_pattern_find(const plumb_pattern *p, struct plumb_matches *m, const char *s,
                                int64_t n);

/* Appends the PCRE2 form of an Oniguruma expression to out. */
plumb_status plumb_pattern_from_onig(struct plumb_buf *out, const char *text, int64_t len,
                                     const char *where);

/* Returns the characters of a Unicode general category that Oniguruma knows and PCRE2's older
 * Unicode tables do not, to be put inside a character class; NULL if there are none. */
const char *plumb_pattern_newer(const char *category, int64_t len);

#endif
