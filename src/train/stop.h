/* stop.h - a request from outside to leave: USR1 (Slurm, before the time limit) or TERM.
 * Layer 5. Includes base/, comm/. */
#ifndef PLUMB_TRAIN_STOP_H
#define PLUMB_TRAIN_STOP_H

#include <stdbool.h>

#include "base/status.h"
#include "comm/comm.h"

/* Catches USR1 and TERM from now on, in the whole process. A second TERM ends it at once. */
void plumb_stop_watch(void);
/* *stop = whether any rank was asked to leave, the same answer on every rank. Collective. */
plumb_status plumb_stop_agreed(bool *stop, plumb_comm *comm);

#endif
