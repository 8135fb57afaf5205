/* replay.c - records and counts messages, and simulates when they arrive. Includes replay.h. */
#include "replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

plumb_status replay_add(struct replay_program *p, const struct plumb_move *m)
{
    if (p->n == p->room) {
        const int64_t room = p->room ? 2 * p->room : 64;
        struct replay_message *more = realloc(p->at, (size_t)room * sizeof(*more));
        PLUMB_REQUIRE(more, PLUMB_ERR_NOMEM, "%lld messages", (long long)room);
        p->at = more;
        p->room = room;
    }
    p->at[p->n++] = (struct replay_message){m->to, m->from, m->to >= 0 ? m->send_bytes : 0};
    return PLUMB_OK;
}

/* A message that has been sent and not yet received. */
struct arrival {
    int from;
    double time;
};

struct rank_state {
    int64_t done;      /* number of messages of this rank's program that are sent and received */
    bool sent;         /* true if the current message has been sent */
    double time;       /* seconds at which the rank had sent and received its previous message */
    double sent_until; /* seconds at which the current message has left this rank */
    struct arrival *arrived;
    int64_t n, room;
};

static plumb_status add_arrival(struct rank_state *s, int from, double time)
{
    if (s->n == s->room) {
        const int64_t room = s->room ? 2 * s->room : 16;
        struct arrival *more = realloc(s->arrived, (size_t)room * sizeof(*more));
        PLUMB_REQUIRE(more, PLUMB_ERR_NOMEM, "%lld messages under way", (long long)room);
        s->arrived = more;
        s->room = room;
    }
    s->arrived[s->n++] = (struct arrival){from, time};
    return PLUMB_OK;
}

/* Removes the oldest message from rank `from` and sets *time to its arrival. Returns false if there
 * is no message from that rank yet. */
static bool take_arrival(struct rank_state *s, int from, double *time)
{
    for (int64_t i = 0; i < s->n; i++)
        if (s->arrived[i].from == from) {
            *time = s->arrived[i].time;
            memmove(s->arrived + i, s->arrived + i + 1, (size_t)(--s->n - i) * sizeof(*s->arrived));
            return true;
        }
    return false;
}

/* Runs the messages of `rank` in order, until a message must be received that has not been sent
 * yet. */
static plumb_status advance(struct rank_state *state, const struct replay_program *program,
                            int rank, double latency, double seconds_per_byte, bool *moved)
{
    struct rank_state *s = &state[rank];
    while (s->done < program[rank].n) {
        const struct replay_message *m = &program[rank].at[s->done];
        if (!s->sent) {
            s->sent_until = s->time + (double)m->send_bytes * seconds_per_byte;
            if (m->to >= 0)
                PLUMB_TRY(add_arrival(&state[m->to], rank, s->sent_until + latency));
            s->sent = true;
            *moved = true;
        }
        double end = s->sent_until, came;
        if (m->from >= 0) {
            if (!take_arrival(s, m->from, &came))
                return PLUMB_OK;
            end = came > end ? came : end;
        }
        s->time = end;
        s->sent = false;
        s->done++;
        *moved = true;
    }
    return PLUMB_OK;
}

/* Sets *out to the time in seconds at which the last rank has finished. A message takes `latency`
 * plus seconds_per_byte per byte. A rank sends one message at a time. */
static plumb_status simulate(double *out, const struct replay_program *program, int ranks,
                             double latency, double seconds_per_byte)
{
    struct rank_state *state = calloc((size_t)ranks, sizeof(*state));
    PLUMB_REQUIRE(state, PLUMB_ERR_NOMEM, "%d ranks", ranks);
    plumb_status st = PLUMB_OK;
    for (bool moved = true; moved && st == PLUMB_OK;) {
        moved = false;
        for (int r = 0; r < ranks && st == PLUMB_OK; r++)
            st = advance(state, program, r, latency, seconds_per_byte, &moved);
    }
    *out = 0;
    for (int r = 0; r < ranks; r++) {
        if (st == PLUMB_OK && (state[r].done < program[r].n || state[r].n > 0))
            st = plumb_fail_at(PLUMB_ERR_COMM, __FILE__, __LINE__,
                               "rank %d waits for a message that no rank sends", r);
        *out = state[r].time > *out ? state[r].time : *out;
        free(state[r].arrived);
    }
    free(state);
    return st;
}

plumb_status replay_count(struct replay_counts *out, const struct replay_program *program,
                          int ranks)
{
    *out = (struct replay_counts){0};
    for (int r = 0; r < ranks; r++) {
        int64_t messages = 0, bytes = 0;
        for (int64_t i = 0; i < program[r].n; i++) {
            messages += program[r].at[i].to >= 0;
            bytes += program[r].at[i].send_bytes;
        }
        out->messages += messages;
        out->bytes += bytes;
        out->messages_of_busiest_rank = plumb_max_i64(out->messages_of_busiest_rank, messages);
        out->bytes_of_busiest_rank = plumb_max_i64(out->bytes_of_busiest_rank, bytes);
    }
    PLUMB_TRY(simulate(&out->path_messages, program, ranks, 1, 0));
    return simulate(&out->path_bytes, program, ranks, 0, 1);
}

void replay_print(const struct replay_counts *x)
{
    printf("\"messages\": %" PRId64 ", \"bytes\": %" PRId64
           ", \"messages_of_busiest_rank\": %" PRId64 ", \"bytes_of_busiest_rank\": %" PRId64
           ", \"path_messages\": %.0f, \"path_bytes\": %.0f",
           x->messages, x->bytes, x->messages_of_busiest_rank, x->bytes_of_busiest_rank,
           x->path_messages, x->path_bytes);
}
