/* exchange.h - lets the ranks of a communicator exchange what is in their backends' memory.
 * Layer 5. Includes backend/, comm/. */
#ifndef PLUMB_TRAIN_EXCHANGE_H
#define PLUMB_TRAIN_EXCHANGE_H

#include "backend/backend.h"
#include "comm/comm.h"

/* backend is borrowed until plumb_comm_detach_device. Not collective; agree afterwards. */
plumb_status plumb_exchange_attach(plumb_comm *comm, struct plumb_backend *backend);

#endif
