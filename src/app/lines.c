/* lines.c - each rank computes lines independently and sends them to rank 0 in meetings
 * (app/lines.h).
 * Layer 6. Includes app/lines.h, io/, base/. */
#include "app/lines.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/process.h"
#include "base/num.h"
#include "io/file.h"
#include "io/kind.h"

#define MEETING_SECONDS 2.0
/* An idle rank requests a meeting itself after this many seconds without one, or after comm.timeout
 * if that is less. Normally rank 0 requests the meetings by its clock; if rank 0 is dead, the
 * collectives of this meeting fail. */
#define LONELY_SECONDS 30.0
/* plumb_lines_run chooses the number of lines of one call of fn such that the call takes about this
 * many seconds, because a meeting may have to wait for the call. */
#define PIECE_SECONDS 0.5
enum { GROWTH = 4, RUN_WINDOW = 64 };

/* Sends the text of rank 0 to every rank. st: the status of reading it on rank 0. path is for
 * messages. Collective. */
static plumb_status share_text(plumb_comm *comm, struct plumb_buf *text, plumb_status st,
                               const char *path)
{
    const int rank = plumb_comm_rank(comm);
    PLUMB_TRY(plumb_comm_agree(comm, st));
    int64_t len = text->len;
    PLUMB_TRY(plumb_comm_broadcast(comm, &len, sizeof(len), 0));
    char *copy = NULL;
    if (rank != 0 && len > 0) {
        copy = malloc((size_t)len);
        if (!copy)
            st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "%s: %lld bytes", path,
                               (long long)len);
    }
    st = plumb_comm_agree(comm, st);
    if (st == PLUMB_OK && len > 0)
        st = plumb_comm_broadcast(comm, rank == 0 ? text->data : copy, len, 0);
    if (st == PLUMB_OK)
        st = plumb_comm_agree(comm, rank != 0 ? plumb_buf_add(text, copy, len) : PLUMB_OK);
    free(copy);
    return st;
}

plumb_status plumb_lines_read(struct plumb_app *app, struct plumb_buf *text, const char *path)
{
    plumb_status st = PLUMB_OK;
    if (plumb_comm_rank(app->comm) == 0) {
        st = plumb_process_check_output(app, app->cfg->output);
        if (st == PLUMB_OK)
            st = plumb_file_read_lines(text, path);
    }
    PLUMB_TRY(share_text(app->comm, text, st, path));
    app->input_hash = plumb_hash(plumb_buf_text(text), text->len, 0);
    return PLUMB_OK;
}

plumb_status plumb_lines_there(struct plumb_lines *l, struct plumb_buf *text)
{
    if (l->first == 0)
        return PLUMB_OK;
    const bool reads = plumb_comm_rank(l->app->comm) == 0;
    return share_text(l->app->comm, text, reads ? plumb_file_read(text, l->path) : PLUMB_OK,
                      l->path);
}

/* ---- a meeting ---------------------------------------------------------------------------- */

static void show(struct plumb_lines *l, int64_t done, int64_t tokens, int64_t running)
{
    char extra[128] = "";
    if (!plumb_progress_due(&l->progress))
        return;
    const double spent = fmax(plumb_now() - l->progress.started, 1e-9);
    if (tokens > 0)
        snprintf(extra, sizeof(extra), "%lld running, %lld tokens, %.1f tokens/s",
                 (long long)running, (long long)tokens, (double)tokens / spent);
    plumb_progress_at(&l->progress, l->first + done, *extra ? extra : NULL);
}

/* Rank 0: puts the lines in `bytes`, the outboxes of the other ranks, into the ring. */
static plumb_status take_lines(struct plumb_lines *l, const char *bytes, int64_t len)
{
    for (int64_t at = 0; at < len;) {
        int64_t head[2]; /* number and length of the line that follows */
        memcpy(head, bytes + at, sizeof(head));
        at += (int64_t)sizeof(head);
        PLUMB_TRY(plumb_ordered_put(&l->order, head[0], bytes + at, head[1]));
        at += head[1];
    }
    return PLUMB_OK;
}

/* Sends all outboxes (`total` bytes together) to rank 0. Collective. */
static plumb_status gather(struct plumb_lines *l, int64_t total)
{
    plumb_comm *comm = l->app->comm;
    int64_t *count = calloc((size_t)plumb_comm_size(comm), sizeof(*count));
    char *all = malloc((size_t)total + 1);
    plumb_status st = PLUMB_OK;
    if (!count || !all)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "output: %lld bytes",
                           (long long)total);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), done);
    PLUMB_TRY_GOTO(
        st,
        plumb_comm_allgather(comm, all, total, count, plumb_buf_text(&l->outbox), l->outbox.len),
        done);
    plumb_buf_clear(&l->outbox);
    if (plumb_comm_rank(comm) == 0)
        st = take_lines(l, all, total);
    st = plumb_comm_agree(comm, st);
done:
    free(all);
    free(count);
    return st;
}

/* Holds one meeting, see lines.h. Collective. */
static plumb_status meet(struct plumb_lines *l)
{
    plumb_comm *comm = l->app->comm;
    enum plumb_stop_request reason;
    enum { DONE, TOKENS, RUNNING, BYTES, BUSY, SUMS };
    double sum[SUMS] = {[DONE] = (double)l->done,
                        [TOKENS] = (double)l->tokens,
                        [RUNNING] = (double)l->running,
                        [BYTES] = (double)l->outbox.len,
                        [BUSY] = !l->finished};
    PLUMB_TRY(plumb_stop_agree(&l->watch, &reason));
    PLUMB_TRY(plumb_comm_agree(comm, l->local));
    PLUMB_TRY(plumb_comm_allreduce_f64(comm, sum, SUMS, PLUMB_SUM));
    if (sum[BYTES] > 0)
        PLUMB_TRY(gather(l, (int64_t)sum[BYTES]));
    plumb_status st = PLUMB_OK;
    if (plumb_comm_rank(comm) == 0) {
        st = plumb_output_flush(&l->out);
        l->written = l->order.next;
    }
    PLUMB_TRY(plumb_comm_agree(comm, st));
    PLUMB_TRY(plumb_comm_broadcast(comm, &l->written, sizeof(l->written), 0));
    l->all_finished = sum[BUSY] == 0;
    show(l, (int64_t)sum[DONE], (int64_t)sum[TOKENS], (int64_t)sum[RUNNING]);
    plumb_stop_saved(&l->watch, 0);
    if (reason <= PLUMB_REQUEST_SAVE || l->all_finished)
        return PLUMB_OK;
    /* the message of rank 0 is printed, because only rank 0 knows whether the output keeps the
     * lines */
    PLUMB_FAIL(PLUMB_STOPPED, "stopped by a signal after %lld of %lld lines%s",
               (long long)l->written, (long long)l->n,
               *l->out.note  ? "; resume=auto goes on behind them"
               : *l->out.tmp ? "; the output that was there stays"
                             : "");
}

plumb_status plumb_lines_tick(void *arg)
{
    struct plumb_lines *l = arg;
    const bool writes = plumb_comm_rank(l->app->comm) == 0;
    if (l->st != PLUMB_OK)
        return l->st;
    if (writes && l->local == PLUMB_OK)
        l->local = plumb_output_flush(&l->out);
    if (l->local != PLUMB_OK)
        plumb_stop_ask(&l->watch);
    if (plumb_comm_size(l->app->comm) == 1)
        show(l, l->done, l->tokens, l->running);
    if (plumb_stop_noticed(&l->watch))
        l->st = meet(l);
    return l->st;
}

void plumb_lines_idle(struct plumb_lines *l)
{
    const double lonely = fmin(LONELY_SECONDS, l->app->cfg->comm.timeout);
    if (plumb_now() - l->watch.saved > lonely)
        plumb_stop_ask(&l->watch);
    nanosleep(&(struct timespec){0, 1000000}, NULL);
}

/* ---- one command --------------------------------------------------------------------------- */

plumb_status plumb_lines_begin(struct plumb_lines *l, struct plumb_app *app,
                               const struct plumb_lines_want *want)
{
    const int64_t world = plumb_comm_size(app->comm);
    *l = (struct plumb_lines){.app = app,
                              .what = want->what,
                              .path = want->path,
                              .n = want->n,
                              .window = plumb_max_i64(want->window, 2 * world)};
    const bool writes = plumb_comm_rank(app->comm) == 0;
    plumb_status st =
        writes ? plumb_output_open(&l->out, app, want->kind, want->path, want->n) : PLUMB_OK;
    if (st == PLUMB_OK)
        st = plumb_stop_begin(&l->watch, app->comm, NULL, 0, MEETING_SECONDS, 1);
    l->st = plumb_comm_agree(app->comm, st);
    PLUMB_TRY(l->st);
    /* Only rank 0 knows how many lines the output already has. Meetings are requested by
     * plumb_comm_raise. A value that an earlier command raised on this communicator must not
     * request a meeting again, so all ranks begin with the largest raised value. */
    double found[2] = {(double)l->out.lines, (double)plumb_comm_raised(app->comm)};
    l->st = plumb_comm_allreduce_f64(app->comm, found, 2, PLUMB_MAX);
    PLUMB_TRY(l->st);
    l->first = (int64_t)found[0];
    l->watch.agreed = (int64_t)found[1];
    l->written = l->first;
    if (writes)
        plumb_ordered_init(&l->order, l->first, plumb_output_add, &l->out);
    plumb_comm_phase(app->comm, want->what);
    plumb_progress_start(&l->progress, want->what, want->unit, want->n);
    l->progress.first = l->first;
    return PLUMB_OK;
}

plumb_status plumb_lines_put(struct plumb_lines *l, int64_t number, const char *text, int64_t len)
{
    l->done++;
    if (plumb_comm_rank(l->app->comm) == 0) {
        PLUMB_TRY(plumb_ordered_put(&l->order, number, text, len));
        l->written = l->order.next;
        return PLUMB_OK;
    }
    const int64_t head[2] = {number, len};
    PLUMB_TRY(plumb_buf_add(&l->outbox, head, sizeof(head)));
    return plumb_buf_add(&l->outbox, text, len);
}

int64_t plumb_lines_limit(const struct plumb_lines *l)
{
    return plumb_min_i64(l->written + l->window, l->n);
}

plumb_status plumb_lines_end(struct plumb_lines *l, plumb_status st)
{
    const bool writes = plumb_comm_rank(l->app->comm) == 0;
    if (l->st == PLUMB_OK) {
        l->finished = true;
        l->running = 0;
        l->local = st != PLUMB_OK ? st : l->local;
        plumb_stop_ask(&l->watch);
    }
    while (l->st == PLUMB_OK && !l->all_finished) {
        if (!plumb_stop_noticed(&l->watch)) {
            plumb_lines_idle(l);
            continue;
        }
        l->st = meet(l);
    }
    plumb_progress_end(&l->progress);
    plumb_stop_end();
    if (l->st == PLUMB_OK)
        l->st = plumb_comm_agree(l->app->comm, writes ? plumb_output_commit(&l->out) : PLUMB_OK);
    if (writes)
        plumb_output_leave(&l->out);
    plumb_ordered_fini(&l->order);
    plumb_buf_fini(&l->outbox);
    return l->st;
}

/* ---- lines that are independent ------------------------------------------------------------ */

/* Calls plumb_lines_put for each line in `out`. They have the numbers begin .. end - 1; fails if
 * `out` does not contain as many lines. */
static plumb_status put_all(struct plumb_lines *l, int64_t begin, int64_t end,
                            const struct plumb_buf *out)
{
    const char *text = plumb_buf_text(out), *stop = text + out->len;
    for (; text < stop; begin++) {
        const char *next = memchr(text, '\n', (size_t)(stop - text));
        next = next ? next + 1 : stop;
        PLUMB_TRY(plumb_lines_put(l, begin, text, next - text));
        text = next;
    }
    PLUMB_REQUIRE(begin == end, PLUMB_ERR_ARG,
                  "%s: the lines that were made end before number %lld, expected number %lld",
                  l->what, (long long)begin, (long long)end);
    return PLUMB_OK;
}

/* Makes this rank's lines. Blocks of `most` lines are assigned to the ranks in turn. */
static plumb_status work(struct plumb_lines *l, int64_t most, bool at_once, plumb_lines_fn *fn,
                         void *arg)
{
    const int64_t world = plumb_comm_size(l->app->comm), rank = plumb_comm_rank(l->app->comm);
    struct plumb_buf out = {0};
    plumb_status st = PLUMB_OK;
    int64_t piece = 1;
    for (int64_t block = l->first + rank * most; block < l->n; block += world * most)
        for (int64_t i = block, end = plumb_min_i64(block + most, l->n); i < end;) {
            if (plumb_lines_tick(l) != PLUMB_OK)
                goto done;
            const int64_t k = plumb_min_i64(piece, end - i);
            if (i + k > plumb_lines_limit(l)) {
                plumb_lines_idle(l);
                continue;
            }
            const double began = plumb_now();
            PLUMB_TRY_GOTO(st, fn(arg, i, i + k, &out), done);
            PLUMB_TRY_GOTO(st, put_all(l, i, i + k, &out), done);
            plumb_buf_clear(&out);
            i += k;
            piece = plumb_min_i64(GROWTH * piece, most);
            if (!at_once) {
                const double fitting = PIECE_SECONDS * (double)k / fmax(plumb_now() - began, 1e-9);
                piece = (int64_t)fmax(fmin(fitting, (double)piece), 1);
            }
        }
done:
    plumb_buf_fini(&out);
    return st;
}

static plumb_status run(struct plumb_app *app, const char *what, int64_t n, int64_t most,
                        bool at_once, plumb_lines_fn *fn, void *arg)
{
    struct plumb_lines l;
    const int64_t world = plumb_comm_size(app->comm);
    const struct plumb_lines_want want = {.what = what,
                                          .unit = "lines",
                                          .path = app->cfg->output,
                                          .kind = PLUMB_OUTPUT_LINES,
                                          .n = n,
                                          .window = RUN_WINDOW * most * world};
    plumb_status st = plumb_lines_begin(&l, app, &want);
    /* if there are few lines, use smaller blocks, so that every rank gets some */
    if (st == PLUMB_OK) {
        most = plumb_min_i64(most, plumb_max_i64(plumb_ceil_div(n - l.first, world), 1));
        st = work(&l, most, at_once, fn, arg);
    }
    return plumb_lines_end(&l, st);
}

plumb_status plumb_lines_run(struct plumb_app *app, const char *what, int64_t n, int64_t most,
                             plumb_lines_fn *fn, void *arg)
{
    return run(app, what, n, most, false, fn, arg);
}

plumb_status plumb_lines_run_at_once(struct plumb_app *app, const char *what, int64_t n,
                                     int64_t most, plumb_lines_fn *fn, void *arg)
{
    return run(app, what, n, most, true, fn, arg);
}
