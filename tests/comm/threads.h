/* threads.h - runs a function on every rank of a communicator whose ranks are threads.
 * Test. Includes comm/, harness.h. */
#ifndef PLUMB_TESTS_COMM_THREADS_H
#define PLUMB_TESTS_COMM_THREADS_H

#include <pthread.h>

#include "comm/comm.h"
#include "harness.h"

struct job {
    plumb_comm *c;
    void (*fn)(plumb_comm *c);
};

static void *job_main(void *arg)
{
    struct job *j = arg;
    j->fn(j->c);
    plumb_comm_destroy(&j->c);
    CHECK(j->c == NULL);
    return NULL;
}

/* Runs fn on each of n ranks, 1 <= n <= 64. Returns when fn has returned on all ranks. */
static void on_threads(int n, void (*fn)(plumb_comm *c))
{
    plumb_comm *c[64];
    struct job job[64];
    pthread_t t[64];
    CHECK(n >= 1 && n <= 64);
    CHECK_OK(plumb_comm_thread_create(c, n));
    for (int i = 0; i < n; i++) {
        job[i] = (struct job){c[i], fn};
        CHECK(!pthread_create(&t[i], NULL, job_main, &job[i]));
    }
    for (int i = 0; i < n; i++)
        pthread_join(t[i], NULL);
}

#endif
