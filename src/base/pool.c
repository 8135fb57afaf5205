/* pool.c - worker threads that wait for jobs. The workers and the caller take chunks of a job from
 * one atomic counter.
 * Layer 0. Includes pool.h, num.h. */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/num.h"

struct plumb_pool {
    int threads;
    pthread_t *worker; /* (threads - 1,) because the caller's thread works too */
    pthread_mutex_t lock;
    pthread_cond_t wake, idle;
    _Atomic uint64_t generation; /* incremented for every new job, so that workers notice it */
    _Atomic int busy;            /* number of workers that have not finished the current job */
    bool stop;
    /* The fields below describe the current job. */
    plumb_pool_fn *fn;
    void *arg;
    int64_t n, grain;
    _Atomic int64_t next;
};

struct worker_arg {
    plumb_pool *pool;
    int thread;
};

/* A thread spins this many times before it sleeps, because the jobs of decode steps are only tens
 * of microseconds apart. It yields the processor in each spin, because a host may have more ranks
 * than cores. */
enum { SPINS = 200 };

static void work(plumb_pool *p, int thread)
{
    for (;;) {
        const int64_t begin = atomic_fetch_add(&p->next, p->grain);
        if (begin >= p->n)
            return;
        p->fn(p->arg, begin, plumb_min_i64(begin + p->grain, p->n), thread);
    }
}

static void *worker_main(void *arg)
{
    const struct worker_arg w = *(struct worker_arg *)arg;
    plumb_pool *p = w.pool;
    free(arg);
    uint64_t seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&p->generation) == seen; i++)
            sched_yield();
        pthread_mutex_lock(&p->lock);
        while (atomic_load(&p->generation) == seen && !p->stop)
            pthread_cond_wait(&p->wake, &p->lock);
        const bool stop = p->stop;
        seen = atomic_load(&p->generation);
        pthread_mutex_unlock(&p->lock);
        if (stop)
            return NULL;
        work(p, w.thread);
        pthread_mutex_lock(&p->lock);
        if (atomic_fetch_sub(&p->busy, 1) == 1)
            pthread_cond_signal(&p->idle);
        pthread_mutex_unlock(&p->lock);
    }
}

plumb_status plumb_pool_create(plumb_pool **out, int threads)
{
    *out = NULL;
    PLUMB_REQUIRE(threads >= 1 && threads <= 1024, PLUMB_ERR_ARG, "threads=%d, expected 1..1024",
                  threads);
    plumb_pool *p = calloc(1, sizeof(*p));
    PLUMB_REQUIRE(p, PLUMB_ERR_NOMEM, "cannot create the thread pool");
    p->worker = calloc((size_t)threads, sizeof(*p->worker));
    if (!p->worker) {
        free(p);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "cannot create the thread pool");
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->idle, NULL);
    for (p->threads = 1; p->threads < threads; p->threads++) {
        struct worker_arg *a = malloc(sizeof(*a));
        if (a)
            *a = (struct worker_arg){p, p->threads};
        if (!a || pthread_create(&p->worker[p->threads - 1], NULL, worker_main, a) != 0) {
            free(a);
            plumb_pool_destroy(&p);
            PLUMB_FAIL(PLUMB_ERR_NOMEM,
                       "cannot create a pool of %d threads: a worker thread cannot be started",
                       threads);
        }
    }
    *out = p;
    return PLUMB_OK;
}

void plumb_pool_destroy(plumb_pool **pp)
{
    plumb_pool *p = *pp;
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->threads - 1; i++)
        pthread_join(p->worker[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_cond_destroy(&p->idle);
    pthread_mutex_destroy(&p->lock);
    free(p->worker);
    free(p);
    *pp = NULL;
}

int plumb_pool_threads(const plumb_pool *p)
{
    return p ? p->threads : 1;
}

void plumb_pool_run(plumb_pool *p, int64_t n, int64_t grain, plumb_pool_fn *fn, void *arg)
{
    if (n <= 0)
        return;
    grain = plumb_max_i64(grain, 1);
    if (!p || p->threads == 1 || n <= grain) {
        fn(arg, 0, n, 0);
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->fn = fn, p->arg = arg, p->n = n, p->grain = grain;
    atomic_store(&p->next, 0);
    atomic_store(&p->busy, p->threads - 1);
    atomic_fetch_add(&p->generation, 1);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    work(p, 0);
    for (int i = 0; i < SPINS && atomic_load(&p->busy) > 0; i++)
        sched_yield();
    pthread_mutex_lock(&p->lock);
    while (atomic_load(&p->busy) > 0)
        pthread_cond_wait(&p->idle, &p->lock);
    pthread_mutex_unlock(&p->lock);
}
