/* test_stop.c - checks which rank notices a request to pause or to save, when the other ranks learn
 * of it, and on which reason the ranks agree.
 * Test. Includes harness.h, io/, train/. */
#include "train/stop.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "harness.h"
#include "io/file.h"

enum { RANKS = 3 };

static char dir[] = "/tmp/plumb_stop_XXXXXX";
static char file[64];

static void *rank_main(void *arg)
{
    plumb_comm *comm = arg;
    const int rank = plumb_comm_rank(comm);
    struct plumb_stop_watch w;
    enum plumb_stop_request reason;
    char text[200];
    CHECK_OK(plumb_stop_begin(&w, comm, dir, 0, 0, 1));
    CHECK(!plumb_stop_noticed(&w));
    CHECK_OK(plumb_stop_agree(&w, &reason));
    CHECK(reason == PLUMB_REQUEST_NONE);

    /* Rank 0 sees the file and tells rank 1. Rank 2 does not look before the ranks agree. */
    CHECK_OK(plumb_comm_barrier(comm));
    if (rank == 0)
        CHECK_OK(plumb_file_write_atomic(file, "", 0));
    const double until = plumb_now() + 100;
    while (rank < 2 && !plumb_stop_noticed(&w))
        CHECK(plumb_now() < until);
    CHECK_OK(plumb_stop_agree(&w, &reason));
    CHECK(reason == PLUMB_REQUEST_FILE);
    plumb_stop_describe(&w, reason, text, sizeof(text));
    CHECKF(strstr(text, file), "%s", text);
    plumb_stop_honoured(&w);
    CHECK_OK(plumb_comm_barrier(comm));
    CHECK(!plumb_file_exists(file) && !plumb_stop_noticed(&w));

    /* The interval between saves has passed. If a stronger reason (here the end of max_time) comes
     * up before the ranks agree, it replaces this one. */
    w.interval = 1e6;
    plumb_stop_saved(&w, 0);
    CHECK(!plumb_stop_noticed(&w));
    w.interval = 0.1;
    while (!plumb_stop_noticed(&w))
        CHECK(plumb_now() < until);
    CHECK_OK(plumb_stop_agree(&w, &reason));
    CHECK(reason == PLUMB_REQUEST_SAVE);
    plumb_stop_saved(&w, 0);
    while (!plumb_stop_noticed(&w))
        CHECK(plumb_now() < until);
    w.max_time = 1e-3;
    CHECK_OK(plumb_stop_agree(&w, &reason));
    CHECK(reason == PLUMB_REQUEST_TIME);
    w.interval = w.max_time = 0;
    CHECK_OK(plumb_stop_agree(&w, &reason));
    CHECK(reason == PLUMB_REQUEST_NONE);

    /* Rank 2 asks for a save. Without a folder, no rank looks for a file. */
    CHECK_OK(plumb_stop_begin(&w, comm, NULL, 0, 0, 1));
    w.agreed = plumb_comm_raised(comm);
    CHECK_OK(plumb_comm_barrier(comm));
    if (rank == 2)
        plumb_stop_ask(&w);
    while (!plumb_stop_noticed(&w))
        CHECK(plumb_now() < until);
    CHECK_OK(plumb_stop_agree(&w, &reason));
    CHECK(reason == PLUMB_REQUEST_SAVE && !plumb_stop_noticed(&w));
    plumb_stop_honoured(&w);

    /* A signal goes to the process, which all ranks share here. */
    CHECK_OK(plumb_comm_barrier(comm));
    if (rank == 1)
        CHECK(!kill(getpid(), SIGUSR1));
    while (!plumb_stop_noticed(&w))
        CHECK(plumb_now() < until);
    CHECK_OK(plumb_stop_agree(&w, &reason));
    CHECK(reason == PLUMB_REQUEST_SIGNAL);
    plumb_comm_destroy(&comm);
    return NULL;
}

/* Checks checkpoint.interval=auto: the interval that minimises the sum of the time for saves and
 * the expected time of lost work. */
static void test_automatic(void)
{
    struct plumb_stop_watch w = {.interval = 600, .mtbf = 86400};
    CHECK(plumb_stop_interval(&w) == 600);
    w.mtbf = 100; /* a job that seldom runs for 600 s without a failure must save, too */
    CHECK(plumb_stop_interval(&w) == 10);
    w.mtbf = 86400;
    for (double save = 0.5; save < 200; save *= 3) {
        plumb_stop_saved(&w, save);
        const double best = plumb_stop_interval(&w);
        CHECKF(fabs(best - sqrt(2 * save * 86400)) < 1e-9 * best, "%g s: %g", save, best);
        for (double other = 0.8 * best; other < 1.3 * best; other += 0.3 * best)
            CHECKF(save / best + best / (2 * w.mtbf) < save / other + other / (2 * w.mtbf),
                   "%g s is worse than %g s", best, other);
    }
    /* 0 means that nothing was saved, so the duration of the last save stays */
    plumb_stop_saved(&w, 0);
    CHECK(plumb_stop_interval(&w) > 600);
    w.mtbf = 0;
    CHECK(plumb_stop_interval(&w) == 600);
}

/* Checks, with simulated times, that saves take at most `share` of the time, for several durations
 * of a save and several intervals. */
static void test_share(void)
{
    for (int k = 0; k < 40; k++) {
        struct plumb_stop_watch w = {.share = 0.03, .interval = 1 + k};
        const double each = 0.001 * (1 << (k % 12));
        double now = 0, end = 0;
        for (int64_t i = 0; i < 5000; i++, now += 0.5) {
            if (now - w.saved < w.interval || !plumb_stop_affordable(&w, now))
                continue;
            now += each;
            w.spent += each;
            w.last = each;
            w.saved = end = now;
        }
        CHECKF(end > 0, "no save with %g s each", each);
        /* Including one more save at the end of the run. The first save is always allowed. */
        CHECKF(w.spent + each <= 0.03 * (now + each) + each * (w.spent == each),
               "saves of %g s take %g of %g s", each, w.spent + each, now);
    }
    struct plumb_stop_watch w = {.share = 0.03};
    CHECK(plumb_stop_affordable(&w, 0)); /* the duration of the first save is not known yet */
    w.last = w.spent = 3;
    CHECK(!plumb_stop_affordable(&w, 299) && plumb_stop_affordable(&w, 300));
    w.share = 1;
    CHECK(plumb_stop_affordable(&w, 0));
}

int main(void)
{
    test_automatic();
    test_share();
    plumb_comm *comm[RANKS];
    pthread_t thread[RANKS];
    CHECK(mkdtemp(dir));
    snprintf(file, sizeof(file), "%s/stop", dir);
    CHECK_OK(plumb_comm_thread_create(comm, RANKS));
    for (int r = 0; r < RANKS; r++)
        CHECK(!pthread_create(&thread[r], NULL, rank_main, comm[r]));
    for (int r = 0; r < RANKS; r++)
        CHECK(!pthread_join(thread[r], NULL));
    CHECK_OK(plumb_dir_remove(dir));
    return 0;
}
