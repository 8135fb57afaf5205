/* pass.c - allocates a pass, uploads its batch, and runs the layers forward and backward.
 * Layer 4. Includes base/, op/, model/pass.h. */
#include "model/pass.h"
#include "model/provider.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

#define DEFAULT_HEAD_ROWS 512

static int64_t most_pages(const struct plumb_pass_limit *o)
{
    return o->max_tokens / PLUMB_KV_PAGE + o->max_seq;
}

/* Sets the pointers of a batch to their parts of `block`, and t->bytes to the size of the block. If
 * block is NULL, sets only t->bytes. The array segment is first, because it is the only array of
 * 8-byte elements. */
static void place_arrays(struct plumb_pass_batch *t, const plumb_pass *p, void *block)
{
    const struct plumb_pass_limit *o = &p->limit;
    char *base = block;
    int64_t at = (o->max_seq + 1) * (int64_t)sizeof *t->segment;
    t->segment = block;
#define TAKE(member, n)                                                                            \
    do {                                                                                           \
        t->member = base ? (void *)(base + at) : NULL;                                             \
        at += (n) * (int64_t)sizeof *t->member;                                                    \
    } while (0)
    TAKE(ids, o->max_tokens);
    TAKE(seq, o->max_tokens);
    TAKE(pos, o->max_tokens);
    TAKE(page, o->max_seq * p->max_pages);
    TAKE(head, p->max_head);
    TAKE(target, o->max_targets);
    TAKE(completion, o->max_targets);
#undef TAKE
    t->bytes = at;
}

static plumb_status place_batch(plumb_pass *p)
{
    struct plumb_tensor t = {.dtype = PLUMB_U8, .rank = 1, .name = "batch"};
    place_arrays(&p->batch, p, NULL);
    t.dim[0] = p->batch.bytes;
    PLUMB_TRY(plumb_arena_take(&p->arena, &t));
    place_arrays(&p->batch, p, t.data);
    return PLUMB_OK;
}

static plumb_status place_layers(plumb_pass *p)
{
    const struct plumb_pass_limit *o = &p->limit;
    const struct plumb_spec *s = &p->spec;
    struct plumb_arena *a = &p->arena;
    const bool keep = o->train && !o->recompute;
    for (int64_t l = 0; l <= s->l; l++) {
        if (o->train || l == 0)
            PLUMB_TRY(
                plumb_backend_take(p->backend, a, &p->x[l], o->max_tokens * s->c, "layer input"));
        else
            p->x[l] = p->x[0];
    }
    for (int64_t l = 0; l < s->l; l++) {
        if (keep || l == 0) {
            PLUMB_TRY(plumb_act_take(&p->act[l], a, p->backend, s, o->max_tokens));
            PLUMB_TRY(plumb_act_take_pages(&p->act[l], a, p->backend, s, most_pages(o)));
        } else {
            p->act[l] = p->act[0];
        }
        p->act[l].x = p->x[l];
    }
    return PLUMB_OK;
}

static plumb_status place_head(plumb_pass *p)
{
    const struct plumb_pass_limit *o = &p->limit;
    const struct plumb_spec *s = &p->spec;
    struct plumb_arena *a = &p->arena;
    PLUMB_TRY(plumb_backend_take(p->backend, a, &p->hx, p->max_head * s->c, "head input"));
    PLUMB_TRY(plumb_backend_take(p->backend, a, &p->hn, p->max_head * s->c, "head norm"));
    PLUMB_TRY(plumb_arena_take_f32(a, &p->hrstd, p->max_head * plumb_norm_saved(s), "head rstd"));
    PLUMB_TRY(plumb_arena_take_f32(a, &p->mean, o->max_seq * s->c, "embeddings"));
    PLUMB_TRY(plumb_arena_take_f32(a, &p->rstd, o->max_tokens * plumb_norm_saved(s), "rstd"));
    if (s->labels > 0) {
        PLUMB_TRY(plumb_arena_take_f32(a, &p->score, o->max_seq * s->labels, "scores"));
        PLUMB_TRY(
            plumb_backend_take(p->backend, a, &p->dscore, o->max_seq * s->labels, "d scores"));
        return PLUMB_OK;
    }
    PLUMB_TRY(plumb_arena_take_f32(a, &p->logp, o->max_targets, "log-probs"));
    PLUMB_TRY(plumb_arena_take_f32(a, &p->lse, o->max_targets, "head lse"));
    PLUMB_TRY(plumb_arena_take_f32(a, &p->dlogp, o->max_targets, "d log-probs"));
    if (o->entropy) {
        PLUMB_TRY(plumb_arena_take_f32(a, &p->entropy, o->max_targets, "entropies"));
        PLUMB_TRY(plumb_arena_take_f32(a, &p->mean_logit, o->max_targets, "mean logits"));
    }
    PLUMB_TRY(plumb_arena_take_f32(a, &p->head_work, p->head_work_count, "logits"));
    return PLUMB_OK;
}

/* Places the device memory of a pass in its arena. Runs twice: first it only counts the size. */
static plumb_status place(plumb_pass *p, const plumb_model *m)
{
    const struct plumb_pass_limit *o = &p->limit;
    const struct plumb_spec *s = &p->spec;
    PLUMB_TRY(place_batch(p));
    PLUMB_TRY(place_layers(p));
    PLUMB_TRY(place_head(p));
    if (!o->train) {
        p->gathered = p->act[0].xm;
        p->normed = p->act[0].n2 ? p->act[0].n2 : p->act[0].b2;
        return PLUMB_OK;
    }
    PLUMB_TRY(plumb_backend_take(p->backend, &p->arena, &p->dx, o->max_tokens * s->c, "d layer"));
    PLUMB_TRY(
        plumb_backend_take(p->backend, &p->arena, &p->dhx, p->max_head * s->c, "d head input"));
    PLUMB_TRY(plumb_back_take(&p->back, &p->arena, m, o->max_tokens));
    p->gathered = p->dx;
    p->normed = p->back.dn;
    return PLUMB_OK;
}

static plumb_status place_host(plumb_pass *p)
{
    const struct plumb_pass_limit *o = &p->limit;
    void *block = NULL;
    place_arrays(&p->host, p, NULL);
    PLUMB_TRY(p->backend->alloc_host(p->backend, &block, p->host.bytes, "batch"));
    if (block) { /* NULL on a dry backend, which only counts memory */
        memset(block, 0, (size_t)p->host.bytes);
        place_arrays(&p->host, p, block);
    }
    p->x = calloc((size_t)p->spec.l + 1, sizeof *p->x);
    p->act = calloc((size_t)p->spec.l, sizeof *p->act);
    PLUMB_REQUIRE(p->x && p->act, PLUMB_ERR_NOMEM, "a batch of %lld tokens",
                  (long long)o->max_tokens);
    return PLUMB_OK;
}

plumb_status plumb_pass_create(plumb_pass **out, const plumb_model *m,
                               const struct plumb_pass_limit *limit)
{
    plumb_status st = PLUMB_OK;
    const int64_t big = (int64_t)1 << 31;
    PLUMB_REQUIRE(
        limit->max_tokens >= 1 && limit->max_seq >= 1 && limit->max_targets >= 0 &&
            limit->head_rows >= 0 && limit->max_tokens < big && limit->max_seq < big,
        PLUMB_ERR_ARG,
        "a pass for %lld tokens, %lld sequences, %lld targets, %lld rows of logits: expected 1 "
        "to 2147483647 tokens and sequences, and 0 or more targets and rows",
        (long long)limit->max_tokens, (long long)limit->max_seq, (long long)limit->max_targets,
        (long long)limit->head_rows);
    plumb_pass *p = calloc(1, sizeof *p);
    PLUMB_REQUIRE(p, PLUMB_ERR_NOMEM, "a pass");
    struct plumb_backend *b = m->backend;
    p->backend = b;
    p->spec = m->spec;
    p->limit = *limit;
    struct plumb_pass_limit *o = &p->limit;
    o->max_seq = plumb_min_i64(o->max_seq, o->max_tokens);
    o->max_targets = o->max_targets ? plumb_min_i64(o->max_targets, o->max_tokens) : o->max_tokens;
    if (o->head_rows == 0)
        o->head_rows = DEFAULT_HEAD_ROWS;
    o->head_rows = plumb_min_i64(o->head_rows, o->max_tokens);
    p->max_pages = plumb_ceil_div(plumb_min_i64(o->max_tokens, m->spec.max_pos), PLUMB_KV_PAGE);
    p->max_head = plumb_max_i64(o->max_targets, o->max_seq);
    if (m->spec.labels == 0)
        p->head_work_count = plumb_max_i64(
            o->head_rows * m->spec.v,
            plumb_op_head_work_count(b, o->head_rows, m->spec.v, m->spec.c, o->train));
    p->arena = (struct plumb_arena){.place = b->place, .name = "act"};
    PLUMB_TRY_GOTO(st, place_host(p), fail);
    PLUMB_TRY_GOTO(st, place(p, m), fail);
    PLUMB_TRY_GOTO(st, plumb_backend_arena_alloc(b, &p->arena), fail);
    PLUMB_TRY_GOTO(st, place(p, m), fail);
    *out = p;
    return PLUMB_OK;
fail:
    plumb_pass_destroy(&p);
    return st;
}

void plumb_pass_destroy(plumb_pass **pass)
{
    if (!pass || !*pass)
        return;
    plumb_pass *p = *pass;
    plumb_backend_arena_release(p->backend, &p->arena);
    p->backend->release_host(p->backend, p->host.segment);
    free(p->x);
    free(p->act);
    free(p);
    *pass = NULL;
}

int64_t plumb_pass_bytes(const plumb_pass *p)
{
    return p->arena.cap;
}

int64_t plumb_batch_tokens(const struct plumb_batch *b)
{
    return b->n_seq ? b->offset[b->n_seq] - b->offset[0] : 0;
}

int64_t plumb_batch_targets(const struct plumb_batch *b)
{
    int64_t n = plumb_batch_tokens(b);
    for (int64_t i = 0; i < b->n_seq; i++)
        n -= b->prompt_tokens[i];
    return n;
}

static plumb_status check_batch(const plumb_pass *p, const plumb_model *m,
                                const struct plumb_batch *b)
{
    const struct plumb_pass_limit *o = &p->limit;
    const struct plumb_spec *s = &p->spec;
    PLUMB_REQUIRE(m->backend == p->backend && plumb_spec_same_sizes(s, &m->spec), PLUMB_ERR_SHAPE,
                  "the pass was created for another architecture or backend than model %s", m->dir);
    PLUMB_REQUIRE(b->n_seq >= 0 && b->n_seq <= o->max_seq, PLUMB_ERR_SHAPE,
                  "the batch has %lld sequences, the pass holds at most %lld", (long long)b->n_seq,
                  (long long)o->max_seq);
    for (int64_t i = 0; i < b->n_seq; i++) {
        const int64_t len = b->offset[i + 1] - b->offset[i];
        PLUMB_REQUIRE(len >= 1 && len <= s->max_pos, PLUMB_ERR_ARG,
                      "sequence %lld has %lld tokens, expected 1 to %lld "
                      "(max_position_embeddings)",
                      (long long)i, (long long)len, (long long)s->max_pos);
        PLUMB_REQUIRE(b->prompt_tokens[i] >= 1 && b->prompt_tokens[i] <= len, PLUMB_ERR_ARG,
                      "sequence %lld has %lld prompt tokens, expected 1 to its length %lld",
                      (long long)i, (long long)b->prompt_tokens[i], (long long)len);
        for (int64_t j = b->offset[i]; j < b->offset[i + 1]; j++)
            PLUMB_REQUIRE(b->ids[j] >= 0 && b->ids[j] < s->v, PLUMB_ERR_ARG,
                          "sequence %lld, token %lld: id %d is outside the vocabulary of %lld",
                          (long long)i, (long long)(j - b->offset[i]), b->ids[j], (long long)s->v);
    }
    const int64_t n = plumb_batch_tokens(b), k = plumb_batch_targets(b);
    PLUMB_REQUIRE(
        n <= o->max_tokens && k <= o->max_targets, PLUMB_ERR_SHAPE,
        "the batch has %lld tokens and %lld targets, the pass holds at most %lld and %lld",
        (long long)n, (long long)k, (long long)o->max_tokens, (long long)o->max_targets);
    return PLUMB_OK;
}

/* Returns the position at which transformers reads a classifier's score: the last token that is not
 * the padding token, or position 0 if all tokens are padding. */
static int64_t score_at(const int32_t *ids, int64_t len, int32_t pad)
{
    int64_t at = len - 1;
    while (pad >= 0 && at > 0 && ids[at] == pad)
        at--;
    return at;
}

/* Adds the rows of sequence i to t: one row per token. Its KV pages are numbered from *page on. */
static void add_sequence(struct plumb_pass_batch *t, const struct plumb_batch *b, int64_t i,
                         int32_t *page, enum plumb_pass_state state, int32_t pad)
{
    const int64_t first = t->n, len = b->offset[i + 1] - b->offset[i];
    for (int64_t j = 0; j < len; j++) {
        t->ids[t->n] = b->ids[b->offset[i] + j];
        t->seq[t->n] = (int32_t)i;
        t->pos[t->n] = (int32_t)j;
        t->n++;
    }
    for (int64_t j = 0; j < plumb_ceil_div(len, PLUMB_KV_PAGE); j++)
        t->page[i * t->max_pages + j] = (*page)++;
    t->segment[i] = t->n_targets;
    for (int64_t j = b->prompt_tokens[i]; j < len; j++) {
        t->target[t->n_targets] = t->ids[first + j];
        t->completion[t->n_targets] = (int32_t)(first + j);
        if (state == PLUMB_PASS_LOGPROB)
            t->head[t->n_head++] = (int32_t)(first + j - 1);
        t->n_targets++;
    }
    if (state == PLUMB_PASS_SCORE)
        t->head[t->n_head++] = (int32_t)(first + score_at(b->ids + b->offset[i], len, pad));
    t->segment[i + 1] = t->n_targets;
}

static plumb_status upload(plumb_pass *p)
{
    struct plumb_backend *b = p->backend;
    const struct plumb_pass_batch *h = &p->host;
    struct plumb_pass_batch *t = &p->batch;
    const int64_t i32 = sizeof(int32_t);
    t->n = h->n;
    t->n_seq = h->n_seq;
    t->n_head = h->n_head;
    t->n_targets = h->n_targets;
    t->max_pages = h->max_pages;
    PLUMB_TRY(b->send(b, t->ids, h->ids, h->n * i32));
    PLUMB_TRY(b->send(b, t->seq, h->seq, h->n * i32));
    PLUMB_TRY(b->send(b, t->pos, h->pos, h->n * i32));
    PLUMB_TRY(b->send(b, t->page, h->page, h->n_seq * h->max_pages * i32));
    PLUMB_TRY(b->send(b, t->head, h->head, h->n_head * i32));
    PLUMB_TRY(b->send(b, t->target, h->target, h->n_targets * i32));
    PLUMB_TRY(b->send(b, t->completion, h->completion, h->n_targets * i32));
    PLUMB_TRY(b->send(b, t->segment, h->segment, (h->n_seq + 1) * (int64_t)sizeof(int64_t)));
    p->sending = true;
    return PLUMB_OK;
}

struct plumb_rows plumb_pass_rows(const plumb_pass *p)
{
    const struct plumb_pass_batch *t = &p->batch;
    return (struct plumb_rows){.n = t->n,
                               .n_seq = t->n_seq,
                               .max_pages = t->max_pages,
                               .seq = t->seq,
                               .pos = t->pos,
                               .page = t->page,
                               .present = t->n_seq};
}

static plumb_status forward(plumb_pass *p, const plumb_model *m, const struct plumb_batch *b,
                            enum plumb_pass_state state)
{
    PLUMB_TRY(check_batch(p, m, b));
    p->state = PLUMB_PASS_EMPTY;
    p->backward_done = false;
    if (p->sending) /* the copy of the last batch to the device may still be running */
        PLUMB_TRY(p->backend->sync(p->backend));
    p->sending = false;
    struct plumb_pass_batch *t = &p->host;
    t->n = t->n_head = t->n_targets = 0;
    t->n_seq = b->n_seq;
    t->max_pages = 1;
    for (int64_t i = 0; i < b->n_seq; i++)
        t->max_pages = plumb_max_i64(
            t->max_pages, plumb_ceil_div(b->offset[i + 1] - b->offset[i], PLUMB_KV_PAGE));
    int32_t page = 0;
    t->segment[0] = 0;
    for (int64_t i = 0; i < b->n_seq; i++)
        add_sequence(t, b, i, &page, state, m->spec.pad);
    PLUMB_TRY(upload(p));
    if (t->n > 0) {
        const struct plumb_rows rows = plumb_pass_rows(p);
        PLUMB_TRY(plumb_embed_forward(m, p->x[0], p->act[0].xm, p->batch.ids, rows.pos, t->n));
        PLUMB_TRY(plumb_layers_forward(m, p->act, p->x[p->spec.l], &rows));
    }
    p->state = state;
    return PLUMB_OK;
}

plumb_status plumb_pass_forward(plumb_pass *p, const plumb_model *m, const struct plumb_batch *b,
                                enum plumb_pass_state state)
{
    const plumb_status st = forward(p, m, b, state), end = plumb_provider_finish(m);
    return st ? st : end;
}

plumb_status plumb_pass_result(plumb_pass *p, float *host, const float *device, int64_t n)
{
    PLUMB_TRY(p->backend->to_host(p->backend, host, device, n * (int64_t)sizeof *host));
    p->sending = false;
    return PLUMB_OK;
}

void plumb_pass_on_final(plumb_pass *p, plumb_final_fn *fn, void *arg)
{
    p->on_final = fn;
    p->on_final_arg = arg;
}

void plumb_pass_on_place(plumb_pass *p, plumb_place_fn *fn, void *arg)
{
    p->on_place = fn;
    p->on_place_arg = arg;
}

plumb_status plumb_pass_place(plumb_pass *p, const plumb_model *m, int64_t i, float **grad)
{
    const int64_t begin = plumb_model_part(m, i), end = plumb_model_part(m, i + 1);
    return p->on_place && end > begin ? p->on_place(p->on_place_arg, grad, begin, end) : PLUMB_OK;
}

/* Tells the pass's plumb_final_fn, if there is one, that the gradients of part i and of all later
 * parts are final. */
static plumb_status say_final(plumb_pass *p, const plumb_model *m, int64_t i)
{
    return p->on_final ? p->on_final(p->on_final_arg, plumb_model_part(m, i)) : PLUMB_OK;
}

plumb_status plumb_pass_backward(plumb_pass *p, const plumb_model *m, float *grad)
{
    const struct plumb_rows rows = plumb_pass_rows(p);
    const bool after = m->spec.block.norm[PLUMB_NORM_MLP_OUT];
    PLUMB_TRY(say_final(p, m, p->spec.l + 1));
    for (int64_t l = p->spec.l - 1; l >= 0; l--) {
        if (p->limit.recompute)
            PLUMB_TRY(plumb_layer_forward(m, l, &p->act[l], after ? p->x[l + 1] : NULL, &rows));
        PLUMB_TRY(plumb_pass_place(p, m, l + 1, &grad));
        PLUMB_TRY(plumb_layer_backward(m, l, &p->act[l], p->dx, grad, &p->back, &rows));
        PLUMB_TRY(say_final(p, m, l + 1));
    }
    PLUMB_TRY(plumb_pass_place(p, m, 0, &grad));
    return plumb_embed_backward(m, grad, p->dx, p->batch.ids, rows.pos, rows.n);
}
