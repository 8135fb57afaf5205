/* lines.h - commands that convert JSON lines to JSON lines. The ranks share the lines, and rank 0
 * writes them in input order, so the output does not depend on the number of ranks. Layer 6.
 * Includes app/output.h, io/ordered.h, train/stop.h. */
#ifndef PLUMB_APP_LINES_H
#define PLUMB_APP_LINES_H

#include "app/output.h"
#include "base/log.h"
#include "io/ordered.h"
#include "train/stop.h"

/* Rank 0 checks that app->cfg->output can be written, reads path ("-" = standard input) to its end,
 * decompresses gzip data, and sends the text to every rank. Sets app->input_hash to the hash of the
 * text. Collective. Errors: those of plumb_process_check_output and plumb_file_read_lines. */
plumb_status plumb_lines_read(struct plumb_app *app, struct plumb_buf *text, const char *path);

/* How a line gets from the rank that computes it to the output, here with two ranks:
 *
 *     rank 0   makes lines 0 2 4 ..  --put-->  ring (io/ordered.h)  --in order-->  output
 *                                                 ^
 *     rank 1   makes lines 1 3 5 ..  --put-->  outbox  (at a meeting)
 *
 * The ranks compute independently and synchronise in meetings: every MEETING_SECONDS, when a rank
 * has made all of its lines, when a rank has failed, and after a signal. A rank that needs a
 * meeting raises the number of the next meeting (plumb_comm_raise). The others notice this in their
 * next plumb_lines_tick, so a rank waits for at most one decode step or one line of another rank.
 * In a meeting the ranks agree on failures, rank 0 receives the outboxes and writes the lines that
 * are next in order, and all ranks receive the number of written lines. No rank begins a line that
 * is `window` or more lines after the first unwritten one; this limits the memory for lines that
 * wait for earlier ones. The output does not depend on when meetings take place.
 *
 * With one rank a meeting exchanges nothing: a line is written as soon as all lines before it have
 * been written. */
struct plumb_lines {
    struct plumb_app *app;
    const char *what, *path; /* what: name of the command for messages; path: path of the output */
    int64_t n;               /* total number of lines */
    /* number of the first line to make; the lines before it are in the output already */
    int64_t first;
    /* Number of tokens that this rank has generated, and of sequences that it is generating. The
     * caller updates them; the progress line shows them. */
    int64_t tokens, running;
    /* The members below are used only inside lines.c. */
    int64_t window;
    /* number of the first line that is not in the output, as far as this rank knows */
    int64_t written;
    int64_t done; /* number of lines that this rank has made */
    bool finished, all_finished;
    plumb_status local; /* the failure of this rank, before the ranks have agreed on it */
    /* the failure on which the ranks have agreed; after it there are no meetings */
    plumb_status st;
    struct plumb_output out;
    struct plumb_ordered order; /* used on rank 0: lines that wait for earlier lines */
    /* used on other ranks: number, length and text of each line for rank 0 */
    struct plumb_buf outbox;
    struct plumb_stop_watch watch;
    struct plumb_progress progress;
};

/* Describes the output that a command wants to write. */
struct plumb_lines_want {
    /* for the progress display, e.g. "generate" and "sequences"; borrowed */
    const char *what, *unit;
    const char *path; /* path of the output, borrowed; see plumb_output_open */
    enum plumb_output_kind kind;
    int64_t n; /* total number of lines */
    /* largest number of lines that may wait for the first missing one; at least 2 per rank */
    int64_t window;
};
/* Opens the output and sets l->first, the first line to make. Until plumb_lines_end, the signals
 * TERM and USR1 end the command with PLUMB_STOPPED at the next plumb_lines_tick; finished lines
 * stay in the output. Collective. */
plumb_status plumb_lines_begin(struct plumb_lines *l, struct plumb_app *app,
                               const struct plumb_lines_want *want);
/* Sets text to the lines before l->first, on every rank. Call it directly after begin.
 * Collective. */
plumb_status plumb_lines_there(struct plumb_lines *l, struct plumb_buf *text);
/* Stores line `number` with its line end. Each rank makes different lines, in any order. Not
 * collective. */
plumb_status plumb_lines_put(struct plumb_lines *l, int64_t number, const char *text, int64_t len);
/* Returns the number of the first line that must not begin yet: `window` lines after the first
 * unwritten one, or n if that is smaller. It grows in plumb_lines_tick, and on rank 0 also in
 * plumb_lines_put. Not collective. */
int64_t plumb_lines_limit(const struct plumb_lines *l);
/* Call this between two lines or decode steps; it takes part in a meeting if one is due. If it
 * fails, the rank must stop working and call plumb_lines_end; the status is that of l->st. Every
 * rank must call it until it calls plumb_lines_end. It has the type plumb_pause_fn, so the
 * generator can call it. */
plumb_status plumb_lines_tick(void *l);
/* Sleeps for a short time. Call it in a loop on a rank that may not begin any line yet. Requests a
 * meeting if the last one was long ago (LONELY_SECONDS in lines.c): rank 0 may then be dead, which
 * the collective of the meeting detects. */
void plumb_lines_idle(struct plumb_lines *l);
/* Call this once after begin, also if begin has failed. st is the failure of this rank, or PLUMB_OK
 * if it has made all of its lines. Waits for all ranks, then completes the output. After a failure
 * of any rank, all ranks fail, and the output keeps the lines written so far. Collective. */
plumb_status plumb_lines_end(struct plumb_lines *l, plumb_status st);

/* Runs begin, tick, put and end for a command whose lines are independent. fn makes the lines
 * [begin, end) in order and appends them to out, each with its line end. One call of fn gets at
 * most `most` lines, and fewer if the lines are slow. Collective. */
typedef plumb_status plumb_lines_fn(void *arg, int64_t begin, int64_t end, struct plumb_buf *out);
plumb_status plumb_lines_run(struct plumb_app *app, const char *what, int64_t n, int64_t most,
                             plumb_lines_fn *fn, void *arg);
/* Like plumb_lines_run, for an fn that is faster if one call gets many lines, such as a reward
 * command that scores in batches. It gets 1, 4, 16 .. lines and then always `most`, however long
 * they take. */
plumb_status plumb_lines_run_at_once(struct plumb_app *app, const char *what, int64_t n,
                                     int64_t most, plumb_lines_fn *fn, void *arg);

#endif
