/* pretokenize.c - the "pre_tokenizer" of tokenizer.json: splits a text into words.
 * Layer 3. Includes base/ and io/json.h. */
#include "text/pretokenize.h"

#include <stdlib.h>
#include <string.h>

#include "text/normalize.h"
#include "text/utf8.h"

#define KNOWN                                                                                      \
    "ByteLevel, Split, Digits, Sequence, Metaspace, Whitespace, WhitespaceSplit, Punctuation"
#define MAX_DEPTH 8
#define GPT2                                                                                       \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+"                                                  \
    "| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

enum behavior { ISOLATED, REMOVED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS };
enum prepend { NEVER, FIRST, ALWAYS };

/* One step of the pre-tokenizer, which can put a prefix before the text, split the text, and
 * replace its bytes by characters. */
struct plumb_split_step {
    enum prepend when;
    char prefix[4];
    int prefix_len;
    /* True for Metaspace: the step first replaces each ' ' of the text by the prefix. */
    bool spaces_become_prefix;
    plumb_pattern *cut; /* pattern at which the text is split; NULL if it is not split */
    enum behavior behavior;
    bool invert;
    bool spell_bytes; /* ByteLevel: each byte becomes its printable character */
};

uint32_t plumb_byte_char(unsigned char b)
{
    if ((b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae)
        return b;
    /* The other 68 bytes (0..32, 127..160 and 173) get the characters from U+0100 on, in byte
     * order. */
    return b <= 32 ? 0x100u + b : b < 0xa1 ? 0x100u + 33 + (b - 127u) : 0x100u + 67;
}

int plumb_char_byte(uint32_t cp)
{
    if (cp < 0x100)
        return plumb_byte_char((unsigned char)cp) == cp ? (int)cp : -1;
    if (cp <= 0x120)
        return (int)(cp - 0x100);
    if (cp <= 0x142)
        return (int)(cp - 0x121 + 127);
    return cp == 0x143 ? 173 : -1;
}

void plumb_pretokenizer_fini(struct plumb_pretokenizer *z)
{
    for (int64_t i = 0; i < z->n; i++)
        plumb_pattern_free(&z->step[i].cut);
    free(z->step);
    *z = (struct plumb_pretokenizer){0};
}

plumb_status plumb_char_from_json(char out[4], int *len, const plumb_json *v, const char *key,
                                  const char *where)
{
    const char *text;
    PLUMB_TRY(plumb_json_want_string(v, key, &text, NULL, where));
    const int64_t n = plumb_json_string_len(plumb_json_get(v, key));
    PLUMB_REQUIRE(n > 0 && n == plumb_utf8_size(text[0]), PLUMB_ERR_FORMAT,
                  "%s: %s: expected one character, found \"%s\"", where, key, text);
    memcpy(out, text, (size_t)n);
    *len = (int)n;
    return PLUMB_OK;
}

static plumb_status behavior(enum behavior *out, const plumb_json *v, const char *fallback,
                             const char *where)
{
    static const char *const name[] = {"Isolated", "Removed", "MergedWithPrevious",
                                       "MergedWithNext", "Contiguous"};
    const char *text;
    PLUMB_TRY(plumb_json_want_string(v, "behavior", &text, fallback ? &fallback : NULL, where));
    for (int i = 0; i < 5; i++)
        if (strcmp(text, name[i]) == 0) {
            *out = (enum behavior)i;
            return PLUMB_OK;
        }
    PLUMB_FAIL(PLUMB_ERR_FORMAT,
               "%s: pre_tokenizer.behavior: \"%s\"; expected Isolated, Removed, "
               "MergedWithPrevious, MergedWithNext or Contiguous",
               where, text);
}

static plumb_status built_in(struct plumb_split_step *s, enum plumb_pattern_kind kind,
                             const char *pattern, enum behavior how, bool invert, const char *where)
{
    s->behavior = how;
    s->invert = invert;
    return plumb_pattern_compile(&s->cut, kind, pattern, (int64_t)strlen(pattern), where);
}

static plumb_status byte_level(struct plumb_split_step *s, const plumb_json *v, const char *where)
{
    const bool yes = true;
    bool prefix, regex;
    PLUMB_TRY(plumb_json_want_bool(v, "add_prefix_space", &prefix, &yes, where));
    PLUMB_TRY(plumb_json_want_bool(v, "use_regex", &regex, &yes, where));
    s->when = prefix ? ALWAYS : NEVER;
    s->prefix[0] = ' ';
    s->prefix_len = 1;
    s->spell_bytes = true;
    return regex ? built_in(s, PLUMB_PATTERN_ONIG, GPT2, ISOLATED, false, where) : PLUMB_OK;
}

static plumb_status metaspace(struct plumb_split_step *s, const plumb_json *v, const char *where)
{
    const bool yes = true;
    const char *always = "always", *scheme;
    bool split, prefix;
    PLUMB_TRY(plumb_char_from_json(s->prefix, &s->prefix_len, v, "replacement", where));
    PLUMB_TRY(plumb_json_want_string(v, "prepend_scheme", &scheme, &always, where));
    PLUMB_TRY(plumb_json_want_bool(v, "split", &split, &yes, where));
    PLUMB_TRY(plumb_json_want_bool(v, "add_prefix_space", &prefix, &yes, where));
    if (strcmp(scheme, "always") == 0)
        s->when = ALWAYS;
    else if (strcmp(scheme, "first") == 0)
        s->when = FIRST;
    else if (strcmp(scheme, "never") == 0)
        s->when = NEVER;
    else
        PLUMB_FAIL(PLUMB_ERR_FORMAT,
                   "%s: pre_tokenizer.prepend_scheme: \"%s\"; expected always, first or never",
                   where, scheme);
    PLUMB_REQUIRE(prefix || s->when == NEVER, PLUMB_ERR_FORMAT,
                  "%s: pre_tokenizer: add_prefix_space false contradicts prepend_scheme \"%s\"",
                  where, scheme);
    s->spaces_become_prefix = true;
    s->behavior = MERGED_WITH_NEXT;
    if (!split)
        return PLUMB_OK;
    return plumb_pattern_compile(&s->cut, PLUMB_PATTERN_LITERAL, s->prefix, s->prefix_len, where);
}

static plumb_status fill(struct plumb_split_step *s, const char *type, const plumb_json *v,
                         const char *where)
{
    if (strcmp(type, "ByteLevel") == 0)
        return byte_level(s, v, where);
    if (strcmp(type, "Metaspace") == 0)
        return metaspace(s, v, where);
    if (strcmp(type, "Split") == 0) {
        PLUMB_TRY(behavior(&s->behavior, v, NULL, where));
        PLUMB_TRY(plumb_json_want_bool(v, "invert", &s->invert, NULL, where));
        return plumb_pattern_from_json(&s->cut, plumb_json_get(v, "pattern"), where);
    }
    if (strcmp(type, "Digits") == 0) {
        const bool no = false;
        bool single;
        PLUMB_TRY(plumb_json_want_bool(v, "individual_digits", &single, &no, where));
        return built_in(s, PLUMB_PATTERN_ONIG, "\\p{N}", single ? ISOLATED : CONTIGUOUS, false,
                        where);
    }
    if (strcmp(type, "Punctuation") == 0) {
        enum behavior how;
        PLUMB_TRY(behavior(&how, v, "Isolated", where));
        return built_in(s, PLUMB_PATTERN_PCRE2, "[!-/:-@\\[-`{-~\\p{P}]", how, false, where);
    }
    if (strcmp(type, "Whitespace") == 0)
        return built_in(s, PLUMB_PATTERN_PCRE2,
                        "[" PLUMB_PATTERN_RUST_WORD "]+|[^" PLUMB_PATTERN_RUST_WORD
                        "\\p{White_Space}]+",
                        REMOVED, true, where);
    if (strcmp(type, "WhitespaceSplit") == 0)
        return built_in(s, PLUMB_PATTERN_PCRE2, "\\p{White_Space}", REMOVED, false, where);
    PLUMB_FAIL(PLUMB_ERR_UNSUPPORTED,
               "%s: pre_tokenizer: type \"%s\" is not supported; plumb supports " KNOWN, where,
               type);
}

static plumb_status add_steps(struct plumb_pretokenizer *z, const plumb_json *v, const char *where,
                              int depth)
{
    const char *type;
    PLUMB_REQUIRE(depth < MAX_DEPTH, PLUMB_ERR_UNSUPPORTED,
                  "%s: pre_tokenizer: sequences are nested too deeply", where);
    PLUMB_TRY(plumb_json_want_string(v, "type", &type, NULL, where));
    if (strcmp(type, "Sequence") == 0) {
        const plumb_json *list = plumb_json_get(v, "pretokenizers");
        PLUMB_REQUIRE(plumb_json_type_of(list) == PLUMB_JSON_ARRAY, PLUMB_ERR_FORMAT,
                      "%s: pre_tokenizer.pretokenizers: expected an array", where);
        for (int64_t i = 0; i < plumb_json_count(list); i++)
            PLUMB_TRY(add_steps(z, plumb_json_at(list, i), where, depth + 1));
        return PLUMB_OK;
    }
    PLUMB_TRY(plumb_grow((void **)&z->step, z->n, &z->cap, sizeof *z->step));
    z->step[z->n++] = (struct plumb_split_step){0};
    return fill(&z->step[z->n - 1], type, v, where);
}

plumb_status plumb_pretokenizer_init(struct plumb_pretokenizer *z, const plumb_json *v,
                                     const char *where)
{
    if (plumb_json_type_of(v) == PLUMB_JSON_NULL)
        return PLUMB_OK;
    PLUMB_REQUIRE(plumb_json_type_of(v) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: pre_tokenizer: expected an object or null, found %s", where,
                  plumb_json_type_name(plumb_json_type_of(v)));
    return add_steps(z, v, where, 0);
}

/* Merges neighbouring slices as `how` demands. Afterwards, hit marks the slices to remove.
 * CONTIGUOUS joins neighbouring slices that are both matches, or both texts between matches.
 * MERGED_WITH_PREVIOUS and MERGED_WITH_NEXT join a match to the slice before it or after it, unless
 * that slice is a match, too. */
static void merge_slices(struct plumb_matches *m, enum behavior how)
{
    int64_t n = 0;
    bool before = false; /* true if the previous slice was a match */
    switch (how) {
    case REMOVED:
        return;
    case ISOLATED:
        for (int64_t i = 0; i < m->n; i++)
            m->m[i].hit = false;
        return;
    case CONTIGUOUS:
    case MERGED_WITH_PREVIOUS:
        for (int64_t i = 0; i < m->n; i++) {
            const struct plumb_match a = m->m[i];
            const bool join = how == CONTIGUOUS ? a.hit == before : a.hit && !before;
            before = a.hit;
            if (join && n > 0)
                m->m[n - 1].end = a.end;
            else
                m->m[n++] = (struct plumb_match){a.begin, a.end, false};
        }
        m->n = n;
        return;
    /* Works from right to left; the result is built downwards from the end of the array. */
    case MERGED_WITH_NEXT:
        n = m->n;
        for (int64_t i = m->n - 1; i >= 0; i--) {
            const struct plumb_match a = m->m[i];
            const bool join = a.hit && !before;
            before = a.hit;
            if (join && n < m->n)
                m->m[n].begin = a.begin;
            else
                m->m[--n] = (struct plumb_match){a.begin, a.end, false};
        }
        m->n -= n;
        memmove(m->m, m->m + n, (size_t)m->n * sizeof *m->m);
        return;
    }
}

static plumb_status spell(struct plumb_buf *out, const char *s, int64_t n)
{
    char part[512];
    int len = 0;
    for (int64_t i = 0; i < n; i++) {
        if (len > (int)sizeof part - 4) {
            PLUMB_TRY(plumb_buf_add(out, part, len));
            len = 0;
        }
        const unsigned char c = (unsigned char)s[i];
        if (c >= '!' && c <= '~')
            part[len++] = (char)c;
        else
            len += plumb_utf8_put(part + len, plumb_byte_char(c));
    }
    return plumb_buf_add(out, part, len);
}

static plumb_status emit(const struct plumb_split_step *s, struct plumb_pieces *out,
                         const char *text, int64_t n, bool start)
{
    if (!s->spell_bytes)
        return plumb_pieces_add_text(out, text, n, start);
    const int64_t at = out->text.len;
    PLUMB_TRY(spell(&out->text, text, n));
    return plumb_pieces_close(out, at, start);
}

/* Prepares the text for a step: replaces its spaces and puts the prefix before it. If that changes
 * nothing, *text stays as it is; otherwise it becomes a copy in *own. */
static plumb_status prepare(const struct plumb_split_step *s, struct plumb_buf *own,
                            const char **text, int64_t *n, bool start)
{
    plumb_buf_clear(own);
    if (s->spaces_become_prefix && memchr(*text, ' ', (size_t)*n)) {
        for (int64_t i = 0; i < *n; i++)
            if ((*text)[i] == ' ')
                PLUMB_TRY(plumb_buf_add(own, s->prefix, s->prefix_len));
            else
                PLUMB_TRY(plumb_buf_add(own, *text + i, 1));
        *text = own->data;
        *n = own->len;
    }
    const bool wanted = s->when == ALWAYS || (s->when == FIRST && start);
    if (!wanted || (*n >= s->prefix_len && memcmp(*text, s->prefix, (size_t)s->prefix_len) == 0))
        return PLUMB_OK;
    if (own->len == 0)
        PLUMB_TRY(plumb_buf_add(own, *text, *n));
    /* Appends the prefix only to make room for it; memmove and memcpy then put it in front. */
    PLUMB_TRY(plumb_buf_add(own, s->prefix, s->prefix_len));
    memmove(own->data + s->prefix_len, own->data, (size_t)*n);
    memcpy(own->data, s->prefix, (size_t)s->prefix_len);
    *text = own->data;
    *n = own->len;
    return PLUMB_OK;
}

static plumb_status run_step(const struct plumb_split_step *s, const struct plumb_pieces *in,
                             struct plumb_pieces *out, struct plumb_buf *own,
                             struct plumb_matches *m)
{
    for (int64_t i = 0; i < in->n; i++) {
        const struct plumb_text_piece *p = &in->piece[i];
        if (p->id >= 0) {
            PLUMB_TRY(plumb_pieces_add_token(out, p->id));
            continue;
        }
        const char *text = in->text.data + p->at;
        int64_t n = p->len;
        PLUMB_TRY(prepare(s, own, &text, &n, p->start));
        if (!s->cut) {
            PLUMB_TRY(emit(s, out, text, n, p->start));
            continue;
        }
        PLUMB_TRY(plumb_pattern_find(s->cut, m, text, n));
        for (int64_t j = 0; s->invert && j < m->n; j++)
            m->m[j].hit = !m->m[j].hit;
        merge_slices(m, s->behavior);
        for (int64_t j = 0; j < m->n; j++) {
            const struct plumb_match a = m->m[j];
            if (!a.hit)
                PLUMB_TRY(emit(s, out, text + a.begin, a.end - a.begin, p->start && a.begin == 0));
        }
    }
    return PLUMB_OK;
}

plumb_status plumb_pretokenizer_apply(const struct plumb_pretokenizer *z, struct plumb_pieces *p,
                                      struct plumb_pieces *other, struct plumb_matches *m)
{
    plumb_status st = PLUMB_OK;
    struct plumb_buf own = {0};
    for (int64_t i = 0; i < z->n; i++) {
        plumb_pieces_clear(other);
        PLUMB_TRY_GOTO(st, run_step(&z->step[i], p, other, &own, m), fail);
        const struct plumb_pieces swap = *p;
        *p = *other;
        *other = swap;
    }
fail:
    plumb_buf_fini(&own);
    return st;
}
