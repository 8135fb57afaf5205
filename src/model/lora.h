/* lora.h - internals of an adapter: its tensors, its memory, and its matrix products.
 * Layer 4, private to model/. Includes model/lora_target.h, model/net.h. */
#ifndef PLUMB_MODEL_LORA_H
#define PLUMB_MODEL_LORA_H

#include "model/lora_target.h"
#include "model/net.h"

/* Number of rows that the matrix products of an adapter process at a time; it limits their scratch
 * memory. */
#define PLUMB_LORA_ROWS 1024

/* The two LoRA matrices of a projection: a (r,in) and b (out,r). a.w is -1 if the adapter does not
 * change the projection. */
struct plumb_lora_pair {
    struct plumb_linear a, b;
};

/* A LoRA adapter. Its tensors are in one flat vector with the alignment and padding of a model's
 * flat vector (model.h):
 *
 *     | layer 0: q.A, q.B, k.A, k.B, ... | layer 1 | ... | score rows of a classifier | */
struct plumb_adapter {
    struct plumb_lora lora;
    float scale;
    struct plumb_weights weights; /* w (count,) float32 masters, and their packed form */
    int64_t n_param, count;
    /* (n_param,) `file` is the tensor's name in PEFT's files. Projections that the files store as
     * one module (such as qkv_proj) share one A; each of them has its own tensor for its rows of
     * the module's B. */
    struct plumb_param *param;
    int64_t layers;
    struct plumb_lora_pair (*pair)[PLUMB_N_PROJECTION]; /* (layers) */
    int64_t *begin;            /* (layers) offset of the first tensor of each layer */
    struct plumb_linear score; /* w is -1 if the model is no classifier */
    struct plumb_arena arena;
    struct plumb_tensor hash; /* (count / PLUMB_HASH_BLOCK,) i64 device */
    uint64_t *hash_host;      /* copy of `hash` on the host */
    /* scratch memory for rows = PLUMB_LORA_ROWS rows. low (rows,r): scale A x; dlow (rows,r): its
     * gradient; wide (rows,out): B low or, in the backward, the gradient of a joined projection's
     * outputs */
    plumb_real *low, *dlow, *wide;
    /* work: scratch of linear_bwd_*; drop, drop_bias: memory for the gradients of frozen norms'
     * weights and biases, which are never read */
    float *work, *drop, *drop_bias;
    int64_t work_count;
};

/* Allocates an adapter with the settings *lora and attaches it to m. Its weights are zero. */
plumb_status plumb_lora_attach(plumb_model *m, const struct plumb_lora *lora);
/* Frees the adapter and detaches it; does nothing if m has none. */
void plumb_lora_detach(plumb_model *m);
/* Packs the adapter's matrices again; plumb_model_refresh calls it after a change of the weights.
 */
plumb_status plumb_lora_pack(const plumb_model *m);
/* Sets *hash to the fingerprint of the adapter's weights. */
plumb_status plumb_lora_hash(const plumb_model *m, uint64_t *hash);

/* Where the outputs of a projection are in an array (n,width): from column `at` on. */
struct plumb_columns {
    int64_t at, width;
};

/* y += scale B (A x), if projection id of layer l is a target; otherwise does nothing.
 * Row-invariant. y (n,where.width): columns from where.at on are the projection's outputs */
plumb_status plumb_lora_forward(const plumb_model *m, int64_t l, enum plumb_projection id,
                                plumb_real *y, struct plumb_columns where, const plumb_real *x,
                                int64_t n);
/* Backpropagates through plumb_lora_forward: dx += scale A^T B^T dy, and grad += the gradients of A
 * and B.    dy (n,where.width): columns from where.at on are the gradient of the projection's
 * outputs */
plumb_status plumb_lora_backward(const plumb_model *m, int64_t l, enum plumb_projection id,
                                 plumb_real *dx, float *grad, const plumb_real *dy,
                                 struct plumb_columns where, const plumb_real *x, int64_t n);

#endif
