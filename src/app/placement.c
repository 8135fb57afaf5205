/* placement.c - logs where the ranks run, and the environment variables that set up network
 * libraries. Layer 6. Includes app.h, backend/topology.h, train/run.h. */
#include "app/placement.h"

#include <stdlib.h>
#include <string.h>

#include "backend/topology.h"
#include "base/log.h"
#include "train/run.h"

/* Gathers the topology of all ranks on every rank. local is the status of reading it on this rank.
 * The caller frees *out. Collective. */
static plumb_status gather(struct plumb_topology **out, plumb_comm *comm,
                           const struct plumb_topology *mine, plumb_status local)
{
    const size_t n = (size_t)plumb_comm_size(comm);
    int64_t *count = calloc(n, sizeof(*count));
    *out = calloc(n, sizeof(**out));
    if (local == PLUMB_OK && (!*out || !count))
        local = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "topology of %zu ranks", n);
    plumb_status st = plumb_comm_agree(comm, local);
    if (st == PLUMB_OK)
        st = plumb_comm_allgather(comm, *out, (int64_t)(n * sizeof(**out)), count, mine,
                                  sizeof(*mine));
    free(count);
    return st;
}

plumb_status plumb_placement_sharing(int *sharing, plumb_comm *comm)
{
    struct plumb_topology mine, *row = NULL;
    plumb_topology_cores(&mine, plumb_comm_host(comm));
    const plumb_status st = gather(&row, comm, &mine, PLUMB_OK);
    if (st == PLUMB_OK)
        *sharing = plumb_topology_sharing(row, plumb_comm_size(comm), plumb_comm_rank(comm));
    free(row);
    return st;
}

/* Logs each line of the text. */
static void log_lines(enum plumb_log_level level, const char *at)
{
    for (; *at; at += strcspn(at, "\n") + (at[strcspn(at, "\n")] != '\0'))
        plumb_log(level, "%.*s", (int)strcspn(at, "\n"), at);
}

static plumb_status say(const struct plumb_app *app, const struct plumb_topology *row)
{
    const int n = plumb_comm_size(app->comm);
    struct plumb_buf table = {0}, faults = {0}, settings = {0};
    plumb_status st = PLUMB_OK;
    if (n > 1 || app->backend->place == PLUMB_DEVICE)
        PLUMB_TRY_GOTO(st, plumb_topology_table(&table, row, n), done);
    PLUMB_TRY_GOTO(st, plumb_topology_faults(&faults, row, n), done);
    PLUMB_TRY_GOTO(st, plumb_run_settings(&settings), done);
    log_lines(PLUMB_LOG_INFO, plumb_buf_text(&table));
    log_lines(PLUMB_LOG_WARN, plumb_buf_text(&faults));
    if (settings.len > 2)
        plumb_log(PLUMB_LOG_INFO, "set in the environment: %s", plumb_buf_text(&settings));
done:
    plumb_buf_fini(&table);
    plumb_buf_fini(&faults);
    plumb_buf_fini(&settings);
    return st;
}

static plumb_status read_place(const struct plumb_app *app, struct plumb_topology *mine)
{
    char gpu[24] = "";
#ifdef PLUMB_HAVE_CUDA
    if (app->backend->place == PLUMB_DEVICE)
        PLUMB_TRY(plumb_topology_gpu(gpu, (int)sizeof(gpu)));
#endif
    return plumb_topology_read(mine, gpu, app->backend->threads);
}

plumb_status plumb_placement_say(const struct plumb_app *app)
{
    struct plumb_topology mine, *row = NULL;
    plumb_topology_cores(&mine, plumb_comm_host(app->comm));
    const plumb_status read = read_place(app, &mine);
    plumb_status st = gather(&row, app->comm, &mine, read);
    if (st == PLUMB_OK && plumb_comm_rank(app->comm) == 0)
        st = say(app, row);
    free(row);
    return plumb_comm_agree(app->comm, st);
}
