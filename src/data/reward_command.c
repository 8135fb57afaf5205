/* reward_command.c - scores from an external command.
 * Layer 4. Includes base/, io/, data/reward.h. */
#include "data/reward_command.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "io/child.h"
#include "io/json.h"

#define GRACE 1.0 /* s; for a command to end by itself once its input is closed */
#define LOOK  0.2 /* s; longest wait before looking whether it is still there */

struct plumb_reward_command {
    char *command;
    double timeout_s;
    int64_t restarts;
    plumb_child *child;
    struct plumb_buf lines; /* what is being asked */
};

/* One call of _score. Items [0, answered) have a score; lines of [answered, n) are to be sent. */
struct asking {
    plumb_reward_command *c;
    double *score;
    const struct plumb_reward_item *item;
    struct plumb_reward_missing *missing;
    int64_t n, answered, lines; /* lines: into c->lines so far composed */
    int64_t sent;               /* bytes of c->lines taken by the child */
    int64_t deaths, died_at;    /* the item it died on last, -1 = none */
    bool senseless;             /* an answer was no JSON line with a score */
};

plumb_status plumb_reward_command_create(plumb_reward_command **out, const char *command,
                                         double timeout_s, int64_t restarts)
{
    *out = NULL;
    PLUMB_REQUIRE(command[0] && timeout_s > 0 && restarts >= 0, PLUMB_ERR_ARG,
                  "reward command \"%s\", timeout %g s, %lld restarts: expected a command, more "
                  "than 0 s, at least 0",
                  command, timeout_s, (long long)restarts);
    plumb_reward_command *c = calloc(1, sizeof *c);
    char *copy = strdup(command);
    if (!c || !copy) {
        free(c);
        free(copy);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "no memory for the reward command");
    }
    *c = (plumb_reward_command){.command = copy, .timeout_s = timeout_s, .restarts = restarts};
    *out = c;
    return PLUMB_OK;
}

void plumb_reward_command_destroy(plumb_reward_command **c)
{
    if (!*c)
        return;
    plumb_child_stop(&(*c)->child, GRACE);
    plumb_buf_fini(&(*c)->lines);
    free((*c)->command);
    free(*c);
    *c = NULL;
}

static plumb_status put_line(struct plumb_buf *b, const struct plumb_reward_item *item)
{
    PLUMB_TRY(plumb_buf_addf(b, "{\"prompt_id\": %lld, \"sample\": %d, \"prompt\": ",
                             (long long)item->prompt_id, item->sample));
    PLUMB_TRY(plumb_json_put_string(b, item->prompt, item->prompt_len));
    PLUMB_TRY(plumb_buf_add_text(b, ", \"completion\": "));
    PLUMB_TRY(plumb_json_put_string(b, item->completion, item->completion_len));
    if (item->solution) {
        PLUMB_TRY(plumb_buf_add_text(b, ", \"solution\": "));
        PLUMB_TRY(plumb_json_put_string(b, item->solution, (int64_t)strlen(item->solution)));
    }
    return plumb_buf_add_text(b, "}\n");
}

static void miss(struct asking *a, enum plumb_missing why, const char *what)
{
    a->score[a->answered++] = NAN;
    if (!a->missing->example[0])
        snprintf(a->missing->example, sizeof a->missing->example, "%s: %.100s",
                 plumb_missing_text(why), what);
    a->missing->count[why]++;
}

static void take_answer(struct asking *a, const char *line, int64_t len)
{
    const struct plumb_reward_item *item = &a->item[a->answered];
    plumb_json *root = NULL;
    const plumb_status parsed = plumb_json_parse(&root, line, len, "the reward command's answer");
    const plumb_json *v = plumb_json_member(root, "score");
    const enum plumb_json_type type = plumb_json_type_of(v);
    const double x = plumb_json_real(v, NAN);
    const bool ours =
        plumb_json_int(plumb_json_get(root, "prompt_id"), item->prompt_id) == item->prompt_id &&
        plumb_json_int(plumb_json_get(root, "sample"), item->sample) == item->sample;
    if (parsed != PLUMB_OK || !ours || plumb_json_type_of(root) != PLUMB_JSON_OBJECT || !v) {
        miss(a, PLUMB_MISSING_FORMAT, line);
        a->senseless = true;
    } else if (type == PLUMB_JSON_NULL)
        miss(a, PLUMB_MISSING_NULL, line);
    else if ((type != PLUMB_JSON_REAL && type != PLUMB_JSON_INT) || !isfinite(x))
        miss(a, PLUMB_MISSING_NUMBER, line);
    else
        a->score[a->answered++] = x;
    plumb_json_free(&root);
}

/* Ends the child and raises the error. */
static plumb_status give_up(struct asking *a, const char *what)
{
    plumb_reward_command *c = a->c;
    const char *words = plumb_child_stderr(c->child);
    char text[1200];
    plumb_child_end(c->child, GRACE);
    snprintf(text, sizeof text, "reward command \"%.200s\" %s (%s)%s%.700s", c->command, what,
             plumb_child_reason(c->child), words[0] ? "; its last words: " : "", words);
    plumb_child_stop(&c->child, 0);
    PLUMB_FAIL(PLUMB_ERR_IO, "%s", text);
}

/* After a death or a kill: the item it happened on may count as missing, the rest is asked
 * again. */
static plumb_status again(struct asking *a, bool hung)
{
    plumb_reward_command *c = a->c;
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
    plumb_log(PLUMB_LOG_WARN, "reward command %s; it is started again",
              hung ? "hangs" : plumb_child_reason(c->child));
    if (hung)
        miss(a, PLUMB_MISSING_TIMEOUT, a->item[a->answered].completion);
    else if (a->died_at == a->answered)
        miss(a, PLUMB_MISSING_DIED, a->item[a->answered].completion);
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
    while (a->lines < a->n && b->len - a->sent < 65536)
        PLUMB_TRY(put_line(b, &a->item[a->lines++]));
    return PLUMB_OK;
}

/* Lines that nobody asked for mean that answers and questions are out of step. After an answer
 * that made no sense the command is let end, to see all that it has to say. */
static plumb_status check_extra(struct asking *a)
{
    plumb_reward_command *c = a->c;
    const double until = plumb_now() + c->timeout_s;
    const char *line = NULL;
    int64_t len, written;
    if (a->senseless)
        plumb_child_finish(c->child);
    do {
        PLUMB_TRY(plumb_child_work(c->child, NULL, 0, &written, a->senseless ? LOOK : 0));
        line = plumb_child_line(c->child, &len);
    } while (a->senseless && !line && !plumb_child_gone(c->child) && plumb_now() < until);
    char text[512] = "";
    if (line)
        snprintf(text, sizeof text,
                 "reward command \"%.200s\" writes more lines than it gets; one of them: %.200s",
                 c->command, line);
    if (line || a->senseless)
        plumb_child_stop(&c->child, GRACE);
    PLUMB_REQUIRE(!line, PLUMB_ERR_FORMAT, "%s", text);
    return PLUMB_OK;
}

static plumb_status ask(struct asking *a)
{
    plumb_reward_command *c = a->c;
    double since = plumb_now();
    while (a->answered < a->n) {
        int64_t len, written;
        const char *line;
        PLUMB_TRY(compose(a));
        const double left = c->timeout_s - (plumb_now() - since);
        PLUMB_TRY(plumb_child_work(c->child, c->lines.data + a->sent, c->lines.len - a->sent,
                                   &written, left < LOOK ? left : LOOK));
        a->sent += written;
        while (a->answered < a->n && (line = plumb_child_line(c->child, &len))) {
            take_answer(a, line, len);
            since = plumb_now();
        }
        if (a->answered == a->n)
            break;
        const bool hung = plumb_now() - since >= c->timeout_s;
        if (hung || plumb_child_gone(c->child)) {
            PLUMB_TRY(again(a, hung));
            since = plumb_now();
        }
    }
    return check_extra(a);
}

plumb_status plumb_reward_command_score(plumb_reward_command *c, double *score,
                                        const struct plumb_reward_item *item, int64_t n,
                                        struct plumb_reward_missing *missing)
{
    struct asking a = {
        .c = c, .score = score, .item = item, .missing = missing, .n = n, .died_at = -1};
    if (n == 0)
        return PLUMB_OK;
    plumb_buf_clear(&c->lines);
    /* one that ended between two calls, having answered everything, is simply started again */
    if (c->child && plumb_child_gone(c->child))
        plumb_child_stop(&c->child, 0);
    if (!c->child)
        PLUMB_TRY(plumb_child_start(&c->child, c->command));
    else
        PLUMB_TRY(check_extra(&a));
    return ask(&a);
}
