/* rollout_stage.c - returns the model, data and options with which an iteration's completions are
 * generated, and clears the completions at the start of an iteration.
 * Layer 5. Includes stage/stages.h, align/. */
#include "stage/stages.h"

struct plumb_rollout_source plumb_rollout_stage_source(const struct plumb_rollout_stage *r,
                                                       const struct plumb_align_context *c)
{
    struct plumb_rollout_source src = {
        .data = c->data,
        .tokenizer = c->t->tokenizer,
        .generator = r->generator,
        .model = c->t->model,
        .options = plumb_generate_options_of(c->t->cfg, c->t->state.iteration + 1),
        .principled = plumb_method_principled(c->method, r->rollouts.group_size),
    };
    src.options.pause = plumb_stop_pause;
    src.options.pause_arg = &c->t->stop;
    return src;
}

plumb_status plumb_rollout_stage_begin(struct plumb_rollout_stage *r,
                                       const struct plumb_align_context *c,
                                       const struct plumb_partition *p)
{
    const struct plumb_rollout_source src = plumb_rollout_stage_source(r, c);
    return plumb_rollouts_begin(&r->rollouts, &src, p->prompt_of_local, p->record_of_local,
                                p->n_local);
}
