/* lora.h - internals of an adapter: its tensors, its memory, and its matrix products.
 * Layer 4, private to model/. Includes model/lora_target.h, model/net.h. */
#ifndef PLUMB_MODEL_LORA_H
#define PLUMB_MODEL_LORA_H

#include "model/lora_target.h"
#include "model/net.h"

/* Rows that the matrix products of an adapter process at a time; this bounds their scratch. */
#define PLUMB_LORA_ROWS 1024

/* The two matrices of a projection: a (r,in) and b (out,r). a.w is -1 if the projection is no
 * target. */
struct plumb_lora_pair {
    struct plumb_linear a, b;
};

/* A LoRA adapter. Its tensors are in one flat vector with the same rules as the weights of a model:
 *
 *     | layer 0: q.A, q.B, k.A, k.B, ... | layer 1 | ... | score rows of a classifier |
 */
struct plumb_adapter {
    struct plumb_lora lora;
    float scale;
    struct plumb_weights weights; /* w (count,) float32 masters, and their packed form */
    int64_t n_param, count;
    /* (n_param,) `file` is the tensor's name in PEFT's files. The projections of a fused module
     * (such as qkv_proj) share one A. Each has its rows of the module's B as its own tensor. */
    struct plumb_param *param;
    int64_t layers;
    struct plumb_lora_pair (*pair)[PLUMB_N_PROJECTION]; /* (layers) */
    int64_t *begin;            /* (layers) offset of the first tensor of each layer */
    struct plumb_linear score; /* w is -1 if the model is no classifier */
    struct plumb_arena arena;
    struct plumb_tensor hash; /* (count / PLUMB_HASH_BLOCK,) i64 device */
    uint64_t *hash_host;      /* copy of `hash` on the host */
    /* scratch for PLUMB_LORA_ROWS rows: (rows,r) A x and its gradient, (rows,out) B (A x) or, in
     * the backward, the gradient of a joined projection's outputs */
    plumb_real *low, *dlow, *wide;
    /* work: scratch of linear_bwd_*; drop, drop_bias: frozen norms write the gradients of their
     * weights and biases here, and nobody reads them */
    float *work, *drop, *drop_bias;
    int64_t work_count;
};

/* Allocates an adapter of these settings for m and attaches it. Its weights are zero. */
plumb_status plumb_lora_attach(plumb_model *m, const struct plumb_lora *lora);
/* Frees the adapter and detaches it; does nothing if m has none. */
void plumb_lora_detach(plumb_model *m);
/* Packs the adapter's matrices again; plumb_model_refresh calls it after a change of the weights.
 */
plumb_status plumb_lora_pack(const plumb_model *m);
/* Sets *hash to the fingerprint of the adapter's weights. */
plumb_status plumb_lora_hash(const plumb_model *m, uint64_t *hash);

/* The outputs of a projection in an array (n,width): from column `at` on. */
struct plumb_columns {
    int64_t at, width;
};

/* y += scale B (A x), if projection id of layer l is a target; otherwise does nothing.
 * Row-invariant.    y (n,where.width): the projection's columns */
plumb_status plumb_lora_forward(const plumb_model *m, int64_t l, enum plumb_projection id,
                                plumb_real *y, struct plumb_columns where, const plumb_real *x,
                                int64_t n);
/* Backpropagates through plumb_lora_forward: dx += scale A^T B^T dy, and grad += the gradients of A
 * and B.    dy (n,where.width): the projection's columns */
plumb_status plumb_lora_backward(const plumb_model *m, int64_t l, enum plumb_projection id,
                                 plumb_real *dx, float *grad, const plumb_real *dy,
                                 struct plumb_columns where, const plumb_real *x, int64_t n);

#endif
