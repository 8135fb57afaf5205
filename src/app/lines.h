/* lines.h - commands that turn JSON lines into JSON lines: the lines are shared among the ranks
 * and written in input order, the same on any rank count.
 * Layer 6. Includes app/output.h, io/ordered.h, train/stop.h. */
#ifndef PLUMB_APP_LINES_H
#define PLUMB_APP_LINES_H

#include "app/output.h"
#include "base/log.h"
#include "io/ordered.h"
#include "train/stop.h"

/* Rank 0 reads path ("-" = standard input) to its end, every rank gets the bytes;
 * app->input_hash = their hash. Collective. PLUMB_ERR_IO. */
plumb_status plumb_lines_read(struct plumb_app *app, struct plumb_buf *text, const char *path);

/* How lines travel, here on two ranks:
 *
 *     rank 0   makes lines 0 2 4 ..  --put-->  ring (io/ordered.h)  --in order-->  output
 *                                                 ^
 *     rank 1   makes lines 1 3 5 ..  --put-->  outbox  (at a meeting)
 *
 * The ranks compute on their own and meet from time to time: every MEETING_SECONDS, when a rank
 * has made all of its lines, when one has failed, and after a signal. Whoever wants a meeting
 * raises its number (plumb_comm_raise); all others hear of it at their next plumb_lines_tick, so
 * a meeting costs each rank one decode step or line of waiting. In a meeting the ranks agree on
 * failures, the outboxes go to rank 0, which writes what is in turn, and all ranks learn how far
 * the output is. No rank begins a line that is `window` or more behind the first one that is not
 * written: that bounds what waits in memory. When meetings take place changes no byte.
 *
 * On one rank nothing waits for a meeting: a line is written as soon as it is in turn. */
struct plumb_lines {
    struct plumb_app *app;
    const char *what, *path; /* the command, in messages; its output */
    int64_t n;               /* lines in all */
    int64_t first;           /* those before it are in the output already: make the others */
    int64_t tokens, running; /* of this rank, kept up by the caller, for the progress */
    /* inside of lines.c */
    int64_t window;
    int64_t written; /* lines before it are in the output, as far as this rank knows */
    int64_t done;    /* lines that this rank has made */
    bool finished, all_finished;
    plumb_status local; /* of this rank, not agreed on yet */
    plumb_status st;    /* as agreed; then no more meetings take place */
    struct plumb_output out;
    struct plumb_ordered order; /* rank 0 */
    struct plumb_buf outbox;    /* other ranks: number, length, text of each line */
    struct plumb_stop_watch watch;
    struct plumb_progress progress;
};

/* What a command is about to make. */
struct plumb_lines_want {
    const char *what, *unit; /* for the progress: "generate", "sequences"; borrowed */
    const char *path;        /* of the output, borrowed; see plumb_output_open */
    enum plumb_output_kind kind;
    int64_t n;      /* lines in all */
    int64_t window; /* lines that may wait for the first missing one, at least 2 for each rank */
};
/* Opens the output and says in l->first where to begin. From here to plumb_lines_end, TERM and
 * USR1 end the command at the next tick: PLUMB_STOPPED, the finished lines stay. Collective. */
plumb_status plumb_lines_begin(struct plumb_lines *l, struct plumb_app *app,
                               const struct plumb_lines_want *want);
/* text = the lines before l->first, on every rank. Behind begin, before any other call.
 * Collective. */
plumb_status plumb_lines_there(struct plumb_lines *l, struct plumb_buf *text);
/* Line `number`, its line end included, is made; each rank makes other ones, in any order. Not
 * collective. */
plumb_status plumb_lines_put(struct plumb_lines *l, int64_t number, const char *text, int64_t len);
/* Lines from this one on must not be begun yet. It moves in plumb_lines_tick. Not collective. */
int64_t plumb_lines_limit(const struct plumb_lines *l);
/* To be called between two lines or decode steps: meets the other ranks when a meeting is due.
 * true: the rank shall stop working and call plumb_lines_end; l->st says why. A plumb_pause_fn.
 * Every rank calls it until it calls plumb_lines_end. */
bool plumb_lines_tick(void *l);
/* For a rank that may not begin any line yet: gives the processor away for a moment. */
void plumb_lines_idle(void);
/* This rank has made its lines, or st says why not. Waits until all ranks have, and completes the
 * output; after a failure, which is then every rank's, it stays as far as it is. To be called
 * once after a begin, whatever that returned. Collective. */
plumb_status plumb_lines_end(struct plumb_lines *l, plumb_status st);

/* All of this for commands whose lines are independent: fn makes lines begin .. end-1, in order,
 * and appends them to out, each with its line end. It gets at most `most` at once, fewer when
 * they take long. Collective. */
typedef plumb_status plumb_lines_fn(void *arg, int64_t begin, int64_t end, struct plumb_buf *out);
plumb_status plumb_lines_run(struct plumb_app *app, const char *what, int64_t n, int64_t most,
                             plumb_lines_fn *fn, void *arg);
/* The same for an fn that makes many lines faster at once than one by one, as a reward command
 * that scores in batches: it gets 1, 4, 16 .. and then always `most`, however long they take. */
plumb_status plumb_lines_run_at_once(struct plumb_app *app, const char *what, int64_t n,
                                     int64_t most, plumb_lines_fn *fn, void *arg);

#endif
