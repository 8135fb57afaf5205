/* plan.h - the parts of a training command, and its memory plan, made before any allocation.
 * Layer 5. Includes base/, config/, data/, train/trainer.h.
 *
 * To make the plan, the command's own setup function runs on a backend that only counts
 * (plumb_backend_dry_create). So the plan cannot differ from what the run allocates. A run reserves
 * all of its memory as one block. */
#ifndef PLUMB_TRAIN_PLAN_H
#define PLUMB_TRAIN_PLAN_H

#include "data/dataset.h"
#include "train/cost.h"
#include "train/trainer.h"

struct plumb_job {
    const char *name; /* name of the command */
    int64_t size;     /* bytes of the command's run struct; it is zeroed before setup */
    /* Fails with PLUMB_ERR_CONFIG if the configuration does not name the data files. Called for a
     * run only, because a plan does not need the data. The result is the same on all ranks. */
    plumb_status (*check)(const struct plumb_config *cfg);
    /* Opens and allocates everything. If *data(run) is not NULL, the data were read already. On a
     * dry backend it writes nothing and starts no program. Collective. */
    plumb_status (*setup)(void *run, const struct plumb_trainer_source *s);
    plumb_status (*work)(void *run);                  /* Trains the model. Collective. */
    void (*release)(void *run, plumb_status outcome); /* Frees everything that setup opened. */
    struct plumb_dataset **(*data)(void *run);        /* Returns where the run keeps its data. */
    /* Called after setup: counts the work of this rank in *out, which is zero on entry. */
    void (*cost)(const void *run, struct plumb_cost *out);
};
extern const struct plumb_job plumb_job_sft;

/* Makes the plan, reserves the memory, and runs setup and work. If the plan does not fit, it logs
 * the table and fails with PLUMB_ERR_NOMEM. Collective. */
plumb_status plumb_job_run(const struct plumb_job *j, const struct plumb_trainer_source *s);

/* Replaces cfg->frozen, if it is auto, by the first of resident, sharded (with more than one rank)
 * and offload whose plan fits into `budget` on every rank; if none fits, by the one whose plan
 * needs least memory. s->cfg must be cfg. Appends a line for each tried plan to *why unless why is
 * NULL. Collective. */
plumb_status plumb_plan_choose(struct plumb_config *cfg, struct plumb_buf *why, int64_t budget,
                               struct plumb_dataset **data, const struct plumb_job *j,
                               const struct plumb_trainer_source *s);
/* Runs the setup of j on a dry copy of s->backend, which only counts memory, and returns this copy
 * with its counts in *out; the caller destroys it. If data is not NULL, the setup uses the data set
 * *data or, if *data is NULL, reads the files. It then stores its data set in *data, so that the
 * data are read only once. The caller owns *data. If cost is not NULL, it is set to the work of the
 * rank. Collective. */
plumb_status plumb_plan_make(struct plumb_backend **out, struct plumb_dataset **data,
                             struct plumb_cost *cost, const struct plumb_job *j,
                             const struct plumb_trainer_source *s);
/* Warns if the sequences that a command will make are longer than the length limit in the
 * tokenizer's folder (data/length.h). data: from plumb_plan_make; it may be NULL. */
void plumb_plan_note_length(const struct plumb_dataset *data, const struct plumb_job *j,
                            const struct plumb_config *cfg);
/* Returns the bytes of device memory that a plan needs on this rank, with the margin. On a CPU this
 * includes the allocations outside of the backend's block. */
int64_t plumb_plan_bytes(const struct plumb_backend *plan);
/* Sets *bytes to the memory that this rank may use: the option plan.memory or, if it is not set,
 * this rank's share of the free memory. */
plumb_status plumb_plan_budget(int64_t *bytes, const struct plumb_trainer_source *s);
/* Appends the memory table: one line per owner and phase with its largest parts, then the sums. */
plumb_status plumb_plan_table(struct plumb_buf *out, const struct plumb_backend *plan);

/* Create data sets that a memory plan uses if the configuration names no data files. Their records
 * are as long as the options allow. sequences: the most sequences of one prompt in a micro-batch;
 * completions: 1 for SFT, 2 for pairs. */
plumb_status plumb_plan_prompts(struct plumb_dataset **out, const struct plumb_config *cfg,
                                const struct plumb_spec *spec, int64_t sequences);
plumb_status plumb_plan_records(struct plumb_dataset **out, const struct plumb_config *cfg,
                                const struct plumb_spec *spec, int completions);

/* Reads a size such as "80GB", "1.5 GiB" or "80000000000". Decimal units are powers of 1000, binary
 * ones of 1024. Fails with PLUMB_ERR_CONFIG if text is not a size, and for a number below 10 MB
 * without a unit, because the user has probably forgotten the unit. */
plumb_status plumb_plan_parse(int64_t *bytes, const char *text);

#endif
