/* stages.h - one YAML file that lists stages: a whole configuration for each.
 * Layer 3. Includes config.h, base/.
 *
 *     output_dir: runs/spa
 *     model: checkpoints/sft            # what stands outside of `stages` holds for every stage
 *     stages:
 *       - {name: seed, command: prefer, data: {train: seed.jsonl}, method: {name: dpo}}
 *       - name: spa-1
 *         command: align
 *         model: stage:seed             # the last checkpoint of an earlier stage
 *         ...
 *
 * A stage's own options win over the file's, the command line's over both: key=value goes to every
 * stage whose command uses the option and does not take it from another stage, NAME:key=value to
 * one stage. A stage writes to OUTPUT_DIR/NAME. In an option that is a folder, and behind the = of
 * eval.models, stage:NAME stands for OUTPUT_DIR/NAME/latest. */
#ifndef PLUMB_CONFIG_STAGES_H
#define PLUMB_CONFIG_STAGES_H

#include "config/config.h"

struct plumb_stage {
    const char *name, *command;
    struct plumb_config *cfg; /* its output_dir is OUTPUT_DIR/name */
    int64_t from;             /* the stage whose checkpoint `model` is; -1: none's */
    int line;
};

struct plumb_stages {
    struct plumb_config *top; /* what `plumb run` itself uses */
    struct plumb_stage *item;
    int64_t n;
};

/* Reads and checks everything. *out is owned by the caller. Errors: PLUMB_ERR_CONFIG naming the
 * file, line and column, or the argument; PLUMB_ERR_IO. */
plumb_status plumb_stages_load(struct plumb_stages **out, const char *yaml_path,
                               char *const *override, int n);
/* After the stages' methods have said what they read (plumb_config_unread): notes on `top` what all
 * stages were given and none reads, PLUMB_ERR_CONFIG for such an argument of the command line. */
plumb_status plumb_stages_check(const struct plumb_stages *stages);
void plumb_stages_free(struct plumb_stages **stages); /* NULL is allowed */

#endif
