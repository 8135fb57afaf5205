/* decode.c - one step of the generator on the device: its memory and its kernels, and recorded
 * decode steps that run with one launch.
 * Layer 4. Includes base/, op/, model/{generator,provider}.h.
 *
 * A recorded step has a fixed number of rows. The number of rows of a step is therefore rounded up
 * to one of a few sizes, and the extra rows are token 0 of an extra sequence, whose page is never
 * read. The extra rows do not change a bit, because rows are independent. Without rounding, every
 * completion that ends would make a new recording necessary. The rounding costs little, because the
 * GPU's matrix products process rows in tiles. */
#include <string.h>

#include "base/num.h"
#include "model/generator.h"
#include "model/provider.h"

void plumb_step_place(struct plumb_step *s, const struct plumb_generator *g, void *block)
{
    const int64_t slots = g->slots, rows = g->step_rows;
    char *base = block;
    s->u = block;
    int64_t at = slots * (int64_t)sizeof *s->u;
#define TAKE(member, n)                                                                            \
    do {                                                                                           \
        s->member = base ? (void *)(base + at) : NULL;                                             \
        at += (n)*4;                                                                               \
    } while (0)
    TAKE(source, slots);
    TAKE(seen, slots * g->seen_words);
    s->draw_bytes = at;
    TAKE(ids, rows);
    TAKE(seq, rows);
    TAKE(pos, rows);
    TAKE(page, g->sequences * g->max_pages);
    s->in_bytes = at;
    TAKE(token, slots);
    TAKE(logp, slots);
    TAKE(logp_sampled, slots);
    s->out_bytes = at - s->in_bytes;
    s->bytes = at;
#undef TAKE
}

void plumb_prefill_place(struct plumb_prefill *p, const struct plumb_generator *g, void *block)
{
    const int64_t rows = g->apart ? g->max_rows : 0;
    const int64_t pages = g->apart ? g->sequences * g->max_pages : 0;
    int32_t *base = block;
    int64_t at = 0;
#define TAKE(member, n)                                                                            \
    do {                                                                                           \
        p->member = base ? base + at : NULL;                                                       \
        at += (n);                                                                                 \
    } while (0)
    TAKE(last, 2 * g->groups);
    TAKE(copy, 2 * g->slots);
    TAKE(ids, rows);
    TAKE(seq, rows);
    TAKE(pos, rows);
    TAKE(page, pages);
#undef TAKE
    p->bytes = at * (int64_t)sizeof *base;
}

/* ---- kernels --------------------------------------------------------------------------------- */

/* Runs the embedding and all layers. After o->pass has returned PLUMB_OK, the other ranks wait for
 * this rank's share of every layer. So plumb_provider_finish gathers the remaining layers even if
 * this rank's pass has failed. */
static plumb_status forward(plumb_generator *g, const plumb_model *m,
                            const struct plumb_generate_options *o, const int32_t *ids,
                            const struct plumb_rows *rows)
{
    if (o->pass)
        PLUMB_TRY(o->pass(o->pass_arg));
    plumb_status st = plumb_embed_forward(m, g->x, g->act[0].xm, ids, rows->pos, rows->n);
    if (st == PLUMB_OK)
        st = plumb_layers_forward(m, g->act, g->x, rows);
    const plumb_status end = plumb_provider_finish(m);
    return st ? st : end;
}

plumb_status plumb_step_forward(plumb_generator *g, const plumb_model *m,
                                const struct plumb_generate_options *o, int64_t n)
{
    const struct plumb_rows rows = {.n = n,
                                    .n_seq = g->sequences,
                                    .max_pages = g->max_pages,
                                    .seq = g->dev.seq,
                                    .pos = g->dev.pos,
                                    .page = g->dev.page,
                                    .present = g->apart ? n : g->sequences};
    return forward(g, m, o, g->dev.ids, &rows);
}

plumb_status plumb_step_read(plumb_generator *g, const plumb_model *m,
                             const struct plumb_generate_options *o, int64_t n, int64_t present)
{
    struct plumb_backend *b = g->backend;
    const struct plumb_prefill *p = &g->read_dev;
    const int64_t c = g->spec.c, all = g->max_rows + g->groups, planes = 2 * g->spec.l;
    const int64_t page = g->spec.hk * g->spec.d * PLUMB_KV_PAGE;
    const struct plumb_rows rows = {.n = n,
                                    .n_seq = g->sequences,
                                    .max_pages = g->max_pages,
                                    .seq = p->seq,
                                    .pos = p->pos,
                                    .page = p->page,
                                    .present = present};
    if (n == 0 && g->n_last == 0 && g->n_copy == 0)
        return PLUMB_OK;
    PLUMB_TRY(b->send(b, g->read_dev.last, g->read_host.last, g->read_host.bytes));
    if (n > 0)
        PLUMB_TRY(forward(g, m, o, p->ids, &rows));
    if (g->n_last > 0)
        PLUMB_TRY(plumb_op_move_rows(b, V(g->x, 1, all, c), VI(p->last, g->n_last, 2), all * c));
    if (g->n_copy > 0)
        PLUMB_TRY(plumb_op_move_rows(b, V(g->act[0].kc, planes, g->act[0].pages, page),
                                     VI(p->copy, g->n_copy, 2), g->plane));
    return PLUMB_OK;
}

/* Draws one token from each of the k rows of g->logits. Row i belongs to draw number first + i of
 * the step. */
static plumb_status draw_block(plumb_generator *g, const struct plumb_generate_options *o,
                               int64_t first, int64_t k)
{
    struct plumb_backend *b = g->backend;
    const int64_t v = g->spec.v, words = g->seen_words;
    const bool penalise = o->repetition_penalty != 0 && o->repetition_penalty != 1;
    const struct plumb_tensor u = plumb_view_f64("u", g->dev.u + first, b->place, k);
    if (penalise)
        PLUMB_TRY(plumb_op_penalty_fwd(b, V(g->penalised, k, v), V(g->logits, k, v),
                                       VI(g->dev.seen + first * words, k, words),
                                       o->repetition_penalty));
    PLUMB_TRY(plumb_op_sample_fwd(b, VI(g->dev.token + first, k), V(g->dev.logp + first, k),
                                  V(g->dev.logp_sampled + first, k),
                                  V(penalise ? g->penalised : g->logits, k, v), &u, &o->sample,
                                  V(g->work, g->work_count)));
    if (!penalise)
        return PLUMB_OK;
    /* g->dev.logp must be the log-prob under the raw logits, but sample_fwd has computed it from
     * the penalised logits, so it is computed again */
    return plumb_op_logprob_fwd(b, V(g->dev.logp + first, k), V(g->lse, k), V(g->logits, k, v),
                                VI(g->dev.token + first, k));
}

plumb_status plumb_step_draw(plumb_generator *g, const plumb_model *m,
                             const struct plumb_generate_options *o, int64_t n)
{
    struct plumb_backend *b = g->backend;
    const struct plumb_spec *s = &g->spec;
    const int64_t all = g->max_rows + g->groups;
    for (int64_t i = 0; i < n; i += g->block) {
        const int64_t k = plumb_min_i64(g->block, n - i);
        PLUMB_TRY(plumb_op_gather_fwd(b, V(g->hx, k, s->c), V(g->x, all, s->c),
                                      VI(g->dev.source + i, k)));
        PLUMB_TRY(plumb_head_norm_forward(m, g->hn, g->hrstd, g->hx, k));
        PLUMB_TRY(plumb_head_forward(m, g->logits, g->hn, k));
        PLUMB_TRY(draw_block(g, o, i, k));
    }
    return PLUMB_OK;
}

plumb_status plumb_step_receive(plumb_generator *g)
{
    struct plumb_backend *b = g->backend;
    PLUMB_TRY(b->receive(b, g->host.token, g->dev.token, g->dev.out_bytes));
    return b->sync(b);
}

static plumb_status kernels(plumb_generator *g, const plumb_model *m,
                            const struct plumb_generate_options *o, int64_t n)
{
    PLUMB_TRY(plumb_step_forward(g, m, o, n));
    return plumb_step_draw(g, m, o, n);
}

/* ---- recorded steps ------------------------------------------------------------------- */

/* Returns the smallest of 1, 2, 3, 4, 6, 8, 12, 16 ... that is at least n, but not more than
 * `slots`. */
static int64_t round_up(int64_t n, int64_t slots)
{
    int64_t rows = 1;
    while (rows < n)
        rows *= 2;
    if (rows >= 4 && rows / 4 * 3 >= n)
        rows = rows / 4 * 3;
    return plumb_min_i64(rows, slots);
}

void plumb_step_pad(plumb_generator *g, int64_t k)
{
    g->host.ids[k] = 0;
    g->host.seq[k] = (int32_t)(g->sequences - 1);
    g->host.pos[k] = 0;
}

static void fill_up(plumb_generator *g, int64_t rows)
{
    for (int64_t i = g->n_rows; i < rows; i++) {
        plumb_step_pad(g, i);
        g->host.source[i] = (int32_t)i;
        g->host.u[i] = 0.0;
    }
}

void plumb_decode_forget(plumb_generator *g)
{
    for (int i = 0; i < PLUMB_DECODE_GRAPHS; i++) {
        if (g->decode[i].graph)
            g->backend->graph_destroy(g->backend, g->decode[i].graph);
        g->decode[i] = (struct plumb_decode_graph){0};
    }
}

/* Returns the entry for recorded steps of `rows` rows, or a free entry, or NULL if the table is
 * full. If the model or the sampling parameters have changed, all recordings are deleted first. */
static struct plumb_decode_graph *find(plumb_generator *g, const plumb_model *m,
                                       const struct plumb_generate_options *o, int64_t rows)
{
    const struct plumb_decode_key key = {m,         m->adapter,           m->w, m->packed, m->rope,
                                         o->sample, o->repetition_penalty};
    if (memcmp(&key, &g->key, sizeof key) != 0)
        plumb_decode_forget(g);
    g->key = key;
    for (int i = 0; i < PLUMB_DECODE_GRAPHS; i++) {
        struct plumb_decode_graph *d = &g->decode[i];
        if (d->rows == rows || d->rows == 0)
            return d;
    }
    return NULL;
}

static plumb_status record(plumb_generator *g, const plumb_model *m,
                           const struct plumb_generate_options *o, struct plumb_decode_graph *d)
{
    struct plumb_backend *b = g->backend;
    PLUMB_TRY(b->record_begin(b));
    plumb_graph *graph = NULL;
    const plumb_status st = kernels(g, m, o, d->rows);
    const plumb_status end = b->record_end(b, &graph);
    if (st == PLUMB_OK)
        d->graph = graph;
    else
        b->graph_destroy(b, graph);
    return st ? st : end;
}

/* Runs the kernels of a decode step with `rows` rows from a recording. The first step of a size
 * runs without recording, because it selects GEMM algorithms and loads kernels, which cannot be
 * recorded. The second step makes the recording. */
static plumb_status recorded(plumb_generator *g, const plumb_model *m,
                             const struct plumb_generate_options *o, int64_t rows)
{
    struct plumb_decode_graph *d = find(g, m, o, rows);
    if (!d || d->rows == 0) {
        if (d)
            d->rows = rows;
        return kernels(g, m, o, rows);
    }
    if (!d->graph)
        PLUMB_TRY(record(g, m, o, d));
    return g->backend->replay(g->backend, d->graph);
}

plumb_status plumb_step_decode(plumb_generator *g, const plumb_model *m,
                               const struct plumb_generate_options *o)
{
    struct plumb_backend *b = g->backend;
    const bool graphs = !o->eager && b->replay && !m->provider;
    const int64_t rows = graphs ? round_up(g->n_rows, g->slots) : g->n_rows;
    fill_up(g, rows);
    PLUMB_TRY(b->send(b, g->dev.u, g->host.u, g->dev.in_bytes));
    PLUMB_TRY(graphs ? recorded(g, m, o, rows) : kernels(g, m, o, rows));
    return plumb_step_receive(g);
}
