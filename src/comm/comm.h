/* comm.h - collectives over one set of ranks, whatever carries them.
 * Layer 1. Includes base/ only; mpi.h and nccl.h stay in comm_*.c. */
#ifndef PLUMB_COMM_COMM_H
#define PLUMB_COMM_COMM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/tensor.h"

typedef struct plumb_comm plumb_comm; /* opaque; one per rank */

enum plumb_redop { PLUMB_SUM, PLUMB_MIN, PLUMB_MAX };

/* A contiguous piece of a vector that one rank owns. */
struct plumb_range {
    int64_t begin, end; /* elements */
};

/* Elements that shard borders are multiples of. */
#define PLUMB_SHARD_BLOCK 4096

/* All calls below are Collective unless they say otherwise: every rank of the comm makes the
 * same calls in the same order with the same n and op. Synchronous. */
int plumb_comm_rank(const plumb_comm *c);       /* Not collective. */
int plumb_comm_size(const plumb_comm *c);       /* Not collective. */
int plumb_comm_local_rank(const plumb_comm *c); /* Not collective. Among the ranks of this host. */
int plumb_comm_local_size(const plumb_comm *c); /* Not collective. */
const char *plumb_comm_name(const plumb_comm *c); /* "single", "thread", "mpi" */
const char *plumb_comm_host(const plumb_comm *c); /* Not collective. This rank's host name. */

/* The MPI library in its own words, or "none" in a build without one. Not collective. */
const char *plumb_comm_library(void);

/* Names what follows, for the messages of the watch ("rollout", "save"). Not collective. */
void plumb_comm_phase(plumb_comm *c, const char *phase);

/* How long a rank may be silent, its process dead or stopped, before a collective that waits fails
 * with PLUMB_ERR_COMM, in seconds; 0 = for ever. At least 4 heartbeats: 4 x timeout / 10 within
 * [0.1 s, 1 s], with more than 1000 ranks 4 ms x world_size. Not collective, but give every rank
 * the same. Thread and MPI start with 60 or what their create was given. */
void plumb_comm_timeout(plumb_comm *c, double seconds);

/* How long a rank that lives may keep the others waiting, in seconds; 0 = for ever; 1800 at the
 * start. After each timeout seconds of that a warning says for whom. Not collective, but give every
 * rank the same. Where MPI gives no threads there is no heartbeat, and this is the only limit. */
void plumb_comm_max_wait(plumb_comm *c, double seconds);

/* Before each collective, compares what the ranks are about to do: the collective, its number,
 * its size, operation or root, and its caller. Where they differ every rank fails at once with
 * PLUMB_ERR_COMM and a message that lists them all. Costs one small allreduce each; on at the start
 * in debug builds (meson option `collective_check`). Not collective, but give every rank the same.
 */
void plumb_comm_check_calls(plumb_comm *c, bool on);

plumb_status plumb_comm_barrier(plumb_comm *c);

/* buf (n,) on every rank = the op over all ranks, element by element. SUM adds in rank order
 * along a fixed tree: bit-identical results need vectors where at most one rank's element is
 * not zero, or whole numbers. */
plumb_status plumb_comm_allreduce_f64(plumb_comm *c, double *buf, int64_t n, enum plumb_redop op);

plumb_status plumb_comm_broadcast(plumb_comm *c, void *buf, int64_t bytes, int root);

/* recv = every rank's `bytes` bytes in rank order; bytes may differ between ranks: count[r]
 * (world_size,) is filled with each rank's, recv holds at most recv_cap bytes
 * (PLUMB_ERR_NOMEM on all ranks when they do not fit). */
plumb_status plumb_comm_allgather(plumb_comm *c, void *recv, int64_t recv_cap, int64_t *count,
                                  const void *send, int64_t bytes);

/* Which elements of a vector of n this rank owns after plumb_comm_reduce_tree: a pure function
 * of (n, rank, world_size). Not collective. */
struct plumb_range plumb_comm_shard(const plumb_comm *c, int64_t n, int rank);
struct plumb_range plumb_comm_shard_of(int64_t n, int rank, int world_size);

/* Continues the gradient tree across ranks. On entry grad (n,) holds the sum over this rank's
 * subtree; on exit grad[shard] holds the sum over all ranks, added pairwise at distance
 * 1, 2, 4 ... as (lower rank) + (higher rank); the rest of grad is undefined. World sizes that are
 * no power of two fold the surplus ranks in first: correct to rounding, not to the bit.
 * place: where grad is, the same on every rank; PLUMB_DEVICE needs an attached device. */
plumb_status plumb_comm_reduce_tree(plumb_comm *c, float *grad, int64_t n, enum plumb_place place);
/* The inverse distribution: every rank's shard of x to all ranks. */
plumb_status plumb_comm_allgather_shards(plumb_comm *c, float *x, int64_t n,
                                         enum plumb_place place);

/* How the communicator reaches the memory of this rank's device: functions of whoever owns that.
 * The copies are synchronous and come after what the device was told before; accumulate is done
 * when a copy after it looks. NULL may be released. */
struct plumb_comm_device {
    void *arg;
    plumb_status (*alloc)(void *arg, void **out, int64_t bytes); /* device memory */
    void (*release)(void *arg, void *device);
    plumb_status (*alloc_host)(void *arg, void **out, int64_t bytes); /* that it copies fastest */
    void (*release_host)(void *arg, void *host);
    plumb_status (*to_host)(void *arg, void *host, const void *device, int64_t bytes);
    plumb_status (*to_device)(void *arg, void *device, const void *host, int64_t bytes);
    plumb_status (*accumulate)(void *arg, float *y, const float *x, int64_t n); /* y += x */
    void *stream;  /* that accumulate works on, a cudaStream_t; NULL: the device is no GPU */
    int64_t piece; /* floats that are on their way at once; 0 = the link's choice */
    /* A second stream, whose work goes on beside that of the first; for NCCL. */
    void *side;
    plumb_status (*accumulate_side)(void *arg, float *y, const float *x, int64_t n);
    int64_t bucket; /* floats that plumb_comm_reduce_part waits for */
};

/* From here on the two calls above take device memory, which travels through host memory: with any
 * carrier, and when several ranks share one GPU. Takes 3 pieces, one of them on the device; nothing
 * with one rank. Not collective; agree afterwards. */
plumb_status plumb_comm_attach_device(plumb_comm *c, const struct plumb_comm_device *device);
/* The same through NCCL, GPU to GPU: one GPU for each rank. In builds with NCCL only:
 * PLUMB_HAVE_NCCL is 1 there. own_order: NCCL adds, in an order of its own choosing: faster, but
 * correct to rounding only; else the sums are those of the tree. Takes 2 pieces of device memory.
 * Collective: one rank's failure is every rank's. A rank that stops inside of an exchange ends it
 * as in any collective; one in which all ranks are and nothing moves ends after 2 timeouts. */
plumb_status plumb_comm_attach_nccl(plumb_comm *c, const struct plumb_comm_device *device,
                                    bool own_order);
/* Before the device goes. Collective where NCCL is attached. NULL, or nothing attached, is
 * allowed. */
void plumb_comm_detach_device(plumb_comm *c);
/* How device memory travels: "host memory", "nccl 2.18.1", "none". Not collective. */
const char *plumb_comm_device_name(const plumb_comm *c);
/* reduce_tree on the device is not along the tree. Not collective. */
bool plumb_comm_own_order(const plumb_comm *c);

/* reduce_tree of grad (n,) device in parts, while the device still works on the rest: begin, part
 * as often as there is news, then reduce_tree, which does what is left and waits for all. The same
 * additions, so the same bits. Every rank begins, or none. A part says that grad[from, n) is final
 * once the device has done what its stream was told so far; it does not wait for other ranks, and
 * nothing else may be exchanged on the device until reduce_tree. Links that cannot do that leave
 * all of it to reduce_tree: plumb_comm_overlaps tells. Not collective. */
bool plumb_comm_overlaps(const plumb_comm *c);
void plumb_comm_reduce_begin(plumb_comm *c, float *grad, int64_t n);
plumb_status plumb_comm_reduce_part(plumb_comm *c, int64_t from);
/* Instead of reduce_tree, when the ranks have agreed that one of them failed: gives up what is on
 * its way. Nothing is exchanged on the device from then on. */
void plumb_comm_reduce_drop(plumb_comm *c);

/* *out = zeroed memory of this rank, 256-byte aligned, that the other ranks of its host read
 * without a copy in between: the fastest place for what reduce_tree and allgather_shards move.
 * Ordinary memory where that cannot be had. Errors: PLUMB_ERR_NOMEM, on this rank alone; agree
 * before the next collective. */
plumb_status plumb_comm_alloc(plumb_comm *c, void **out, int64_t bytes);
/* Not collective, but between the same collectives on every rank. NULL is allowed. */
void plumb_comm_free(plumb_comm *c, void *memory);

/* Turns one rank's failure into every rank's: returns `local` where it is an error,
 * PLUMB_ERR_PEER on the other ranks (message: which rank, and its own words), PLUMB_OK when
 * nobody failed. Write plumb_comm_agree(c, local), see below. */
plumb_status plumb_comm_agree_at(plumb_comm *c, plumb_status local, const char *file, int line);

/* Asks for every rank's attention: from soon on plumb_comm_raised returns at least value (> 0) on
 * every rank, whatever each is doing. Never waits. Not collective. */
void plumb_comm_raise(plumb_comm *c, int64_t value);

/* The largest value raised by any rank that was heard of here; 0 = none. Never falls. Two ranks
 * may hear of it at different times: what follows from it must be agreed upon. Cheap enough for
 * every decode step and micro-batch. Not collective. */
int64_t plumb_comm_raised(plumb_comm *c);

/* Ends every rank of the run at once with this exit code, for a failure outside a collective.
 * Not collective. Does not return under MPI. */
void plumb_comm_abort(plumb_comm *c, int exit_code);

/* Notes who calls the next collective, for messages; c. The macros at the end of this file do it.
 * file is borrowed for ever. Not collective. */
plumb_comm *plumb_comm_at(plumb_comm *c, const char *file, int line);

void plumb_comm_destroy(plumb_comm **c); /* Collective. NULL is allowed. */

plumb_status plumb_comm_single_create(plumb_comm **out);
/* n comms over n threads of this process: the multi-rank test double. out (n,). */
plumb_status plumb_comm_thread_create(plumb_comm **out, int n);
/* One rank of `size` that are not there: they agree with everything and send what this one sends.
 * For counting what a rank would need. */
plumb_status plumb_comm_pretend_create(plumb_comm **out, int rank, int size);
/* Ranks of MPI_COMM_WORLD. Calls MPI_Init_thread when nobody has, and then MPI_Finalize in
 * destroy. timeout_s: how long a rank may keep the others waiting (0 = for ever). */
plumb_status plumb_comm_mpi_create(plumb_comm **out, double timeout_s);
/* mpi when this process was started by mpirun or srun, single otherwise. */
plumb_status plumb_comm_create(plumb_comm **out, double timeout_s);

/* Each collective knows the file and line of its caller. A macro does not expand itself again;
 * write (plumb_comm_barrier)(c) for the function alone. */
#define PLUMB_COMM_HERE(c)    plumb_comm_at((c), __FILE__, __LINE__)
#define plumb_comm_barrier(c) plumb_comm_barrier(PLUMB_COMM_HERE(c))
#define plumb_comm_allreduce_f64(c, buf, n, op)                                                    \
    plumb_comm_allreduce_f64(PLUMB_COMM_HERE(c), buf, n, op)
#define plumb_comm_broadcast(c, buf, bytes, root)                                                  \
    plumb_comm_broadcast(PLUMB_COMM_HERE(c), buf, bytes, root)
#define plumb_comm_allgather(c, recv, recv_cap, count, send, bytes)                                \
    plumb_comm_allgather(PLUMB_COMM_HERE(c), recv, recv_cap, count, send, bytes)
#define plumb_comm_alloc(c, out, bytes) plumb_comm_alloc(PLUMB_COMM_HERE(c), out, bytes)
#define plumb_comm_reduce_tree(c, grad, n, place)                                                  \
    plumb_comm_reduce_tree(PLUMB_COMM_HERE(c), grad, n, place)
#define plumb_comm_allgather_shards(c, x, n, place)                                                \
    plumb_comm_allgather_shards(PLUMB_COMM_HERE(c), x, n, place)
/* local is often the work itself, with collectives of its own: they come first in any case. */
#define plumb_comm_agree(c, local) plumb_comm_agree_at((c), (local), __FILE__, __LINE__)

#endif
