/* adapter.h - LoRA adapters: creating, reading and writing them, and models that share their base.
 * Layer 4. Includes model/adapter_file.h, model/lora_target.h.
 *
 * An adapter adds a low-rank product to those projections of the blocks that are its targets:
 *
 *     y = W x + scale B (A x)      A (r,in)  B (out,r)      scale = alpha / r, or alpha / sqrt(r)
 *
 * W is frozen. A run trains A and B of every target and, in a classifier, the score rows (PEFT's
 * modules_to_save). An adapter folder has PEFT's two files, adapter_config.json and
 * adapter_model.safetensors.
 * Source: Hu et al. 2021, arXiv:2106.09685, section 4.1; rslora: Kalajdzievski 2023,
 * arXiv:2312.03732. */
#ifndef PLUMB_MODEL_ADAPTER_H
#define PLUMB_MODEL_ADAPTER_H

#include "model/adapter_file.h"
#include "model/lora_target.h"

/* Adds a new adapter to m, which must have none: A is uniform in (-1/sqrt(in), 1/sqrt(in)), drawn
 * from seed, and B is 0, as PEFT initialises them. So the model computes the same as before. The
 * score rows of a classifier keep their values. */
plumb_status plumb_adapter_create(plumb_model *m, const struct plumb_lora *lora, uint64_t seed);
/* Adds the adapter in folder dir to m, which must have none. On a dry backend, which only counts
 * memory, only adapter_config.json is read. Errors: PLUMB_ERR_UNSUPPORTED if the adapter is of a
 * classifier and m is a language model, or the reverse, or for a field of adapter_config.json that
 * plumb does not honour (the message names it); PLUMB_ERR_SHAPE for a tensor of another shape;
 * PLUMB_ERR_FORMAT for a tensor that is missing or unexpected, or if the adapter was trained on
 * another base. */
plumb_status plumb_adapter_open(plumb_model *m, const char *dir);
/* Returns the adapter's settings, or NULL if m has no adapter. */
const struct plumb_lora *plumb_adapter_lora(const plumb_model *m);

/* Creates a model *out that shares the base weights of m. m must outlive *out. If adapter is true,
 * *out gets its own copy of m's adapter; otherwise it has no adapter. */
plumb_status plumb_model_share(plumb_model **out, const plumb_model *m, bool adapter);

/* Returns the bytes of device memory of m and of its adapter, without the memory that m shares with
 * another model (plumb_model_share). */
int64_t plumb_model_bytes(const plumb_model *m);

/* Merges the adapter of m into the base weights, W + scale B A, computed in double and rounded once
 * to float32, and then removes the adapter. The adapter's score rows replace those of the base. m
 * must not share its base. */
plumb_status plumb_adapter_merge(plumb_model *m);

#endif
