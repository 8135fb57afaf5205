/* lora_target.h - the settings of an adapter, and the modules that it changes.
 * Layer 4. Includes base/, model/model.h. */
#ifndef PLUMB_MODEL_LORA_TARGET_H
#define PLUMB_MODEL_LORA_TARGET_H

#include "base/buf.h"
#include "model/model.h"

/* The largest rank of an adapter. */
#define PLUMB_LORA_MAX_RANK 4096

struct plumb_lora {
    int64_t r;    /* rank, 1 to PLUMB_LORA_MAX_RANK */
    double alpha; /* > 0 */
    bool rslora;  /* scale = alpha / sqrt(r) instead of alpha / r */
    /* one bit mask per projection: bit f is set if the projection is a target in files of layout f
     * (enum plumb_file_layout). The same name can differ by layout: c_proj is o and down in GPT-2,
     * but only down in StarCoder2 */
    unsigned target[PLUMB_N_PROJECTION];
    /* bit f is set if layout f (enum plumb_file_layout) has all the names of the targets */
    unsigned files;
    bool turned; /* fan_in_fan_out of adapter_config.json: true only for GPT-2 */
};

/* Sets lora->target from n names of modules, such as "q_proj" or GPT-2's "c_attn". "all-linear", or
 * n = 0, stands for all projections of a block. A module that contains several projections, such as
 * Phi-3's "qkv_proj", has one A and one B, as in PEFT. Fails with PLUMB_ERR_CONFIG if a name is not
 * the name of a module that an adapter can change; the message begins with `where` and contains the
 * name. */
plumb_status plumb_lora_set_targets(struct plumb_lora *lora, const char *const *name, int64_t n,
                                    const char *where);

/* Returns true if the projection is a target in files of this layout. */
bool plumb_lora_is_target(const struct plumb_lora *lora, enum plumb_file_layout files,
                          enum plumb_projection id);

/* Returns the first layout that has all the names of the targets and in whose adapter files a
 * tensor may be named `tensor`, or PLUMB_FILES_LLAMA if there is none. */
enum plumb_file_layout plumb_lora_layout(const struct plumb_lora *lora, const char *tensor);

/* Appends the names of the target modules in files of this layout, for example "q_proj, v_proj". */
plumb_status plumb_lora_put_targets(struct plumb_buf *out, const struct plumb_lora *lora,
                                    enum plumb_file_layout files);

/* ---- private to model/ ----------------------------------------------------------------------- */

/* Fails if m's files have no modules with the names of the targets, or if lora->turned
 * (fan_in_fan_out) is set and m is not a GPT-2 model. */
plumb_status plumb_lora_check_targets(const struct plumb_lora *lora, const plumb_model *m);
/* Appends the target modules in files of this layout as a list in JSON, without brackets. */
plumb_status plumb_lora_put_modules(struct plumb_buf *out, const struct plumb_lora *lora,
                                    enum plumb_file_layout files);
/* Returns the first projection of the module that contains projection id. The adapter stores the
 * module's A for this first projection. */
enum plumb_projection plumb_lora_shares(const plumb_model *m, enum plumb_projection id);

#endif
