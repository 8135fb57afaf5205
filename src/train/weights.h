/* weights.h - whether every rank holds the same weights.
 * Layer 5. Includes comm/, model/. */
#ifndef PLUMB_TRAIN_WEIGHTS_H
#define PLUMB_TRAIN_WEIGHTS_H

#include "comm/comm.h"
#include "model/model.h"

/* Hashes this rank's weights as they are in memory now and compares them with those that the last
 * update left (m->fingerprint) and with every other rank's. *out = the fingerprint of all.
 * Collective. PLUMB_ERR_NUMERIC on every rank, naming the ranks whose weights are not those of the
 * most ranks (of rank 0 where no side has more), with both fingerprints. */
plumb_status plumb_weights_agree(uint64_t *out, const plumb_model *m, plumb_comm *comm);

#endif
