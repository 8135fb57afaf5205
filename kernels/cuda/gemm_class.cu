/* gemm_class.cu - sorts cuBLASLt's algorithms into classes of equal bits, times them, and adds the
 * fastest ones of a class to the GEMM algorithm cache.
 * Layer 1 (cuda). Includes gemm.cuh, gemm_data.cuh, base/.
 *
 * A class is a set of algorithms whose results on random data are equal bit for bit, for several
 * numbers of rows, and with the rows at several places of the operands. Its first member, the
 * founder, defines the bits of the class: they are those of the founder's products of HOME rows.
 * For every range of the number of rows, the cache entry has the fastest member of one class. So
 * the bits of a row do not depend on the other rows of the batch, and measured times only decide
 * which class is chosen and which of its members runs. Nothing is assumed about the order in which
 * an algorithm adds. */
#include "cuda/gemm.cuh"
#include "cuda/gemm_data.cuh"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" { /* the headers of base/ are plain C, without extern "C" guards */
#include "base/buf.h"
#include "base/log.h"
}

static constexpr int BUCKETS = PLUMB_CUDA_GEMM_BUCKETS, MOST = 96, CLASSES = 8, TESTS = 4;
/* DEAR: of the classes whose cost (see fastest()) is at most DEAR times the lowest cost, the first
 * one is chosen. HOME: number of rows of the founder's products. TOP: the largest tested number of
 * rows. SHIFT: the largest index of the row of the operands at which a test begins. */
static constexpr double DEAR = 1.10;
static constexpr int64_t HOME = GEMM_ROWS[3], TOP = 4 * GEMM_ROWS[4];
static constexpr int64_t SHIFT = 17, ROWS = TOP + SHIFT;
/* largest number of bytes of a result that the hash covers */
static constexpr int64_t HASHED = 4 << 20;
static constexpr int64_t FLUSH_MOST = 512 << 20;

struct trial {
    cublasLtMatmulAlgo_t algo;
    int owner; /* number of its class; -1 if it has none */
    /* For each range of the number of rows. can: true if cuBLASLt supports the algorithm in all
     * tests of the range. same: true if the algorithm gave the bits of the class that is being
     * tested. */
    bool can[BUCKETS], same[BUCKETS];
    float ms[BUCKETS];
};

/* One product of a layer, its operands of ROWS rows in device memory, and its candidates. */
struct tuner {
    struct plumb_cuda *c;
    product p;
    int64_t out, in;
    char *memory, *a, *b, *d, *added, *truth, *flush;
    float *bias;
    /* (MOST,BUCKETS) by trial and range: 1 if a result differs from that of the founder */
    unsigned *differs;
    int64_t d_bytes, flush_bytes;
    cudaEvent_t begin, end;
    trial trials[MOST];
    int n;
};

/* A product of n rows whose first row is row `at` of the operands. */
struct place {
    int64_t n, at;
};

static int64_t size_of(cudaDataType_t type)
{
    return type == CUDA_R_16BF ? 2 : 4;
}

static int64_t bytes_of_row(const tuner *t)
{
    return (t->p.is == BACKWARD_X ? t->in : t->out) * size_of(t->p.written);
}

static plumb_status launch(const tuner *t, const cublasLtMatmulAlgo_t *algo, char *d, float beta,
                           place w)
{
    const int64_t read = size_of(t->p.read);
    const bool back_w = t->p.is == BACKWARD_W;
    const char *a = t->a + (back_w ? w.at * t->in * read : 0);
    const char *b = t->b + w.at * (back_w || t->p.is == BACKWARD_X ? t->out : t->in) * read;
    return plumb_cuda_gemm_run(t->c, t->p, algo, d + (back_w ? 0 : w.at * bytes_of_row(t)), a, b,
                               t->bias, beta, w.n, t->out, t->in);
}

/* ---- data ------------------------------------------------------------------------------------ */

/* Allocates one block of memory for all operands (one pass counts the bytes, a second one sets the
 * pointers), fills the operands with random data and creates the events for timing. */
static plumb_status place_operands(tuner *t)
{
    const bool back_w = t->p.is == BACKWARD_W;
    const int64_t a = back_w ? ROWS * t->in : t->out * t->in;
    const int64_t b = ROWS * (back_w || t->p.is == BACKWARD_X ? t->out : t->in);
    const int64_t d = back_w ? t->out * t->in : ROWS * bytes_of_row(t) / size_of(t->p.written);
    struct cudaDeviceProp device;
    int number = 0;
    PLUMB_CUDA_TRY(cudaGetDevice(&number));
    PLUMB_CUDA_TRY(cudaGetDeviceProperties(&device, number));
    t->d_bytes = d * size_of(t->p.written);
    t->flush_bytes = 2 * int64_t(device.l2CacheSize);
    if (t->flush_bytes > FLUSH_MOST)
        t->flush_bytes = FLUSH_MOST;
    char **const piece[] = {&t->a, &t->b, &t->d, &t->added, &t->truth, &t->flush};
    const int64_t bytes[] = {
        a * size_of(t->p.read), b * size_of(t->p.read), t->d_bytes, t->d_bytes, t->d_bytes,
        t->flush_bytes};
    const int64_t bias = t->out * int64_t(sizeof(float));
    const int64_t flags = MOST * BUCKETS * int64_t(sizeof(unsigned));
    for (int pass = 0; pass < 2; pass++) {
        int64_t used = 0;
        const auto take = [&](int64_t size) {
            char *at = t->memory ? t->memory + used : nullptr;
            used += ceil_div(size, 256) * 256;
            return at;
        };
        for (int i = 0; i < 6; i++)
            *piece[i] = take(bytes[i]);
        t->bias = reinterpret_cast<float *>(take(bias));
        t->differs = reinterpret_cast<unsigned *>(take(flags));
        void *memory = nullptr;
        if (pass == 1)
            continue;
        const cudaError_t e = cudaMalloc(&memory, size_t(used));
        (void)cudaGetLastError(); /* clears the error, so that no kernel launch reports it */
        PLUMB_TRY(plumb_cuda_check(e, "measuring of products"));
        t->memory = static_cast<char *>(memory);
    }
    const int64_t b_columns = b / ROWS;
    const bool back_x = t->p.is == BACKWARD_X;
    PLUMB_TRY(gemm_fill(t->c, t->a, t->p.read,
                        pattern{a / t->in, t->in, back_x, !back_x && !back_w, false, 1.0f, 1}));
    PLUMB_TRY(gemm_fill(t->c, t->b, t->p.read,
                        pattern{ROWS, b_columns, false, !back_w, !back_w, 1.0f, 2}));
    /* With beta = 1 these values are added to the product. They are small, so that they do not hide
     * the rounding of sums whose exact value is 0 (fill_kernel). */
    PLUMB_TRY(
        gemm_fill(t->c, t->added, t->p.written, pattern{1, d, false, false, false, 1e-6f, 3}));
    PLUMB_TRY(
        gemm_fill(t->c, t->bias, CUDA_R_32F, pattern{1, t->out, false, false, false, 1.0f, 4}));
    PLUMB_CUDA_TRY(cudaEventCreateWithFlags(&t->begin, 0));
    PLUMB_CUDA_TRY(cudaEventCreateWithFlags(&t->end, 0));
    return PLUMB_OK;
}

static void tuner_fini(tuner *t)
{
    if (t->end)
        (void)cudaEventDestroy(t->end);
    if (t->begin)
        (void)cudaEventDestroy(t->begin);
    (void)cudaFree(t->memory);
}

/* ---- candidates and tests ----------------------------------------------------------------------
 */

static int64_t most_rows(int bucket)
{
    return bucket < BUCKETS - 1 ? GEMM_ROWS[bucket] : TOP;
}

/* Sets the tests of a range of the number of rows: products with its smallest, its largest and a
 * middle number of rows, which begin at different rows of the operands. */
static void tests_of(int bucket, place tests[TESTS])
{
    const int64_t low = bucket ? GEMM_ROWS[bucket - 1] + 1 : 1, high = most_rows(bucket);
    const int64_t middle = low + (high - low) * 5 / 7;
    tests[0] = {low, 5};
    tests[1] = {high, 0};
    tests[2] = {middle, 1};
    tests[3] = {high, SHIFT};
}

static void add_trial(tuner *t, const cublasLtMatmulAlgo_t *algo)
{
    for (int i = 0; i < t->n; i++)
        if (memcmp(&t->trials[i].algo, algo, sizeof(*algo)) == 0)
            return;
    if (t->n == MOST)
        return;
    trial *r = &t->trials[t->n++];
    *r = trial{};
    r->algo = *algo;
    r->owner = -1;
    for (int k = 0; k < BUCKETS; k++) {
        place tests[TESTS];
        tests_of(k, tests);
        r->can[k] = true;
        for (place w : tests)
            r->can[k] =
                r->can[k] && plumb_cuda_gemm_can(t->c, t->p, w.n, t->out, t->in, algo, t->bias);
    }
}

/* Sets t->trials to the algorithms that the heuristic proposes for each range, without split-K,
 * each once. Those for HOME rows come first, and plumb's own kernel for few rows comes last. That
 * kernel is never a founder, because it does not support HOME rows. */
static plumb_status collect(tuner *t)
{
    cublasLtMatmulHeuristicResult_t result[PLUMB_CUDA_CANDIDATES];
    for (int k = -1; k < BUCKETS; k++) {
        int found = 0;
        PLUMB_TRY(plumb_cuda_gemm_candidates(t->c, t->p, k < 0 ? HOME : most_rows(k), t->out, t->in,
                                             t->bias, false, result, &found));
        for (int i = 0; i < found; i++)
            add_trial(t, &result[i].algo);
    }
    if (plumb_cuda_gemm_skinny_can(t->p, 1, t->out, t->in)) {
        cublasLtMatmulAlgo_t skinny;
        plumb_cuda_gemm_skinny_algo(&skinny);
        add_trial(t, &skinny);
    }
    return PLUMB_OK;
}

/* Prepares the output d for a product: fills it with NaN if the product overwrites it (beta = 0),
 * and copies t->added to it if the product is added to it. */
static plumb_status reset(const tuner *t, char *d, float beta)
{
    if (beta == 0.0f)
        PLUMB_CUDA_TRY(cudaMemsetAsync(d, 0xff, size_t(t->d_bytes), t->c->stream));
    else
        PLUMB_CUDA_TRY(cudaMemcpyAsync(d, t->added, size_t(t->d_bytes), cudaMemcpyDeviceToDevice,
                                       t->c->stream));
    return PLUMB_OK;
}

/* Computes t->truth, the results that define the class, with the founder: all ROWS rows, in
 * products of HOME rows. BACKWARD_W sums over the rows, so for it the founder computes the product
 * `test` instead. */
static plumb_status find_truth(const tuner *t, const trial *founder, float beta, place test)
{
    PLUMB_TRY(reset(t, t->truth, beta));
    if (t->p.is == BACKWARD_W)
        return launch(t, &founder->algo, t->truth, beta, test);
    const int64_t last = ROWS - HOME;
    for (int64_t at = 0; at < ROWS; at += HOME) {
        const int64_t from = at < last ? at : last;
        /* the last products overlap: the product must be added only once to these rows */
        if (beta != 0.0f && from < at)
            PLUMB_CUDA_TRY(cudaMemcpyAsync(
                t->truth + from * bytes_of_row(t), t->added + from * bytes_of_row(t),
                size_t(HOME * bytes_of_row(t)), cudaMemcpyDeviceToDevice, t->c->stream));
        PLUMB_TRY(launch(t, &founder->algo, t->truth, beta, place{HOME, from}));
    }
    return PLUMB_OK;
}

static plumb_status try_one(const tuner *t, int i, int bucket, float beta, place test)
{
    const bool back_w = t->p.is == BACKWARD_W;
    const int64_t from = back_w ? 0 : test.at * bytes_of_row(t);
    const int64_t bytes = back_w ? t->d_bytes : test.n * bytes_of_row(t);
    PLUMB_TRY(reset(t, t->d, beta));
    PLUMB_TRY(launch(t, &t->trials[i].algo, t->d, beta, test));
    return gemm_compare(t->c, t->differs + i * BUCKETS + bucket, t->d + from, t->truth + from,
                        bytes);
}

/* Updates the hash *h, which identifies the founder's class, with the first HOME rows of t->truth
 * (for BACKWARD_W, with all of t->truth), but with at most HASHED bytes. */
static plumb_status add_hash(const tuner *t, uint64_t *h)
{
    const int64_t rows = t->p.is == BACKWARD_W ? t->d_bytes : HOME * bytes_of_row(t);
    const int64_t bytes = rows < HASHED ? rows : HASHED;
    unsigned char *host = static_cast<unsigned char *>(malloc(size_t(bytes)));
    plumb_status st = PLUMB_OK;
    PLUMB_REQUIRE(host, PLUMB_ERR_NOMEM, "%lld bytes on the host for the result of a GEMM",
                  (long long)bytes);
    PLUMB_TRY_GOTO(st,
                   plumb_cuda_check(cudaMemcpyAsync(host, t->truth, size_t(bytes),
                                                    cudaMemcpyDeviceToHost, t->c->stream),
                                    "class"),
                   done);
    PLUMB_TRY_GOTO(st, plumb_cuda_check(cudaStreamSynchronize(t->c->stream), "class"), done);
    for (int64_t i = 0; i < bytes; i++)
        *h = (*h ^ host[i]) * 0x100000001B3u;
done:
    free(host);
    return st;
}

/* Writes to beta the values of beta (d = product + beta d) with which product p is used, and
 * returns their number. A bfloat16 layer with a bias first writes the bias to y and then adds the
 * product (beta = 1). */
static int betas_of(product p, float beta[2])
{
    int n = 0;
    if (p.is != BACKWARD_W)
        beta[n++] = 0.0f;
    if (p.is == BACKWARD_X || p.is == BACKWARD_W || (p.is == FORWARD && p.written == CUDA_R_16BF))
        beta[n++] = 1.0f;
    return n;
}

/* Compares the results of every trial that has no class yet with those of the founder, and sets
 * `same` of all trials. *bits receives the hash of the founder's results, which identifies the
 * class. */
static plumb_status test_class(tuner *t, const trial *founder, uint64_t *bits)
{
    unsigned host[MOST * BUCKETS];
    float beta[2];
    const int betas = betas_of(t->p, beta);
    *bits = 0xCBF29CE484222325u;
    PLUMB_CUDA_TRY(cudaMemsetAsync(t->differs, 0, sizeof(host), t->c->stream));
    for (int b = 0; b < betas; b++) {
        if (t->p.is != BACKWARD_W) {
            PLUMB_TRY(find_truth(t, founder, beta[b], place{}));
            PLUMB_TRY(add_hash(t, bits));
        }
        for (int k = 0; k < BUCKETS; k++) {
            place tests[TESTS];
            tests_of(k, tests);
            for (place w : tests) {
                if (t->p.is == BACKWARD_W && !founder->can[k])
                    continue;
                if (t->p.is == BACKWARD_W)
                    PLUMB_TRY(find_truth(t, founder, beta[b], w));
                for (int i = 0; i < t->n; i++)
                    if (t->trials[i].owner < 0 && t->trials[i].can[k])
                        PLUMB_TRY(try_one(t, i, k, beta[b], w));
            }
            if (t->p.is == BACKWARD_W && k == bucket_of(HOME))
                PLUMB_TRY(add_hash(t, bits));
        }
    }
    PLUMB_CUDA_TRY(
        cudaMemcpyAsync(host, t->differs, sizeof(host), cudaMemcpyDeviceToHost, t->c->stream));
    PLUMB_CUDA_TRY(cudaStreamSynchronize(t->c->stream));
    for (int i = 0; i < t->n; i++)
        for (int k = 0; k < BUCKETS; k++)
            t->trials[i].same[k] = t->trials[i].owner < 0 && t->trials[i].can[k] &&
                                   (t->p.is != BACKWARD_W || founder->can[k]) &&
                                   host[i * BUCKETS + k] == 0;
    return PLUMB_OK;
}

/* ---- timing ------------------------------------------------------------------------------------
 */

/* Sets *best to the time of the product with n rows on random data, in milliseconds: the shortest
 * of three runs, each with a flushed L2 cache, after one warm-up run. */
static plumb_status time_of(float *best, const tuner *t, int64_t n,
                            const cublasLtMatmulAlgo_t *algo)
{
    *best = 1e30f;
    for (int i = 0; i < 4; i++) {
        float spent = 0.0f;
        if (t->flush_bytes > 0)
            PLUMB_CUDA_TRY(cudaMemsetAsync(t->flush, i, size_t(t->flush_bytes), t->c->stream));
        PLUMB_CUDA_TRY(cudaEventRecord(t->begin, t->c->stream));
        PLUMB_TRY(launch(t, algo, t->d, 0.0f, place{n, 0}));
        PLUMB_CUDA_TRY(cudaEventRecord(t->end, t->c->stream));
        PLUMB_CUDA_TRY(cudaEventSynchronize(t->end));
        PLUMB_CUDA_TRY(cudaEventElapsedTime(&spent, t->begin, t->end));
        if (i > 0 && spent < *best)
            *best = spent;
    }
    return PLUMB_OK;
}

/* Sets floor[k] to the best time, in milliseconds, of the heuristic's first three candidates for
 * the largest number of rows of range k. These candidates may use split-K. */
static plumb_status floors(float floor[BUCKETS], const tuner *t)
{
    cublasLtMatmulHeuristicResult_t result[PLUMB_CUDA_CANDIDATES];
    for (int k = 0; k < BUCKETS; k++) {
        int found = 0;
        const int64_t n = most_rows(k);
        floor[k] = 1e30f;
        PLUMB_TRY(plumb_cuda_gemm_candidates(t->c, t->p, n, t->out, t->in, t->bias, true, result,
                                             &found));
        for (int i = 0; i < found && i < 3; i++) {
            float spent;
            if (!plumb_cuda_gemm_can(t->c, t->p, n, t->out, t->in, &result[i].algo, t->bias))
                continue;
            PLUMB_TRY(time_of(&spent, t, n, &result[i].algo));
            floor[k] = spent < floor[k] ? spent : floor[k];
        }
    }
    return PLUMB_OK;
}

static const char *const form_names[] = {"forward", "forward with bias", "backward x",
                                         "backward w"};

static const char *type_name(cudaDataType_t type)
{
    return type == CUDA_R_16BF ? "bfloat16" : "float32";
}

/* Fills entry with the fastest member, for each range, of the class that test_class tested last.
 * Sets *cost to the mean over the ranges k of (time of this member) / floor[k], or to -1 if a range
 * has no member, so that the class cannot be used. `number` is the number of the class in the log.
 */
static plumb_status fastest(struct plumb_cuda_gemm_entry *entry, double *cost, tuner *t, int number,
                            const float floor[BUCKETS])
{
    *cost = 0.0;
    for (int k = 0; k < BUCKETS; k++) {
        float least = 1e30f;
        for (int i = 0; i < t->n; i++) {
            trial *r = &t->trials[i];
            if (!r->same[k])
                continue;
            PLUMB_TRY(time_of(&r->ms[k], t, most_rows(k), &r->algo));
            plumb_log(PLUMB_LOG_DEBUG,
                      "%s, %s, %lld x %lld, %lld rows: candidate %d of %d, class %d, %.2f us",
                      form_names[t->p.is], type_name(t->p.read), (long long)t->out,
                      (long long)t->in, (long long)most_rows(k), i + 1, t->n, number,
                      1e3 * double(r->ms[k]));
            if (r->ms[k] < least) {
                least = r->ms[k];
                entry->algo[k] = r->algo;
            }
        }
        if (least == 1e30f) {
            *cost = -1.0;
            return PLUMB_OK;
        }
        *cost += double(least) / double(floor[k]) / BUCKETS;
    }
    return PLUMB_OK;
}

/* ---- classes -----------------------------------------------------------------------------------
 */

/* Returns the founder of the next class: the first trial without a class that supports every range
 * of the number of rows, or else the first one that supports HOME rows; NULL if there is none. */
static const trial *next_founder(const tuner *t)
{
    const trial *partial = nullptr;
    for (int i = 0; i < t->n; i++) {
        const trial *r = &t->trials[i];
        bool all = true;
        for (bool can : r->can)
            all = all && can;
        if (r->owner >= 0 || !r->can[bucket_of(HOME)])
            continue;
        if (all)
            return r;
        partial = partial ? partial : r;
    }
    return partial;
}

/* Writes the start of a line of plumb_cuda_gemm_classes to text: everything before the class. */
static void describe(char text[128], product p, int64_t out, int64_t in)
{
    snprintf(text, 128, "%s, %s to %s, %lld x %lld: ", form_names[p.is], type_name(p.read),
             type_name(p.written), (long long)out, (long long)in);
}

/* Returns the class that c->wanted names for this product, or 0. */
static uint64_t wanted_bits(const struct plumb_cuda *c, product p, int64_t out, int64_t in)
{
    char text[128];
    uint64_t bits = 0;
    describe(text, p, out, in);
    for (const char *at = c->wanted; at && *at; at = strchr(at, '\n') + 1) {
        if (strncmp(at, text, strlen(text)) == 0)
            (void)sscanf(at + strlen(text), "%" SCNx64, &bits);
        if (!strchr(at, '\n'))
            break;
    }
    return bits;
}

/* Finds all classes and adds an entry for one of them: the class that c->wanted names, else the
 * first class whose cost is at most DEAR times the lowest cost. If no class can be used, the entry
 * stands for plumb's own kernel. */
static plumb_status choose(tuner *t)
{
    struct plumb_cuda_gemm_entry entry[CLASSES] = {};
    double cost[CLASSES], least = 1e30;
    float floor[BUCKETS];
    int n = 0, best = -1;
    const uint64_t wanted = wanted_bits(t->c, t->p, t->out, t->in);
    PLUMB_TRY(collect(t));
    PLUMB_TRY(floors(floor, t));
    for (const trial *f = next_founder(t); f && n < CLASSES; f = next_founder(t), n++) {
        struct plumb_cuda_gemm_entry *e = &entry[n];
        const int founder = int(f - t->trials);
        *e = {t->p.is, t->p.read, t->p.written, t->out, t->in, 0, false, {}};
        PLUMB_TRY(test_class(t, f, &e->bits));
        PLUMB_TRY(fastest(e, &cost[n], t, n, floor));
        for (int i = 0; i < t->n; i++)
            for (int k = 0; k < BUCKETS; k++)
                if (t->trials[i].same[k] || i == founder)
                    t->trials[i].owner = n;
        if (cost[n] >= 0.0 && cost[n] < least)
            least = cost[n];
    }
    for (int i = n - 1; i >= 0; i--)
        if (cost[i] >= 0.0 && cost[i] <= DEAR * least)
            best = i;
    for (int i = 0; i < n; i++)
        if (cost[i] >= 0.0 && wanted != 0 && entry[i].bits == wanted)
            best = i;
    char text[128];
    describe(text, t->p, t->out, t->in);
    plumb_log(PLUMB_LOG_DEBUG, "%s%d candidates, %d classes, class %d taken, %.2f times the floor",
              text, t->n, n, best, best < 0 ? 0.0 : cost[best]);
    if (best < 0) {
        plumb_log(PLUMB_LOG_WARN,
                  "%scuBLASLt offers no class of algorithms for every number of "
                  "rows; plumb's own, slower kernel is used",
                  text);
        best = 0;
        entry[0] = {t->p.is, t->p.read, t->p.written, t->out, t->in, PLUMB_CUDA_GEMM_OWN, true, {}};
    }
    return plumb_cuda_gemm_add(t->c, &entry[best]);
}

extern "C" plumb_status plumb_cuda_gemm_cache_tune(struct plumb_cuda *c, bool bf16, int64_t out,
                                                   int64_t in, unsigned uses)
{
    const cudaDataType_t type = bf16 ? CUDA_R_16BF : CUDA_R_32F;
    const struct {
        unsigned use;
        product p;
    } all[] = {{PLUMB_GEMM_FORWARD, {FORWARD, type, type}},
               {PLUMB_GEMM_BIAS, {bf16 ? FORWARD : FORWARD_BIAS, type, type}},
               {PLUMB_GEMM_HEAD, {FORWARD, type, CUDA_R_32F}},
               {PLUMB_GEMM_BACKWARD_X, {BACKWARD_X, type, type}},
               {PLUMB_GEMM_BACKWARD_W, {BACKWARD_W, type, CUDA_R_32F}}};
    if (out <= FEW_OUTPUTS)
        return PLUMB_OK;
    for (const auto &one : all) {
        const struct plumb_cuda_gemm_entry *known = plumb_cuda_gemm_find(c, one.p, out, in);
        const uint64_t wanted = wanted_bits(c, one.p, out, in);
        if (!(uses & one.use) || (known && (wanted == 0 || wanted == known->bits)))
            continue;
        if (uses & PLUMB_GEMM_UNMEASURED) {
            const cublasLtMatmulAlgo_t *algo;
            PLUMB_TRY(plumb_cuda_gemm_algo(c, one.p, 1, out, in, c->chunk, &algo));
            continue;
        }
        tuner *t = static_cast<tuner *>(calloc(1, sizeof(tuner)));
        PLUMB_REQUIRE(t, PLUMB_ERR_NOMEM, "the candidates for a GEMM algorithm");
        t->c = c, t->p = one.p, t->out = out, t->in = in;
        plumb_status st = place_operands(t);
        if (st == PLUMB_OK)
            st = choose(t);
        else if (st == PLUMB_ERR_NOMEM) { /* plumb_cuda_gemm_algo adds an entry later */
            plumb_log(
                PLUMB_LOG_WARN,
                "linear layer %lld x %lld: its products are not measured, because the GPU has "
                "too little free memory",
                (long long)out, (long long)in);
            st = PLUMB_OK;
        }
        tuner_fini(t);
        free(t);
        PLUMB_TRY(st);
    }
    return PLUMB_OK;
}

extern "C" plumb_status plumb_cuda_gemm_classes(struct plumb_buf *out, const struct plumb_cuda *c)
{
    for (int i = 0; i < c->n_cached; i++) {
        const struct plumb_cuda_gemm_entry *e = &c->cached[i];
        char text[128];
        describe(text, product{static_cast<form>(e->product), e->read, e->written}, e->out, e->in);
        if (e->bits != 0)
            PLUMB_TRY(plumb_buf_addf(out, "%s%016" PRIx64 "\n", text, e->bits));
    }
    return PLUMB_OK;
}

extern "C" void plumb_cuda_gemm_want(struct plumb_cuda *c, const char *text)
{
    c->wanted = text;
}
