/* test_parity.c - compares every family and feature with transformers and autograd in float64:
 * logits, embeddings, scores and the gradient of every parameter
 * (tests/reference/model_fixtures.py). In bfloat16, the allowed error is a multiple of the error
 * that transformers has in bfloat16 (tests/reference/bfloat16_fixtures.py): see FURTHER_NORM and
 * FURTHER_LARGEST. */
#include <string.h>

#include "harness.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "model/model.h"

#define MAX_SEQ 8

/* tests/cuda_emu builds this file a second time, for the CUDA backend. */
typedef plumb_status create_fn(struct plumb_backend **out);
#ifdef PLUMB_TEST_CUDA
#include "cuda_emu/gpu.h"
static plumb_status cuda_create(struct plumb_backend **out)
{
    return plumb_backend_cuda_create(out, 0);
}
static plumb_status bfloat16_create(struct plumb_backend **out)
{
    PLUMB_TRY(plumb_backend_cuda_create(out, 0));
    return plumb_backend_set_dtype(*out, PLUMB_BF16);
}
static create_fn *const backends[] = {cuda_create, bfloat16_create};
#else
static plumb_status cpu_create(struct plumb_backend **out)
{
    return plumb_backend_cpu_create(out, 2, 1);
}
static create_fn *const backends[] = {plumb_backend_ref_create, cpu_create};
#endif

struct fixture {
    plumb_st *st, *allowed; /* allowed: the errors of transformers in bfloat16; NULL in float32 */
    int32_t ids[256];
    int64_t n, offset[MAX_SEQ + 1], prompt[MAX_SEQ];
    struct plumb_batch batch;
};

/* Returns the length of the fixture's longest sequence. transformers chose longrope's factors by
 * this length. */
static int64_t longest(const struct fixture *f)
{
    int64_t most = 0;
    for (int64_t i = 0; i < f->batch.n_seq; i++)
        if (f->offset[i + 1] - f->offset[i] > most)
            most = f->offset[i + 1] - f->offset[i];
    return most;
}

static float *read_f32(const struct fixture *f, const char *name, int64_t count)
{
    const struct plumb_st_entry *e = plumb_st_find(f->st, name);
    CHECKF(e && e->count == count, "%s: %lld floats, expected %lld", name,
           e ? (long long)e->count : -1, (long long)count);
    float *x = malloc((size_t)count * sizeof *x);
    CHECK(x);
    CHECK_OK(plumb_st_to_f32(x, e));
    return x;
}

static int64_t read_i32(const struct fixture *f, const char *name, int32_t *out, int64_t cap)
{
    const struct plumb_st_entry *e = plumb_st_find(f->st, name);
    CHECK(e && e->dtype == PLUMB_I32 && e->count <= cap);
    CHECK_OK(plumb_st_read(out, e, 0, e->bytes));
    return e->count;
}

static void read_fixture(struct fixture *f, const char *dir, bool narrow)
{
    char path[700];
    int32_t len[MAX_SEQ], prompt[MAX_SEQ];
    snprintf(path, sizeof path, "%s/expected.safetensors", dir);
    CHECK_OK(plumb_st_open(&f->st, path));
    f->allowed = NULL;
    snprintf(path, sizeof path, "%s/bfloat16.safetensors", dir);
    if (narrow)
        CHECK_OK(plumb_st_open(&f->allowed, path));
    f->n = read_i32(f, "ids", f->ids, 256);
    const int64_t n = read_i32(f, "lengths", len, MAX_SEQ);
    CHECK(read_i32(f, "prompts", prompt, MAX_SEQ) == n);
    f->offset[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        f->offset[i + 1] = f->offset[i] + len[i];
        f->prompt[i] = prompt[i];
    }
    CHECK(f->offset[n] == f->n);
    f->batch = (struct plumb_batch){n, f->ids, f->offset, f->prompt};
}

/* Limits in bfloat16: the error of plumb may be this many times the error of transformers, plus
 * 0.001, in the norm of a tensor (NORM) and in its largest element (LARGEST). plumb and
 * transformers round at different places, so some errors of plumb are larger. Measured on the
 * emulator, which rounds each addition inside mma to nearest, over 865 tensors: the geometric mean
 * of the ratio is 0.72. The largest ratios are 2.10 for a norm and 2.77 for an element, both in
 * Gemma 2's gradient of the key bias; the softmax nearly cancels the terms of this sum, so mostly
 * rounding errors are left. The next largest are 1.70 and 2.13. The tensor cores of Hopper truncate
 * these additions; this error has one direction and is up to twice as large per addition. So the
 * limits on a GPU are wider. */
#ifdef PLUMB_CUDA_EMU
#define FURTHER_NORM    2.2
#define FURTHER_LARGEST 2.9
#else
#define FURTHER_NORM    3.5
#define FURTHER_LARGEST 5.0
#endif

/* Checks the error, relative to the expected values: its norm, and its largest element. */
static void check_near(const char *model, const struct fixture *f, const char *what,
                       const float *got, const float *want, int64_t n, double tolerance)
{
    double most[2] = {tolerance, tolerance};
    if (f->allowed) {
        float theirs[2];
        const struct plumb_st_entry *e = plumb_st_find(f->allowed, what);
        CHECKF(e && e->count == 2, "%s: no error of %s", model, what);
        CHECK_OK(plumb_st_to_f32(theirs, e));
        most[0] = FURTHER_NORM * theirs[0] + 1e-3;
        most[1] = FURTHER_LARGEST * theirs[1] + 1e-3;
    }
    double error = 0, norm = 0, worst_error = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const double e = fabs((double)got[i] - want[i]);
        CHECKF(isfinite(got[i]), "%s: %s[%lld] is %g", model, what, (long long)i, got[i]);
        error += e * e;
        norm += (double)want[i] * want[i];
        worst_error = fmax(worst_error, e);
        largest = fmax(largest, fabs(want[i]));
    }
    CHECKF(norm > 0, "%s: %s is zero in the reference", model, what);
    CHECKF(sqrt(error / norm) < most[0] && worst_error < most[1] * largest,
           "%s: %s is off by %.3g of its norm, %.3g of its largest; allowed %.3g, %.3g", model,
           what, sqrt(error / norm), worst_error / largest, most[0], most[1]);
}

static void check_logits(const char *name, const struct fixture *f, const plumb_model *m,
                         plumb_pass *p)
{
    const int64_t n = f->n * m->spec.v;
    float *want = read_f32(f, "logits", n), *got = malloc((size_t)n * sizeof *got);
    CHECK(got);
    CHECK_OK(plumb_pass_logits(p, m, &f->batch, got));
    check_near(name, f, "logits", got, want, n, 1e-5);
    free(want);
    free(got);
}

/* Adds the gradient of the loss (the mean of -logp over the targets) to grad, which the caller
 * checks. Checks the loss and the embeddings against the fixture. */
static void causal_gradient(const char *name, const struct fixture *f, const plumb_model *m,
                            plumb_pass *p, float *grad)
{
    const int64_t k = plumb_batch_targets(&f->batch), n = f->batch.n_seq * m->spec.c;
    float logp[256], dlogp[256];
    double loss = 0;
    CHECK_OK(plumb_pass_logprob(p, m, &f->batch, logp));
    for (int64_t i = 0; i < k; i++) {
        loss -= logp[i] / (double)k;
        dlogp[i] = -1.0f / (float)k;
    }
    float *want = read_f32(f, "loss", 1), found = (float)loss;
    check_near(name, f, "loss", &found, want, 1, 1e-5);
    free(want);
    float *mean = malloc((size_t)n * sizeof *mean);
    CHECK(mean);
    want = read_f32(f, "embedding", n);
    CHECK_OK(plumb_pass_embedding(p, m, mean));
    check_near(name, f, "embedding", mean, want, n, 1e-5);
    CHECK_OK(plumb_pass_logprob_backward(p, m, dlogp, grad));
    float *alone = malloc((size_t)n * sizeof *alone);
    CHECK(alone);
    CHECK_OK(plumb_pass_hidden(p, m, &f->batch));
    CHECK_OK(plumb_pass_embedding(p, m, alone));
    CHECKF(!memcmp(alone, mean, (size_t)n * sizeof *alone), "%s: embedding without a head", name);
    CHECK(plumb_pass_logprob_backward(p, m, dlogp, grad) == PLUMB_ERR_ARG);
    free(alone);
    free(want);
    free(mean);
}

static void score_gradient(const char *name, const struct fixture *f, const plumb_model *m,
                           plumb_pass *p, float *grad)
{
    const int64_t n = f->batch.n_seq * m->spec.labels;
    float *want = read_f32(f, "score", n), *dscore = read_f32(f, "dscore", n), score[64];
    CHECK(n <= 64);
    CHECK_OK(plumb_pass_score(p, m, &f->batch, score));
    check_near(name, f, "score", score, want, n, 1e-5);
    CHECK_OK(plumb_pass_score_backward(p, m, dscore, grad));
    free(want);
    free(dscore);
}

static float *gradient(const char *name, const struct fixture *f, const plumb_model *m,
                       bool recompute, int64_t head_rows)
{
    plumb_pass *p;
    const struct plumb_pass_limit limit = {.max_tokens = f->n + 3,
                                           .max_seq = f->batch.n_seq + 1,
                                           .max_targets = f->n,
                                           .train = true,
                                           .recompute = recompute,
                                           .head_rows = head_rows};
    const int64_t bytes = m->count * (int64_t)sizeof(float);
    struct plumb_backend *b = m->backend;
    void *device;
    float *grad = malloc((size_t)bytes);
    CHECK(grad);
    CHECK_OK(b->alloc(b, &device, bytes, "gradient"));
    CHECK_OK(b->zero(b, device, bytes));
    CHECK_OK(plumb_pass_create(&p, m, &limit));
    if (m->spec.labels) {
        score_gradient(name, f, m, p, device);
    } else {
        check_logits(name, f, m, p);
        causal_gradient(name, f, m, p, device);
    }
    CHECK_OK(b->to_host(b, grad, device, bytes));
    b->release(b, device);
    plumb_pass_destroy(&p);
    return grad;
}

/* Copies the gradient of parameter q to its place in a tensor as the model files have it. */
static void place_gradient(float *tensor, const float *grad, const struct plumb_param *q)
{
    const int64_t width = q->count / q->dim[0];
    for (int64_t r = 0; r < q->dim[0]; r++)
        for (int64_t i = 0; i < width; i++) {
            const int64_t at = plumb_param_file_row(q, r);
            tensor[q->turned ? i * q->file_rows + at : at * width + i] =
                grad[q->offset + r * width + i];
        }
}

static void check_gradient(const char *name, const struct fixture *f, const plumb_model *m,
                           const float *grad)
{
    int64_t at = 0;
    for (int64_t i = 0; i < m->n_param; i++) {
        const struct plumb_param *q = &m->param[i];
        char full[128];
        snprintf(full, sizeof full, "grad.%s", q->file);
        /* Compares the whole tensor of the file at once. The gradient of a part, such as the bias
         * of the keys, may be zero, and check_near() divides by the norm. */
        const int64_t count = q->count / q->dim[0] * q->file_rows;
        float *want = read_f32(f, full, count), *got = malloc((size_t)count * sizeof *got);
        CHECK(got);
        for (int64_t k = 0; k < count; k++)
            got[k] = NAN;
        for (int64_t k = 0; k < m->n_param; k++)
            if (!strcmp(m->param[k].file, q->file))
                place_gradient(got, grad, &m->param[k]);
        check_near(name, f, full, got, want, count, 1e-4);
        free(want);
        free(got);
        for (; at < q->offset; at++)
            CHECKF(grad[at] == 0, "%s: padding before %s was written", name, q->name);
        at = q->offset + q->count;
    }
}

/* Checks that the bfloat16 kernels refuse a head size that is no multiple of 8, and that the
 * message names the head size. */
static void refused(const char *name, const struct fixture *f, const plumb_model *m)
{
    plumb_pass *p;
    const struct plumb_pass_limit limit = {.max_tokens = f->n, .max_seq = f->batch.n_seq};
    float out[256];
    CHECK_OK(plumb_pass_create(&p, m, &limit));
    const plumb_status st = m->spec.labels ? plumb_pass_score(p, m, &f->batch, out)
                                           : plumb_pass_logprob(p, m, &f->batch, out);
    CHECKF(st == PLUMB_ERR_UNSUPPORTED && strstr(plumb_trail_message(), "head size"), "%s: %s",
           name, plumb_trail_message());
    plumb_pass_destroy(&p);
}

static void check_model(const char *name, const char *dir, create_fn *create)
{
    struct plumb_backend *b;
    plumb_model *m;
    struct fixture f;
    CHECK_OK(create(&b));
    read_fixture(&f, dir, b->dtype == PLUMB_BF16);
    CHECK_OK(plumb_model_open(&m, b, dir));
    CHECK_OK(plumb_model_set_longest(m, longest(&f), NULL));
    if (f.allowed && m->spec.d % 8 != 0) {
        refused(name, &f, m);
        goto done;
    }
    const size_t bytes = (size_t)m->count * sizeof(float);
    float *kept = gradient(name, &f, m, false, 0);
    check_gradient(name, &f, m, kept);
    float *recomputed = gradient(name, &f, m, true, 0);
    CHECKF(!memcmp(kept, recomputed, bytes), "%s: recomputing changes the gradient", name);
    float *blocks = gradient(name, &f, m, false, 5);
    check_gradient(name, &f, m, blocks);
    free(kept);
    free(recomputed);
    free(blocks);
done:
    plumb_model_destroy(&m);
    plumb_backend_destroy(&b);
    plumb_st_close(&f.st);
    plumb_st_close(&f.allowed);
}

int main(void)
{
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    char dir[512], path[600];
    struct plumb_names names;
#ifdef PLUMB_TEST_CUDA
    skip_without_gpu();
#endif
    snprintf(dir, sizeof dir, "%s/tests/fixtures/model", root ? root : ".");
    CHECK_OK(plumb_dir_list(&names, dir));
    CHECK(names.n >= 55);
    for (int64_t i = 0; i < names.n; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names.name[i]);
        for (size_t j = 0; j < sizeof backends / sizeof *backends; j++)
            check_model(names.name[i], path, backends[j]);
        printf("%s: ok\n", names.name[i]);
    }
    plumb_names_fini(&names);
    return 0;
}
