/* adapter_file.h - reads and writes an adapter folder, which has PEFT's two files
 * (adapter_config.json and adapter_model.safetensors).
 * Layer 4. Includes model/lora_target.h, model/model.h. */
#ifndef PLUMB_MODEL_ADAPTER_FILE_H
#define PLUMB_MODEL_ADAPTER_FILE_H

#include "model/lora_target.h"
#include "model/model.h"

#define PLUMB_ADAPTER_CONFIG "adapter_config.json"
#define PLUMB_ADAPTER_FILE   "adapter_model.safetensors"

/* Returns true if dir is an adapter folder: it has an adapter_config.json. */
bool plumb_adapter_in(const char *dir);
/* Sets out (size bytes) to the folder of the base model: if dir is an adapter folder, the
 * base_model_name_or_path in its adapter_config.json; otherwise dir itself. Fails with
 * PLUMB_ERR_CONFIG if base_model_name_or_path is not a folder on this machine, or is itself an
 * adapter folder. */
plumb_status plumb_adapter_base(char *out, int64_t size, const char *dir);

/* Reads the settings of the adapter in dir, and the number of scores of a classifier (0 for a
 * language model). Errors: those of plumb_adapter_open. */
plumb_status plumb_adapter_describe(struct plumb_lora *lora, int64_t *labels, const char *dir);

/* ---- private to model/ ----------------------------------------------------------------------- */

/* Writes PEFT's two files to an existing folder. base_model_name_or_path becomes the absolute path
 * of m->dir, with links resolved, or m->dir if there is no such folder any more. */
plumb_status plumb_adapter_save(const plumb_model *m, const char *dir);
/* Reads adapter_config.json. Sets *classifier to true if the adapter has score rows. */
plumb_status plumb_adapter_read_config(struct plumb_lora *lora, bool *classifier, const char *dir);
/* Reads the tensors of the folder's weights file into the adapter of m. This adapter must have the
 * sizes that adapter_config.json describes. */
plumb_status plumb_adapter_read_weights(plumb_model *m, const char *dir);

#endif
