/* checked.c - the public collectives: they check their arguments and then run the collective.
 * Layer 1. Includes comm/ and base/ only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "comm/comm_impl.h"

plumb_status(plumb_comm_barrier)(plumb_comm *c)
{
    PLUMB_TRY(plumb_coll_enter(c, "barrier", (struct plumb_args){-1, NULL, -1}));
    return plumb_coll_leave(c, plumb_coll_barrier(c));
}

static const char *const op_names[] = {"sum", "min", "max"};

plumb_status(plumb_comm_allreduce_f64)(plumb_comm *c, double *buf, int64_t n, enum plumb_redop op)
{
    PLUMB_REQUIRE(n >= 0 && (buf || n == 0), PLUMB_ERR_ARG,
                  "allreduce: n=%lld and buf %s; expected n >= 0, and a buffer unless n is 0",
                  (long long)n, buf ? "set" : "NULL");
    PLUMB_REQUIRE(op == PLUMB_SUM || op == PLUMB_MIN || op == PLUMB_MAX, PLUMB_ERR_ARG,
                  "allreduce: op=%d, expected PLUMB_SUM, PLUMB_MIN or PLUMB_MAX", (int)op);
    PLUMB_TRY(plumb_coll_enter(c, "allreduce", (struct plumb_args){n, op_names[op], -1}));
    return plumb_coll_leave(c, plumb_coll_allreduce(c, buf, n, op));
}

plumb_status(plumb_comm_broadcast)(plumb_comm *c, void *buf, int64_t bytes, int root)
{
    PLUMB_REQUIRE(root >= 0 && root < c->size, PLUMB_ERR_ARG, "broadcast: root %d, expected 0..%d",
                  root, c->size - 1);
    PLUMB_REQUIRE(bytes >= 0 && (buf || bytes == 0), PLUMB_ERR_ARG,
                  "broadcast: bytes=%lld and buf %s; expected bytes >= 0, and a buffer unless "
                  "bytes is 0",
                  (long long)bytes, buf ? "set" : "NULL");
    PLUMB_TRY(plumb_coll_enter(c, "broadcast", (struct plumb_args){bytes, NULL, root}));
    return plumb_coll_leave(c, plumb_coll_broadcast(c, buf, bytes, root));
}

plumb_status(plumb_comm_allgather)(plumb_comm *c, void *recv, int64_t recv_cap, int64_t *count,
                                   const void *send, int64_t bytes)
{
    PLUMB_REQUIRE(
        count && bytes >= 0 && (send || bytes == 0), PLUMB_ERR_ARG,
        "allgather: bytes=%lld, send %s, count %s; expected count, bytes >= 0, and send unless "
        "bytes is 0",
        (long long)bytes, send ? "set" : "NULL", count ? "set" : "NULL");
    PLUMB_REQUIRE(
        recv_cap >= 0 && (recv || recv_cap == 0), PLUMB_ERR_ARG,
        "allgather: recv_cap=%lld and recv %s; expected recv_cap >= 0, and recv unless recv_cap "
        "is 0",
        (long long)recv_cap, recv ? "set" : "NULL");
    PLUMB_TRY(plumb_coll_enter(c, "allgather", (struct plumb_args){-1, NULL, -1}));
    return plumb_coll_leave(c, plumb_coll_allgather(c, recv, recv_cap, count, send, bytes));
}

/* Fails if one of the sizes bytes (world_size,) is negative, or if one is positive and buffer is
 * NULL. `what` is "send" or "recv", for messages. */
static plumb_status check_parts(const plumb_comm *c, const char *what, const void *buffer,
                                const int64_t *bytes)
{
    PLUMB_REQUIRE(bytes, PLUMB_ERR_ARG, "alltoall: %s has no sizes", what);
    for (int r = 0; r < c->size; r++)
        PLUMB_REQUIRE(bytes[r] >= 0 && (buffer || bytes[r] == 0), PLUMB_ERR_ARG,
                      "alltoall: %s has %lld bytes of rank %d and buffer %s; expected 0 or more "
                      "bytes, and a buffer unless all are 0",
                      what, (long long)bytes[r], r, buffer ? "set" : "NULL");
    return PLUMB_OK;
}

plumb_status(plumb_comm_alltoall)(plumb_comm *c, void *recv, const int64_t *recv_bytes,
                                  const void *send, const int64_t *send_bytes)
{
    PLUMB_TRY(check_parts(c, "send", send, send_bytes));
    PLUMB_TRY(check_parts(c, "recv", recv, recv_bytes));
    PLUMB_REQUIRE(send_bytes[c->rank] == recv_bytes[c->rank], PLUMB_ERR_ARG,
                  "alltoall: rank %d sends %lld bytes to itself, but expects %lld", c->rank,
                  (long long)send_bytes[c->rank], (long long)recv_bytes[c->rank]);
    PLUMB_TRY(plumb_coll_enter(c, "alltoall", (struct plumb_args){-1, NULL, -1}));
    return plumb_coll_leave(c, plumb_coll_alltoall(c, recv, recv_bytes, send, send_bytes));
}

plumb_status(plumb_comm_alloc)(plumb_comm *c, void **out, int64_t bytes)
{
    PLUMB_REQUIRE(bytes > 0, PLUMB_ERR_ARG, "alloc: bytes=%lld, expected more than 0",
                  (long long)bytes);
    *out = NULL;
    if (c->ops->alloc) {
        PLUMB_TRY(plumb_coll_enter(c, "alloc", (struct plumb_args){bytes, NULL, -1}));
        PLUMB_TRY(plumb_coll_leave(c, c->ops->alloc(c, out, bytes)));
    }
    if (*out)
        return PLUMB_OK;
    const size_t size = (size_t)(plumb_ceil_div(bytes, 256) * 256);
    *out = aligned_alloc(256, size);
    PLUMB_REQUIRE(*out, PLUMB_ERR_NOMEM, "a vector of %lld bytes for exchanges between ranks",
                  (long long)bytes);
    memset(*out, 0, size);
    return PLUMB_OK;
}

void plumb_comm_free(plumb_comm *c, void *memory)
{
    if (memory && !(c->ops->release && c->ops->release(c, memory)))
        free(memory);
}

struct plumb_range plumb_comm_shard(const plumb_comm *c, int64_t n, int rank)
{
    return plumb_comm_shard_of(n, rank, c->size);
}

/* The message with which the lowest of the failed ranks tells the other ranks its failure. */
struct failure {
    int32_t status;
    char host[PLUMB_COMM_TEXT];
    char text[512];
};

static plumb_status exchange_notes(plumb_comm *c, plumb_status local, const char *words, int *first,
                                   struct failure *note)
{
    double who = local == PLUMB_OK ? c->size : c->rank;
    PLUMB_TRY(plumb_coll_allreduce(c, &who, 1, PLUMB_MIN));
    *first = (int)who;
    if (*first == c->size)
        return PLUMB_OK;
    memset(note, 0, sizeof(*note));
    if (*first == c->rank) {
        note->status = (int32_t)local;
        snprintf(note->host, sizeof(note->host), "%s", c->host);
        snprintf(note->text, sizeof(note->text), "%s", words);
    }
    PLUMB_TRY(plumb_coll_broadcast(c, note, sizeof(*note), *first));
    return PLUMB_OK;
}

plumb_status plumb_comm_agree_at(plumb_comm *c, plumb_status local, const char *file, int line)
{
    plumb_comm_at(c, file, line);
    struct failure note;
    int first = c->size;
    char words[sizeof(note.text)] = "";
    if (local != PLUMB_OK) {
        const char *said = plumb_trail_message();
        snprintf(words, sizeof(words), "%s", said[0] ? said : plumb_status_text(local));
    }
    plumb_status st = plumb_coll_enter(c, "agree", (struct plumb_args){-1, NULL, -1});
    if (st == PLUMB_OK)
        st = plumb_coll_leave(c, exchange_notes(c, local, words, &first, &note));
    if (local != PLUMB_OK) {
        PLUMB_REQUIRE(st == PLUMB_OK, local, "%s (the other ranks were not told: %s)", words,
                      plumb_trail_message());
        return local;
    }
    PLUMB_TRY(st);
    PLUMB_REQUIRE(first == c->size, PLUMB_ERR_PEER, "rank %d on %s failed: %s: %s", first,
                  note.host, plumb_status_text((plumb_status)note.status), note.text);
    return PLUMB_OK;
}
