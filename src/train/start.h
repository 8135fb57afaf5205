/* start.h - where a command's model comes from: the folders of its base and of its adapter.
 * Layer 5. Includes config/, model/.
 *
 * One rule holds for every command: model=FOLDER with an adapter_config.json stands for
 * model=BASE lora.adapter=FOLDER, where BASE is the folder that base_model_name_or_path names. */
#ifndef PLUMB_TRAIN_START_H
#define PLUMB_TRAIN_START_H

#include "config/config.h"
#include "model/adapter.h"

struct plumb_start {
    char base[4096];    /* folder of config.json and of the base weights */
    char adapter[4096]; /* folder of the adapter; "" if there is none */
    /* folder of the files that an earlier run may have written with its weights: the adapter's
     * folder, or the base's folder if there is no adapter */
    char run[4096];
    /* folder of tokenizer.json and of the chat template: the option `tokenizer`, else run if it has
     * the file, else base */
    char words[4096];
};

/* Finds the folders. PLUMB_ERR_CONFIG if model and lora.adapter both name an adapter, or if
 * lora.adapter is no adapter folder; other errors are those of plumb_adapter_base. */
plumb_status plumb_start_of(struct plumb_start *out, const struct plumb_config *cfg);
/* Adds the adapter that the run trains to m: the adapter in the folder start->adapter or, if there
 * is none and lora.r is set, a new one. Otherwise does nothing. PLUMB_ERR_CONFIG if an option of
 * the section lora was given and differs from the adapter in the folder. */
plumb_status plumb_start_adapter(plumb_model *m, const struct plumb_start *start,
                                 const struct plumb_config *cfg);
/* Returns the folder of the reference `init`: the folder of the adapter that the run starts from
 * or, without an adapter, the folder of the model. */
const char *plumb_start_init(const struct plumb_config *cfg);

#endif
