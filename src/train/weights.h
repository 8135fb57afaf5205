/* weights.h - checks that every rank has the same weights.
 * Layer 5. Includes comm/, model/. */
#ifndef PLUMB_TRAIN_WEIGHTS_H
#define PLUMB_TRAIN_WEIGHTS_H

#include "comm/comm.h"
#include "model/model.h"

/* Hashes this rank's weights in memory, and the masters if they are divided among the ranks.
 * Compares the hash with the one after the last update (m->fingerprint) and with the hashes of the
 * other ranks. Sets *out to this hash. Collective. PLUMB_ERR_NUMERIC on every rank if they differ:
 * the message names the ranks whose hash is not the most frequent one (of equally frequent ones,
 * that of the lowest rank), and the two hashes. */
plumb_status plumb_weights_agree(uint64_t *out, const plumb_model *m, plumb_comm *comm);

#endif
