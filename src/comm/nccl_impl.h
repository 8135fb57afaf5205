/* nccl_impl.h - declarations shared by the files that exchange device memory through NCCL.
 * Layer 1. Includes nccl.h, comm/ and base/. For src/comm/comm_nccl.c and nccl_*.c only. */
#ifndef PLUMB_COMM_NCCL_IMPL_H
#define PLUMB_COMM_NCCL_IMPL_H

#include <cuda_runtime_api.h>
#include <nccl.h>

#include "comm/comm_impl.h"

#define PLUMB_NCCL_DEPTH 2                  /* largest number of pieces in flight in one exchange */
#define PLUMB_NCCL_PIECE ((int64_t)8 << 20) /* floats of a piece, if the device sets no size */

struct plumb_nccl {
    ncclComm_t comm; /* NULL before it is created and after an abort */
    /* stream: for NCCL; compute: of the kernels that use the vectors */
    cudaStream_t stream, compute;
    /* true while parts of a reduction are enqueued: other ranks may enqueue theirs later, so waits
     * have no limit stuck_s */
    bool queuing;
    cudaEvent_t ready;                   /* set when the vector x is final and may be sent */
    cudaEvent_t came[PLUMB_NCCL_DEPTH];  /* set when a piece has arrived */
    cudaEvent_t added[PLUMB_NCCL_DEPTH]; /* set when the piece was added: its buffer is free */
    float *sum[PLUMB_NCCL_DEPTH];        /* (device.piece,) device: the values to add */
};

/* Raise PLUMB_ERR_COMM with NCCL's text for the error e of `call`, or PLUMB_ERR_DEVICE with CUDA's.
 */
plumb_status plumb_nccl_fail(const plumb_comm *c, const char *file, int line, const char *call,
                             ncclResult_t e);
plumb_status plumb_nccl_cuda_fail(const char *file, int line, const char *call, cudaError_t e);
/* Runs an NCCL call and returns on an error. The call may continue in the background: call
 * plumb_nccl_settle before the next one. */
#define PLUMB_NCCL(c, call)                                                                        \
    do {                                                                                           \
        const ncclResult_t e_ = (call);                                                            \
        if (e_ != ncclSuccess && e_ != ncclInProgress)                                             \
            return plumb_nccl_fail((c), __FILE__, __LINE__, #call, e_);                            \
    } while (0)
#define PLUMB_NCCL_CUDA(call)                                                                      \
    do {                                                                                           \
        const cudaError_t e_ = (call);                                                             \
        if (e_ != cudaSuccess)                                                                     \
            return plumb_nccl_cuda_fail(__FILE__, __LINE__, #call, e_);                            \
    } while (0)

/* Waits until the last NCCL call has enqueued its operations on its stream. */
plumb_status plumb_nccl_settle(plumb_comm *c);
/* Waits until the device has reached the event. */
plumb_status plumb_nccl_await(plumb_comm *c, cudaEvent_t event);
/* Aborts all operations in flight, so that the device does not wait forever. Returns st. */
plumb_status plumb_nccl_break(plumb_comm *c, plumb_status st);

/* Defined in nccl_move.c: the operations that exchange through NCCL and add in the order of the
 * trees of reduce.c, or in NCCL's own order. */
extern const struct plumb_link plumb_nccl_tree, plumb_nccl_own_order;
void plumb_nccl_detach(plumb_comm *c); /* comm_nccl.c */

#endif
