/* optim.c - the AdamW step; each rank has the moments of its own shard.
 * Layer 5. Includes base/, model/, comm/, train/{masters,schedule}.h. */
#include "train/optim.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

static int64_t blocks_of(int64_t n)
{
    return plumb_ceil_div(n, PLUMB_SHARD_BLOCK);
}

static plumb_status check_options(const struct plumb_optim_options *p)
{
    PLUMB_REQUIRE(isfinite(p->learning_rate) && p->learning_rate > 0, PLUMB_ERR_ARG,
                  "learning_rate %g: must be above 0", p->learning_rate);
    PLUMB_REQUIRE(p->beta1 >= 0 && p->beta1 < 1, PLUMB_ERR_ARG, "beta1 %g: must be in [0,1)",
                  p->beta1);
    PLUMB_REQUIRE(p->beta2 >= 0 && p->beta2 < 1, PLUMB_ERR_ARG, "beta2 %g: must be in [0,1)",
                  p->beta2);
    PLUMB_REQUIRE(isfinite(p->eps) && p->eps > 0, PLUMB_ERR_ARG, "eps %g: must be above 0", p->eps);
    PLUMB_REQUIRE(isfinite(p->weight_decay) && p->weight_decay >= 0, PLUMB_ERR_ARG,
                  "weight_decay %g: must be 0 or more", p->weight_decay);
    PLUMB_REQUIRE(isfinite(p->max_grad_norm) && p->max_grad_norm >= 0, PLUMB_ERR_ARG,
                  "max_grad_norm %g: must be 0 (off) or more", p->max_grad_norm);
    const struct plumb_schedule *s = &p->schedule;
    PLUMB_REQUIRE(s->total >= 1, PLUMB_ERR_ARG, "schedule of %lld steps: needs at least 1",
                  (long long)s->total);
    PLUMB_REQUIRE(s->warmup_ratio >= 0 && s->warmup_ratio <= 1, PLUMB_ERR_ARG,
                  "warmup_ratio %g: must be in [0,1]", s->warmup_ratio);
    PLUMB_REQUIRE(s->min_lr_ratio >= 0 && s->min_lr_ratio <= 1, PLUMB_ERR_ARG,
                  "min_lr_ratio %g: must be in [0,1]", s->min_lr_ratio);
    return PLUMB_OK;
}

static plumb_status take_moments(plumb_optim *o)
{
    static const char *const name[] = {"first moments", "second moments"};
    struct plumb_backend *b = o->backend;
    const int64_t n = o->shards.count, bytes = n * (int64_t)sizeof(float);
    float **moment[] = {&o->m, &o->v};
    o->part = plumb_min_i64(n, PLUMB_OPTIM_PIECE);
    for (int k = 0; k < 2 && n > 0; k++) {
        void *data = NULL, *part = NULL;
        PLUMB_TRY((o->offload ? b->alloc_host : b->alloc)(b, &data, bytes, name[k]));
        *moment[k] = (float *)data;
        if (!o->offload) {
            PLUMB_TRY(b->zero(b, data, bytes));
            continue;
        }
        if (data) /* NULL on a dry backend, which only counts memory */
            memset(data, 0, (size_t)bytes);
        PLUMB_TRY(b->alloc(b, &part, o->part * (int64_t)sizeof(float), "piece of the moments"));
        o->piece[k] = (float *)part;
    }
    if (n == 0)
        return PLUMB_OK;
    return b->alloc(b, (void **)&o->block_device, blocks_of(n) * (int64_t)sizeof(double),
                    "partial norms");
}

plumb_status plumb_optim_create(plumb_optim **out, const plumb_model *m, const plumb_comm *comm,
                                const struct plumb_optim_options *options)
{
    PLUMB_TRY(check_options(options));
    struct plumb_backend *b = m->backend;
    plumb_status st = PLUMB_OK;
    plumb_optim *o = calloc(1, sizeof(*o));
    PLUMB_REQUIRE(o, PLUMB_ERR_NOMEM, "optimizer");
    o->options = *options;
    o->backend = b;
    o->count = plumb_model_trained(m).count;
    const int64_t whole[] = {0, o->count};
    const struct plumb_shards *s = options->shards;
    PLUMB_TRY_GOTO(
        st, plumb_shards_init(&o->shards, comm, s ? s->border : whole, s ? s->buckets : 1), fail);
    o->options.shards = NULL;
    o->offload = options->offload && b->place == PLUMB_DEVICE;
    PLUMB_TRY_GOTO(st, take_moments(o), fail);
    o->block = calloc((size_t)blocks_of(o->count), sizeof(double));
    if (b->place == PLUMB_DEVICE)
        o->stage = malloc(PLUMB_OPTIM_STAGE * sizeof(float));
    if (!o->block || (b->place == PLUMB_DEVICE && !o->stage))
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "%lld partial norms",
                        (long long)blocks_of(o->count));
    *out = o;
    return PLUMB_OK;
fail:
    plumb_optim_destroy(&o);
    return st;
}

void plumb_optim_destroy(plumb_optim **o)
{
    if (!o || !*o)
        return;
    struct plumb_backend *b = (*o)->backend;
    for (int k = 0; k < 2; k++) {
        ((*o)->offload ? b->release_host : b->release)(b, k ? (*o)->v : (*o)->m);
        b->release(b, (*o)->piece[k]);
    }
    b->release(b, (*o)->block_device);
    plumb_shards_fini(&(*o)->shards);
    free((*o)->block);
    free((*o)->stage);
    free(*o);
    *o = NULL;
}

/* Computes the sums of squared gradients of this rank's blocks. grad (shards.count,): the gradient
 * of this rank's shard. Each sum is stored at the block's global index. The entries of other ranks
 * stay zero, so the allreduce over ranks is exact. */
static plumb_status shard_norms(plumb_optim *o, const float *grad)
{
    struct plumb_backend *b = o->backend;
    const struct plumb_shards *s = &o->shards;
    for (int64_t i = 0; i < blocks_of(o->count); i++)
        o->block[i] = 0.0;
    for (int64_t k = 0; k < s->buckets; k++) {
        const struct plumb_shard_run *r = &s->run[k];
        assert(r->end == r->begin || r->at % PLUMB_SHARD_BLOCK == 0);
        if (r->end > r->begin)
            PLUMB_TRY(b->k.sumsq(b->stream, o->block_device + r->at / PLUMB_SHARD_BLOCK,
                                 grad + r->at, r->end - r->begin, PLUMB_SHARD_BLOCK));
    }
    PLUMB_TRY(b->sync(b));
    for (int64_t k = 0; k < s->buckets; k++) {
        const struct plumb_shard_run *r = &s->run[k];
        if (r->end > r->begin)
            PLUMB_TRY(b->to_host(b, o->block + r->begin / PLUMB_SHARD_BLOCK,
                                 o->block_device + r->at / PLUMB_SHARD_BLOCK,
                                 blocks_of(r->end - r->begin) * (int64_t)sizeof(double)));
    }
    return PLUMB_OK;
}

/* Sets *found to true if x (n,) in device memory has an element that is not finite. */
static plumb_status look(bool *found, plumb_optim *o, const float *x, int64_t n)
{
    struct plumb_backend *b = o->backend;
    *found = false;
    for (int64_t at = 0; at < n && !*found; at += PLUMB_OPTIM_STAGE) {
        const int64_t part = plumb_min_i64(PLUMB_OPTIM_STAGE, n - at);
        const float *host = x + at;
        if (o->stage) {
            PLUMB_TRY(b->to_host(b, o->stage, host, part * (int64_t)sizeof(float)));
            host = o->stage;
        }
        for (int64_t i = 0; i < part && !*found; i++)
            *found = !isfinite(host[i]);
    }
    return PLUMB_OK;
}

/* Sets *out to the first parameter with a non-finite gradient in this rank's shard, or to n_param
 * if there is none. grad (shards.count,): the gradient of this rank's shard. */
static plumb_status first_non_finite(int64_t *out, plumb_optim *o, const struct plumb_trained *t,
                                     const float *grad)
{
    bool found = false;
    *out = t->n_param;
    for (int64_t p = 0; p < t->n_param; p++) {
        const int64_t begin = t->param[p].offset, end = begin + t->param[p].count;
        for (int64_t k = 0; k < o->shards.buckets; k++) {
            const struct plumb_shard_run r = plumb_shards_cut(&o->shards, k, begin, end);
            PLUMB_TRY(look(&found, o, grad + r.at, r.end - r.begin));
            if (found) {
                *out = p;
                return PLUMB_OK;
            }
        }
    }
    return PLUMB_OK;
}

/* Fails with PLUMB_ERR_NUMERIC and a message that names the first tensor with a non-finite
 * gradient; the message is the same on every rank. Collective. */
static plumb_status refuse_non_finite(plumb_optim *o, const struct plumb_trained *t,
                                      plumb_comm *comm, const float *grad)
{
    int64_t first = t->n_param;
    PLUMB_TRY(plumb_comm_agree(comm, first_non_finite(&first, o, t, grad)));
    double lowest = (double)first;
    PLUMB_TRY(plumb_comm_allreduce_f64(comm, &lowest, 1, PLUMB_MIN));
    const int64_t p = (int64_t)lowest;
    PLUMB_REQUIRE(p < t->n_param, PLUMB_ERR_NUMERIC,
                  "gradient of step %lld: its norm is not finite, through the padding between "
                  "tensors",
                  (long long)o->step + 1);
    PLUMB_FAIL(PLUMB_ERR_NUMERIC,
               "gradient of step %lld is not finite, first in %s; lower learning_rate or look at "
               "the loss of this batch",
               (long long)o->step + 1, t->param[p].name);
}

/* Updates the n weights w, whose moments begin at index `at` of this rank's shard. Offloaded
 * moments are copied to the device and back piece by piece, in stream order. */
static plumb_status update_part(plumb_optim *o, float *w, int64_t at, const float *grad, int64_t n,
                                const struct plumb_adamw *a)
{
    struct plumb_backend *b = o->backend;
    if (!o->offload)
        return b->k.adamw(b->stream, w, o->m + at, o->v + at, grad, n, a);
    for (int64_t i = 0; i < n; i += o->part) {
        const int64_t part = plumb_min_i64(o->part, n - i);
        const int64_t bytes = part * (int64_t)sizeof(float);
        PLUMB_TRY(b->send(b, o->piece[0], o->m + at + i, bytes));
        PLUMB_TRY(b->send(b, o->piece[1], o->v + at + i, bytes));
        PLUMB_TRY(b->k.adamw(b->stream, w + i, o->piece[0], o->piece[1], grad + i, part, a));
        PLUMB_TRY(b->receive(b, o->m + at + i, o->piece[0], bytes));
        PLUMB_TRY(b->receive(b, o->v + at + i, o->piece[1], bytes));
    }
    return PLUMB_OK;
}

/* Updates the weights of this rank's shard, tensor by tensor, because weight decay depends on the
 * tensor. masters: this rank's share of the weights; NULL if the weights are in trained->w. */
static plumb_status update_shard(plumb_optim *o, const struct plumb_trained *trained,
                                 const struct plumb_masters *masters, const float *grad, double lr,
                                 double grad_scale)
{
    struct plumb_backend *b = o->backend;
    const struct plumb_optim_options *p = &o->options;
    const double t = (double)(o->step + 1);
    /* The bias corrections use the float32 betas of the kernel, because 1 - 0.999f differs from
     * 0.001 by a relative 1.3e-5. */
    const double beta1 = (double)(float)p->beta1, beta2 = (double)(float)p->beta2;
    struct plumb_adamw a = {
        .lr = (float)lr,
        .beta1 = (float)p->beta1,
        .beta2 = (float)p->beta2,
        .eps = (float)p->eps,
        .correction1 = (float)(1.0 - pow(beta1, t)),
        .correction2 = (float)(1.0 - pow(beta2, t)),
        .grad_scale = (float)grad_scale,
    };
    for (int64_t i = 0; i < trained->n_param; i++) {
        const struct plumb_param *q = &trained->param[i];
        a.weight_decay = q->decay ? (float)p->weight_decay : 0.0f;
        for (int64_t k = 0; k < o->shards.buckets; k++) {
            const struct plumb_shard_run r =
                plumb_shards_cut(&o->shards, k, q->offset, q->offset + q->count);
            if (r.end > r.begin)
                PLUMB_TRY(update_part(o, masters ? masters->w + r.at : trained->w + r.begin, r.at,
                                      grad + r.at, r.end - r.begin, &a));
        }
    }
    return b->sync(b);
}

static plumb_status check_count(const plumb_optim *o, const struct plumb_trained *trained)
{
    PLUMB_REQUIRE(o->count == trained->count, PLUMB_ERR_SHAPE,
                  "the optimizer is for %lld weights, the model trains %lld", (long long)o->count,
                  (long long)trained->count);
    return PLUMB_OK;
}

plumb_status plumb_optim_step(plumb_optim *o, plumb_model *m, plumb_comm *comm, float *grad,
                              struct plumb_optim_result *result)
{
    const struct plumb_trained trained = plumb_model_trained(m);
    PLUMB_TRY(check_count(o, &trained));
    assert(o->shards.buckets == 1);
    PLUMB_TRY(plumb_comm_reduce_tree(comm, grad, o->count, o->backend->place));
    return plumb_optim_step_shard(o, m, comm, grad + o->shards.run[0].begin, result);
}

/* Gathers the updated shards of w, so that every rank has all weights, and refreshes m. Used if
 * every rank has all masters. */
static plumb_status gather_weights(plumb_optim *o, plumb_model *m, plumb_comm *comm, float *w)
{
    PLUMB_TRY(plumb_shards_gather(&o->shards, comm, w, o->backend->place));
    return plumb_comm_agree(comm, plumb_model_refresh(m));
}

plumb_status plumb_optim_step_shard(plumb_optim *o, plumb_model *m, plumb_comm *comm,
                                    const float *grad, struct plumb_optim_result *result)
{
    const struct plumb_trained trained = plumb_model_trained(m);
    PLUMB_TRY(check_count(o, &trained));
    PLUMB_TRY(plumb_comm_agree(comm, shard_norms(o, grad)));
    PLUMB_TRY(plumb_comm_allreduce_f64(comm, o->block, blocks_of(o->count), PLUMB_SUM));
    double sum = 0.0;
    for (int64_t i = 0; i < blocks_of(o->count); i++)
        sum += o->block[i];
    const double norm = sqrt(sum);
    if (!isfinite(norm))
        return refuse_non_finite(o, &trained, comm, grad);

    const double limit = o->options.max_grad_norm;
    const double scale = limit > 0 ? fmin(1.0, limit / (norm + 1e-6)) : 1.0;
    const double lr =
        o->options.learning_rate * plumb_lr_at(&o->options.schedule, o->step + o->skipped);
    struct plumb_masters *masters = plumb_masters_of(m);
    assert(!masters || masters->shards.count == o->shards.count);
    PLUMB_TRY(plumb_comm_agree(comm, update_shard(o, &trained, masters, grad, lr, scale)));
    PLUMB_TRY(masters ? plumb_masters_update(masters, m) : gather_weights(o, m, comm, trained.w));
    o->step++;
    *result = (struct plumb_optim_result){.grad_norm = norm, .lr = lr, .clipped = scale < 1.0};
    return PLUMB_OK;
}
