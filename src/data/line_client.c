/* line_client.c - sends requests to a subprocess, one line per request, and reads one line per
 * answer. Layer 4. Includes base/, io/, data/line_client.h. */
#include "data/line_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/subprocess.h"

#define GRACE 1.0 /* in seconds: how long the command may run after its input was closed */
#define LOOK  0.2 /* in seconds: the longest wait before checking that the command still runs */
#define MORE  0.1 /* in seconds: the wait for extra lines after the first answers of a command */

enum { WINDOW = 256 }; /* most requests whose answers are held at a time */

struct plumb_line_client {
    const char *what;
    char *command;
    double timeout_s;
    int64_t restarts;
    plumb_subprocess *child;
    struct plumb_buf lines; /* the requests that are being sent */
};

/* The state of one call of plumb_line_client_run. Requests [0, answered) are finished, requests
 * [answered, n) are not. `take` or `miss` was called for the requests [0, handed). */
struct asking {
    plumb_line_client *c;
    const struct plumb_line_job *job;
    int64_t handed, answered;
    struct plumb_buf held; /* the answers to [handed, answered): for each an int64_t with its number
                            * of bytes, then the bytes and a NUL */
    bool single;           /* a request is sent only after all requests before it were answered */
    int64_t until;         /* `single` ends when the requests [0, until) are answered */
    int64_t lines;         /* requests that were put into c->lines so far */
    int64_t sent;          /* bytes of c->lines that were written */
    /* deaths: number of restarts so far. died_at: index of the first unfinished request when the
     * command last exited; -1 if it has not exited, or if that request has since been given up */
    int64_t deaths, died_at;
    bool senseless; /* `take` has refused an answer as invalid */
    bool fresh;     /* the command was started in this call */
};

plumb_status plumb_line_client_create(plumb_line_client **out, const char *what,
                                      const char *command, double timeout_s, int64_t restarts)
{
    *out = NULL;
    PLUMB_REQUIRE(command[0] && timeout_s > 0 && restarts >= 0, PLUMB_ERR_ARG,
                  "%s \"%s\", timeout %g s, %lld restarts: expected a command, more than 0 s, at "
                  "least 0",
                  what, command, timeout_s, (long long)restarts);
    plumb_line_client *c = calloc(1, sizeof *c);
    char *copy = strdup(command);
    if (!c || !copy) {
        free(c);
        free(copy);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "cannot store the state of the connection to the %s", what);
    }
    *c = (plumb_line_client){
        .what = what, .command = copy, .timeout_s = timeout_s, .restarts = restarts};
    *out = c;
    return PLUMB_OK;
}

void plumb_line_client_destroy(plumb_line_client **c)
{
    if (!*c)
        return;
    plumb_subprocess_stop(&(*c)->child, GRACE);
    plumb_buf_fini(&(*c)->lines);
    free((*c)->command);
    free(*c);
    *c = NULL;
}

/* Stores an answer in a->held. */
static plumb_status hold_answer(struct asking *a, const char *line, int64_t len)
{
    PLUMB_TRY(plumb_buf_add(&a->held, &len, (int64_t)sizeof len));
    PLUMB_TRY(plumb_buf_add(&a->held, line, len));
    PLUMB_TRY(plumb_buf_add(&a->held, "", 1));
    a->answered++;
    return PLUMB_OK;
}

/* Calls `take` for the answers in a->held. */
static void hand_on(struct asking *a)
{
    const char *at = plumb_buf_text(&a->held);
    for (; a->handed < a->answered; a->handed++) {
        int64_t len;
        memcpy(&len, at, sizeof len);
        at += sizeof len;
        if (!a->job->take(a->job->arg, a->handed, at, len))
            a->senseless = true;
        at += len + 1;
    }
    plumb_buf_clear(&a->held);
}

static void miss(struct asking *a, enum plumb_line_end why)
{
    hand_on(a);
    a->job->miss(a->job->arg, a->answered++, why);
    a->handed = a->answered;
}

#define DEAF                                                                                       \
    "has read nothing of its standard input: it must read one JSON line for each question there, " \
    "until the end, and answer each with one line"

/* Returns the end of an error message, which says that the command has read nothing of its input;
 * "" if it has read something. */
static const char *deaf_note(const plumb_subprocess *child)
{
    return plumb_subprocess_deaf(child) ? "; it " DEAF : "";
}

/* Stops the subprocess and returns PLUMB_ERR_IO. The message has `what` (what the command did
 * wrong), the exit status and the last lines of standard error. */
static plumb_status give_up(struct asking *a, const char *what)
{
    plumb_line_client *c = a->c;
    const char *words = plumb_subprocess_stderr(c->child);
    const char *deaf = deaf_note(c->child);
    char text[1400];
    plumb_subprocess_end(c->child, GRACE);
    snprintf(text, sizeof text, "%s \"%.200s\" %s (%s)%s%s%.700s", c->what, c->command, what,
             plumb_subprocess_reason(c->child), deaf,
             words[0] ? "; its last lines of standard error: " : "", words);
    plumb_subprocess_stop(&c->child, 0);
    PLUMB_FAIL(PLUMB_ERR_IO, "%s", text);
}

/* Starts the command again and sends the requests from a->answered on. */
static plumb_status restart(struct asking *a)
{
    plumb_line_client *c = a->c;
    plumb_subprocess_stop(&c->child, 0);
    plumb_buf_clear(&c->lines);
    a->lines = a->answered;
    a->sent = 0;
    return plumb_subprocess_start(&c->child, c->command);
}

/* Drops the answers in a->held, starts the command again, and sends their requests again, one at a
 * time. Before, the command exited or timed out; it may have left out one of these requests without
 * an answer. Each later answer was then stored for the request before its own. When the requests
 * are sent one at a time, the command times out on the request that it leaves out. */
static plumb_status ask_singly(struct asking *a)
{
    plumb_buf_clear(&a->held);
    a->answered = a->handed;
    a->single = true;
    a->until = a->lines;
    return restart(a);
}

/* Restarts the command after it exited or timed out (hung). The unanswered requests are sent again,
 * except the first of them if the command timed out on it or has exited on it twice. */
static plumb_status again(struct asking *a, bool hung)
{
    plumb_line_client *c = a->c;
    char what[160];
    if (!hung) {
        plumb_subprocess_end(c->child, GRACE);
        const int status = plumb_subprocess_exit_status(c->child);
        if ((status == 126 || status == 127) && a->answered == 0)
            return give_up(a, "cannot be started");
    }
    if (!a->single && a->answered > a->handed && a->deaths < c->restarts) {
        plumb_log(PLUMB_LOG_WARN,
                  "%s %s, and may have left out a line; it is started again, and the lines whose "
                  "answers are in doubt are sent again, one at a time",
                  c->what, hung ? "hangs" : plumb_subprocess_reason(c->child));
        a->died_at = -1;
        return ask_singly(a);
    }
    if (a->deaths++ >= c->restarts) {
        if (hung)
            snprintf(
                what, sizeof what,
                "gave no answer within %g s (does it flush every line? if it needs longer, raise "
                "reward.timeout), and its %lld restarts are used up",
                c->timeout_s, (long long)c->restarts);
        else
            snprintf(what, sizeof what, "ended unexpectedly and has used up its %lld restarts",
                     (long long)c->restarts);
        return give_up(a, what);
    }
    plumb_log(PLUMB_LOG_WARN, "%s %s; it is started again", c->what,
              hung ? "hangs" : plumb_subprocess_reason(c->child));
    /* miss() gives up the current request, so died_at becomes -1: the command has not exited on the
     * next request yet. */
    const bool twice = !hung && a->died_at == a->answered;
    if (hung || twice)
        miss(a, hung ? PLUMB_LINE_TIMEOUT : PLUMB_LINE_DIED);
    a->died_at = hung || twice ? -1 : a->answered;
    return restart(a);
}

/* Appends requests to the buffer c->lines until it holds 64 KiB that are not sent yet, so that its
 * size does not grow with the number of requests, and at most WINDOW requests whose answers are not
 * handed on. With a->single, appends the next request if all requests before it are answered. */
static plumb_status compose(struct asking *a)
{
    struct plumb_buf *b = &a->c->lines;
    if (a->sent == b->len) {
        plumb_buf_clear(b);
        a->sent = 0;
    }
    while (a->lines < a->job->n &&
           (a->single ? a->lines <= a->answered
                      : a->lines - a->handed < WINDOW && b->len - a->sent < 65536))
        PLUMB_TRY(a->job->put(a->job->arg, a->lines++, b));
    return PLUMB_OK;
}

/* Fails if the command has written more lines than it got requests, because answers might then
 * belong to other requests. After an invalid answer this function stops the command and reads
 * everything that it has written. After the first answers of a newly started command it waits a
 * moment, so that a command that writes two lines per request fails at once. */
static plumb_status check_extra(struct asking *a)
{
    plumb_line_client *c = a->c;
    double left = a->senseless ? c->timeout_s : a->fresh ? MORE : 0;
    const double until = plumb_now() + left;
    const char *line = NULL;
    int64_t len, written;
    if (a->senseless)
        plumb_subprocess_finish(c->child);
    do {
        PLUMB_TRY(plumb_subprocess_work(c->child, NULL, 0, &written, left < LOOK ? left : LOOK));
        line = plumb_subprocess_line(c->child, &len);
        left = until - plumb_now();
    } while (!line && left > 0 && !plumb_subprocess_gone(c->child));
    char text[800] = "";
    if (line)
        snprintf(text, sizeof text,
                 "%s \"%.200s\" writes more lines than it was sent; one of them: %.200s%s", c->what,
                 c->command, line, deaf_note(c->child));
    if (line || a->senseless)
        plumb_subprocess_stop(&c->child, GRACE);
    PLUMB_REQUIRE(!line, PLUMB_ERR_FORMAT, "%s", text);
    return PLUMB_OK;
}

static plumb_status ask(struct asking *a)
{
    plumb_line_client *c = a->c;
    double since = plumb_now();
    while (a->answered < a->job->n) {
        int64_t len, written;
        const char *line;
        PLUMB_TRY(compose(a));
        const double left = c->timeout_s - (plumb_now() - since);
        PLUMB_TRY(plumb_subprocess_work(c->child, c->lines.data + a->sent, c->lines.len - a->sent,
                                        &written, left < LOOK ? left : LOOK));
        a->sent += written;
        while (a->answered < a->job->n && (line = plumb_subprocess_line(c->child, &len))) {
            PLUMB_TRY(hold_answer(a, line, len));
            since = plumb_now();
        }
        if (a->answered >= a->lines) { /* no answer is missing: each belongs to its request */
            hand_on(a);
            a->single = a->single && a->answered < a->until;
        }
        if (a->answered == a->job->n)
            break;
        const bool hung = plumb_now() - since >= c->timeout_s;
        if (hung || plumb_subprocess_gone(c->child)) {
            PLUMB_TRY(again(a, hung));
            since = plumb_now();
        }
    }
    hand_on(a);
    /* If the command has read none of its input, its answers cannot depend on the requests. */
    const bool deaf = plumb_subprocess_deaf(c->child);
    if (deaf)
        plumb_subprocess_stop(&c->child, GRACE);
    PLUMB_REQUIRE(!deaf, PLUMB_ERR_FORMAT, "%s \"%.200s\" answers, but " DEAF, c->what, c->command);
    return check_extra(a);
}

plumb_status plumb_line_client_run(plumb_line_client *c, const struct plumb_line_job *job)
{
    struct asking a = {.c = c, .job = job, .died_at = -1};
    if (job->n == 0)
        return PLUMB_OK;
    plumb_buf_clear(&c->lines);
    /* if the command has exited between two calls, after all answers, start it again */
    if (c->child && plumb_subprocess_gone(c->child))
        plumb_subprocess_stop(&c->child, 0);
    a.fresh = !c->child;
    if (a.fresh)
        PLUMB_TRY(plumb_subprocess_start(&c->child, c->command));
    else
        PLUMB_TRY(check_extra(&a));
    const plumb_status st = ask(&a);
    plumb_buf_fini(&a.held);
    return st;
}
