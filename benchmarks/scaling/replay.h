/* replay.h - records the messages of pretended ranks, counts them, and finds by an event simulation
 * which must follow one another. For schedule.c and start.c only. Includes src/comm. */
#ifndef PLUMB_BENCHMARKS_REPLAY_H
#define PLUMB_BENCHMARKS_REPLAY_H

#include "comm/comm_impl.h"

/* One message to send and one to receive, at the same time. */
struct replay_message {
    int to, from; /* -1 if there is none */
    int64_t send_bytes;
};

/* The messages of one rank, in order. The caller frees `at`. */
struct replay_program {
    struct replay_message *at;
    int64_t n, room;
};

/* Appends the move *m. Fails with PLUMB_ERR_NOMEM. */
plumb_status replay_add(struct replay_program *p, const struct plumb_move *m);

/* The counts of all ranks and of the busiest rank, and the longest path: the messages, or the
 * bytes, that must follow one another until the last rank is done. */
struct replay_counts {
    int64_t messages, bytes, messages_of_busiest_rank, bytes_of_busiest_rank;
    double path_messages, path_bytes;
};

/* Counts the messages of program (ranks,). Fails with PLUMB_ERR_COMM if a rank waits for a message
 * that no rank sends, and with PLUMB_ERR_NOMEM. */
plumb_status replay_count(struct replay_counts *out, const struct replay_program *program,
                          int ranks);
/* Prints the counts as the members of a JSON object, without its braces. */
void replay_print(const struct replay_counts *x);

#endif
