/* frozen.h - where a run keeps its frozen models (option frozen), and forward passes that all ranks
 * run together because each holds a share of the layers.
 * Layer 5. Includes comm/, config/, model/. */
#ifndef PLUMB_TRAIN_FROZEN_H
#define PLUMB_TRAIN_FROZEN_H

#include "comm/comm.h"
#include "config/config.h"
#include "model/model.h"

/* Where a run's frozen models are. `how` has a pointer to this struct, so the struct must not move
 * in memory. */
struct plumb_frozen_run {
    struct plumb_frozen how;
    plumb_comm *comm; /* borrowed */
    enum plumb_place place;
};

/* Sets *out for the value of cfg->frozen. The value auto is treated as resident; in a training run,
 * plan.c has already replaced auto. */
void plumb_frozen_of(struct plumb_frozen_run *out, const struct plumb_config *cfg, plumb_comm *comm,
                     const struct plumb_backend *b);
/* Returns the name of an enum plumb_frozen_mode, for example "resident". */
const char *plumb_frozen_name(int mode);

/* Passes of a model whose layers are divided among the ranks. The ranks have different numbers of
 * passes, and a pass needs all of them:
 *
 *     rank 0   pass  pass  pass  end
 *     rank 1   pass  end.follow  follow      takes part in the gathers, and computes nothing
 *
 * Before each pass a rank calls plumb_lockstep_pass, and after its last one, also after a failure
 * or a pause, plumb_lockstep_end. Without such shares (plumb_model_gathers(m) is false) a pass
 * needs no other rank, and both functions only return a status. */
struct plumb_lockstep {
    bool over; /* all ranks know that no pass follows */
};
/* Call this function before each pass of m. Collective: each rank calls either this function or
 * plumb_lockstep_end. Fails with PLUMB_ERR_PEER if another rank has failed, and with PLUMB_STOPPED
 * if another rank pauses. */
plumb_status plumb_lockstep_pass(struct plumb_lockstep *s, const struct plumb_frozen_run *run,
                                 const plumb_model *m);
/* Takes part in the other ranks' remaining passes. local: the status of this rank's passes. Returns
 * local, or the failure or pause of another rank. Afterwards *s can be used again. */
plumb_status plumb_lockstep_end(struct plumb_lockstep *s, const struct plumb_frozen_run *run,
                                const plumb_model *m, plumb_status local);

#endif
