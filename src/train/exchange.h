/* exchange.h - lets the ranks of a communicator exchange data in the device memory of their
 * backends.
 * Layer 5. Includes backend/, comm/. */
#ifndef PLUMB_TRAIN_EXCHANGE_H
#define PLUMB_TRAIN_EXCHANGE_H

#include "backend/backend.h"
#include "comm/comm.h"

/* Returns the functions on device memory that plumb_comm_attach_device and plumb_comm_attach_nccl
 * take as argument. backend is borrowed until plumb_comm_detach_device. */
struct plumb_comm_device plumb_exchange_device(struct plumb_backend *backend);

/* Exchanges a small vector in device memory between all ranks, so that NCCL connects them and
 * allocates its buffers now and not at the first step. Does nothing on a CPU or with one rank.
 * Collective. */
plumb_status plumb_exchange_warm(plumb_comm *comm, struct plumb_backend *backend);
/* Fails with PLUMB_ERR_DEVICE if two ranks of one host use the same GPU: compares backend->gpu.
 * Does nothing on a CPU. Collective. */
plumb_status plumb_exchange_check_gpus(plumb_comm *comm, const struct plumb_backend *backend);

#endif
