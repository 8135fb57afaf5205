/* test_stop.c - who notices a request to pause, who hears of it, and what all agree on.
 * Test. Includes harness.h, io/, train/. */
#include "train/stop.h"

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

    /* A file, which rank 0 sees; rank 1 hears of it, rank 2 does not ask before they meet. */
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

    /* The clock of saves; a later reason is stronger and found at the meeting. */
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

    /* A rank that asks; no file is looked for. */
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

    /* A signal to the process, here of all ranks. */
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

/* The share of the time that saves take stays below the limit, whatever they take and however often
 * they would come: the clock is made up. */
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
        /* the last one of a run comes at its end */
        CHECKF(w.spent + each <= 0.03 * (now + each) + each * (w.spent == each),
               "saves of %g s take %g of %g s", each, w.spent + each, now);
    }
    struct plumb_stop_watch w = {.share = 0.03};
    CHECK(plumb_stop_affordable(&w, 0)); /* nothing is known of the first */
    w.last = w.spent = 3;
    CHECK(!plumb_stop_affordable(&w, 299) && plumb_stop_affordable(&w, 300));
    w.share = 1;
    CHECK(plumb_stop_affordable(&w, 0));
}

int main(void)
{
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
