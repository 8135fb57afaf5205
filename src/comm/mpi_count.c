/* mpi_count.c - the counter of plumb_comm_count_take. Rank 0 keeps it; the others ask with a
 * message. Layer 1. Includes comm/ and base/ only.
 *
 * An MPI window (one-sided communication) is not used: while one rank computes, MPI may not
 * complete another rank's access to its window, and MPI_Win_flush cannot be cancelled if a rank is
 * dead. Rank 0 answers the questions each time it reads its heartbeat notes, so it neither waits
 * for them nor needs a thread for them.
 *
 *     rank r:  question {round, n} ------> rank 0: answer {round, number}
 *
 * A rank has at most one question without an answer. The answer to a question of an earlier round
 * is thrown away. */
#include <stdlib.h>

#include "base/log.h"
#include "comm/mpi_impl.h"

enum { QUESTION_TAG = 2, ANSWER_TAG = 3, WORDS = 2 };

plumb_status plumb_counter_prepare(struct plumb_mpi *m)
{
    struct plumb_counter *k = &m->counter;
    const size_t size = (size_t)m->base.size;
    k->sent = MPI_REQUEST_NULL;
    if (m->base.rank != 0)
        return PLUMB_OK;
    k->answer_to = calloc(size, sizeof(*k->answer_to));
    k->answered = malloc(size * sizeof(*k->answered));
    PLUMB_REQUIRE(k->answer_to && k->answered, PLUMB_ERR_NOMEM, "a counter of %d ranks",
                  m->base.size);
    for (size_t r = 0; r < size; r++)
        k->answered[r] = MPI_REQUEST_NULL;
    return PLUMB_OK;
}

void plumb_counter_destroy(struct plumb_mpi *m)
{
    struct plumb_counter *k = &m->counter;
    /* All messages have been received, because plumb_counter_settle has waited for the last answer;
     * so these waits end immediately. */
    if (m->up)
        MPI_Wait(&k->sent, MPI_STATUS_IGNORE);
    if (m->up && k->answered)
        MPI_Waitall(m->base.size, k->answered, MPI_STATUSES_IGNORE);
    free(k->answer_to);
    free(k->answered);
}

/* Rank 0: returns the next number of a round of n numbers. Another rank may ask for a number of a
 * new round before rank 0 has begun that round; the round then begins here. */
static int64_t next_number(struct plumb_counter *k, int64_t round, int64_t n)
{
    if (round > k->round.round) {
        k->round = (struct plumb_count){.round = round, .n = n};
        k->told = 0;
        k->open = n > 0;
    }
    return round == k->round.round ? plumb_count_next(&k->round) : n;
}

static plumb_status answer_all(struct plumb_mpi *m)
{
    struct plumb_counter *k = &m->counter;
    for (;;) {
        MPI_Status status;
        int there = 0;
        int64_t question[WORDS];
        PLUMB_MPI(MPI_Iprobe(MPI_ANY_SOURCE, QUESTION_TAG, m->mail.comm, &there, &status));
        if (!there)
            return PLUMB_OK;
        const int r = status.MPI_SOURCE;
        PLUMB_MPI(MPI_Recv(question, WORDS, MPI_INT64_T, r, QUESTION_TAG, m->mail.comm,
                           MPI_STATUS_IGNORE));
        /* rank r asks again only after it has received the previous answer, so this does not wait
         */
        PLUMB_MPI(MPI_Wait(&k->answered[r], MPI_STATUS_IGNORE));
        const int64_t number = next_number(k, question[0], question[1]);
        k->told += question[0] == k->round.round && number == question[1];
        k->open = k->told < m->base.size - 1;
        k->answer_to[r] = (struct plumb_answer){question[0], number};
        PLUMB_MPI(MPI_Isend(&k->answer_to[r], WORDS, MPI_INT64_T, r, ANSWER_TAG, m->mail.comm,
                            &k->answered[r]));
    }
}

static plumb_status read_answer(struct plumb_mpi *m)
{
    struct plumb_counter *k = &m->counter;
    int there = 0;
    if (k->asked == 0)
        return PLUMB_OK;
    PLUMB_MPI(MPI_Iprobe(0, ANSWER_TAG, m->mail.comm, &there, MPI_STATUS_IGNORE));
    if (!there)
        return PLUMB_OK;
    k->asked = 0;
    PLUMB_MPI(
        MPI_Recv(&k->answer, WORDS, MPI_INT64_T, 0, ANSWER_TAG, m->mail.comm, MPI_STATUS_IGNORE));
    return PLUMB_OK;
}

plumb_status plumb_counter_serve(struct plumb_mpi *m)
{
    return m->base.rank == 0 ? answer_all(m) : read_answer(m);
}

static plumb_status ask(struct plumb_mpi *m)
{
    struct plumb_counter *k = &m->counter;
    PLUMB_MPI(MPI_Wait(&k->sent, MPI_STATUS_IGNORE)); /* the previous question was answered */
    k->question[0] = k->asked = m->base.count.round;
    k->question[1] = m->base.count.n;
    PLUMB_MPI(MPI_Isend(k->question, WORDS, MPI_INT64_T, 0, QUESTION_TAG, m->mail.comm, &k->sent));
    return PLUMB_OK;
}

/* Implements plumb_comm_ops.take (comm_impl.h). Call it with the lock held. */
static plumb_status take(struct plumb_mpi *m, int64_t *number)
{
    struct plumb_counter *k = &m->counter;
    const struct plumb_count *round = &m->base.count;
    PLUMB_TRY(plumb_counter_serve(m));
    if (m->base.rank == 0) {
        *number = next_number(k, round->round, round->n);
        return PLUMB_OK;
    }
    if (k->asked != 0)
        return PLUMB_OK;
    if (k->answer.round == round->round) {
        *number = k->answer.number;
        k->answer.round = 0; /* this answer was used */
        return PLUMB_OK;
    }
    return ask(m);
}

plumb_status plumb_counter_take(plumb_comm *c, int64_t *number)
{
    struct plumb_mpi *m = plumb_mpi_of(c);
    *number = -1;
    pthread_mutex_lock(&m->lock);
    const plumb_status st = take(m, number);
    pthread_mutex_unlock(&m->lock);
    return st;
}

plumb_status plumb_counter_settle(struct plumb_mpi *m)
{
    struct plumb_wait wait = {.since = plumb_now()};
    for (;;) {
        pthread_mutex_lock(&m->lock);
        const plumb_status st = plumb_counter_serve(m);
        const bool open = m->counter.asked != 0;
        pthread_mutex_unlock(&m->lock);
        PLUMB_TRY(st);
        if (!open)
            return PLUMB_OK;
        PLUMB_TRY(plumb_mail_wait(m, &wait));
    }
}
