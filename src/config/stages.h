/* stages.h - reads a YAML file that lists stages; each stage gets a configuration of its own.
 * Layer 3. Includes config.h, base/.
 *
 *   output_dir: runs/spa
 *   model: checkpoints/sft            # options outside of `stages` apply to all stages
 *   stages:
 *     - {name: seed, command: prefer, data: {train: seed.jsonl}, method: {name: dpo}}
 *     - name: spa-1
 *       command: align
 *       model: stage:seed             # the last checkpoint of an earlier stage
 *       ...
 *
 * An option of a stage overrides the option outside of `stages`, and the command line overrides
 * both. On the command line, NAME:key=value sets the option of one stage. key=value sets it for all
 * stages whose command uses it, except those that have stage:NAME as its value. A stage writes to
 * OUTPUT_DIR/NAME. In an option that is a folder, and after the = of eval.models, stage:NAME stands
 * for OUTPUT_DIR/NAME/latest. */
#ifndef PLUMB_CONFIG_STAGES_H
#define PLUMB_CONFIG_STAGES_H

#include "config/config.h"

struct plumb_stage {
    const char *name, *command;
    struct plumb_config *cfg; /* its output_dir is OUTPUT_DIR/name */
    /* Index of the stage whose checkpoint is this stage's `model`; -1 if there is none. */
    int64_t from;
    int line;
};

struct plumb_stages {
    struct plumb_config *top; /* options of `plumb run` itself */
    struct plumb_stage *item;
    int64_t n;
};

/* Reads and checks all stages. The caller owns *out. Returns PLUMB_ERR_CONFIG with the file, line
 * and column, or with the argument; or PLUMB_ERR_IO. */
plumb_status plumb_stages_load(struct plumb_stages **out, const char *yaml_path,
                               char *const *override, int n);
/* Reports options that were given for all stages and that no stage reads: a warning in `top` for an
 * option of the file, PLUMB_ERR_CONFIG for one of the command line. Call it after the stages'
 * methods have reported what they do not read (plumb_config_unread). */
plumb_status plumb_stages_check(const struct plumb_stages *stages);
void plumb_stages_free(struct plumb_stages **stages); /* does nothing if *stages is NULL */

#endif
