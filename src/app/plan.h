/* plan.h - one plan of `plumb plan`: what is planned, what it needs and what fits.
 * Layer 6, private to app/: cmd_plan.c and plan_*.c include it. May include everything. */
#ifndef PLUMB_APP_PLAN_H
#define PLUMB_APP_PLAN_H

#include "app/app.h"
#include "train/plan.h"

struct plumb_plan {
    struct plumb_app *app;
    const struct plumb_job *job;
    const char *stage; /* name of the stage; NULL if a single command is planned */
    /* the configuration to plan; a search changes single options of it. The texts and lists that it
     * points to are borrowed */
    struct plumb_config cfg;
    struct plumb_dataset *data;
    /* one line for each assumption about a missing file or an unset option */
    struct plumb_buf assumed;
    /* with frozen: auto, one line for each value of the option `frozen` that was tried */
    struct plumb_buf frozen;
    int world, rank; /* rank: the rank that needs the most memory */
    int shard;       /* the value that train.shard: auto got in the last plan */
    struct plumb_backend *best;
    struct plumb_cost cost; /* the work (FLOP, bytes) of rank `rank` */
    int64_t budget;
    /* the largest values that fit; 0: none fits (micro_batch_tokens is searched only from the
     * configured value up), -1: the option is not searched for */
    int64_t micro_batch, micro_batch_tokens, slots;
};

/* plan_search.c
 *     of: makes the plan of every rank. Sets *out to the one that needs the most memory, which
 *         the caller destroys, *which to its rank, and *cost, unless it is NULL, to its work.
 *     choose_frozen: replaces frozen: auto by the first place that fits on rank 0.
 *     search: sets the largest train.micro_batch_size, or train.micro_batch_tokens if it is
 *         set, and the largest generate.slots that fit.
 *     advise: prints by how much each change of one option lowers the need, if it does. */
plumb_status plumb_plan_of(struct plumb_backend **out, int *which, struct plumb_cost *cost,
                           struct plumb_plan *p);
plumb_status plumb_plan_choose_frozen(struct plumb_plan *p);
plumb_status plumb_plan_search(struct plumb_plan *p);
void plumb_plan_advise(struct plumb_plan *p);

/* plan_time.c: the estimate of the run time. plumb_plan_seconds sets *seconds to the time of the
 * whole command; it returns false if the rates of the device are not known, or if no plan was made.
 * plumb_plan_put_time appends the estimate as a member of the JSON object, or nothing if the rates
 * are not known. */
bool plumb_plan_seconds(double *seconds, const struct plumb_plan *p);
void plumb_plan_print_time(const struct plumb_plan *p);
plumb_status plumb_plan_put_time(struct plumb_buf *out, const struct plumb_plan *p);

/* plan_json.c: appends the plan as one JSON object. */
plumb_status plumb_plan_put(struct plumb_buf *out, const struct plumb_plan *p);

/* plan_stages.c
 *     load: reads a file of stages. Of the options in a, plan.* and output go to *cfg, all others
 *           to the stages. The caller frees *stages and *cfg.
 *     stage: sets p->cfg to the options of stage i. An option may name the checkpoint of an earlier
 *            stage that has not run yet. It is then replaced by the model that the earlier stage
 *            starts from. */
struct plumb_arguments;
plumb_status plumb_plan_load_stages(struct plumb_stages **stages, struct plumb_config **cfg,
                                    const struct plumb_arguments *a);
plumb_status plumb_plan_stage(struct plumb_plan *p, struct plumb_stages *s, int64_t i);

#endif
