/* schedule.c - replays the collectives of plumb for many ranks in one process, without their data.
 *   bench_schedule RANKS ELEMENTS
 * Runs the code of src/comm once for every rank on a transport that only records the messages.
 * Then it lets the messages of all ranks take place in an event simulation. Prints one JSON object
 * with, for each collective: the messages and bytes of all ranks and of the busiest rank, and the
 * longest path, in messages and in bytes. ELEMENTS is the length of the gradient in floats. No
 * memory of that length is needed, because the recording transport never reads or writes it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "comm/comm_impl.h"

#define BROADCAST_BYTES 1024 /* about the size of a failure note or a small header */

struct message {
    int to, from; /* -1 if there is none */
    int64_t send_bytes;
};

/* The messages of one rank, in order. */
struct program {
    struct message *at;
    int64_t n, room;
};

struct recorder {
    plumb_comm base; /* must be the first member */
    struct program program;
};

static plumb_status record_move(plumb_comm *c, const struct plumb_move *m)
{
    struct program *p = &((struct recorder *)c)->program;
    if (p->n == p->room) {
        const int64_t room = p->room ? 2 * p->room : 64;
        struct message *more = realloc(p->at, (size_t)room * sizeof(*more));
        PLUMB_REQUIRE(more, PLUMB_ERR_NOMEM, "%lld messages", (long long)room);
        p->at = more;
        p->room = room;
    }
    p->at[p->n++] = (struct message){m->to, m->from, m->to >= 0 ? m->send_bytes : 0};
    return PLUMB_OK;
}

static void record_share_raised(plumb_comm *c)
{
    (void)c;
}

static plumb_status record_send_heartbeat(plumb_comm *c)
{
    (void)c;
    return PLUMB_OK;
}

static void record_abort(plumb_comm *c, int exit_code)
{
    (void)c;
    exit(exit_code);
}

static void record_destroy(plumb_comm *c)
{
    plumb_comm_base_fini(c);
    free(c);
}

static const struct plumb_comm_ops record_ops = {
    .name = "record",
    .move = record_move,
    .share_raised = record_share_raised,
    .send_heartbeat = record_send_heartbeat,
    .abort = record_abort,
    .destroy = record_destroy,
};

static float *gradient_address(void)
{
    static float nowhere; /* its address stands for the gradient and is never read or written */
    return &nowhere;
}

static plumb_status run_barrier(plumb_comm *c, int64_t n)
{
    (void)n;
    return plumb_comm_barrier(c);
}

static plumb_status run_agree(plumb_comm *c, int64_t n)
{
    (void)n;
    return plumb_comm_agree(c, PLUMB_OK);
}

static plumb_status run_allreduce(plumb_comm *c, int64_t n)
{
    double x = 0;
    (void)n;
    return plumb_comm_allreduce_f64(c, &x, 1, PLUMB_SUM);
}

static plumb_status run_broadcast(plumb_comm *c, int64_t n)
{
    char x[BROADCAST_BYTES] = {0};
    (void)n;
    return plumb_comm_broadcast(c, x, sizeof(x), 0);
}

static plumb_status run_reduce_tree(plumb_comm *c, int64_t n)
{
    return plumb_comm_reduce_tree(c, gradient_address(), n, PLUMB_HOST);
}

static plumb_status run_allgather_shards(plumb_comm *c, int64_t n)
{
    return plumb_comm_allgather_shards(c, gradient_address(), n, PLUMB_HOST);
}

static const struct collective {
    const char *name;
    plumb_status (*run)(plumb_comm *c, int64_t n);
} collectives[] = {
    {"barrier", run_barrier},         {"agree", run_agree},
    {"allreduce", run_allreduce},     {"broadcast", run_broadcast},
    {"reduce_tree", run_reduce_tree}, {"allgather_shards", run_allgather_shards},
};

/* Records the messages of `rank` of `ranks` in one collective. The caller frees out->at. */
static plumb_status record(struct program *out, const struct collective *what, int rank, int ranks,
                           int64_t n)
{
    struct recorder *r = calloc(1, sizeof(*r));
    PLUMB_REQUIRE(r, PLUMB_ERR_NOMEM, "recorder");
    plumb_status st = plumb_comm_base_init(&r->base, &record_ops, rank, ranks, 0);
    if (st != PLUMB_OK) {
        free(r);
        return st;
    }
    r->base.check_calls = false; /* its messages are not part of a release build */
    st = what->run(&r->base, n);
    *out = r->program;
    plumb_comm *c = &r->base;
    plumb_comm_destroy(&c);
    return st;
}

/* A message that has been sent and not yet received. */
struct arrival {
    int from;
    double time;
};

struct rank_state {
    int64_t done;      /* number of messages of its program that are sent and received */
    bool sent;         /* the current message has been sent */
    double time;       /* s; when the last message was done */
    double sent_until; /* s; when the current message leaves this rank */
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

/* Takes the oldest message from `from`. Returns false if there is none yet. */
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

/* Runs the moves of a rank until one waits for a message that has not been sent. */
static plumb_status advance(struct rank_state *state, const struct program *program, int rank,
                            double latency, double seconds_per_byte, bool *moved)
{
    struct rank_state *s = &state[rank];
    while (s->done < program[rank].n) {
        const struct message *m = &program[rank].at[s->done];
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

/* Sets *out to the time at which the last rank is done, if a message takes `latency` plus
 * seconds_per_byte per byte and a rank sends one message at a time. */
static plumb_status simulate(double *out, const struct program *program, int ranks, double latency,
                             double seconds_per_byte)
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

static plumb_status report(const struct collective *what, const struct program *program, int ranks,
                           bool last)
{
    int64_t messages = 0, bytes = 0, most_messages = 0, most_bytes = 0;
    for (int r = 0; r < ranks; r++) {
        int64_t own_messages = 0, own_bytes = 0;
        for (int64_t i = 0; i < program[r].n; i++) {
            own_messages += program[r].at[i].to >= 0;
            own_bytes += program[r].at[i].send_bytes;
        }
        messages += own_messages;
        bytes += own_bytes;
        most_messages = own_messages > most_messages ? own_messages : most_messages;
        most_bytes = own_bytes > most_bytes ? own_bytes : most_bytes;
    }
    double path_messages, path_bytes;
    PLUMB_TRY(simulate(&path_messages, program, ranks, 1, 0));
    PLUMB_TRY(simulate(&path_bytes, program, ranks, 0, 1));
    printf("  \"%s\": {\"messages\": %" PRId64 ", \"bytes\": %" PRId64
           ", \"messages_of_busiest_rank\": %" PRId64 ", \"bytes_of_busiest_rank\": %" PRId64
           ", \"path_messages\": %.0f, \"path_bytes\": %.0f}%s\n",
           what->name, messages, bytes, most_messages, most_bytes, path_messages, path_bytes,
           last ? "" : ",");
    return PLUMB_OK;
}

static plumb_status replay(const struct collective *what, int ranks, int64_t n, bool last)
{
    struct program *program = calloc((size_t)ranks, sizeof(*program));
    PLUMB_REQUIRE(program, PLUMB_ERR_NOMEM, "%d ranks", ranks);
    plumb_status st = PLUMB_OK;
    for (int r = 0; r < ranks && st == PLUMB_OK; r++)
        st = record(&program[r], what, r, ranks, n);
    if (st == PLUMB_OK)
        st = report(what, program, ranks, last);
    for (int r = 0; r < ranks; r++)
        free(program[r].at);
    free(program);
    return st;
}

int main(int argc, char **argv)
{
    const int count = (int)(sizeof(collectives) / sizeof(collectives[0]));
    const int ranks = argc == 3 ? atoi(argv[1]) : 0;
    const int64_t n = argc == 3 ? atoll(argv[2]) : 0;
    if (ranks < 1 || ranks > 1 << 20 || n < 1) {
        fputs("usage: bench_schedule RANKS ELEMENTS\n", stderr);
        return 2;
    }
    printf("{\"ranks\": %d, \"elements\": %" PRId64 ", \"collectives\": {\n", ranks, n);
    for (int k = 0; k < count; k++)
        if (replay(&collectives[k], ranks, n, k == count - 1) != PLUMB_OK) {
            fputs(plumb_trail(), stderr);
            return 1;
        }
    printf("}}\n");
    return 0;
}
