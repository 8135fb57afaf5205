/* plan.h - a training command in parts, and its memory counted before any of it is taken.
 * Layer 5. Includes base/, config/, data/, train/trainer.h.
 *
 * The plan is the command's own setup, run on a backend that counts (plumb_backend_dry_create): it
 * cannot differ from what the run takes. A run then takes all of it as one block. */
#ifndef PLUMB_TRAIN_PLAN_H
#define PLUMB_TRAIN_PLAN_H

#include "data/dataset.h"
#include "train/trainer.h"

struct plumb_job {
    const char *name; /* of the command */
    int64_t size;     /* of its run: zeroed memory */
    /* Opens and allocates everything; *data(run), when it is there, has been read already.
     * On a dry backend nothing is written and no program started. Collective. */
    plumb_status (*setup)(void *run, const struct plumb_trainer_source *s);
    plumb_status (*work)(void *run); /* Collective. */
    void (*release)(void *run, plumb_status outcome);
    struct plumb_dataset **(*data)(void *run);
};
extern const struct plumb_job plumb_job_sft;

/* Plans, refuses what does not fit (PLUMB_ERR_NOMEM, with the table in the log), takes the memory,
 * sets up and works. Collective. */
plumb_status plumb_job_run(const struct plumb_job *j, const struct plumb_trainer_source *s);

/* The setup of s on a dry backend like s->backend, left as it is in *out for its books: the caller
 * destroys it. data: NULL, or read once and used again; *data is the caller's. */
plumb_status plumb_plan_make(struct plumb_backend **out, struct plumb_dataset **data,
                             const struct plumb_job *j, const struct plumb_trainer_source *s);
/* Bytes of a plan that come out of the backend's memory: all of it, and on a host what lies
 * beside it. */
int64_t plumb_plan_bytes(const struct plumb_backend *plan);
/* *bytes of memory that this rank may take: plan.memory, or its share of what is free. */
plumb_status plumb_plan_budget(int64_t *bytes, const struct plumb_trainer_source *s);
/* out += the table: a line for each owner and phase with its largest parts, then the sums. */
plumb_status plumb_plan_table(struct plumb_buf *out, const struct plumb_backend *plan);

/* Stand-ins for data that is not given: records as long as the options allow. */
plumb_status plumb_plan_prompts(struct plumb_dataset **out, const struct plumb_config *cfg,
                                const struct plumb_spec *spec);
plumb_status plumb_plan_records(struct plumb_dataset **out, const struct plumb_config *cfg,
                                const struct plumb_spec *spec);

/* *bytes of "80GB", "1.5 GiB", "4096": decimal units are powers of 1000, binary ones of 1024.
 * PLUMB_ERR_CONFIG. */
plumb_status plumb_plan_parse(int64_t *bytes, const char *text);

#endif
