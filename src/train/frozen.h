/* frozen.h - where a run keeps its frozen models (option frozen), and forward passes that all ranks
 * run together because each holds a share of the layers.
 * Layer 5. Includes comm/, config/, model/. */
#ifndef PLUMB_TRAIN_FROZEN_H
#define PLUMB_TRAIN_FROZEN_H

#include "comm/comm.h"
#include "config/config.h"
#include "model/model.h"

/* The place of a run's frozen models. `how` borrows the struct, which must not move. */
struct plumb_frozen_run {
    struct plumb_frozen how;
    plumb_comm *comm; /* borrowed */
    enum plumb_place place;
};

/* Sets *out to the place that cfg->frozen names. The value auto counts as resident here; in a
 * training run plan.c has replaced auto before. */
void plumb_frozen_of(struct plumb_frozen_run *out, const struct plumb_config *cfg, plumb_comm *comm,
                     const struct plumb_backend *b);
/* Returns the name of a mode: "resident". */
const char *plumb_frozen_name(int mode);

/* Passes of a model whose layers are shares of the ranks. The ranks have different numbers of
 * passes, and a pass needs all of them:
 *
 *     rank 0   pass  pass  pass  end
 *     rank 1   pass  end.follow  follow      it gathers with the others, and computes nothing
 *
 * Before each pass a rank calls plumb_lockstep_pass, and after its last one, also after a failure
 * or a pause, plumb_lockstep_end. Without such shares (plumb_model_gathers(m) is false) a pass
 * needs no other rank, and both functions only return a status. */
struct plumb_lockstep {
    bool over; /* all ranks know that no pass follows */
};
/* Collective: each rank calls either this function or plumb_lockstep_end. Fails with PLUMB_ERR_PEER
 * if another rank has failed, and with PLUMB_STOPPED if another rank pauses. */
plumb_status plumb_lockstep_pass(struct plumb_lockstep *s, const struct plumb_frozen_run *run,
                                 const plumb_model *m);
/* Runs the other ranks' remaining passes with them. local: the status of this rank's passes.
 * Returns it, or the failure or pause of another rank. *s is ready for the next passes. */
plumb_status plumb_lockstep_end(struct plumb_lockstep *s, const struct plumb_frozen_run *run,
                                const plumb_model *m, plumb_status local);

#endif
