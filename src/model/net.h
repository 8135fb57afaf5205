/* net.h - internals of a model: the offsets of its tensors by role, and forward and backward of a
 * layer. spec.h describes the block that forward and backward compute.
 * Layer 4, private to model/. Includes io/, op/, model/model.h. */
#ifndef PLUMB_MODEL_NET_H
#define PLUMB_MODEL_NET_H

#include <math.h>

#include "io/safetensors.h"
#include "model/model.h"
#include "op/op.h"

#define PLUMB_EMBED_NAME "model.embed_tokens.weight"

/* A linear layer y = x w^T + bias. The offsets w and bias are valid in any flat vector (weights,
 * gradients, moments). */
struct plumb_linear {
    int64_t out, in;
    /* offsets in the flat vector, in floats; bias is -1 if the layer has no bias */
    int64_t w, bias;
    /* offset in the packed weights, in elements; -1 if the layer reads w unpacked */
    int64_t packed;
};

/* One decoder layer. A norm weight is given by its offset in the flat vector; -1 if there is no
 * such norm. */
struct plumb_layer {
    int64_t begin;  /* offset of the layer's first tensor in the flat vector */
    int64_t packed; /* offset of the layer's first matrix in the packed weights */
    struct plumb_linear project[PLUMB_N_PROJECTION];
    int64_t norm[PLUMB_N_NORM];
    int64_t q_norm, k_norm;
};

/* The float32 weights, and the packed form of the linear ones. */
struct plumb_weights {
    float *w; /* float32, on the device */
    /* on the device; element i of the packed weights is packed[i - packed_begin] */
    plumb_real *packed;
    int64_t packed_begin;
};

/* ---- names in files (names.c) ----------------------------------------------------------- */

/* Returns the text with which all names in the files begin, except those of the head and of a
 * classifier's score: "model.", "transformer." or "gpt_neox.". */
const char *plumb_file_stem(enum plumb_file_layout files);
/* Returns the part of a name in the files that says what a parameter is. `name` is this part in
 * Hugging Face's Llama: for "self_attn.o_proj", it returns "attn.c_proj" in GPT-2. In GPT-2 and
 * GPT-NeoX, q, k and v have the same part, because they are one tensor of the files. */
const char *plumb_file_part(enum plumb_file_layout files, const char *name);
/* Returns the names of the embedding and of the LM head in the files of this model. */
const char *plumb_embed_file(const struct plumb_spec *s);
const char *plumb_head_file(const struct plumb_spec *s);
/* plumb_file_has_name returns true if a checkpoint may call tensor `file` (plumb_param.file)
 * `name`: if that is `file` or its other name. The names of a model that was saved without a head
 * (AutoModel in transformers; also GPT-2 on the hub) lack the stem; transformers 5 writes
 * GPT-NeoX's head as lm_head. plumb_find_tensor looks for the tensor under both names, and returns
 * NULL if there is none. */
bool plumb_file_has_name(const char *file, const char *name);
const struct plumb_st_entry *plumb_find_tensor(const plumb_st *files, const char *file);

/* ---- parameters ----------------------------------------------------------------------------- */

/* Returns the offset of the bias of a LayerNorm over c columns, whose weight has offset w. */
int64_t plumb_norm_bias(int64_t w, int64_t c);
/* Returns the number of floats that a norm saves per row: rstd, and in a LayerNorm also the mean.
 * For n rows, the first n floats are rstd and the others are the means. */
static inline int64_t plumb_norm_saved(const struct plumb_spec *s)
{
    return s->block.layer_norm ? 2 : 1;
}

/* Returns the weights in host memory: m->w itself, or a copy that the caller must free. *owned is
 * the copy, or NULL. */
plumb_status plumb_model_host_weights(const plumb_model *m, float **w, float **owned);

/* Returns the name of a projection inside its layer, such as "self_attn.q_proj". */
const char *plumb_projection_name(enum plumb_projection id);

struct plumb_net {
    int64_t embed, norm; /* offsets of the embedding and of the final norm */
    /* offset in the packed weights of an embedding that is not in the flat vector; else -1 */
    int64_t embed_packed;
    int64_t packed_end; /* offset in the packed weights of the first element after the layers */
    int64_t held;       /* number of floats in plumb_model.w */
    int64_t positions;  /* offset of the learned positions (max_pos,c); -1 if there are none */
    /* the LM head (if tied: the embedding), or the score rows of a classifier */
    struct plumb_linear head;
    struct plumb_layer layer[];
};

/* Where the values of a model's tensors are: in the flat vector, in plumb_model.w and in the packed
 * weights.
 *
 *   WHOLE    The flat vector has all tensors, and w is this vector. If the kernels need it,
 *            matrices are in the packed weights, too.
 *   FROZEN   Matrices, and in bfloat16 the embedding, are only in the packed weights. The flat
 *            vector has the other tensors, and w is this vector.
 *   DIVIDED  The flat vector has all tensors; each rank stores a part of it. The packed
 *            weights are the same vector in bfloat16. w has only norms, biases and learned
 *            positions. */
enum plumb_form { PLUMB_FORM_WHOLE, PLUMB_FORM_FROZEN, PLUMB_FORM_DIVIDED };

/* Assigns an offset to each parameter of an architecture, in the order of the flat vector
 * (embedding, layers, norm, head). With param == NULL it only counts: *n tensors, *count floats,
 * *packed elements. Each tensor starts at a multiple of PLUMB_PARAM_ALIGN; *count and net->held are
 * padded to PLUMB_PARAM_BLOCK. */
plumb_status plumb_params_layout(struct plumb_param *param, struct plumb_net *net, int64_t *n,
                                 int64_t *count, int64_t *packed, const struct plumb_spec *s,
                                 const struct plumb_backend *b, enum plumb_form form);

/* Returns the address in m->w of the tensor with offset `at` in the flat vector. If the masters are
 * divided among the ranks, it must be a norm weight, a bias or the learned positions, because m->w
 * has no other tensors. */
float *plumb_held(const plumb_model *m, int64_t at);

/* The kind of model to create. how is set for a frozen model; masters is set for a model whose
 * masters are divided among the ranks; both are NULL for any other model. */
struct plumb_opening {
    const struct plumb_frozen *how;
    const struct plumb_model_masters *masters;
};
/* Creates a model of the architecture s with zero weights. dir: the folder of the checkpoint. */
plumb_status plumb_model_build(plumb_model **out, struct plumb_backend *b, const char *dir,
                               const struct plumb_spec *s, const struct plumb_opening *o);

/* Reads parameter p from its tensor e in the files to w (p->count,). */
plumb_status plumb_param_take(float *w, const struct plumb_st_entry *e,
                              const struct plumb_param *p);
/* Sets w (count,) to the initial values of parameter `index` of m that plumb_model_create
 * describes. They are a function of config.json, seed and index. */
void plumb_param_draw(float *w, const plumb_model *m, int64_t index, uint64_t seed);
/* Fails unless the files have every tensor of the model, with its shape. `fresh` names a parameter
 * that may be missing; NULL if none may be missing. Also fails for a tensor that the model does not
 * have, except for the few that old checkpoints hold (check_extra in load.c). */
plumb_status plumb_params_check(const plumb_model *m, const plumb_st *st, const char *fresh);
/* Returns the checkpoint's tensor of parameter p, or NULL. */
const struct plumb_st_entry *plumb_param_entry(const plumb_model *m, const plumb_st *st,
                                               const struct plumb_param *p);
/* Loads all parameters. `fresh` names a parameter that may be missing and is then drawn from seed;
 * NULL if none may be missing. Fails with PLUMB_ERR_FORMAT or PLUMB_ERR_SHAPE if the tensors are
 * not those of the model. */
plumb_status plumb_params_load(plumb_model *m, const plumb_st *st, const char *fresh,
                               uint64_t seed);
/* Sets all parameters to the initial values that plumb_model_create describes: matrices are random,
 * norms and biases are constants. */
plumb_status plumb_params_draw(plumb_model *m, uint64_t seed);

/* Converts elements [at, at + n) of a checkpoint's tensor to floats in `part` (n,). */
plumb_status plumb_entry_part(float *part, const struct plumb_st_entry *e, int64_t at, int64_t n);
/* Corrects s->tied, which comes from config.json: sets it to false if the checkpoint has a head
 * tensor whose values differ from the embedding. Fails with PLUMB_ERR_FORMAT if s->tied is false
 * and the checkpoint has no head tensor. Does nothing for a classifier. */
plumb_status plumb_tie_resolve(struct plumb_spec *s, const plumb_st *files, const char *dir);

/* Load the weights of a model that is frozen or whose masters are divided among the ranks, and set
 * its fingerprints. plumb_held_load takes the values from the files or, if files is NULL, draws
 * them from seed; `fresh`: as in plumb_params_load. plumb_held_fill takes the values that fn
 * writes. plumb_held_hash sets *hash to a hash of m->w and m->packed. */
plumb_status plumb_held_load(plumb_model *m, const plumb_st *files, const char *fresh,
                             uint64_t seed);
plumb_status plumb_held_fill(plumb_model *m, plumb_param_fn *fn, void *arg);
plumb_status plumb_held_hash(const plumb_model *m, uint64_t *hash);

/* Sets *w to the values of tensor p in host memory. If the weights are in host memory, *w points to
 * them; otherwise they are copied to `copy` (p->count,), and *w = copy. */
plumb_status plumb_param_read(const plumb_model *m, const struct plumb_param *p, float *copy,
                              const float **w);
/* Returns the number of values of the file tensor that holds parameter p. */
int64_t plumb_param_file_count(const struct plumb_param *p);
/* Sets the name, float32, the shape and the size of the file tensor that holds parameter p; its
 * data is not set. */
void plumb_param_describe(struct plumb_st_entry *e, const struct plumb_param *p);
/* Returns true if the file tensor is parameter p alone, with the same layout. */
bool plumb_param_is_whole(const struct plumb_param *p);
/* Copies the values w of parameter p to those rows or columns of the file tensor that hold p. */
void plumb_param_give(float *tensor, const float *w, const struct plumb_param *p);
/* If parameters share a file tensor, all of them are among PLUMB_FILE_NEAR consecutive parameters,
 * of which the first holds the tensor's first row. */
enum { PLUMB_FILE_NEAR = 8 };

/* Removes the padding token of a new classifier and logs this. Called if the padding token is the
 * end token. */
void plumb_model_drop_pad(plumb_model *m);

/* Computes the table of a rotary embedding in float32, with the same operations as Hugging Face.
 * longest chooses between the two lists of divisors of longrope (plumb_model_set_longest).
 *   table (max_pos, columns) host: columns/2 columns cos, then columns/2 columns sin */
void plumb_rope_table(float *table, const struct plumb_spec *s, const struct plumb_rope *o,
                      int64_t longest);
/* Computes the tables of all rotary embeddings for m->longest, and copies them to the device. Does
 * nothing on a dry backend. */
plumb_status plumb_rope_upload(plumb_model *m);
/* Returns the index of the first float of rotary embedding i in plumb_model.rope; with i = n_rope,
 * the number of floats of all. */
int64_t plumb_rope_at(const struct plumb_spec *s, int i);

/* V(data, sizes...) makes a tensor argument for plumb_op_*, over memory of the backend b; its name
 * is the expression `data`. float * becomes float32, plumb_real * b's dtype. VI does the same for
 * int32. */
#define TYPE_OF(data)                                                                              \
    _Generic((data),                                                                               \
        float *: PLUMB_F32,                                                                        \
        const float *: PLUMB_F32,                                                                  \
        plumb_real *: b->dtype,                                                                    \
        const plumb_real *: b->dtype)
#define V(data, ...)                                                                               \
    ((const struct plumb_tensor[1]){                                                               \
        PLUMB_VIEW_(#data, TYPE_OF(data), (data), b->place, __VA_ARGS__)})
#define VI(data, ...)                                                                              \
    ((const struct plumb_tensor[1]){plumb_view_i32(#data, (data), b->place, __VA_ARGS__)})

/* The activations of one layer for n rows, on the device, row-major. */
struct plumb_act {
    plumb_real *x;       /* (n,c) input of the layer */
    plumb_real *n1, *n2; /* (n,c) outputs of the norms before attention and MLP, or NULL */
    /* (n,h,d), (n,hk,d), (n,hk,d); q and k are rotated. If q, k and v are joined, k and v are NULL
     * and qkv (n,h+2hk,d) is what their product writes; it is in the memory of gate_up, gate or up,
     * which the layer writes later. Otherwise qkv is NULL. */
    plumb_real *q, *k, *v, *qkv;
    plumb_real *q0, *k0; /* q and k before their norm; NULL if the model has no qk norm */
    plumb_real *o;       /* (n,h,d) output of attention */
    plumb_real *b1, *b2; /* (n,c) inputs of the norms after attention and MLP, or NULL */
    plumb_real *xm;      /* (n,c) sum after the attention residual */
    /* (n,f) each; y = act(gate) up, or act(up) if the block has no gate; gate is then NULL. If gate
     * and up are joined, both are NULL and gate_up is (n,2,f); otherwise gate_up is NULL. */
    plumb_real *gate, *up, *y, *gate_up;
    plumb_real *kc, *vc; /* keys and values of this layer, in KV pages */
    int64_t pages;
    float *rstd[PLUMB_N_NORM]; /* (n plumb_norm_saved,) saved by each norm, or NULL */
    float *rstdq, *rstdk;      /* (n,h), (n,hk), or (n,) each: rstd saved by the qk norms */
    float *lse;                /* (n,h) log-sum-exp saved by attention */
};

/* Returns the numbers of heads, the head size, the scale, the soft cap and the window of attention
 * in layer l. */
static inline struct plumb_attn_shape plumb_attention_shape(const struct plumb_spec *s, int64_t l)
{
    return (struct plumb_attn_shape){s->h,
                                     s->hk,
                                     s->d,
                                     s->block.scale_by_layer
                                         ? s->block.attention_scale / (float)(l + 1)
                                         : s->block.attention_scale,
                                     s->block.attention_cap,
                                     s->windowed[l] ? s->window : 0};
}

/* Allocates the buffers of one layer for n rows from the arena, except x, kc and vc. */
plumb_status plumb_act_take(struct plumb_act *a, struct plumb_arena *arena,
                            const struct plumb_backend *b, const struct plumb_spec *s, int64_t n);
/* Allocates `pages` KV pages of one layer (kc, vc) from the arena. */
plumb_status plumb_act_take_pages(struct plumb_act *a, struct plumb_arena *arena,
                                  const struct plumb_backend *b, const struct plumb_spec *s,
                                  int64_t pages);

/* Returns the factor of the embedding, spec.embed_scale. It is rounded to bfloat16 if
 * spec.embed_scale_rounds (as in transformers' Gemma) and the backend computes in bfloat16. */
float plumb_embed_scale(const plumb_model *m);
/* x[i,:] = embed_scale embedding of ids[i], plus the learned vector of position pos[i] if the model
 * has those.     x, scratch (n,c)  ids, pos (n,) */
plumb_status plumb_embed_forward(const plumb_model *m, plumb_real *x, plumb_real *scratch,
                                 const int32_t *ids, const int32_t *pos, int64_t n);
/* Adds dx to the gradients of the learned positions, and embed_scale dx to those of the embedding,
 * row by row. Overwrites dx. Does nothing if the model has an adapter, because positions and
 * embedding are then frozen. */
plumb_status plumb_embed_backward(const plumb_model *m, float *grad, plumb_real *dx,
                                  const int32_t *ids, const int32_t *pos, int64_t n);

/* Computes layer l for the rows in a->x: out (n,c). Training, prefill and decode all use this
 * function. Row-invariant: the result of a row does not depend on the other rows. Writes the keys
 * and values to a->kc and a->vc, and the activations to *a. out may be a->x. If out is NULL, the
 * last projection is skipped; *a then holds everything that the backward needs. out must not be
 * NULL if the block has a norm after the MLP. */
plumb_status plumb_layer_forward(const plumb_model *m, int64_t l, const struct plumb_act *a,
                                 plumb_real *out, const struct plumb_rows *rows);
/* Computes all layers: act[l + 1].x receives the output of layer l, and out that of the last one.
 */
plumb_status plumb_layers_forward(const plumb_model *m, const struct plumb_act *act,
                                  plumb_real *out, const struct plumb_rows *rows);
/* y (n,c) = the final norm of x (n,c); rstd (n plumb_norm_saved,) is saved for the backward. */
plumb_status plumb_norm_forward(const plumb_model *m, plumb_real *y, float *rstd,
                                const plumb_real *x, int64_t n);
/* y (n,c) = head_scale times the final norm of x (n,c): what the head reads. */
plumb_status plumb_head_norm_forward(const plumb_model *m, plumb_real *y, float *rstd,
                                     const plumb_real *x, int64_t n);
/* Scratch buffers of the backward. */
struct plumb_back {
    plumb_real *dn; /* (n,c) gradient of a norm's output */
    /* (n,c) gradient of b1 or b2; in a parallel block, the gradient of x through the MLP; NULL if
     * the block needs neither gradient */
    plumb_real *db;
    plumb_real *dq, *dk, *dv; /* (n,h,d), (n,hk,d), (n,hk,d) gradients of q, k and v */
    /* gradients of q and k before their norm; NULL if the model has no qk norm */
    plumb_real *dq0, *dk0;
    plumb_real *dout; /* (n,h,d) gradient of attention's output */
    plumb_real *dy;   /* (n,f) gradient of the MLP's gated activation */
    float *work;      /* (work_count,) scratch of linear_bwd_* and attention_bwd */
    int64_t work_count;
};
/* Allocates the scratch buffers for up to n rows from the arena. */
plumb_status plumb_back_take(struct plumb_back *w, struct plumb_arena *arena, const plumb_model *m,
                             int64_t n);

/* Backpropagates through layer l. dx (n,c) is the gradient of the layer's output on entry, and of
 * a->x on return. Adds the layer's gradients to grad. Overwrites a->gate, a->up and a->gate_up. All
 * sequences must be complete. */
plumb_status plumb_layer_backward(const plumb_model *m, int64_t l, const struct plumb_act *a,
                                  plumb_real *dx, float *grad, const struct plumb_back *w,
                                  const struct plumb_rows *rows);
/* Backpropagates through plumb_head_norm_forward (final norm and head_scale): adds the gradient of
 * x to dx and, unless an adapter freezes the norm, the gradient of the norm's weights to grad.
 * Overwrites dy. */
plumb_status plumb_head_norm_backward(const plumb_model *m, plumb_real *dx, float *grad,
                                      plumb_real *dy, const plumb_real *x, const float *rstd,
                                      int64_t n);

/* ---- matrix products (linear.c) ------------------------------------------------------------- */

/* Returns true if the backend's kernels read linear weights in a packed form. */
bool plumb_linear_packs(const struct plumb_backend *b);
/* Returns the weights of a linear layer as the forward reads them: packed, or w itself. */
struct plumb_tensor plumb_linear_packed(const struct plumb_backend *b,
                                        const struct plumb_weights *w,
                                        const struct plumb_linear *p);
/* Returns the weights (out,in) of a linear layer as the backward reads them: the float32 master
 * weights if b computes in float32, the packed weights if it computes in bfloat16. */
struct plumb_tensor plumb_linear_weight(const struct plumb_backend *b,
                                        const struct plumb_weights *w,
                                        const struct plumb_linear *p);
/* y (n,out) = x w^T + bias; y is float32 or of b's dtype. bias (out,) or NULL. */
plumb_status plumb_linear_forward(struct plumb_backend *b, const struct plumb_weights *w,
                                  const struct plumb_linear *p, const struct plumb_tensor *y,
                                  const plumb_real *x, int64_t n, const float *bias);
/* dx = dy w (or += if accumulate), and grad += the gradients of w and bias, unless grad is NULL
 * (frozen). */
plumb_status plumb_linear_backward(struct plumb_backend *b, const struct plumb_weights *weights,
                                   const struct plumb_linear *p, plumb_real *dx, bool accumulate,
                                   float *grad, const plumb_real *dy, const plumb_real *x,
                                   const struct plumb_back *w, int64_t n);

/* ---- projections and the head (project.c) --------------------------------------------------- */

/* y (n,out) = x w^T + bias, where w is a projection of layer l. Every matrix product of a block
 * goes through this function, and its gradient through plumb_project_backward. */
plumb_status plumb_project_forward(const plumb_model *m, int64_t l, enum plumb_projection id,
                                   plumb_real *y, const plumb_real *x, int64_t n);
/* Backpropagates through a projection of layer l, with its adapter matrices if it has them: dx = dy
 * w (or += if accumulate). Without an adapter, grad += dy^T x and the gradient of the bias; with
 * one, grad += the gradients of the adapter's matrices. */
plumb_status plumb_project_backward(const plumb_model *m, int64_t l, enum plumb_projection id,
                                    plumb_real *dx, bool accumulate, float *grad,
                                    const plumb_real *dy, const plumb_real *x,
                                    const struct plumb_back *w, int64_t n);
/* plumb_project_forward of `parts` projections of layer l, from `first` on, as one product: a row
 * of y (n, sum of out) has the outputs of the first projection, then those of the next one, and so
 * on. plumb_joined_of says which projections allow it. */
plumb_status plumb_project_joined_forward(const plumb_model *m, int64_t l,
                                          enum plumb_projection first, int parts, plumb_real *y,
                                          const plumb_real *x, int64_t n);
/* plumb_project_backward of the same projections, which must have no bias. An element of dx is one
 * sum over the outputs of all these projections, added in order.     dy (n, sum of out) */
plumb_status plumb_project_joined_backward(const plumb_model *m, int64_t l,
                                           enum plumb_projection first, int parts, plumb_real *dx,
                                           float *grad, const plumb_real *dy, const plumb_real *x,
                                           const struct plumb_back *w, int64_t n);
/* y (n,out) = the head applied to x (n,c): logits, soft-capped if the model has a cap, or scores;
 * always float32. */
plumb_status plumb_head_forward(const plumb_model *m, float *y, const plumb_real *x, int64_t n);
/* Backpropagates through the head without its soft cap: sets dx to the gradient of x, and adds the
 * gradient of the weights to grad unless grad is NULL.
 *   dx (n,c)  dy (n,out) */
plumb_status plumb_head_backward(const plumb_model *m, plumb_real *dx, float *grad,
                                 const plumb_real *dy, const plumb_real *x,
                                 const struct plumb_back *w, int64_t n);

#endif
