/* replay.h - records the messages of simulated ranks, counts them, and finds the longest path of
 * messages by an event simulation. For schedule.c and start.c only. Includes src/comm. */
#ifndef PLUMB_BENCHMARKS_REPLAY_H
#define PLUMB_BENCHMARKS_REPLAY_H

#include "comm/comm_impl.h"

/* A message that is sent to rank `to` and one that is received from rank `from`, at the same
 * time. */
struct replay_message {
    int to, from; /* ranks; -1 if there is no message */
    int64_t send_bytes;
};

/* The messages of one rank, in order: n of them, with space for `room`. The caller frees `at`. */
struct replay_program {
    struct replay_message *at;
    int64_t n, room;
};

/* Appends the messages of *m. Fails with PLUMB_ERR_NOMEM if there is no memory. */
plumb_status replay_add(struct replay_program *p, const struct plumb_move *m);

/* Totals over all ranks, the counts of the busiest rank, and the longest path: the largest number
 * of messages, and of bytes, that must follow one another until the last rank has finished. */
struct replay_counts {
    int64_t messages, bytes, messages_of_busiest_rank, bytes_of_busiest_rank;
    double path_messages, path_bytes;
};

/* Counts the messages of program (ranks,), one program per rank. Fails with PLUMB_ERR_COMM if a
 * rank waits for a message that no rank sends, and with PLUMB_ERR_NOMEM if there is no memory. */
plumb_status replay_count(struct replay_counts *out, const struct replay_program *program,
                          int ranks);
/* Prints the counts as the members of a JSON object, without its braces. */
void replay_print(const struct replay_counts *x);

#endif
