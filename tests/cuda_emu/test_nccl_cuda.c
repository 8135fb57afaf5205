/* test_nccl_cuda.c MODE [TEXT]: checks exchanges of vectors between GPUs over NCCL, and the error
 * messages if one rank fails. Runs under mpirun, with one GPU per rank.
 *   contract  sums and distributes vectors: the bits must be those of host memory or, in NCCL's own
 *             order of additions, equal up to rounding
 *   fault     PLUMB_EMU_NCCL makes one rank fail within the reduction: the others report TEXT
 *   within
 *             ten time-outs and end the run with exit code 42
 *   init      NCCL never starts: every rank reports this, and the communicator can still be used
 * Test. */
/* A failed check of a time-out may be due to a slow machine; see LATE in harness.h. */
#define CHECK_EXIT LATE

#include <unistd.h>

#include "../comm/vectors.h"
#include "backend/backend.h"
#include "base/log.h"
#include "train/exchange.h"
#include "train/gradient.h"

#define TIMEOUT_S 1.0 /* seconds, times test_pace() */

/* Returns true if the message says that nothing was transferred for two time-outs. */
static bool says_stuck(const char *said)
{
    char text[64];
    snprintf(text, sizeof(text), "no bytes moved for %g s", 2 * TIMEOUT_S * test_pace());
    return strstr(said, text) != NULL;
}

static void contract(plumb_comm *c, struct plumb_backend *b)
{
    static const int64_t sizes[] = {1, PLUMB_SHARD_BLOCK, 5 * PLUMB_SHARD_BLOCK + 5, 50000};
    static const int64_t pieces[] = {1000, PLUMB_SHARD_BLOCK, 0};
    for (int own = 0; own < 2; own++)
        for (size_t k = 0; k < sizeof(pieces) / sizeof(*pieces); k++) {
            struct plumb_comm_device d = plumb_exchange_device(b);
            d.piece = pieces[k];
            CHECK_OK(plumb_comm_attach_nccl(c, &d, own));
            const char *name = plumb_comm_device_name(c);
            if (plumb_comm_size(c) > 1)
                CHECKF(!strncmp(name, "nccl 2.", 7) && (strstr(name, "own order") != NULL) == own,
                       "%s", name);
            for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
                vector_check(c, &d, sizes[i], !own || plumb_comm_size(c) == 1);
            plumb_comm_detach_device(c);
        }
}

/* Checks that the sums do not change if parts of the vector are sent while the device still
 * computes other parts. */
static void parts(plumb_comm *c, struct plumb_backend *b, int64_t bucket)
{
    enum { N = 50000, STEP = 7000 };
    struct plumb_comm_device d = plumb_exchange_device(b);
    float *host = malloc(N * sizeof(float)), *back = malloc(N * sizeof(float));
    d.piece = 1000;
    d.bucket = bucket;
    CHECK_OK(plumb_comm_attach_nccl(c, &d, false));
    CHECK(plumb_comm_overlaps(c) == (plumb_comm_size(c) > 1));
    float *x = vector_new(c, &d, host, N);
    for (int64_t i = 0; i < N; i++)
        host[i] *= 2;
    CHECK_OK(plumb_comm_reduce_tree(c, host, N, PLUMB_HOST));
    plumb_comm_reduce_begin(c, x, N);
    for (int64_t end = N; end > 0; end -= STEP) {
        const int64_t from = end > STEP ? end - STEP : 0;
        CHECK_OK(d.accumulate(d.arg, x + from, x + from, end - from));
        /* rank 1 sends its parts only at the end, like a rank without micro-batches */
        if (plumb_comm_rank(c) != 1 || from == 0)
            CHECK_OK(plumb_comm_reduce_part(c, from));
    }
    CHECK_OK(plumb_comm_reduce_tree(c, x, N, PLUMB_DEVICE));
    const struct plumb_range own = plumb_comm_shard(c, N, plumb_comm_rank(c));
    CHECK_OK(d.to_host(d.arg, back, x, N * 4));
    CHECK(!memcmp(back + own.begin, host + own.begin, (size_t)(own.end - own.begin) * 4));
    plumb_comm_reduce_begin(c, x, N);
    CHECK_OK(plumb_comm_reduce_part(c, N / 2));
    plumb_comm_reduce_drop(c); /* every rank calls this after a failure */
    if (plumb_comm_size(c) > 1)
        CHECK(plumb_comm_reduce_part(c, 0) == PLUMB_OK);
    CHECK_OK(plumb_comm_barrier(c));
    d.release(d.arg, x);
    plumb_comm_detach_device(c);
    free(host);
    free(back);
}

struct failing {
    struct plumb_gradient *g;
    int fails; /* the rank whose last micro-batch fails; -1 if none does */
};

/* Computes a gradient. On rank f->fails, fails in the last micro-batch, while half of its gradient
 * is being sent. */
static plumb_status failing_micro_batch(void *arg, int64_t micro_batch, float *grad,
                                        double value[PLUMB_MICRO_BATCH_VALUES])
{
    const struct failing *f = arg;
    struct plumb_backend *b = f->g->backend;
    value[0] = 1;
    PLUMB_TRY(b->k.accumulate(b->stream, grad, grad, f->g->count));
    PLUMB_TRY(plumb_gradient_final(f->g, f->g->count / 2));
    PLUMB_REQUIRE(plumb_comm_rank(f->g->comm) != f->fails || !f->g->last.on, PLUMB_ERR_NUMERIC,
                  "micro-batch %lld is bad", (long long)micro_batch);
    return PLUMB_OK;
}

static void micro_batch_fails(plumb_comm *c, struct plumb_backend *b)
{
    struct plumb_comm_device d = plumb_exchange_device(b);
    struct plumb_gradient g;
    struct failing f = {&g, -1};
    double value[PLUMB_MICRO_BATCH_VALUES];
    CHECK_OK(plumb_comm_attach_nccl(c, &d, false));
    CHECK_OK(plumb_gradient_init(&g, b, c, 50000, 8));
    g.overlap = true;
    CHECK_OK(plumb_gradient_run(&g, 8, failing_micro_batch, &f, value));
    CHECK(value[0] == 8);
    CHECK_OK(plumb_comm_reduce_tree(c, g.sum[0], g.count, PLUMB_DEVICE));
    f.fails = plumb_comm_size(c) - 1;
    const plumb_status st = plumb_gradient_run(&g, 8, failing_micro_batch, &f, value);
    CHECK(st == (plumb_comm_rank(c) == f.fails ? PLUMB_ERR_NUMERIC : PLUMB_ERR_PEER));
    CHECK(strstr(plumb_trail_message(), "is bad"));
    CHECK_OK(plumb_comm_barrier(c)); /* after the failure, the communicator can still be used */
    plumb_comm_detach_device(c);
    plumb_gradient_fini(&g);
}

static void fault(plumb_comm *c, struct plumb_backend *b, const char *text)
{
    enum { N = 20000 };
    struct plumb_comm_device d = plumb_exchange_device(b);
    float *host = malloc(N * sizeof(float));
    d.piece = 3000;
    CHECK_OK(plumb_comm_attach_nccl(c, &d, false));
    float *x = vector_new(c, &d, host, N);
    plumb_comm_phase(c, "update");
    const double start = plumb_now();
    const plumb_status st = plumb_comm_reduce_tree(c, x, N, PLUMB_DEVICE);
    const double took = plumb_now() - start;
    const char *said = plumb_trail_message();
    CHECK(st == PLUMB_ERR_COMM);
    CHECKF(strstr(said, text) && strstr(said, "\"update\"") && strstr(said, "reduce_tree"),
           "expected \"%s\": %s", text, said);
    if (!strncmp(text, "nothing", 7))
        CHECKF(says_stuck(said), "%s", said);
    CHECKF(took < 10 * TIMEOUT_S * test_pace(), "%g s", took);
    CHECK(plumb_comm_barrier(c) == PLUMB_ERR_COMM);
    /* The first rank that aborts ends the run. Each rank waits before, so that the other ranks can
     * finish their checks. */
    usleep((useconds_t)((5e5 + 4e5 * plumb_comm_rank(c)) * test_pace()));
    plumb_comm_abort(c, 42);
}

static void init(plumb_comm *c, struct plumb_backend *b)
{
    const struct plumb_comm_device d = plumb_exchange_device(b);
    const plumb_status st = plumb_comm_attach_nccl(c, &d, false);
    CHECKF((st == PLUMB_ERR_COMM || st == PLUMB_ERR_PEER) &&
               strstr(plumb_trail_message(), "nccl init") && says_stuck(plumb_trail_message()),
           "%s", plumb_trail_message());
    CHECK_OK(plumb_comm_barrier(c));
    CHECK_OK(plumb_comm_attach_device(c, &d));
    vector_check(c, &d, 5000, true);
    plumb_comm_detach_device(c);
}

int main(int argc, char **argv)
{
    plumb_comm *c = NULL;
    struct plumb_backend *b = NULL;
    CHECK(argc > 1);
    /* The time-out is short if the fault shows only as silence. An error must be reported before a
     * time-out. */
    const bool silent = argc > 2 ? !strstr(argv[2], " error") : !strcmp(argv[1], "init");
    CHECK_OK(plumb_comm_mpi_create(&c, silent ? TIMEOUT_S * test_pace() : 60));
    CHECK_OK(plumb_backend_cuda_create(&b, plumb_comm_local_rank(c)));
    if (!strcmp(argv[1], "contract")) {
        contract(c, b);
        for (int64_t bucket = 0; bucket <= 20000; bucket += 10000)
            parts(c, b, bucket);
        if (plumb_comm_size(c) > 1)
            micro_batch_fails(c, b);
    } else if (!strcmp(argv[1], "fault"))
        fault(c, b, argv[2]);
    else
        init(c, b);
    plumb_backend_destroy(&b);
    plumb_comm_destroy(&c);
    return 0;
}
