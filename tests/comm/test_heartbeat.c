/* test_heartbeat.c - checks the errors about a rank that sends no heartbeat, is late or has ended,
 * with threads as ranks and with processes that a signal stops.
 * test_heartbeat thread | mpi-stop | mpi-busy | mpi-suspend | mpi-funneled */
#define CHECK_EXIT LATE

#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "comm/comm_impl.h"
#include "harness.h"
#include "threads.h"
#ifdef PLUMB_HAVE_MPI
#include "comm/mpi_impl.h"
#endif

/* exit code of mode mpi-stop if rank 0 gets the expected message; there the last rank stops for
 * good */
#define STOP_EXIT 42

static bool is_last(const plumb_comm *c)
{
    return plumb_comm_rank(c) == plumb_comm_size(c) - 1;
}

/* Checks the error message: it names the missing rank and its last call, the waiting rank and its
 * call, and the reason `why`. */
static void check_said(const plumb_comm *c, const char *why)
{
    const char *said = plumb_trail_message();
    char text[160];
    /* If the ranks are threads, all of them report the error of the first one. */
    CHECKF(!strncmp(said, "rank ", 5) && strstr(said, " waits in allreduce (call "), "%s", said);
    CHECKF(strstr(said, "comm/test_heartbeat.c:"), "the caller: %s", said);
    CHECKF(strstr(said, "phase \"save\""), "%s", said);
    snprintf(text, sizeof(text), "%srank %d on %s, for ", why, plumb_comm_size(c) - 1, c->host);
    const char *at = strstr(said, text);
    CHECKF(at, "wanted '%s': %s", text, said);
    CHECKF(strstr(at, "s in phase \"rollout\" after barrier (call "), "%s", said);
    CHECKF(!strstr(at + strlen(text), "rank "), "only one is missing: %s", said);
}

/* Checks the error about a last rank that sends no heartbeat any more. Before that, checks that a
 * rank that is busy for three times the time-out is no error. */
static void last_stops(plumb_comm *c)
{
    const double timeout = 0.6 * test_pace();
    plumb_comm_timeout(c, timeout);
    plumb_comm_phase(c, "rollout");
    if (plumb_comm_rank(c) == plumb_comm_size(c) - 2)
        usleep((useconds_t)(3 * timeout * 1e6));
    CHECK_OK(plumb_comm_barrier(c));       /* waits for the busy rank, without an error */
    usleep((useconds_t)(0.5e6 * timeout)); /* leaves time for heartbeats after the barrier */
    const double stopped = plumb_now();
    if (is_last(c)) {
        plumb_heartbeat_freeze(c, true);
        usleep((useconds_t)(3e6 * timeout));
        CHECK(plumb_comm_barrier(c) == PLUMB_ERR_COMM);
        return;
    }
    plumb_comm_phase(c, "save");
    double x = 1;
    CHECK(plumb_comm_allreduce_f64(c, &x, 1, PLUMB_SUM) == PLUMB_ERR_COMM);
    const double took = plumb_now() - stopped;
    CHECKF(took > 0.75 * timeout && took < 2 * timeout, "detected after %.2f s", took);
    char why[64];
    snprintf(why, sizeof(why), "no heartbeat for %g s from ", timeout);
    check_said(c, why);
    /* fails at once: the communicator stays unusable after an error */
    CHECK(plumb_comm_barrier(c) == PLUMB_ERR_COMM);
}

/* Checks that the other ranks do not wait for a last rank that has destroyed its communicator. */
static void last_leaves(plumb_comm *c)
{
    plumb_comm_phase(c, "rollout");
    CHECK_OK(plumb_comm_barrier(c));
    if (is_last(c))
        return;
    plumb_comm_phase(c, "save");
    double x = 1;
    const double start = plumb_now();
    CHECK(plumb_comm_allreduce_f64(c, &x, 1, PLUMB_SUM) == PLUMB_ERR_COMM);
    CHECK(plumb_now() - start < 5 * test_pace());
    CHECKF(strstr(plumb_trail_message(), ": left the run"), "%s", plumb_trail_message());
}

/* Checks that a waiting rank counts how long it has waited for each missing rank. The first two
 * seconds of a wait are not counted. */
static void counted_late(void)
{
    plumb_comm *c[3];
    char why[256];
    double seconds;
    CHECK_OK(plumb_comm_thread_create(c, 3));
    for (int r = 0; r < 3; r++)
        plumb_heartbeat_stop(c[r]);
    /* time-out 0: a period is 1 s, and a missing heartbeat is no error */
    plumb_comm_timeout(c[0], 0);
    plumb_comm_check_calls(c[0], false); /* this check would send messages */
    CHECK_OK(plumb_coll_enter(c[0], "barrier", (struct plumb_args){0, NULL, -1}));
    CHECK(plumb_comm_waited_for(c[0], &seconds) == -1 && seconds == 0);
    struct plumb_heartbeat *w = &c[0]->heartbeat;
    struct plumb_wait wait = {.since = 1000};
    for (double now = 1000.5; now <= 1006; now += 0.5) {
        if (now == 1004.5)
            plumb_heartbeat_note(c[0], &w->heard[1].note); /* rank 1 arrives now */
        CHECK_OK(plumb_heartbeat_judge(c[0], &wait, now, why, sizeof(why)));
    }
    CHECKF(w->late_s[0] == 0 && w->late_s[1] == 2 && w->late_s[2] == 4, "%g %g %g s", w->late_s[0],
           w->late_s[1], w->late_s[2]);
    CHECK(plumb_comm_waited_for(c[0], &seconds) == 2 && seconds == 4);
    CHECK(plumb_comm_waited_for(c[0], &seconds) == -1 && seconds == 0);
    wait = (struct plumb_wait){.since = 2000}; /* a wait of less than two seconds is not counted */
    CHECK_OK(plumb_heartbeat_judge(c[0], &wait, 2001.9, why, sizeof(why)));
    CHECK(plumb_comm_waited_for(c[0], &seconds) == -1);
    for (int r = 0; r < 3; r++)
        plumb_comm_destroy(&c[r]);
}

/* Checks that time in which the waiting rank itself was suspended does not count as time without a
 * heartbeat of the other rank. */
static void judged_late(void)
{
    plumb_comm *c[2];
    char why[256];
    CHECK_OK(plumb_comm_thread_create(c, 2));
    for (int r = 0; r < 2; r++)
        plumb_heartbeat_stop(c[r]);
    plumb_comm_timeout(c[0], 10);
    plumb_comm_max_wait(c[0], 30);
    c[0]->heartbeat.running = true;      /* no thread runs; the test itself passes the times */
    plumb_comm_check_calls(c[0], false); /* this check would send messages */
    CHECK_OK(plumb_coll_enter(c[0], "barrier", (struct plumb_args){0, NULL, -1}));
    const double t0 = c[0]->heartbeat.listened = c[0]->heartbeat.heard[1].at = 1000;
    struct plumb_wait wait = {.since = t0};
    for (double now = t0 + 1; now <= t0 + 9; now++) {
        plumb_heartbeat_listened(c[0], now);
        CHECK_OK(plumb_heartbeat_judge(c[0], &wait, now, why, sizeof(why)));
    }
    plumb_heartbeat_listened(c[0], t0 + 10009); /* rank 0 was suspended for 10000 s */
    CHECK_OK(plumb_heartbeat_judge(c[0], &wait, t0 + 10009, why, sizeof(why)));
    plumb_heartbeat_listened(c[0], t0 + 10009.9);
    CHECK_OK(plumb_heartbeat_judge(c[0], &wait, t0 + 10009.9, why, sizeof(why)));
    plumb_heartbeat_listened(c[0], t0 + 10010.5);
    CHECK(plumb_heartbeat_judge(c[0], &wait, t0 + 10010.5, why, sizeof(why)) == PLUMB_ERR_COMM);
    CHECKF(strstr(why, "no heartbeat for 10 s from rank 1"), "%s", why);

    /* Rank 1 sends a heartbeat again, but does not arrive in time. max_wait counts the 30 s in
     * which rank 0 ran, but not the time in which it was suspended. */
    c[0]->heartbeat.heard[1].at = t0 + 10029;
    c[0]->heartbeat.listened = t0 + 10029;
    CHECK_OK(plumb_heartbeat_judge(c[0], &wait, t0 + 10029, why, sizeof(why)));
    c[0]->heartbeat.heard[1].at = t0 + 10030.5;
    CHECK(plumb_heartbeat_judge(c[0], &wait, t0 + 10030.5, why, sizeof(why)) == PLUMB_ERR_COMM);
    CHECKF(strstr(why, "did not arrive within 30 s: rank 1"), "%s", why);
    c[0]->heartbeat.running = false;
    plumb_comm_destroy(&c[0]);
    plumb_comm_destroy(&c[1]);
}

/* Checks the text for a place in the source: the last folder, the file and the line. */
static void sites(void)
{
    char text[PLUMB_SITE_TEXT];
    plumb_site_text(text, "../src/train/optim.c", 210);
    CHECKF(!strcmp(text, "train/optim.c:210"), "%s", text);
    plumb_site_text(text, "optim.c", 1);
    CHECK(!strcmp(text, "optim.c:1"));
    plumb_site_text(text, "a/optim.c", 1);
    CHECK(!strcmp(text, "a/optim.c:1"));
    plumb_site_text(text, NULL, 1);
    CHECK(!strcmp(text, ""));
}

#ifdef PLUMB_HAVE_MPI
/* The last rank stops itself with SIGSTOP after a barrier, and the others must report it. Does not
 * return on rank 0. */
static void mpi_stop(plumb_comm *c, double timeout)
{
    plumb_comm_phase(c, "rollout");
    CHECK_OK(plumb_comm_barrier(c));
    usleep((useconds_t)(0.3e6 * timeout)); /* leaves time for heartbeats after the barrier */
    const double stopped = plumb_now();
    if (is_last(c))
        kill(getpid(), SIGSTOP);
    plumb_comm_phase(c, "save");
    double x = 1;
    CHECK(plumb_comm_allreduce_f64(c, &x, 1, PLUMB_SUM) == PLUMB_ERR_COMM);
    const double took = plumb_now() - stopped;
    if (plumb_comm_rank(c) == 0) {
        fprintf(stderr, "stopped rank detected after %.3f s, time-out %g s\n%s\n", took, timeout,
                plumb_trail_message());
        CHECK(took > 0.7 * timeout && took < 2 * timeout);
        char why[64];
        snprintf(why, sizeof(why), "no heartbeat for %g s from ", timeout);
        check_said(c, why);
        plumb_comm_abort(c, STOP_EXIT);
    }
    sleep((unsigned)(20 * test_pace())); /* rank 0 ends all ranks before this sleep is over */
}

/* Checks a job that is suspended, which is no error. A child process of rank 0 stops all ranks for
 * three times the time-out: first while rank 1 is busy and the others wait for it, then during
 * collectives. */
static void mpi_suspend(plumb_comm *c, double timeout)
{
    int64_t pid[64], count[64];
    const int64_t mine = getpid();
    CHECK_OK(plumb_comm_allgather(c, pid, sizeof(pid), count, &mine, sizeof(mine)));
    pid_t child = -1;
    if (plumb_comm_rank(c) == 0 && (child = fork()) == 0) {
        for (int s = 0; s < 4; s++) {
            usleep((useconds_t)(0.2e6 * timeout));
            for (int r = 0; r < plumb_comm_size(c); r++)
                kill((pid_t)pid[r], s % 2 ? SIGCONT : SIGSTOP);
            usleep((useconds_t)((s % 2 ? 0.3e6 : 3e6) * timeout));
        }
        _exit(0);
    }
    if (plumb_comm_rank(c) == 1)
        usleep((useconds_t)(3.2e6 * timeout));
    double going = 1;
    while (going > 0) {
        going = plumb_comm_rank(c) == 0 && waitpid(child, NULL, WNOHANG) == 0;
        CHECK_OK(plumb_comm_allreduce_f64(c, &going, 1, PLUMB_MAX));
    }
}

static void mpi_busy(plumb_comm *c, double timeout)
{
    CHECK_OK(plumb_comm_barrier(c));
    if (plumb_comm_rank(c) == 1) /* rank 1 is busy and calls no MPI function */
        for (const double start = plumb_now(); plumb_now() - start < 3.3 * timeout;)
            continue;
    CHECK_OK(plumb_comm_barrier(c));
}

/* Checks MPI without a heartbeat thread: a busy rank is no error, and a raised value reaches all
 * ranks although none of them is in a collective. */
static void mpi_funneled(plumb_comm *c)
{
    CHECK(!c->heartbeat.running);
    mpi_busy(c, test_pace());
    if (plumb_comm_rank(c) == 0)
        plumb_comm_raise(c, 3);
    while (plumb_comm_raised(c) < 3)
        usleep(1000);
    CHECK_OK(plumb_comm_barrier(c));
}
#endif

static int on_mpi(const char *mode)
{
#ifdef PLUMB_HAVE_MPI
    plumb_comm *c;
    const double timeout = 1.5 * test_pace();
    int level;
    const bool funneled = !strcmp(mode, "mpi-funneled");
    if (funneled)
        CHECK(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) == MPI_SUCCESS);
    CHECK_OK(plumb_comm_mpi_create(&c, timeout));
    CHECK(plumb_comm_size(c) > 1 && c->heartbeat.running != funneled);
    if (!strcmp(mode, "mpi-stop"))
        mpi_stop(c, timeout);
    if (!strcmp(mode, "mpi-busy"))
        mpi_busy(c, timeout);
    if (!strcmp(mode, "mpi-suspend"))
        mpi_suspend(c, timeout);
    if (funneled)
        mpi_funneled(c);
    plumb_comm_destroy(&c);
    CHECK(c == NULL);
    if (funneled)
        MPI_Finalize();
    return 0;
#else
    (void)mode;
    printf("built without MPI\n");
    return SKIP;
#endif
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    if (strcmp(argv[1], "thread") != 0)
        return on_mpi(argv[1]);
    sites();
    judged_late();
    counted_late();
    for (int n = 3; n <= 5; n++)
        on_threads(n, last_stops);
    for (int n = 2; n <= 5; n++)
        on_threads(n, last_leaves);
    return 0;
}
