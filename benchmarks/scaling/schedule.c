/* schedule.c - counts the messages of plumb's collectives for many ranks in one process.
 *   bench_schedule RANKS ELEMENTS
 * Runs the code of src/comm once for every rank, with a transport that records each message instead
 * of sending it. Then an event simulation sends the recorded messages of all ranks. Prints one JSON
 * object with, for each collective: the messages and bytes of all ranks and of the busiest rank,
 * and the longest path, in messages and in bytes. ELEMENTS is the length of the gradient in floats.
 * The gradient needs no memory, because the recording transport never reads or writes it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "replay.h"

/* about the size of the message about a failed rank, or of a small header */
#define BROADCAST_BYTES 1024

struct recorder {
    plumb_comm base; /* must be the first member */
    struct replay_program program;
};

static plumb_status record_move(plumb_comm *c, const struct plumb_move *m)
{
    return replay_add(&((struct recorder *)c)->program, m);
}

static void record_share_raised(plumb_comm *c)
{
    (void)c;
}

static plumb_status record_send_heartbeat(plumb_comm *c)
{
    (void)c;
    return PLUMB_OK;
}

static void record_abort(plumb_comm *c, int exit_code)
{
    (void)c;
    exit(exit_code);
}

static void record_destroy(plumb_comm *c)
{
    plumb_comm_base_fini(c);
    free(c);
}

static const struct plumb_comm_ops record_ops = {
    .name = "record",
    .move = record_move,
    .share_raised = record_share_raised,
    .send_heartbeat = record_send_heartbeat,
    .abort = record_abort,
    .destroy = record_destroy,
};

static float *gradient_address(void)
{
    /* only its address is used, in place of the gradient's; it is never read or written */
    static float nowhere;
    return &nowhere;
}

static plumb_status run_barrier(plumb_comm *c, int64_t n)
{
    (void)n;
    return plumb_comm_barrier(c);
}

static plumb_status run_agree(plumb_comm *c, int64_t n)
{
    (void)n;
    return plumb_comm_agree(c, PLUMB_OK);
}

static plumb_status run_allreduce(plumb_comm *c, int64_t n)
{
    double x = 0;
    (void)n;
    return plumb_comm_allreduce_f64(c, &x, 1, PLUMB_SUM);
}

static plumb_status run_broadcast(plumb_comm *c, int64_t n)
{
    char x[BROADCAST_BYTES] = {0};
    (void)n;
    return plumb_comm_broadcast(c, x, sizeof(x), 0);
}

static plumb_status run_reduce_tree(plumb_comm *c, int64_t n)
{
    return plumb_comm_reduce_tree(c, gradient_address(), n, PLUMB_HOST);
}

static plumb_status run_allgather_shards(plumb_comm *c, int64_t n)
{
    return plumb_comm_allgather_shards(c, gradient_address(), n, PLUMB_HOST);
}

static const struct collective {
    const char *name;
    plumb_status (*run)(plumb_comm *c, int64_t n);
} collectives[] = {
    {"barrier", run_barrier},         {"agree", run_agree},
    {"allreduce", run_allreduce},     {"broadcast", run_broadcast},
    {"reduce_tree", run_reduce_tree}, {"allgather_shards", run_allgather_shards},
};

/* Records the messages of `rank` in one collective of `ranks` ranks. The caller frees out->at. */
static plumb_status record(struct replay_program *out, const struct collective *what, int rank,
                           int ranks, int64_t n)
{
    struct recorder *r = calloc(1, sizeof(*r));
    PLUMB_REQUIRE(r, PLUMB_ERR_NOMEM, "recorder");
    plumb_status st = plumb_comm_base_init(&r->base, &record_ops, rank, ranks, 0);
    if (st != PLUMB_OK) {
        free(r);
        return st;
    }
    r->base.check_calls = false; /* a release build does not send the messages of this check */
    st = what->run(&r->base, n);
    *out = r->program;
    plumb_comm *c = &r->base;
    plumb_comm_destroy(&c);
    return st;
}

static plumb_status replay(const struct collective *what, int ranks, int64_t n, bool last)
{
    struct replay_program *program = calloc((size_t)ranks, sizeof(*program));
    PLUMB_REQUIRE(program, PLUMB_ERR_NOMEM, "%d ranks", ranks);
    plumb_status st = PLUMB_OK;
    for (int r = 0; r < ranks && st == PLUMB_OK; r++)
        st = record(&program[r], what, r, ranks, n);
    struct replay_counts counts;
    if (st == PLUMB_OK)
        st = replay_count(&counts, program, ranks);
    if (st == PLUMB_OK) {
        printf("  \"%s\": {", what->name);
        replay_print(&counts);
        printf("}%s\n", last ? "" : ",");
    }
    for (int r = 0; r < ranks; r++)
        free(program[r].at);
    free(program);
    return st;
}

int main(int argc, char **argv)
{
    const int count = (int)(sizeof(collectives) / sizeof(collectives[0]));
    const int ranks = argc == 3 ? atoi(argv[1]) : 0;
    const int64_t n = argc == 3 ? atoll(argv[2]) : 0;
    if (ranks < 1 || ranks > 1 << 20 || n < 1) {
        fputs("usage: bench_schedule RANKS ELEMENTS\n", stderr);
        return 2;
    }
    printf("{\"ranks\": %d, \"elements\": %" PRId64 ", \"collectives\": {\n", ranks, n);
    for (int k = 0; k < count; k++)
        if (replay(&collectives[k], ranks, n, k == count - 1) != PLUMB_OK) {
            fputs(plumb_trail(), stderr);
            return 1;
        }
    printf("}}\n");
    return 0;
}
