/* test_collective_check.c - checks that if ranks make different calls of collectives, every rank
 * gets an error that lists these calls.
 *     test_collective_check thread | mpi */
#include <pthread.h>
#include <string.h>

#include "base/log.h"
#include "comm/comm_impl.h"
#include "harness.h"

#define TIMEOUT_S 60.0

enum { SAME, OP, COUNT, REDOP, ROOT, SITE, KINDS };

/* [KIND][0]: text that the message must contain for the first ranks; [KIND][1]: for the last
 * rank. */
static const char *const words[KINDS][2] = {
    [OP] = {"allreduce of 4, sum (call ", "broadcast of 16, root 0 (call "},
    [COUNT] = {"allreduce of 4, sum (", "allreduce of 5, sum ("},
    [REDOP] = {"allreduce of 4, sum (", "allreduce of 4, max ("},
    [ROOT] = {"broadcast of 16, root 0 (", "broadcast of 16, root 1 ("},
    [SITE] = {"barrier (", "barrier ("},
};

static plumb_status make_call(plumb_comm *c, int kind)
{
    double x[5] = {0};
    const bool odd = plumb_comm_rank(c) == plumb_comm_size(c) - 1;
    switch (kind) {
    case OP:
        if (odd)
            return plumb_comm_broadcast(c, x, 16, 0);
        return plumb_comm_allreduce_f64(c, x, 4, PLUMB_SUM);
    case COUNT:
        return plumb_comm_allreduce_f64(c, x, 4 + odd, PLUMB_SUM);
    case REDOP:
        return plumb_comm_allreduce_f64(c, x, 4, odd ? PLUMB_MAX : PLUMB_SUM);
    case ROOT:
        return plumb_comm_broadcast(c, x, 16, odd);
    case SITE:
        if (odd)
            return plumb_comm_barrier(c);
        return plumb_comm_barrier(c);
    default:
        return plumb_comm_agree(c, plumb_comm_barrier(c));
    }
}

static void differ(plumb_comm *c, int kind)
{
    const int last = plumb_comm_size(c) - 1;
    int64_t count[8];
    plumb_comm_check_calls(c, true);
    CHECK_OK(make_call(c, SAME));
    /* The ranks may pass different sizes to an allgather. */
    CHECK_OK(plumb_comm_allgather(c, (char[8]){0}, 8, count, "x", plumb_comm_rank(c) == last));
    const double start = plumb_now();
    CHECK(make_call(c, kind) == PLUMB_ERR_COMM);
    CHECK(plumb_now() - start < TIMEOUT_S / 2); /* the error comes before the time-out */
    const char *said = plumb_trail_message();
    char head[80], tail[40], more[24] = "";
    if (last > 1)
        snprintf(more, sizeof(more), " and %d other%s", last - 1, last > 2 ? "s" : "");
    snprintf(head, sizeof(head), "the ranks make different calls: rank 0%s: ", more);
    snprintf(tail, sizeof(tail), "; rank %d: ", last);
    CHECKF(strstr(said, head) && strstr(said, tail), "%s", said);
    CHECKF(strstr(said, words[kind][0]) && strstr(strstr(said, tail), words[kind][1]), "%d: %s",
           kind, said);
    CHECKF(strstr(strstr(said, "rank 0"), "comm/test_collective_check.c:"), "%s", said);
    CHECK(plumb_comm_barrier(c) == PLUMB_ERR_COMM);
}

struct job {
    plumb_comm *c;
    int kind;
};
static void *job_main(void *arg)
{
    struct job *j = arg;
    differ(j->c, j->kind);
    plumb_comm_destroy(&j->c);
    return NULL;
}

static void on_threads(int n, int kind)
{
    plumb_comm *c[8];
    struct job job[8];
    pthread_t t[8];
    CHECK_OK(plumb_comm_thread_create(c, n));
    for (int i = 0; i < n; i++) {
        job[i] = (struct job){c[i], kind};
        plumb_comm_timeout(c[i], TIMEOUT_S);
        CHECK(!pthread_create(&t[i], NULL, job_main, &job[i]));
    }
    for (int i = 0; i < n; i++)
        pthread_join(t[i], NULL);
}

int main(int argc, char **argv)
{
    CHECK(argc >= 2);
    if (!strcmp(argv[1], "thread")) {
        for (int kind = SAME + 1; kind < KINDS; kind++)
            for (int n = 2; n <= 5; n++)
                on_threads(n, kind);
        return 0;
    }
#ifdef PLUMB_HAVE_MPI
    CHECK(argc == 3);
    plumb_comm *c;
    CHECK_OK(plumb_comm_mpi_create(&c, TIMEOUT_S));
    differ(c, atoi(argv[2]));
    /* c cannot be destroyed in order, because the ranks are at different calls */
    plumb_comm_abort(c, 42);
#endif
    printf("built without MPI\n");
    return SKIP;
}
