/* step.c - one optimizer step: gradient, reduction, update, and the check for non-finite values.
 * Layer 5. Includes train/trainer.h, train/non_finite.h. */
#include "train/non_finite.h"
#include "train/trainer.h"

plumb_status plumb_trainer_step(struct plumb_trainer *t, int64_t micro_batches,
                                plumb_micro_batch_fn *fn, void *arg, struct plumb_step_result *out)
{
    plumb_comm_phase(t->comm, "gradient");
    struct plumb_non_finite check = {.t = t, .fn = fn, .arg = arg, .failed = -1};
    t->stop.busy = t->stop.held;
    t->stop.held = false;
    PLUMB_TRY(plumb_non_finite_begin(&check));
    plumb_status st =
        plumb_gradient_run(&t->gradient, micro_batches, plumb_non_finite_micro, &check, out->value);
    t->stop.busy = false;
    if (st != PLUMB_OK)
        return plumb_non_finite_micro_failed(&check, st);
    out->paused = t->gradient.paused;
    if (out->paused)
        return PLUMB_OK;
    plumb_comm_phase(t->comm, "update");
    struct plumb_gradient *g = &t->gradient;
    st = g->rounds ? plumb_optim_step_shard(t->optim, t->model, t->comm, plumb_gradient_shard(g),
                                            &out->optim)
                   : plumb_optim_step(t->optim, t->model, t->comm, g->sum[0], &out->optim);
    if (st == PLUMB_ERR_NUMERIC) /* every rank gets the same status */
        return plumb_non_finite_gradient_failed(&check, micro_batches);
    PLUMB_TRY(st);
    t->state.step++;
    return PLUMB_OK;
}
