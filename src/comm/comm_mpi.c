/* comm_mpi.c - creates and destroys the communicator of the ranks of MPI_COMM_WORLD.
 * Layer 1. Includes comm/ and base/ only; mpi.h stays in comm_mpi.c and mpi_*.c. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "comm/mpi_impl.h"

#define START_S 20.0 /* seconds that each rank waits in meet() for the others, at least */

static void mpi_abort(plumb_comm *c, int exit_code)
{
    struct plumb_mpi *m = plumb_mpi_of(c);
    const struct timespec soon = {time(NULL) + 1, 0};
    if (pthread_mutex_timedlock(&m->lock, &soon) == 0 || errno == ETIMEDOUT)
        MPI_Abort(m->comm, exit_code);
}

static void mpi_destroy(plumb_comm *c)
{
    struct plumb_mpi *m = plumb_mpi_of(c);
    /* The barrier below ensures that no rank stops its heartbeat before all ranks have called
     * destroy. */
    const struct plumb_args args = {-1, NULL, -1};
    if (m->up && !c->broken)
        c->broken = plumb_counter_settle(m) != PLUMB_OK;
    if (m->up && !c->broken && plumb_coll_enter(c, "end", args) == PLUMB_OK)
        (void)plumb_coll_leave(c, plumb_coll_barrier(c)); /* a failure sets c->broken */
    plumb_heartbeat_stop(c);
    /* After a failure, messages may still arrive in the buffers, and MPI_Finalize could wait
     * forever for a rank. So free nothing and do not finalize; the launcher ends the other ranks.
     */
    if (c->broken)
        return;
    const bool finalize = m->finalize;
    plumb_counter_destroy(m);
    plumb_mail_destroy(m);
    plumb_window_destroy(m);
    plumb_shared_destroy(m);
    if (m->comm != MPI_COMM_NULL)
        MPI_Comm_free(&m->comm);
    free(m->staging);
    plumb_comm_base_fini(c);
    pthread_mutex_destroy(&m->lock);
    free(m);
    if (finalize)
        MPI_Finalize();
}

static plumb_status mpi_idle(plumb_comm *c, struct plumb_wait *wait)
{
    return plumb_mail_wait(plumb_mpi_of(c), wait);
}

static const struct plumb_comm_ops mpi_ops = {
    .name = "mpi",
    .move = plumb_mpi_move,
    .share_raised = plumb_mail_share_raised,
    .send_heartbeat = plumb_mail_heartbeat,
    .idle = mpi_idle,
    .take = plumb_counter_take,
    .alloc = plumb_window_alloc,
    .release = plumb_window_release,
    .abort = mpi_abort,
    .destroy = mpi_destroy,
};

/* Sets this rank's index among the ranks of its host, and the number of these ranks. MPI tells
 * both, because each launcher sets other environment variables for them. */
static plumb_status find_local(struct plumb_mpi *m)
{
    struct plumb_shared *s = &m->shared;
    PLUMB_MPI(
        MPI_Comm_split_type(m->comm, MPI_COMM_TYPE_SHARED, m->base.rank, MPI_INFO_NULL, &s->host));
    PLUMB_MPI(MPI_Comm_rank(s->host, &m->base.local_rank));
    PLUMB_MPI(MPI_Comm_size(s->host, &m->base.local_size));
    return PLUMB_OK;
}

plumb_status plumb_mpi_prepare(struct plumb_mpi *m, const struct plumb_comm_ops *ops, int rank,
                               int size, double timeout_s)
{
    PLUMB_TRY(plumb_comm_base_init(&m->base, ops, rank, size, timeout_s));
    m->staging = malloc((size_t)PLUMB_MPI_DEPTH * (size_t)PLUMB_MPI_BLOCK);
    PLUMB_REQUIRE(m->staging, PLUMB_ERR_NOMEM, "an MPI communicator of %d ranks", size);
    PLUMB_TRY(plumb_shared_prepare(m));
    PLUMB_TRY(plumb_counter_prepare(m));
    return plumb_mail_prepare(m);
}

static plumb_status prepare(struct plumb_mpi *m, double timeout_s)
{
    int rank = 0, size = 1;
    PLUMB_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
    PLUMB_MPI(MPI_Comm_size(MPI_COMM_WORLD, &size));
    return plumb_mpi_prepare(m, &mpi_ops, rank, size, timeout_s);
}

/* Runs the first exchange of the ranks. local is the status of this rank's preparation; if it is an
 * error on any rank, all ranks fail. *level becomes the lowest thread level of all ranks. If a rank
 * does not call this in time, the others fail instead of waiting forever inside of MPI. */
static plumb_status meet(struct plumb_mpi *m, plumb_status local, double timeout_s, int *level)
{
    int mine[2] = {local == PLUMB_OK, *level}, all[2] = {0, 0}, there = 0;
    MPI_Request request;
    const double began = plumb_now(), limit = timeout_s > 0 ? fmax(timeout_s, START_S) : INFINITY;
    PLUMB_MPI(MPI_Iallreduce(mine, all, 2, MPI_INT, MPI_MIN, MPI_COMM_WORLD, &request));
    while (!there && plumb_now() - began < limit) {
        PLUMB_MPI(MPI_Test(&request, &there, MPI_STATUS_IGNORE));
        if (!there)
            nanosleep(&(struct timespec){0, 200000}, NULL);
    }
    /* so that mpi_destroy does not call MPI_Finalize, which would wait for the missing rank */
    m->base.broken = !there;
    PLUMB_REQUIRE(there, PLUMB_ERR_COMM,
                  "a rank that MPI has started did not arrive at the start of the run within %g s "
                  "(is one of the processes stopped?)",
                  limit);
    *level = all[1];
    PLUMB_REQUIRE(local == PLUMB_OK, local, "%s", plumb_trail_message());
    PLUMB_REQUIRE(all[0], PLUMB_ERR_PEER, "another rank could not start");
    return PLUMB_OK;
}

/* Creates the MPI communicators. Call it after meet(). If an MPI call fails before the error
 * handlers are set to MPI_ERRORS_RETURN, MPI itself ends all ranks with its own message. */
static plumb_status connect_ranks(struct plumb_mpi *m)
{
    PLUMB_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &m->comm));
    PLUMB_MPI(MPI_Comm_set_errhandler(m->comm, MPI_ERRORS_ARE_FATAL));
    PLUMB_TRY(find_local(m));
    PLUMB_MPI(
        MPI_Allgather(&m->base.rank, 1, MPI_INT, m->shared.world_of, 1, MPI_INT, m->shared.host));
    PLUMB_TRY(plumb_mail_create(m));
    PLUMB_MPI(MPI_Comm_set_errhandler(m->comm, MPI_ERRORS_RETURN));
    PLUMB_MPI(MPI_Comm_set_errhandler(m->mail.comm, MPI_ERRORS_RETURN));
    PLUMB_MPI(MPI_Comm_set_errhandler(m->shared.host, MPI_ERRORS_RETURN));
    return PLUMB_OK;
}

plumb_status plumb_mpi_start(struct plumb_mpi *m)
{
    /* From here on a second thread sends heartbeats, if there is more than one rank and MPI
     * provides MPI_THREAD_SERIALIZED or more. */
    PLUMB_TRY(plumb_comm_agree(&m->base, m->threads ? plumb_heartbeat_start(&m->base) : PLUMB_OK));
    PLUMB_TRY(plumb_coll_enter(&m->base, "start", (struct plumb_args){-1, NULL, -1}));
    PLUMB_TRY(plumb_coll_leave(&m->base, plumb_shared_create(m)));
    m->shared.on = true;
    return PLUMB_OK;
}

static plumb_status mpi_setup(struct plumb_mpi *m, int level, double timeout_s)
{
    PLUMB_TRY(meet(m, prepare(m, timeout_s), timeout_s, &level));
    PLUMB_TRY(connect_ranks(m));
    m->threads = level >= MPI_THREAD_SERIALIZED;
    m->up = true;
    PLUMB_TRY(plumb_mpi_start(m));
    if (!m->threads && m->base.rank == 0 && m->base.size > 1)
        plumb_log(PLUMB_LOG_WARN,
                  "this MPI does not support threads, so there is no heartbeat: a stopped "
                  "rank is detected only after comm.max_wait");
    return PLUMB_OK;
}

plumb_status plumb_comm_mpi_create(plumb_comm **out, double timeout_s)
{
    int running = 0, over = 0, level = MPI_THREAD_SINGLE;
    PLUMB_MPI(MPI_Finalized(&over));
    PLUMB_REQUIRE(!over, PLUMB_ERR_COMM, "MPI was already shut down in this process");
    PLUMB_MPI(MPI_Initialized(&running));
    struct plumb_mpi *m = calloc(1, sizeof(*m));
    PLUMB_REQUIRE(m, PLUMB_ERR_NOMEM, "an MPI communicator");
    m->comm = m->mail.comm = m->shared.host = MPI_COMM_NULL;

    plumb_status st = PLUMB_OK;
    pthread_mutex_init(&m->lock, NULL);
    /* Two threads call MPI, one at a time: this thread and the heartbeat thread. */
    if (!running && MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level) != MPI_SUCCESS)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_COMM, fail, "MPI_Init_thread failed");
    m->finalize = !running;
    if (MPI_Query_thread(&level) != MPI_SUCCESS)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_COMM, fail, "MPI_Query_thread failed");
    PLUMB_TRY_GOTO(st, mpi_setup(m, level, timeout_s), fail);
    *out = &m->base;
    return PLUMB_OK;
fail:
    mpi_destroy(&m->base);
    return st;
}

const char *plumb_comm_library(void)
{
    static _Thread_local char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int len = 0;
    if (MPI_Get_library_version(text, &len) != MPI_SUCCESS)
        return "unknown";
    text[strcspn(text, ",\n")] = '\0'; /* cuts off the build host and the date */
    for (char *tab = text; (tab = strchr(tab, '\t'));)
        *tab = ' '; /* MPICH separates the name and the version with tabulators */
    return text;
}

const char *plumb_comm_thread_level(void)
{
    int running = 0, level = MPI_THREAD_SINGLE;
    if (MPI_Initialized(&running) != MPI_SUCCESS || !running ||
        MPI_Query_thread(&level) != MPI_SUCCESS)
        return NULL;
    return level == MPI_THREAD_MULTIPLE     ? "multiple"
           : level == MPI_THREAD_SERIALIZED ? "serialized"
           : level == MPI_THREAD_FUNNELED   ? "funneled"
                                            : "single";
}
