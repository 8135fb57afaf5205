/* comm.h - collectives over one set of ranks, over MPI, threads or a single process.
 * Layer 1. Includes base/ only; mpi.h and nccl.h stay in the files of MPI and NCCL. */
#ifndef PLUMB_COMM_COMM_H
#define PLUMB_COMM_COMM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/tensor.h"

typedef struct plumb_comm plumb_comm; /* opaque; one per rank */

enum plumb_redop { PLUMB_SUM, PLUMB_MIN, PLUMB_MAX };

/* A contiguous part of a vector, for example the shard of one rank. */
struct plumb_range {
    int64_t begin, end; /* the elements begin .. end - 1 */
};

/* Shard borders are multiples of this many elements. */
#define PLUMB_SHARD_BLOCK 4096

/* All calls below are Collective unless they say otherwise: every rank of the communicator makes
 * the same calls in the same order with the same n and op. Synchronous. */
int plumb_comm_rank(const plumb_comm *c); /* Returns this rank, from 0. Not collective. */
int plumb_comm_size(const plumb_comm *c); /* Returns the number of ranks. Not collective. */
/* Return the index of this rank among the ranks of its host, from 0, and the number of these ranks.
 * Not collective. */
int plumb_comm_local_rank(const plumb_comm *c);
int plumb_comm_local_size(const plumb_comm *c);
/* Returns the name of the transport: "single", "thread", "mpi" or "pretend". Not collective. */
const char *plumb_comm_name(const plumb_comm *c);
const char *plumb_comm_host(const plumb_comm *c); /* Returns this rank's host. Not collective. */
/* Returns the name and version that the MPI library reports, or "none" in a build without MPI. Not
 * collective. */
const char *plumb_comm_library(void);
/* Returns the thread level that MPI provides ("serialized"), or NULL if MPI was not started. Not
 * collective. */
const char *plumb_comm_thread_level(void);
/* Returns the name of the launcher that started this process ("srun with PMIx"), according to the
 * environment variables, or NULL if they name none. Not collective. */
const char *plumb_comm_launcher(void);

/* Messages, bytes and time of this rank in the collectives of one class since the communicator was
 * created. */
struct plumb_traffic {
    int64_t messages, bytes; /* sent by this rank; heartbeats are not counted */
    double seconds;          /* time in these collectives, including waits for late ranks */
};
enum plumb_traffic_class {
    PLUMB_TRAFFIC_CONTROL,  /* all collectives except those of PLUMB_TRAFFIC_EXCHANGE */
    PLUMB_TRAFFIC_EXCHANGE, /* plumb_comm_reduce_tree and plumb_comm_allgather_shards, _halves */
    PLUMB_TRAFFIC_CLASSES
};
/* Returns the totals of one class. If NCCL adds in its own order (plumb_comm_own_order), the
 * messages that it sends are not known. Each piece of a vector then counts as one message, with the
 * bytes that each rank would send in a ring algorithm. Not collective. */
struct plumb_traffic plumb_comm_traffic(const plumb_comm *c,
                                        enum plumb_traffic_class traffic_class);

/* Returns the rank for which this rank has waited longest since the last call of this function, or
 * -1 if it has waited for none, and sets *seconds to the time. Only waits of more than two
 * heartbeat periods count. Not collective. */
int plumb_comm_waited_for(plumb_comm *c, double *seconds);

/* Sets the name of the current phase ("rollout", "save") for messages about late ranks. Not
 * collective. */
void plumb_comm_phase(plumb_comm *c, const char *phase);

/* Sets the timeout in seconds; 0 = none. If a rank sends no heartbeat for that time, because its
 * process is dead or stopped, a collective that waits for it fails with PLUMB_ERR_COMM. The
 * effective limit is at least 4 heartbeat periods; the period is timeout / 10 within [0.1 s, 1 s],
 * and at least 2 ms x world_size. Not collective, but every rank must set the same value. The
 * default is 60 for thread ranks, and the argument of plumb_comm_mpi_create for MPI. */
void plumb_comm_timeout(plumb_comm *c, double seconds);

/* Sets how many seconds a collective waits for a rank that still sends heartbeats but has not
 * entered the collective; 0 = no limit; the default is 1800. During such a wait, a warning names
 * the late ranks every timeout seconds (every 60 if there is no timeout). Not collective, but every
 * rank must set the same value. If MPI does not support threads there is no heartbeat, and this is
 * the only limit. */
void plumb_comm_max_wait(plumb_comm *c, double seconds);

/* Turns the collective check on or off. Before each collective it compares the calls of all ranks:
 * the collective, its number, its size, operation or root, and its caller. If they differ, every
 * rank fails with PLUMB_ERR_COMM and a message that lists all calls. It costs one small allreduce
 * per collective. The default is on in debug builds (meson option `collective_check`). Not
 * collective, but every rank must set the same value. */
void plumb_comm_check_calls(plumb_comm *c, bool on);

/* Barrier: returns after every rank has called it. */
plumb_status plumb_comm_barrier(plumb_comm *c);

/* Sets buf (n,) on every rank to op over all ranks, element by element. SUM adds in a fixed tree
 * over the ranks. Its result has the same bits for every world_size only if at most one rank's
 * element is not zero, or if all are whole numbers with sums below 2^53. */
plumb_status plumb_comm_allreduce_f64(plumb_comm *c, double *buf, int64_t n, enum plumb_redop op);

/* Copies buf (bytes) of rank `root` to buf of every other rank. */
plumb_status plumb_comm_broadcast(plumb_comm *c, void *buf, int64_t bytes, int root);

/* Copies `send` of all ranks to recv of every rank, in rank order. `bytes` may differ between
 * ranks; count (world_size,) receives the number of each rank's bytes. recv has recv_cap bytes. If
 * they are too few on any rank, all ranks fail with PLUMB_ERR_NOMEM. */
plumb_status plumb_comm_allgather(plumb_comm *c, void *recv, int64_t recv_cap, int64_t *count,
                                  const void *send, int64_t bytes);

/* Sends a part of `send` to every rank, and receives a part from every rank. send_bytes[r] and
 * recv_bytes[r] (world_size,) are the bytes for and from rank r; the parts lie in rank order
 * without gaps. send_bytes[b] of rank a must equal recv_bytes[a] of rank b. A rank's part for
 * itself is copied. No message is sent for a part of 0 bytes. send and recv must not overlap; each
 * may be NULL if all of its parts have 0 bytes. Collective. PLUMB_ERR_ARG if a size is negative, if
 * a buffer is missing, or if a rank sends itself more or fewer bytes than it expects. */
plumb_status plumb_comm_alltoall(plumb_comm *c, void *recv, const int64_t *recv_bytes,
                                 const void *send, const int64_t *send_bytes);

/* Return the range of elements (the shard) of a vector of n elements that `rank` owns after
 * plumb_comm_reduce_tree. They depend only on n, rank and world_size. Not collective. */
struct plumb_range plumb_comm_shard(const plumb_comm *c, int64_t n, int rank);
struct plumb_range plumb_comm_shard_of(int64_t n, int rank, int world_size);

/* Sums gradients over the ranks: the upper levels of the tree in comm/tree.h. On entry grad (n,)
 * holds the sum over this rank's subtree. On exit grad[shard] holds the sum over all ranks: ranks
 * at distance 1, 2, 4 ... are added pairwise, as (lower rank) + (higher rank). The rest of grad is
 * undefined. If world_size is not a power of two, and p is the largest power of two below it, each
 * rank r >= p owns no shard: its vector is first added to that of rank r - p. The result then
 * agrees with other world sizes to rounding only. place: where grad is, the same on every rank;
 * PLUMB_DEVICE needs an attached device. */
plumb_status plumb_comm_reduce_tree(plumb_comm *c, float *grad, int64_t n, enum plumb_place place);
/* Sends every rank's shard of x to all ranks, so that every rank has all n elements of x. */
plumb_status plumb_comm_allgather_shards(plumb_comm *c, float *x, int64_t n,
                                         enum plumb_place place);
/* Does what plumb_comm_allgather_shards does, for a vector of n elements of 2 bytes (bfloat16) at
 * x, which is aligned to 4 bytes. n must be even, otherwise PLUMB_ERR_ARG. Each rank's shard is the
 * same range of elements as for n floats (plumb_comm_shard). */
plumb_status plumb_comm_allgather_halves(plumb_comm *c, void *x, int64_t n, enum plumb_place place);

/* The functions by which the communicator reaches the memory of this rank's device; the code that
 * owns the device provides them. The copies are synchronous and run after all work that was
 * enqueued on the device before. accumulate may be asynchronous, but a later copy must see its
 * result. release and release_host accept NULL. */
struct plumb_comm_device {
    void *arg;
    /* Allocates device memory. */
    plumb_status (*alloc)(void *arg, void **out, int64_t bytes);
    void (*release)(void *arg, void *device);
    plumb_status (*alloc_host)(void *arg, void **out,
                               /* allocates host memory with the fastest copies to and from the
                                * device */
                               int64_t bytes);
    void (*release_host)(void *arg, void *host);
    plumb_status (*to_host)(void *arg, void *host, const void *device, int64_t bytes);
    plumb_status (*to_device)(void *arg, void *device, const void *host, int64_t bytes);
    plumb_status (*accumulate)(void *arg, float *y, const float *x, int64_t n); /* y += x */
    void *stream; /* the cudaStream_t of accumulate; NULL if the device is no GPU */
    /* number of floats in one message; 0 for the default of the host exchange or of NCCL */
    int64_t piece;
    /* A second CUDA stream, for NCCL; it runs concurrently with `stream`. */
    void *side;
    plumb_status (*accumulate_side)(void *arg, float *y, const float *x, int64_t n);
    int64_t bucket; /* number of floats that plumb_comm_reduce_part collects before it sends them */
};

/* Lets plumb_comm_reduce_tree and plumb_comm_allgather_shards take device memory. The data are
 * copied through host memory, which works with every transport and when several ranks share one
 * GPU. Allocates 3 buffers of device->piece floats, one of them on the device; allocates nothing if
 * there is only one rank. Not collective; call plumb_comm_agree afterwards. */
plumb_status plumb_comm_attach_device(plumb_comm *c, const struct plumb_comm_device *device);
/* Does the same as plumb_comm_attach_device, but exchanges from GPU to GPU through NCCL; each rank
 * needs a GPU of its own. Exists only in builds with NCCL, where PLUMB_HAVE_NCCL is 1. With
 * own_order NCCL adds in its own order: this is faster, but the result agrees with the tree to
 * rounding only. Allocates 2 buffers of device->piece floats on the device. Collective: if it fails
 * on one rank, it fails on all ranks. If a rank dies or stops during an exchange, the exchange
 * fails like any other collective. If all ranks have entered the exchange and no bytes move, it
 * fails after twice the timeout. */
plumb_status plumb_comm_attach_nccl(plumb_comm *c, const struct plumb_comm_device *device,
                                    bool own_order);
/* Call this before the device is destroyed. Collective if NCCL is attached. c may be NULL or have
 * no device. */
void plumb_comm_detach_device(plumb_comm *c);
/* Returns how device memory is exchanged: "host memory", "nccl 2.18.1" or "none". Not collective.
 */
const char *plumb_comm_device_name(const plumb_comm *c);
/* Returns true if plumb_comm_reduce_tree on the device adds in another order than the tree. Not
 * collective. */
bool plumb_comm_own_order(const plumb_comm *c);

/* Reduces grad (n,) in device memory in parts, while the device still computes the rest. Call
 * begin, then part whenever more of grad is final, then reduce_tree, which reduces the rest and
 * waits for all parts. The additions are the same as without parts, so the bits are the same.
 * Either every rank calls begin, or none does. part(from) tells the communicator that grad[from, n)
 * is final once the device has done the work enqueued so far. part does not wait for other ranks.
 * Until reduce_tree returns, no other exchange on the device is allowed. If plumb_comm_overlaps
 * returns false, the exchange does not support this: begin and part then do nothing, and
 * reduce_tree reduces all of grad. Not collective. */
bool plumb_comm_overlaps(const plumb_comm *c);
void plumb_comm_reduce_begin(plumb_comm *c, float *grad, int64_t n);
plumb_status plumb_comm_reduce_part(plumb_comm *c, int64_t from);
/* Call this instead of reduce_tree after the ranks have agreed that one of them failed. It abandons
 * the parts that are being exchanged. No exchange of device memory is possible afterwards. */
void plumb_comm_reduce_drop(plumb_comm *c);

/* Gather the shards of x as plumb_comm_allgather_shards does, while the device computes: begin
 * enqueues the exchange after the work that is already enqueued on the device, and work enqueued
 * after end sees all shards. Between begin and end, no other exchange on the device is allowed. If
 * plumb_comm_overlaps returns false, or x is in host memory, begin itself gathers x and waits for
 * it. begin is collective; end does nothing if no gather is in progress. */
plumb_status plumb_comm_gather_begin(plumb_comm *c, float *x, int64_t n, enum plumb_place place);
plumb_status plumb_comm_gather_end(plumb_comm *c);

/* Allocates zeroed memory, 256-byte aligned, that the other ranks of this host can read directly.
 * reduce_tree and allgather_shards are fastest on such memory. If such memory is not available,
 * *out is ordinary memory. Collective, but PLUMB_ERR_NOMEM may occur on this rank alone; call
 * plumb_comm_agree before the next collective. */
plumb_status plumb_comm_alloc(plumb_comm *c, void **out, int64_t bytes);
/* Frees memory of plumb_comm_alloc; it may be NULL. Not collective, but every rank must call it
 * between the same two collectives. */
void plumb_comm_free(plumb_comm *c, void *memory);

/* Makes all ranks fail if one rank has failed. `local` is this rank's own status. Returns PLUMB_OK
 * if `local` is PLUMB_OK on every rank. Otherwise returns `local` on a rank where that is an error,
 * and PLUMB_ERR_PEER on the other ranks, with a message that names the failed rank and repeats its
 * message. Call it by the macro plumb_comm_agree(c, local) at the end of this file. */
plumb_status plumb_comm_agree_at(plumb_comm *c, plumb_status local, const char *file, int line);

/* Announces value (> 0) to all ranks: after a short time plumb_comm_raised returns at least `value`
 * on every rank. The ranks need not enter a collective for this. Never waits. Not collective. */
void plumb_comm_raise(plumb_comm *c, int64_t value);

/* Returns the largest value that any rank has passed to plumb_comm_raise, as far as this rank
 * knows, or 0. It never decreases. Ranks may learn of a value at different times, so they must
 * agree before they act on it. A call is fast enough for every decode step and micro-batch. Not
 * collective. */
int64_t plumb_comm_raised(plumb_comm *c);

/* A counter from which the ranks take numbers, to give the next piece of work to the first free
 * rank. In a round, each number 0 .. n - 1 goes to one rank; which rank gets which number depends
 * on the speed of the ranks. */

/* Starts a round. Not collective, but every rank must call it with the same n, between the same two
 * collectives. After the first of these two collectives, no rank may take a number of the previous
 * round. */
void plumb_comm_count_begin(plumb_comm *c, int64_t n);

/* Takes the next number of the round. The first call asks rank 0 for the number. *number is -1 in
 * this call and in later ones until the answer has arrived, and n if the round has no number left.
 * With wait = true the call waits for the answer; the time of the wait counts as
 * PLUMB_TRAFFIC_CONTROL, the message is not counted. Rank 0 answers whenever it is in
 * plumb_comm_raised or in a collective, and with each heartbeat. A rank may begin the next round
 * before the answer has arrived; no rank then gets that number. PLUMB_ERR_COMM if a rank has left
 * the run or sends no heartbeats. Not collective. */
plumb_status plumb_comm_count_take(plumb_comm *c, bool wait, int64_t *number);

/* Ends every rank of the run immediately, with this exit code. Use it for a failure outside of a
 * collective. Not collective. Does not return under MPI. */
void plumb_comm_abort(plumb_comm *c, int exit_code);

/* Records the caller of the next collective for messages, and returns c. The macros at the end of
 * this file call it. file must stay valid. Not collective. */
plumb_comm *plumb_comm_at(plumb_comm *c, const char *file, int line);

void plumb_comm_destroy(plumb_comm **c); /* Collective. Does nothing if *c is NULL. */

plumb_status plumb_comm_single_create(plumb_comm **out);
/* Creates n communicators out (n,) for n threads of this process, for tests with several ranks. */
plumb_status plumb_comm_thread_create(plumb_comm **out, int n);
/* Creates a communicator of one rank of `size` without the other ranks. Every collective succeeds.
 * In an exchange in which this rank sends to and receives from another rank the same number of
 * bytes, it receives its own data; otherwise it receives nothing, and the memory for the incoming
 * data keeps its contents. The memory planner uses it to count the memory that one of `size` ranks
 * needs. */
plumb_status plumb_comm_pretend_create(plumb_comm **out, int rank, int size);
/* Creates a communicator of the ranks of MPI_COMM_WORLD. If MPI is not initialised yet, this calls
 * MPI_Init_thread, and destroy calls MPI_Finalize. timeout_s: see plumb_comm_timeout. */
plumb_status plumb_comm_mpi_create(plumb_comm **out, double timeout_s);
/* Creates an MPI communicator if the environment says that mpirun or srun started this process,
 * otherwise a communicator of one rank. If a launcher started several processes, fails with
 * PLUMB_ERR_CONFIG if MPI knows of only one, and with PLUMB_ERR_UNSUPPORTED if plumb was built
 * without MPI. */
plumb_status plumb_comm_create(plumb_comm **out, double timeout_s);

/* These macros record the file and line of the caller of each collective. A macro does not expand
 * itself again; write (plumb_comm_barrier)(c) to call the function alone. */
#define PLUMB_COMM_HERE(c)    plumb_comm_at((c), __FILE__, __LINE__)
#define plumb_comm_barrier(c) plumb_comm_barrier(PLUMB_COMM_HERE(c))
#define plumb_comm_allreduce_f64(c, buf, n, op)                                                    \
    plumb_comm_allreduce_f64(PLUMB_COMM_HERE(c), buf, n, op)
#define plumb_comm_broadcast(c, buf, bytes, root)                                                  \
    plumb_comm_broadcast(PLUMB_COMM_HERE(c), buf, bytes, root)
#define plumb_comm_allgather(c, recv, recv_cap, count, send, bytes)                                \
    plumb_comm_allgather(PLUMB_COMM_HERE(c), recv, recv_cap, count, send, bytes)
#define plumb_comm_alltoall(c, recv, recv_bytes, send, send_bytes)                                 \
    plumb_comm_alltoall(PLUMB_COMM_HERE(c), recv, recv_bytes, send, send_bytes)
#define plumb_comm_alloc(c, out, bytes) plumb_comm_alloc(PLUMB_COMM_HERE(c), out, bytes)
#define plumb_comm_reduce_tree(c, grad, n, place)                                                  \
    plumb_comm_reduce_tree(PLUMB_COMM_HERE(c), grad, n, place)
#define plumb_comm_allgather_shards(c, x, n, place)                                                \
    plumb_comm_allgather_shards(PLUMB_COMM_HERE(c), x, n, place)
#define plumb_comm_gather_begin(c, x, n, place)                                                    \
    plumb_comm_gather_begin(PLUMB_COMM_HERE(c), x, n, place)
#define plumb_comm_gather_end(c) plumb_comm_gather_end(PLUMB_COMM_HERE(c))
#define plumb_comm_allgather_halves(c, x, n, place)                                                \
    plumb_comm_allgather_halves(PLUMB_COMM_HERE(c), x, n, place)
/* `local` is often an expression with collectives of its own, which record their callers. It is
 * evaluated first, and only then plumb_comm_agree_at records the file and line of this caller. */
#define plumb_comm_agree(c, local) plumb_comm_agree_at((c), (local), __FILE__, __LINE__)

#endif
