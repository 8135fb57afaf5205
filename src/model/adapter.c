/* adapter.c - creates, opens, shares and merges adapters.
 * Layer 4. Includes base/, model/adapter.h, model/lora.h, model/provider.h. */
#include "model/adapter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "model/lora.h"
#include "model/provider.h"

/* Draws matrix A (r,in) to w, uniform in (-bound, bound). PEFT calls kaiming_uniform with a =
 * sqrt(5), whose bound is sqrt(6 / ((1 + 5) in)) = 1 / sqrt(in). The values are a function of seed
 * and index. */
static void draw(float *w, const struct plumb_param *p, int64_t index, uint64_t seed)
{
    struct plumb_rng_key key = {
        .seed = seed, .purpose = PLUMB_RNG_ADAPTER, .prompt = (uint64_t)index};
    const double bound = 1.0 / sqrt((double)p->dim[1]);
    for (int64_t i = 0; i < p->count; i++) {
        key.position = (uint32_t)i;
        key.sample = (uint32_t)(i >> 32);
        w[i] = (float)(bound * (2.0 * plumb_rng_uniform(&key) - 1.0));
    }
}

/* Copies the score rows of a classifier from the base model to w, the adapter's weights on the
 * host, unless w is NULL. Then sets the score rows of the base to 0, so that the fingerprint of the
 * base does not depend on randomly initialised score rows. */
static plumb_status move_score(plumb_model *m, float *w)
{
    const struct plumb_linear *to = &m->adapter->score, *from = &m->net->head;
    struct plumb_backend *b = m->backend;
    const int64_t bytes = to->out * to->in * (int64_t)sizeof(float);
    if (to->w < 0)
        return PLUMB_OK;
    if (w)
        PLUMB_TRY(b->to_host(b, w + to->w, m->w + from->w, bytes));
    return b->zero(b, m->w + from->w, bytes);
}

/* Computes the fingerprint of the base again after move_score, which has set the base's score rows
 * to 0. Does nothing for a language model. */
static plumb_status refresh_base(plumb_model *m)
{
    struct plumb_adapter *const a = m->adapter;
    if (m->spec.labels == 0)
        return PLUMB_OK;
    m->adapter = NULL;
    const plumb_status st = plumb_model_refresh(m);
    m->adapter = a;
    return st;
}

static plumb_status create(plumb_model *m, uint64_t seed)
{
    const struct plumb_adapter *a = m->adapter;
    struct plumb_backend *b = m->backend;
    float *w = calloc((size_t)a->count, sizeof *w);
    PLUMB_REQUIRE(w, PLUMB_ERR_NOMEM, "an adapter of %lld floats", (long long)a->count);
    for (int64_t l = 0; l < a->layers; l++)
        for (int id = 0; id < PLUMB_N_PROJECTION; id++) {
            const struct plumb_linear *p = &a->pair[l][id].a;
            const struct plumb_param shape = {.dim = {p->out, p->in}, .count = p->out * p->in};
            if (p->w >= 0)
                draw(w + p->w, &shape, l * PLUMB_N_PROJECTION + id, seed);
        }
    plumb_status st = move_score(m, w);
    if (st == PLUMB_OK)
        st = b->to_device(b, a->weights.w, w, a->count * (int64_t)sizeof *w);
    free(w);
    PLUMB_TRY(st);
    PLUMB_TRY(refresh_base(m));
    return plumb_model_refresh(m);
}

plumb_status plumb_adapter_create(plumb_model *m, const struct plumb_lora *lora, uint64_t seed)
{
    PLUMB_TRY(plumb_lora_attach(m, lora));
    return m->backend->dry ? PLUMB_OK : create(m, seed);
}

plumb_status plumb_adapter_open(plumb_model *m, const char *dir)
{
    struct plumb_lora lora;
    bool classifier = false;
    PLUMB_TRY(plumb_adapter_read_config(&lora, &classifier, dir));
    PLUMB_REQUIRE(classifier == (m->spec.labels > 0), PLUMB_ERR_UNSUPPORTED,
                  "%s: is the adapter of a %s, but the model is used as a %s", dir,
                  classifier ? "sequence classifier" : "causal language model",
                  classifier ? "causal language model" : "sequence classifier");
    PLUMB_TRY(plumb_lora_attach(m, &lora));
    if (m->backend->dry)
        return PLUMB_OK;
    PLUMB_TRY(move_score(m, NULL));
    PLUMB_TRY(refresh_base(m));
    PLUMB_TRY(plumb_adapter_read_weights(m, dir));
    return plumb_model_refresh(m);
}

const struct plumb_lora *plumb_adapter_lora(const plumb_model *m)
{
    return m->adapter ? &m->adapter->lora : NULL;
}

/* ---- sharing -------------------------------------------------------------------------------- */

plumb_status plumb_model_share(plumb_model **out, const plumb_model *m, bool adapter)
{
    plumb_status st = PLUMB_OK;
    plumb_model *s = malloc(sizeof *s);
    PLUMB_REQUIRE(s, PLUMB_ERR_NOMEM, "a model");
    *s = *m;
    s->shared = true;
    s->adapter = NULL;
    s->arena = (struct plumb_arena){0};
    s->fingerprint = m->base_fingerprint;
    s->dir = strdup(m->dir);
    s->tokenizer_dir = strdup(m->tokenizer_dir);
    if (!s->dir || !s->tokenizer_dir)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "the folder name %s", m->dir);
    if (adapter) {
        PLUMB_TRY_GOTO(st, plumb_lora_attach(s, &m->adapter->lora), fail);
        if (!m->backend->dry)
            PLUMB_TRY_GOTO(st, plumb_model_copy(s, m), fail);
    }
    *out = s;
    return PLUMB_OK;
fail:
    plumb_model_destroy(&s);
    return st;
}

int64_t plumb_model_bytes(const plumb_model *m)
{
    return m->arena.cap + (m->provider && !m->shared ? m->provider->arena.cap : 0) +
           (m->adapter ? m->adapter->arena.cap : 0);
}

/* ---- merging -------------------------------------------------------------------------------- */

/* Merges one matrix on the host: w (out,in) += scale b (out,r) a (r,in). Each element is computed
 * in double and rounded once. row (in,): scratch. */
static void merge_matrix(float *w, const float *a, const float *b, double scale, int64_t out,
                         int64_t in, int64_t r, double *row)
{
    for (int64_t o = 0; o < out; o++) {
        memset(row, 0, (size_t)in * sizeof *row);
        for (int64_t k = 0; k < r; k++) {
            const double factor = b[o * r + k];
            for (int64_t i = 0; i < in; i++)
                row[i] += factor * a[k * in + i];
        }
        for (int64_t i = 0; i < in; i++)
            w[o * in + i] = (float)(w[o * in + i] + scale * row[i]);
    }
}

/* Merges the matrices and the score rows of m's adapter into w, the base weights on the host. x:
 * the adapter's weights on the host; row: scratch for one row of the widest matrix. */
static void merge_all(float *w, const float *x, const plumb_model *m, double *row)
{
    const struct plumb_adapter *a = m->adapter;
    const double r = (double)a->lora.r;
    const double scale = a->lora.alpha / (a->lora.rslora ? sqrt(r) : r);
    for (int64_t l = 0; l < a->layers; l++)
        for (int id = 0; id < PLUMB_N_PROJECTION; id++) {
            const struct plumb_lora_pair *p = &a->pair[l][id];
            if (p->a.w >= 0)
                merge_matrix(w + m->net->layer[l].project[id].w, x + p->a.w, x + p->b.w, scale,
                             p->b.out, p->a.in, a->lora.r, row);
        }
    if (a->score.w >= 0)
        memcpy(w + m->net->head.w, x + a->score.w,
               (size_t)(a->score.out * a->score.in) * sizeof *w);
}

static plumb_status check_finite(const float *w, const plumb_model *m)
{
    for (int64_t i = 0; i < m->n_param; i++) {
        const struct plumb_param *p = &m->param[i];
        for (int64_t k = 0; k < p->count; k++)
            PLUMB_REQUIRE(isfinite(w[p->offset + k]), PLUMB_ERR_NUMERIC,
                          "%s with the adapter added: value %lld of %s is %g, expected a finite "
                          "number; a weight of the base model is not finite, or the sum is too "
                          "large",
                          m->dir, (long long)k, p->name, (double)w[p->offset + k]);
    }
    return PLUMB_OK;
}

plumb_status plumb_adapter_merge(plumb_model *m)
{
    const struct plumb_adapter *a = m->adapter;
    struct plumb_backend *b = m->backend;
    PLUMB_REQUIRE(a && !m->shared, PLUMB_ERR_ARG,
                  "%s: only a model that has an adapter and does not share its base can be merged",
                  m->dir);
    plumb_status st = PLUMB_OK;
    int64_t widest = 1;
    for (int id = 0; id < PLUMB_N_PROJECTION; id++) {
        const int64_t in = m->net->layer[0].project[id].in;
        widest = in > widest ? in : widest;
    }
    float *w = malloc((size_t)m->count * sizeof *w);
    float *x = malloc((size_t)a->count * sizeof *x);
    double *row = malloc((size_t)widest * sizeof *row);
    if (!w || !x || !row)
        PLUMB_FAIL_GOTO(
            st, PLUMB_ERR_NOMEM, done,
            "merging the adapter: host copies of the weights (%lld floats) and of the adapter",
            (long long)m->count);
    PLUMB_TRY_GOTO(st, b->to_host(b, w, m->w, m->count * (int64_t)sizeof *w), done);
    PLUMB_TRY_GOTO(st, b->to_host(b, x, a->weights.w, a->count * (int64_t)sizeof *x), done);
    merge_all(w, x, m, row);
    PLUMB_TRY_GOTO(st, check_finite(w, m), done);
    PLUMB_TRY_GOTO(st, b->to_device(b, m->w, w, m->count * (int64_t)sizeof *w), done);
    plumb_lora_detach(m);
    st = plumb_model_refresh(m);
done:
    free(row);
    free(x);
    free(w);
    return st;
}
