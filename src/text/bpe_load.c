/* bpe_load.c - reads the vocabulary and the merges of a BPE model into its tables.
 * Layer 3. Includes base/, io/json.h and io/file.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"
#include "text/bpe_table.h"
#include "text/utf8.h"

/* Larger ids are refused, because the tables are indexed by id. */
#define MAX_ID (4 * 1024 * 1024)

void plumb_bpe_destroy(plumb_bpe **out)
{
    plumb_bpe *b = *out;
    if (!b)
        return;
    plumb_buf_fini(&b->chars);
    plumb_buf_fini(&b->unk);
    free(b->text);
    free(b->known);
    free(b->slot);
    free(b->merge);
    free(b);
    *out = NULL;
}

static plumb_status check_ids(plumb_bpe *b, const plumb_json *vocab, const char *where)
{
    for (int64_t i = 0; i < b->count; i++) {
        const char *token;
        const plumb_json *v;
        PLUMB_TRY(plumb_json_member_at(vocab, i, &token, &v));
        const int64_t id = plumb_json_int(v, -1);
        char number[32] = "";
        if (plumb_json_type_of(v) == PLUMB_JSON_INT)
            snprintf(number, sizeof(number), " %lld", (long long)id);
        PLUMB_REQUIRE(*number && id >= 0 && id < MAX_ID, PLUMB_ERR_FORMAT,
                      "%s: model.vocab[\"%.100s\"]: expected an id in [0, %d), found %s%s", where,
                      token, MAX_ID, plumb_json_type_name(plumb_json_type_of(v)), number);
        b->top = plumb_max_i64(b->top, id + 1);
        b->longest = plumb_max_i64(b->longest, (int64_t)strlen(token));
    }
    return PLUMB_OK;
}

static plumb_status allocate(plumb_bpe *b, int64_t merges, const char *where)
{
    b->slots = plumb_pow2_ceil(2 * b->count + 2);
    b->merges = plumb_pow2_ceil(2 * merges + 2);
    const int64_t top = plumb_max_i64(b->top, 1);
    b->text = malloc((size_t)top * sizeof *b->text);
    b->known = calloc((size_t)top, sizeof *b->known);
    b->slot = malloc((size_t)b->slots * sizeof *b->slot);
    b->merge = malloc((size_t)b->merges * sizeof *b->merge);
    PLUMB_REQUIRE(b->text && b->known && b->slot && b->merge, PLUMB_ERR_NOMEM,
                  "%s: cannot store %lld tokens and %lld merges", where, (long long)b->count,
                  (long long)merges);
    for (int64_t i = 0; i < top; i++)
        b->text[i] = (struct plumb_bpe_text){UINT32_MAX, 0};
    for (int64_t i = 0; i < b->slots; i++)
        b->slot[i] = (struct plumb_bpe_slot){0, -1};
    for (int64_t i = 0; i < b->merges; i++)
        b->merge[i] = (struct plumb_bpe_merge){UINT64_MAX, 0, -1};
    return PLUMB_OK;
}

static plumb_status read_vocab(plumb_bpe *b, const plumb_json *vocab, const char *where)
{
    for (int64_t i = 0; i < b->count; i++) {
        const char *token;
        const plumb_json *v;
        PLUMB_TRY(plumb_json_member_at(vocab, i, &token, &v));
        const int32_t id = (int32_t)plumb_json_int(v, -1);
        const int64_t len = (int64_t)strlen(token);
        int64_t other_len;
        const char *other = plumb_bpe_token(b, id, &other_len);
        PLUMB_REQUIRE(!other, PLUMB_ERR_FORMAT,
                      "%s: model.vocab: \"%.*s\" and \"%.100s\" have the same id %d", where,
                      (int)plumb_min_i64(other_len, 100), other, token, (int)id);
        PLUMB_REQUIRE(b->chars.len + len < UINT32_MAX, PLUMB_ERR_UNSUPPORTED,
                      "%s: model.vocab: the texts of the tokens exceed 4 GB", where);
        uint32_t tag;
        struct plumb_bpe_slot *at = plumb_bpe_find(b, token, len, &tag);
        *at = (struct plumb_bpe_slot){tag, id};
        b->text[id] = (struct plumb_bpe_text){(uint32_t)b->chars.len, (uint32_t)len};
        PLUMB_TRY(plumb_buf_add(&b->chars, token, len));
    }
    return PLUMB_OK;
}

/* Reads the two tokens of one merge: ["a", "b"], or "a b". */
static plumb_status halves(const plumb_json *v, int64_t line, const char **a, int64_t *na,
                           const char **b, int64_t *nb, const char *where)
{
    if (plumb_json_type_of(v) == PLUMB_JSON_ARRAY && plumb_json_count(v) == 2) {
        const plumb_json *left = plumb_json_at(v, 0), *right = plumb_json_at(v, 1);
        *a = plumb_json_string(left, NULL);
        *b = plumb_json_string(right, NULL);
        *na = plumb_json_string_len(left);
        *nb = plumb_json_string_len(right);
        if (*a && *b)
            return PLUMB_OK;
    } else if (plumb_json_type_of(v) == PLUMB_JSON_STRING) {
        const int64_t n = plumb_json_string_len(v);
        *a = plumb_json_string(v, "");
        const char *space = memchr(*a, ' ', (size_t)n);
        if (space && !memchr(space + 1, ' ', (size_t)(*a + n - space - 1))) {
            *na = space - *a;
            *b = space + 1;
            *nb = n - *na - 1;
            return PLUMB_OK;
        }
    }
    PLUMB_FAIL(PLUMB_ERR_FORMAT,
               "%s: model.merges[%lld]: expected \"left right\" or [\"left\", \"right\"]", where,
               (long long)line);
}

static plumb_status known_token(const plumb_bpe *b, const char *s, int64_t n, int64_t line,
                                int32_t *id, const char *where)
{
    *id = plumb_bpe_id(b, s, n);
    PLUMB_REQUIRE(*id >= 0, PLUMB_ERR_FORMAT,
                  "%s: model.merges[%lld]: \"%.*s\" is not in the vocabulary", where,
                  (long long)line, (int)plumb_min_i64(n, 100), s);
    return PLUMB_OK;
}

static plumb_status read_merge(plumb_bpe *b, const plumb_json *v, int64_t line, int32_t rank,
                               struct plumb_buf *joined, const char *where)
{
    const char *left = NULL, *right = NULL;
    int64_t nl = 0, nr = 0;
    int32_t l, r, id;
    PLUMB_TRY(halves(v, line, &left, &nl, &right, &nr, where));
    PLUMB_TRY(known_token(b, left, nl, line, &l, where));
    PLUMB_TRY(known_token(b, right, nr, line, &r, where));
    plumb_buf_clear(joined);
    PLUMB_TRY(plumb_buf_add(joined, left, nl));
    PLUMB_TRY(plumb_buf_add(joined, right, nr));
    PLUMB_TRY(known_token(b, joined->data, joined->len, line, &id, where));
    /* if a pair occurs twice, its last rank is used, as in huggingface/tokenizers */
    *plumb_bpe_find_merge(b, plumb_bpe_pair(l, r)) =
        (struct plumb_bpe_merge){plumb_bpe_pair(l, r), rank, id};
    return PLUMB_OK;
}

static plumb_status read_merges(plumb_bpe *b, const plumb_json *merges, const char *where)
{
    plumb_status st = PLUMB_OK;
    struct plumb_buf joined = {0};
    int32_t rank = 0;
    for (int64_t i = 0; i < plumb_json_count(merges); i++) {
        const plumb_json *v = plumb_json_at(merges, i);
        if (strncmp(plumb_json_string(v, ""), "#version", 8) == 0)
            continue;
        PLUMB_TRY_GOTO(st, read_merge(b, v, i, rank++, &joined, where), fail);
    }
fail:
    plumb_buf_fini(&joined);
    return st;
}

static void fill_direct(plumb_bpe *b)
{
    char text[8];
    for (uint32_t cp = 0; cp < PLUMB_BPE_DIRECT; cp++)
        b->direct[cp] = plumb_bpe_id(b, text, plumb_utf8_put(text, cp));
    for (int i = 0; i < 256; i++) {
        static const char hex[] = "0123456789ABCDEF";
        const char name[] = {'<', '0', 'x', hex[i >> 4], hex[i & 15], '>'};
        b->byte_id[i] = plumb_bpe_id(b, name, sizeof name);
    }
}

static plumb_status refuse_text(const plumb_json *v, const char *key, const char *where)
{
    const plumb_json *m = plumb_json_get(v, key);
    PLUMB_REQUIRE(!m || plumb_json_type_of(m) == PLUMB_JSON_STRING, PLUMB_ERR_FORMAT,
                  "%s: model.%s: expected null or an empty string, found %s", where, key,
                  plumb_json_type_name(plumb_json_type_of(m)));
    PLUMB_REQUIRE(plumb_json_string_len(m) == 0, PLUMB_ERR_UNSUPPORTED,
                  "%s: model.%s \"%s\" is not supported; expected null", where, key,
                  plumb_json_string(m, ""));
    return PLUMB_OK;
}

static plumb_status read_options(plumb_bpe *b, const plumb_json *v, const char *where)
{
    const bool no = false;
    const double none = 0.0;
    double dropout;
    const char *type = "BPE";
    PLUMB_TRY(plumb_json_want_string(v, "type", &type, (const char *const[]){"BPE"}, where));
    PLUMB_REQUIRE(strcmp(type, "BPE") == 0, PLUMB_ERR_UNSUPPORTED,
                  "%s: model: type \"%s\" is not supported; plumb supports BPE", where, type);
    if (plumb_json_get(v, "dropout"))
        PLUMB_TRY(plumb_json_want_real(v, "dropout", &dropout, &none, where));
    else
        dropout = 0.0;
    PLUMB_REQUIRE(dropout == 0.0, PLUMB_ERR_UNSUPPORTED,
                  "%s: model.dropout %g is not supported; expected null", where, dropout);
    PLUMB_TRY(refuse_text(v, "continuing_subword_prefix", where));
    PLUMB_TRY(refuse_text(v, "end_of_word_suffix", where));
    PLUMB_TRY(plumb_json_want_bool(v, "byte_fallback", &b->byte_fallback, &no, where));
    PLUMB_TRY(plumb_json_want_bool(v, "ignore_merges", &b->ignore_merges, &no, where));
    PLUMB_TRY(plumb_json_want_bool(v, "fuse_unk", &b->fuse_unk, &no, where));
    const plumb_json *unk = plumb_json_get(v, "unk_token");
    PLUMB_REQUIRE(!unk || plumb_json_type_of(unk) == PLUMB_JSON_STRING, PLUMB_ERR_FORMAT,
                  "%s: model.unk_token: expected a string or null, found %s", where,
                  plumb_json_type_name(plumb_json_type_of(unk)));
    return plumb_buf_add(&b->unk, plumb_json_string(unk, ""), plumb_json_string_len(unk));
}

static plumb_status load(plumb_bpe *b, const plumb_json *v, const char *where)
{
    const plumb_json *vocab = plumb_json_get(v, "vocab"), *merges = plumb_json_get(v, "merges");
    PLUMB_REQUIRE(plumb_json_type_of(v) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: model: expected an object, found %s", where,
                  v ? plumb_json_type_name(plumb_json_type_of(v)) : "nothing");
    PLUMB_TRY(read_options(b, v, where));
    PLUMB_REQUIRE(plumb_json_type_of(vocab) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: model.vocab: expected an object of token to id, found %s", where,
                  vocab ? plumb_json_type_name(plumb_json_type_of(vocab)) : "nothing");
    PLUMB_REQUIRE(plumb_json_type_of(merges) == PLUMB_JSON_ARRAY, PLUMB_ERR_FORMAT,
                  "%s: model.merges: expected an array, found %s", where,
                  merges ? plumb_json_type_name(plumb_json_type_of(merges)) : "nothing");
    b->count = plumb_json_count(vocab);
    PLUMB_TRY(check_ids(b, vocab, where));
    PLUMB_TRY(allocate(b, plumb_json_count(merges), where));
    PLUMB_TRY(read_vocab(b, vocab, where));
    PLUMB_TRY(read_merges(b, merges, where));
    b->unk_id = plumb_bpe_id(b, plumb_buf_text(&b->unk), b->unk.len);
    fill_direct(b);
    return PLUMB_OK;
}

plumb_status plumb_bpe_create(plumb_bpe **out, const plumb_json *v, const char *where)
{
    plumb_bpe *b = calloc(1, sizeof *b);
    PLUMB_REQUIRE(b, PLUMB_ERR_NOMEM, "%s: cannot create the BPE model", where);
    const plumb_status st = load(b, v, where);
    if (st)
        plumb_bpe_destroy(&b);
    *out = b;
    return st;
}
