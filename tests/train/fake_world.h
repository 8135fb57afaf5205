/* fake_world.h - a model that consists of a few tensors without an architecture, and ranks that are
 * threads.
 * Test. Replaces the library's plumb_model_refresh. */
#ifndef PLUMB_TESTS_TRAIN_FAKE_WORLD_H
#define PLUMB_TESTS_TRAIN_FAKE_WORLD_H

#include <pthread.h>

#include "backend/backend.h"
#include "comm/comm.h"
#include "harness.h"
#include "io/file.h"
#include "model/model.h"

/* alignment of tensors in floats; with it, most tensors are followed by padding */
#define FAKE_ALIGN 64

struct fake_tensor {
    const char *name;
    int64_t rows, cols; /* cols 0: the tensor is a vector of `rows` elements */
};

/* Only computes the fingerprint, because the fake model has no packed copy of its weights. */
plumb_status plumb_model_refresh(plumb_model *m)
{
    m->fingerprint = plumb_hash(m->w, m->count * (int64_t)sizeof(float), 0);
    return PLUMB_OK;
}

static plumb_model *fake_model(const struct fake_tensor *t, int n)
{
    plumb_model *m = calloc(1, sizeof(*m));
    CHECK(m);
    CHECK_OK(plumb_backend_ref_create(&m->backend));
    m->n_param = n;
    m->param = calloc((size_t)n, sizeof(*m->param));
    CHECK(m->param);
    for (int i = 0; i < n; i++) {
        struct plumb_param *p = &m->param[i];
        snprintf(p->name, sizeof(p->name), "%s", t[i].name);
        p->rank = t[i].cols ? 2 : 1;
        p->dim[0] = t[i].rows;
        p->dim[1] = t[i].cols;
        p->count = t[i].rows * (t[i].cols ? t[i].cols : 1);
        p->decay = t[i].cols > 0;
        p->packed = -1;
        p->offset = m->count;
        m->count += (p->count + FAKE_ALIGN - 1) / FAKE_ALIGN * FAKE_ALIGN;
    }
    m->w = calloc((size_t)m->count, sizeof(float));
    CHECK(m->w);
    return m;
}

static void fake_model_free(plumb_model *m)
{
    plumb_backend_destroy(&m->backend);
    free(m->param);
    free(m->w);
    free(m);
}

/* Sets x (count,) to random numbers in the tensors and 0 in the padding. */
static void fake_fill(const plumb_model *m, float *x, uint64_t seed, float scale)
{
    struct rng r = {seed * 0x9E3779B97F4A7C15ull + 1};
    memset(x, 0, (size_t)m->count * sizeof(float));
    for (int64_t p = 0; p < m->n_param; p++) {
        for (int64_t i = 0; i < m->param[p].count; i++)
            x[m->param[p].offset + i] = rng_f(&r, -scale, scale);
    }
}

/* The argument of one rank. fake_world() runs fn once per rank, each on its own thread. */
struct fake_rank {
    plumb_comm *comm;
    void (*fn)(plumb_comm *comm, void *arg);
    void *arg;
};
static void *fake_rank_main(void *arg)
{
    struct fake_rank *r = arg;
    r->fn(r->comm, r->arg);
    plumb_comm_destroy(&r->comm);
    return NULL;
}
static void fake_world(int world_size, void (*fn)(plumb_comm *comm, void *arg), void *arg)
{
    plumb_comm *comm[8];
    pthread_t thread[8];
    struct fake_rank rank[8];
    CHECK(world_size <= 8);
    CHECK_OK(plumb_comm_thread_create(comm, world_size));
    for (int r = 0; r < world_size; r++) {
        rank[r] = (struct fake_rank){comm[r], fn, arg};
        CHECK(!pthread_create(&thread[r], NULL, fake_rank_main, &rank[r]));
    }
    for (int r = 0; r < world_size; r++)
        CHECK(!pthread_join(thread[r], NULL));
}

/* Tensors of a small decoder, with a little more than 5 * PLUMB_SHARD_BLOCK elements. */
static const struct fake_tensor fake_decoder[] = {
    {"model.embed_tokens.weight", 70, 96},
    {"model.layers.0.input_layernorm.weight", 96, 0},
    {"model.layers.0.self_attn.q_proj.weight", 96, 96},
    {"model.layers.0.mlp.gate_proj.weight", 50, 96},
    {"model.norm.weight", 96, 0},
};
#define FAKE_DECODER ((int)(sizeof(fake_decoder) / sizeof(fake_decoder[0])))

/* Sets grad (count,) to the sum of the gradients of micro-batches first .. first+n-1, added along
 * the balanced binary tree. */
static void fake_gradient(const plumb_model *m, float *grad, uint64_t seed, int first, int n)
{
    if (n == 1) {
        fake_fill(m, grad, seed * 1000 + (uint64_t)first, 0.3f);
        return;
    }
    float *right = calloc((size_t)m->count, sizeof(float));
    CHECK(right);
    fake_gradient(m, grad, seed, first, n / 2);
    fake_gradient(m, right, seed, first + n / 2, n - n / 2);
    for (int64_t i = 0; i < m->count; i++)
        grad[i] += right[i];
    free(right);
}
#define FAKE_MICRO 8
static void fake_rank_gradient(const plumb_model *m, float *grad, uint64_t seed,
                               const plumb_comm *comm)
{
    const int r = plumb_comm_rank(comm), w = plumb_comm_size(comm);
    const int first = FAKE_MICRO * r / w, last = FAKE_MICRO * (r + 1) / w;
    fake_gradient(m, grad, seed, first, last - first);
}

#endif
