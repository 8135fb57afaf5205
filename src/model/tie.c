/* tie.c - decides whether the LM head is the embedding, from config.json and the checkpoint files.
 * Layer 4. Includes base/, io/ and model/net.h. */
#include <stdlib.h>

#include "base/log.h"
#include "base/num.h"
#include "model/net.h"

static bool same_shape(const struct plumb_st_entry *a, const struct plumb_st_entry *b)
{
    bool same = a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++)
        same = a->dim[i] == b->dim[i];
    return same;
}

plumb_status plumb_entry_part(float *part, const struct plumb_st_entry *e, int64_t at, int64_t n)
{
    struct plumb_st_entry one = *e;
    const int64_t width = e->count ? e->bytes / e->count : 0;
    one.at += at * width;
    one.count = n;
    one.bytes = n * width;
    return plumb_st_to_f32(part, &one);
}

static plumb_status same_values(bool *same, const struct plumb_st_entry *a,
                                const struct plumb_st_entry *b)
{
    enum { STAGE = 65536 };
    plumb_status st = PLUMB_OK;
    *same = same_shape(a, b);
    float *x = malloc(2 * STAGE * sizeof *x), *y = x ? x + STAGE : NULL;
    PLUMB_REQUIRE(x, PLUMB_ERR_NOMEM, "buffers to compare %s with %s", a->name, b->name);
    for (int64_t at = 0; *same && at < a->count && st == PLUMB_OK; at += STAGE) {
        const int64_t n = plumb_min_i64(STAGE, a->count - at);
        st = plumb_entry_part(x, a, at, n);
        if (st == PLUMB_OK)
            st = plumb_entry_part(y, b, at, n);
        for (int64_t i = 0; st == PLUMB_OK && *same && i < n; i++)
            *same = x[i] == y[i];
    }
    free(x);
    return st;
}

/* Follows transformers 5 (tie_weights): if the checkpoint holds a head whose values differ from the
 * embedding, the head is not tied. */
plumb_status plumb_tie_resolve(struct plumb_spec *s, const plumb_st *files, const char *dir)
{
    const struct plumb_st_entry *embed = plumb_find_tensor(files, plumb_embed_file(s));
    const struct plumb_st_entry *head = plumb_find_tensor(files, plumb_head_file(s));
    bool same = false;
    if (s->labels > 0)
        return PLUMB_OK;
    PLUMB_REQUIRE(
        s->tied || head, PLUMB_ERR_FORMAT,
        "%s: tensor %s is missing, and config.json does not say tie_word_embeddings: true; set "
        "it if the head is the embedding, or add the tensor",
        dir, plumb_head_file(s));
    if (!s->tied || !head)
        return PLUMB_OK;
    if (!embed) {
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: %s is missing; config.json says tie_word_embeddings, so %s is used for "
                       "both, as in transformers",
                       dir, plumb_embed_file(s), head->name);
        return PLUMB_OK;
    }
    PLUMB_TRY(same_values(&same, embed, head));
    s->tied = same;
    if (!same)
        plumb_log_once(
            PLUMB_LOG_WARN,
            "%s: config.json says tie_word_embeddings, but %s holds a %s that differs from the "
            "embedding; it is used as a separate head, as in transformers 5. Checkpoints of this "
            "run will say tie_word_embeddings: false",
            dir, head->file, head->name);
    return PLUMB_OK;
}
