/* added.c - finds added tokens in a text before the text is split into words.
 * Layer 3. Includes base/, io/json.h and text/beside.h.
 *
 * As in huggingface/tokenizers (added_vocabulary.rs), the search takes, at the leftmost position
 * where an added token occurs, the longest such token. Matches do not overlap. If the flag
 * single_word rejects this token, shorter tokens at the same position are not tried. */
#include "text/added.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "text/utf8.h"

void plumb_added_fini(struct plumb_added *z)
{
    for (int64_t i = 0; i < z->n; i++) {
        plumb_buf_fini(&z->token[i].content);
        plumb_buf_fini(&z->token[i].form);
    }
    free(z->token);
    free(z->raw.node);
    free(z->normal.node);
    plumb_pattern_free(&z->word);
    *z = (struct plumb_added){0};
}

static bool same(const struct plumb_buf *b, const char *s, int64_t n)
{
    return b->len == n && memcmp(b->data, s, (size_t)n) == 0;
}

int64_t plumb_added_by_content(const struct plumb_added *z, const char *s, int64_t n)
{
    for (int64_t i = 0; i < z->n; i++)
        if (same(&z->token[i].content, s, n))
            return i;
    return -1;
}

int64_t plumb_added_by_id(const struct plumb_added *z, int32_t id)
{
    int64_t low = 0, high = z->n; /* the tokens are sorted by id */
    while (low < high) {
        const int64_t mid = (low + high) / 2;
        if (z->token[mid].id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < z->n && z->token[low].id == id ? low : -1;
}

static int32_t *find_child(struct plumb_trie *t, int32_t *link, unsigned char byte)
{
    while (*link >= 0 && t->node[*link].byte != byte)
        link = &t->node[*link].next;
    return link;
}

static plumb_status trie_add(struct plumb_trie *t, const struct plumb_buf *text, int32_t token)
{
    int32_t at = -1;
    for (int64_t i = 0; i < text->len; i++) {
        const unsigned char byte = (unsigned char)text->data[i];
        /* Enlarge the array first, because links point into it and realloc may move it. */
        PLUMB_TRY(plumb_grow((void **)&t->node, t->n, &t->cap, sizeof *t->node));
        int32_t *link = i == 0 ? &t->root[byte] : find_child(t, &t->node[at].child, byte);
        if (*link < 0) {
            t->node[t->n] = (struct plumb_trie_node){-1, -1, -1, byte};
            *link = (int32_t)t->n++;
        }
        at = *link;
    }
    t->node[at].token = token;
    return PLUMB_OK;
}

/* Returns the index of the longest token that begins at s[from], and its end in *end; -1 if there
 * is none. */
static int32_t trie_longest(const struct plumb_trie *t, const char *s, int64_t n, int64_t from,
                            int64_t *end)
{
    int32_t found = -1, at = t->root[(unsigned char)s[from]];
    for (int64_t i = from; at >= 0;) {
        i++;
        if (t->node[at].token >= 0) {
            found = t->node[at].token;
            *end = i;
        }
        if (i == n)
            break;
        at = t->node[at].child;
        while (at >= 0 && t->node[at].byte != (unsigned char)s[i])
            at = t->node[at].next;
    }
    return found;
}

static plumb_status read_token(struct plumb_added_token *a, const plumb_json *v, int64_t *file_id,
                               const char *where)
{
    const bool no = false;
    const char *text;
    PLUMB_TRY(plumb_json_want_int(v, "id", file_id, NULL, where));
    PLUMB_TRY(plumb_json_want_string(v, "content", &text, NULL, where));
    PLUMB_TRY(
        plumb_buf_add(&a->content, text, plumb_json_string_len(plumb_json_get(v, "content"))));
    PLUMB_TRY(plumb_json_want_bool(v, "special", &a->special, &no, where));
    const bool unless_special = !a->special;
    PLUMB_TRY(plumb_json_want_bool(v, "normalized", &a->normalized, &unless_special, where));
    PLUMB_TRY(plumb_json_want_bool(v, "single_word", &a->single_word, &no, where));
    PLUMB_TRY(plumb_json_want_bool(v, "lstrip", &a->lstrip, &no, where));
    PLUMB_TRY(plumb_json_want_bool(v, "rstrip", &a->rstrip, &no, where));
    return PLUMB_OK;
}

static plumb_status set_form(struct plumb_added_token *a, const struct plumb_normalizer *norm,
                             const char *where)
{
    plumb_status st = PLUMB_OK;
    struct plumb_buf other = {0};
    struct plumb_matches m = {0};
    bool start = true;
    PLUMB_TRY(plumb_buf_add(&a->form, a->content.data, a->content.len));
    if (a->normalized)
        st = plumb_normalizer_apply(norm, &a->form, &other, &m, &start);
    if (!st && a->form.len == 0)
        st = plumb_fail_at(PLUMB_ERR_FORMAT, __FILE__, __LINE__,
                           "%s: added_tokens: \"%s\" is empty after normalisation", where,
                           plumb_buf_text(&a->content));
    plumb_buf_fini(&other);
    plumb_matches_fini(&m);
    return st;
}

static void warn_id(const struct plumb_added_token *a, int64_t says, const char *where)
{
    plumb_log_once(PLUMB_LOG_WARN,
                   "%s: the file states id %lld for the added token \"%s\", but the token gets id "
                   "%d, as in transformers",
                   where, (long long)says, plumb_buf_text(&a->content), (int)a->id);
}

/* Sets the id of an added token as transformers does: the id of its text in the BPE vocabulary, or,
 * if it is not there, *next_id, which then grows by 1. says: the id that the file states; -1 if it
 * states none. If the token gets another id, logs a warning. */
static void give_id(struct plumb_added_token *a, int32_t *next_id, const plumb_bpe *model,
                    int64_t says, const char *where)
{
    const int32_t known = plumb_bpe_id(model, plumb_buf_text(&a->content), a->content.len);
    a->id = known >= 0 ? known : (*next_id)++;
    if (says >= 0 && a->id != says)
        warn_id(a, says, where);
}

static plumb_status add_token(struct plumb_added *z, const plumb_json *v, int32_t *next_id,
                              const plumb_bpe *model, const char *where)
{
    PLUMB_TRY(plumb_grow((void **)&z->token, z->n, &z->cap, sizeof *z->token));
    struct plumb_added_token *a = &z->token[z->n++];
    int64_t file_id = 0;
    *a = (struct plumb_added_token){0};
    PLUMB_TRY(read_token(a, v, &file_id, where));
    if (a->content.len == 0) { /* huggingface/tokenizers ignores a token without text, too */
        plumb_buf_fini(&a->content);
        z->n--;
        return PLUMB_OK;
    }
    const char *text = plumb_buf_text(&a->content);
    for (int64_t i = 0; i < z->n - 1; i++)
        PLUMB_REQUIRE(!same(&z->token[i].content, text, a->content.len), PLUMB_ERR_FORMAT,
                      "%s: added_tokens: \"%s\" appears twice", where, text);
    a->own = true;
    give_id(a, next_id, model, file_id, where);
    return PLUMB_OK;
}

/* Adds or changes a token that another file than tokenizer.json asks for. A token with a role, such
 * as eos_token, becomes special, with one exception: tokenizer.json alone defines the token and
 * tokenizer_config.json has added_tokens_decoder. This is the behaviour of huggingface/tokenizers.
 */
static plumb_status apply_request(struct plumb_added *z, const struct plumb_beside *beside,
                                  const struct plumb_token_request *w, int32_t *next_id,
                                  const plumb_bpe *model)
{
    const int64_t at = plumb_added_by_content(z, w->content.data, w->content.len);
    struct plumb_added_token *a = at < 0 ? NULL : &z->token[at];
    if (a && w->kind == PLUMB_REQUEST_NAMED)
        a->special |= !a->own || a->put || !beside->listed;
    if (a && w->kind != PLUMB_REQUEST_PUT)
        return PLUMB_OK;
    if (!a) {
        PLUMB_TRY(plumb_grow((void **)&z->token, z->n, &z->cap, sizeof *z->token));
        a = &z->token[z->n++];
        *a = (struct plumb_added_token){0};
        PLUMB_TRY(plumb_buf_add(&a->content, w->content.data, w->content.len));
        give_id(a, next_id, model, w->says, w->source);
    } else if (w->says >= 0 && w->says != a->id) {
        warn_id(a, w->says, w->source);
    }
    a->put = w->kind == PLUMB_REQUEST_PUT;
    a->special = w->special;
    a->normalized = w->normalized;
    a->single_word = w->single_word;
    a->lstrip = w->lstrip;
    a->rstrip = w->rstrip;
    return PLUMB_OK;
}

static int by_id(const void *a, const void *b)
{
    const int32_t x = ((const struct plumb_added_token *)a)->id;
    const int32_t y = ((const struct plumb_added_token *)b)->id;
    return (x > y) - (x < y);
}

static plumb_status build(struct plumb_added *z, const char *where)
{
    for (int64_t i = 0; i < z->n; i++) {
        struct plumb_added_token *a = &z->token[i];
        struct plumb_trie *t = a->normalized ? &z->normal : &z->raw;
        int64_t end = 0;
        const int32_t other = trie_longest(t, a->form.data, a->form.len, 0, &end);
        PLUMB_REQUIRE(other < 0 || end < a->form.len, PLUMB_ERR_FORMAT,
                      "%s: added_tokens: \"%s\" and \"%s\" are equal after normalisation", where,
                      plumb_buf_text(&z->token[other < 0 ? 0 : other].content),
                      plumb_buf_text(&a->content));
        PLUMB_TRY(trie_add(t, &a->form, (int32_t)i));
        const int64_t twin = plumb_added_by_content(z, a->form.data, a->form.len);
        a->skip = twin >= 0 && z->token[twin].special;
        if (a->single_word && !z->word)
            PLUMB_TRY(plumb_pattern_compile(&z->word, PLUMB_PATTERN_PCRE2,
                                            "[" PLUMB_PATTERN_RUST_WORD "]",
                                            sizeof PLUMB_PATTERN_RUST_WORD + 1, where));
    }
    return PLUMB_OK;
}

plumb_status plumb_added_init(struct plumb_added *z, const plumb_json *v,
                              const struct plumb_beside *beside, const plumb_bpe *model,
                              const struct plumb_normalizer *norm, const char *where)
{
    for (int i = 0; i < 256; i++)
        z->raw.root[i] = z->normal.root[i] = -1;
    PLUMB_REQUIRE(plumb_json_type_of(v) == PLUMB_JSON_NULL ||
                      plumb_json_type_of(v) == PLUMB_JSON_ARRAY,
                  PLUMB_ERR_FORMAT, "%s: added_tokens: expected an array, found %s", where,
                  plumb_json_type_name(plumb_json_type_of(v)));
    int32_t next_id = (int32_t)plumb_bpe_count(model);
    for (int64_t i = 0; i < plumb_json_count(v); i++)
        PLUMB_TRY(add_token(z, plumb_json_at(v, i), &next_id, model, where));
    for (int64_t i = 0; beside && i < beside->n; i++)
        PLUMB_TRY(apply_request(z, beside, &beside->request[i], &next_id, model));
    for (int64_t i = 0; i < z->n; i++)
        PLUMB_TRY(set_form(&z->token[i], norm, where));
    if (z->n)
        qsort(z->token, (size_t)z->n, sizeof *z->token, by_id);
    return build(z, where);
}

static plumb_status is_word(const struct plumb_added *z, struct plumb_matches *m, const char *s,
                            bool *out)
{
    PLUMB_TRY(plumb_pattern_find(z->word, m, s, plumb_utf8_size(*s)));
    *out = m->n > 0 && m->m[0].hit;
    return PLUMB_OK;
}

/* Sets *out to true if there is no word character directly before or after s[begin..end). */
static plumb_status stands_alone(const struct plumb_added *z, struct plumb_matches *m,
                                 const char *s, int64_t n, int64_t begin, int64_t end, bool *out)
{
    bool before = false, after = false;
    if (begin > 0)
        PLUMB_TRY(is_word(z, m, s + plumb_utf8_before(s, begin), &before));
    if (end < n)
        PLUMB_TRY(is_word(z, m, s + end, &after));
    *out = !before && !after;
    return PLUMB_OK;
}

plumb_status plumb_added_split(const struct plumb_added *z, const struct plumb_trie *trie,
                               struct plumb_pieces *out, struct plumb_matches *m, const char *s,
                               int64_t n, bool start)
{
    int64_t done = 0, end = 0;
    for (int64_t i = 0; i < n;) {
        const int32_t token = trie_longest(trie, s, n, i, &end);
        if (token < 0) {
            i++;
            continue;
        }
        const struct plumb_added_token *a = &z->token[token];
        int64_t begin = i, stop = end;
        i = end;
        bool alone = true;
        if (a->single_word)
            PLUMB_TRY(stands_alone(z, m, s, n, begin, stop, &alone));
        if (!alone)
            continue;
        while (a->lstrip && begin > done) {
            const int64_t last = plumb_utf8_before(s, begin);
            if (last < done || !plumb_utf8_is_space(plumb_utf8_at(s + last)))
                break;
            begin = last;
        }
        while (a->rstrip && stop < n && plumb_utf8_is_space(plumb_utf8_at(s + stop)))
            stop += plumb_utf8_size(s[stop]);
        if (done < begin)
            PLUMB_TRY(plumb_pieces_add_text(out, s + done, begin - done, start && done == 0));
        PLUMB_TRY(plumb_pieces_add_token(out, a->id));
        done = stop;
    }
    if (done < n)
        PLUMB_TRY(plumb_pieces_add_text(out, s + done, n - done, start && done == 0));
    return PLUMB_OK;
}
