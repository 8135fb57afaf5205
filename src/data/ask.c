/* ask.c - questions to a shell command, one line each, and its answers.
 * Layer 4. Includes base/, io/, data/ask.h. */
#include "data/ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/child.h"

#define GRACE 1.0 /* s; for a command to end by itself once its input is closed */
#define LOOK  0.2 /* s; longest wait before looking whether it is still there */
#define MORE  0.1 /* s; for lines too many after the first answers of a command */

struct plumb_ask {
    const char *what;
    char *command;
    double timeout_s;
    int64_t restarts;
    plumb_child *child;
    struct plumb_buf lines; /* what is being asked */
};

/* One call of _run. Questions [0, answered) are done with; lines of [answered, n) are to be sent.
 */
struct asking {
    plumb_ask *c;
    const struct plumb_ask_job *job;
    int64_t answered, lines; /* lines: into c->lines so far composed */
    int64_t sent;            /* bytes of c->lines taken by the child */
    int64_t deaths, died_at; /* the question it died on last, -1 = none */
    bool senseless;          /* an answer was none to its question */
    bool fresh;              /* the command was started in this call */
};

plumb_status plumb_ask_create(plumb_ask **out, const char *what, const char *command,
                              double timeout_s, int64_t restarts)
{
    *out = NULL;
    PLUMB_REQUIRE(command[0] && timeout_s > 0 && restarts >= 0, PLUMB_ERR_ARG,
                  "%s \"%s\", timeout %g s, %lld restarts: expected a command, more than 0 s, at "
                  "least 0",
                  what, command, timeout_s, (long long)restarts);
    plumb_ask *c = calloc(1, sizeof *c);
    char *copy = strdup(command);
    if (!c || !copy) {
        free(c);
        free(copy);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "no memory for the %s", what);
    }
    *c = (plumb_ask){.what = what, .command = copy, .timeout_s = timeout_s, .restarts = restarts};
    *out = c;
    return PLUMB_OK;
}

void plumb_ask_destroy(plumb_ask **c)
{
    if (!*c)
        return;
    plumb_child_stop(&(*c)->child, GRACE);
    plumb_buf_fini(&(*c)->lines);
    free((*c)->command);
    free(*c);
    *c = NULL;
}

static void take_answer(struct asking *a, const char *line, int64_t len)
{
    if (!a->job->take(a->job->arg, a->answered++, line, len))
        a->senseless = true;
}

static void miss(struct asking *a, enum plumb_ask_end why)
{
    a->job->miss(a->job->arg, a->answered++, why);
}

/* Ends the child and raises the error. */
static plumb_status give_up(struct asking *a, const char *what)
{
    plumb_ask *c = a->c;
    const char *words = plumb_child_stderr(c->child);
    char text[1200];
    plumb_child_end(c->child, GRACE);
    snprintf(text, sizeof text, "%s \"%.200s\" %s (%s)%s%.700s", c->what, c->command, what,
             plumb_child_reason(c->child), words[0] ? "; its last words: " : "", words);
    plumb_child_stop(&c->child, 0);
    PLUMB_FAIL(PLUMB_ERR_IO, "%s", text);
}

/* After a death or a kill: the question it happened on may stay without answer, the rest is asked
 * again. */
static plumb_status again(struct asking *a, bool hung)
{
    plumb_ask *c = a->c;
    char what[160];
    if (!hung) {
        plumb_child_end(c->child, GRACE);
        const int status = plumb_child_exit_status(c->child);
        if ((status == 126 || status == 127) && a->answered == 0)
            return give_up(a, "cannot be started");
    }
    if (a->deaths++ >= c->restarts) {
        if (hung)
            snprintf(what, sizeof what,
                     "gave no answer within %g s (does it flush every line?), and its %lld "
                     "restarts are used up",
                     c->timeout_s, (long long)c->restarts);
        else
            snprintf(what, sizeof what, "died, and its %lld restarts are used up",
                     (long long)c->restarts);
        return give_up(a, what);
    }
    plumb_log(PLUMB_LOG_WARN, "%s %s; it is started again", c->what,
              hung ? "hangs" : plumb_child_reason(c->child));
    if (hung)
        miss(a, PLUMB_ASK_TIMEOUT);
    else if (a->died_at == a->answered)
        miss(a, PLUMB_ASK_DIED);
    a->died_at = a->answered;
    plumb_child_stop(&c->child, 0);
    plumb_buf_clear(&c->lines);
    a->lines = a->answered;
    a->sent = 0;
    return plumb_child_start(&c->child, c->command);
}

/* Composes a few lines ahead, so that memory does not grow with n. */
static plumb_status compose(struct asking *a)
{
    struct plumb_buf *b = &a->c->lines;
    if (a->sent == b->len) {
        plumb_buf_clear(b);
        a->sent = 0;
    }
    while (a->lines < a->job->n && b->len - a->sent < 65536)
        PLUMB_TRY(a->job->put(a->job->arg, a->lines++, b));
    return PLUMB_OK;
}

/* Lines that nobody asked for mean that answers and questions are out of step. After an answer
 * that made no sense the command is let end, to see all that it has to say; after its first ones
 * there is a short wait, as one that writes two lines for one does so at once. */
static plumb_status check_extra(struct asking *a)
{
    plumb_ask *c = a->c;
    double left = a->senseless ? c->timeout_s : a->fresh ? MORE : 0;
    const double until = plumb_now() + left;
    const char *line = NULL;
    int64_t len, written;
    if (a->senseless)
        plumb_child_finish(c->child);
    do {
        PLUMB_TRY(plumb_child_work(c->child, NULL, 0, &written, left < LOOK ? left : LOOK));
        line = plumb_child_line(c->child, &len);
        left = until - plumb_now();
    } while (!line && left > 0 && !plumb_child_gone(c->child));
    char text[512] = "";
    if (line)
        snprintf(text, sizeof text,
                 "%s \"%.200s\" writes more lines than it gets; one of them: %.200s", c->what,
                 c->command, line);
    if (line || a->senseless)
        plumb_child_stop(&c->child, GRACE);
    PLUMB_REQUIRE(!line, PLUMB_ERR_FORMAT, "%s", text);
    return PLUMB_OK;
}

static plumb_status ask(struct asking *a)
{
    plumb_ask *c = a->c;
    double since = plumb_now();
    while (a->answered < a->job->n) {
        int64_t len, written;
        const char *line;
        PLUMB_TRY(compose(a));
        const double left = c->timeout_s - (plumb_now() - since);
        PLUMB_TRY(plumb_child_work(c->child, c->lines.data + a->sent, c->lines.len - a->sent,
                                   &written, left < LOOK ? left : LOOK));
        a->sent += written;
        while (a->answered < a->job->n && (line = plumb_child_line(c->child, &len))) {
            take_answer(a, line, len);
            since = plumb_now();
        }
        if (a->answered == a->job->n)
            break;
        const bool hung = plumb_now() - since >= c->timeout_s;
        if (hung || plumb_child_gone(c->child)) {
            PLUMB_TRY(again(a, hung));
            since = plumb_now();
        }
    }
    return check_extra(a);
}

plumb_status plumb_ask_run(plumb_ask *c, const struct plumb_ask_job *job)
{
    struct asking a = {.c = c, .job = job, .died_at = -1};
    if (job->n == 0)
        return PLUMB_OK;
    plumb_buf_clear(&c->lines);
    /* one that ended between two calls, having answered everything, is simply started again */
    if (c->child && plumb_child_gone(c->child))
        plumb_child_stop(&c->child, 0);
    a.fresh = !c->child;
    if (a.fresh)
        PLUMB_TRY(plumb_child_start(&c->child, c->command));
    else
        PLUMB_TRY(check_extra(&a));
    return ask(&a);
}
