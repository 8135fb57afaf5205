/* test_nccl_cuda.c MODE [TEXT] - vectors between GPUs over NCCL, and what becomes of the ranks when
 * one of them fails. Under mpirun, a GPU for each rank.
 *   contract   sums and distributes as host memory does; in NCCL's own order to rounding
 *   fault      PLUMB_EMU_NCCL breaks a rank inside the reduction: the others say TEXT within the
 *              time-out and end the run with exit code 42
 *   init       it never comes up: every rank says so, and can still talk to the others
 * Test of layer 1, on layer 2. */
#include <unistd.h>

#include "../comm/vectors.h"
#include "backend/backend.h"
#include "base/log.h"
#include "train/exchange.h"

#define TIMEOUT_S 1.0

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
    CHECKF(took < 5 * TIMEOUT_S + 5, "%g s", took);
    CHECK(plumb_comm_barrier(c) == PLUMB_ERR_COMM);
    usleep(500000 + 400000 * (unsigned)plumb_comm_rank(c)); /* others look at theirs; one ends it */
    plumb_comm_abort(c, 42);
}

static void init(plumb_comm *c, struct plumb_backend *b)
{
    const struct plumb_comm_device d = plumb_exchange_device(b);
    const plumb_status st = plumb_comm_attach_nccl(c, &d, false);
    CHECKF((st == PLUMB_ERR_COMM || st == PLUMB_ERR_PEER) &&
               strstr(plumb_trail_message(), "nccl init") &&
               strstr(plumb_trail_message(), "nothing moved for 1 s"),
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
    CHECK_OK(plumb_comm_mpi_create(&c, argc > 2 || !strcmp(argv[1], "init") ? TIMEOUT_S : 60));
    CHECK_OK(plumb_backend_cuda_create(&b, plumb_comm_local_rank(c), plumb_comm_local_size(c)));
    if (!strcmp(argv[1], "contract"))
        contract(c, b);
    else if (!strcmp(argv[1], "fault"))
        fault(c, b, argv[2]);
    else
        init(c, b);
    plumb_backend_destroy(&b);
    plumb_comm_destroy(&c);
    return 0;
}
