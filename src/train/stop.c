/* stop.c - notices requests to stop or save. Every rank notices signals, which set a variable of
 * the process. Only rank 0 checks the file `stop` and the time limits. Layer 5. Includes
 * train/stop.h, base/, io/. */
#include "train/stop.h"

#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "io/file.h"

#define LOOK 0.25 /* seconds between two checks for the file */

/* 1 after SIGUSR1 or SIGTERM; lock-free, because a signal handler sets it */
static atomic_int asked;

static void note(int signal)
{
    (void)signal;
    asked = 1;
}

void plumb_stop_catch(void)
{
    struct sigaction action;
    if (asked) /* the next TERM must end the process: its handler must not come back */
        return;
    memset(&action, 0, sizeof(action));
    sigemptyset(&action.sa_mask);
    action.sa_handler = note;
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    action.sa_flags = (int)((unsigned)SA_RESTART | SA_RESETHAND);
    sigaction(SIGTERM, &action, NULL);
}

plumb_status plumb_stop_begin(struct plumb_stop_watch *w, plumb_comm *comm, const char *output_dir,
                              double max_time, double interval, double share)
{
    *w = (struct plumb_stop_watch){
        .comm = comm, .max_time = max_time, .interval = interval, .share = share};
    w->began = w->saved = plumb_now();
    if (output_dir)
        PLUMB_TRY(plumb_path_join(w->file, sizeof(w->file), output_dir, "stop"));
    plumb_stop_catch();
    return PLUMB_OK;
}

void plumb_stop_end(void)
{
    signal(SIGUSR1, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}

bool plumb_stop_affordable(const struct plumb_stop_watch *w, double now)
{
    return w->share >= 1 || w->spent + 2 * w->last <= w->share * (now - w->began);
}

double plumb_stop_interval(const struct plumb_stop_watch *w)
{
    if (w->mtbf <= 0)
        return w->interval;
    /* The formula needs the duration of a save, which is unknown (0) before the first save. */
    return w->last > 0 ? sqrt(2 * w->last * w->mtbf) : fmin(w->interval, w->mtbf / 10);
}

static enum plumb_stop_request look(struct plumb_stop_watch *w)
{
    if (asked)
        return PLUMB_REQUEST_SIGNAL;
    if (plumb_comm_rank(w->comm) != 0 || w->reason >= PLUMB_REQUEST_FILE)
        return w->reason;
    const double now = plumb_now();
    if (*w->file && now - w->looked >= LOOK) {
        w->looked = now;
        if (plumb_file_exists(w->file))
            return PLUMB_REQUEST_FILE;
    }
    if (w->max_time > 0 && now - w->began >= w->max_time)
        return PLUMB_REQUEST_TIME;
    if (w->reason == PLUMB_REQUEST_NONE && w->interval > 0 && !w->busy &&
        now - w->saved >= plumb_stop_interval(w) && plumb_stop_affordable(w, now)) {
        w->waited = now - w->saved;
        return PLUMB_REQUEST_SAVE;
    }
    return w->reason;
}

/* All ranks number the requests in the same way. w->agreed is the number of the last request on
 * which all ranks have agreed, so a rank announces a new request with the number w->agreed + 1. */
bool plumb_stop_noticed(void *watch)
{
    struct plumb_stop_watch *w = watch;
    const enum plumb_stop_request before = w->reason;
    w->reason = look(w);
    if (before == PLUMB_REQUEST_NONE && w->reason != PLUMB_REQUEST_NONE)
        plumb_comm_raise(w->comm, w->agreed + 1);
    return w->reason != PLUMB_REQUEST_NONE || plumb_comm_raised(w->comm) > w->agreed;
}

plumb_status plumb_stop_pause(void *watch)
{
    PLUMB_REQUIRE(!plumb_stop_noticed(watch), PLUMB_STOPPED, "stopped on a request to save");
    return PLUMB_OK;
}

void plumb_stop_ask(struct plumb_stop_watch *w)
{
    if (w->reason != PLUMB_REQUEST_NONE)
        return;
    w->reason = PLUMB_REQUEST_SAVE;
    plumb_comm_raise(w->comm, w->agreed + 1);
}

plumb_status plumb_stop_agree(struct plumb_stop_watch *w, enum plumb_stop_request *reason)
{
    double vote[2] = {plumb_stop_noticed(w), 0};
    vote[1] = w->reason;
    *reason = PLUMB_REQUEST_NONE;
    PLUMB_TRY(plumb_comm_allreduce_f64(w->comm, vote, 2, PLUMB_MAX));
    if (vote[0] == 0)
        return PLUMB_OK;
    w->agreed++;
    w->reason = PLUMB_REQUEST_NONE;
    *reason = (enum plumb_stop_request)vote[1];
    return PLUMB_OK;
}

void plumb_stop_describe(const struct plumb_stop_watch *w, enum plumb_stop_request reason,
                         char *out, int64_t size)
{
    const size_t n = (size_t)size;
    switch (reason) {
    case PLUMB_REQUEST_NONE:
    case PLUMB_REQUEST_SAVE:
        snprintf(out, n, "after %.1f s (checkpoint.interval%s)", w->waited,
                 w->mtbf > 0 ? "=auto" : "");
        break;
    case PLUMB_REQUEST_TIME:
        snprintf(out, n, "after %g s (train.max_time)", w->max_time);
        break;
    case PLUMB_REQUEST_FILE:
        snprintf(out, n, "by the file %s", w->file);
        break;
    case PLUMB_REQUEST_SIGNAL:
        snprintf(out, n, "by a signal");
        break;
    }
}

void plumb_stop_saved(struct plumb_stop_watch *w, double seconds)
{
    w->saved = plumb_now();
    w->spent += seconds;
    w->last = seconds > 0 ? seconds : w->last;
    w->held = true;
}

void plumb_stop_honoured(struct plumb_stop_watch *w)
{
    if (plumb_comm_rank(w->comm) == 0 && *w->file)
        unlink(w->file);
}
