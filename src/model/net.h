/* net.h - inside of a model: its tensors resolved to pointers, and the passes over a layer.
 * Layer 4, private to model/. Includes io/, op/, model/model.h. */
#ifndef PLUMB_MODEL_NET_H
#define PLUMB_MODEL_NET_H

#include <math.h>

#include "io/safetensors.h"
#include "model/model.h"
#include "op/op.h"

#define PLUMB_EMBED_NAME "model.embed_tokens.weight"
#define PLUMB_HEAD_NAME  "lm_head.weight"

/* A linear layer y = x w^T + bias. Offsets are into any flat vector (weights, gradients). */
struct plumb_linear {
    int64_t out, in;
    int64_t w, bias; /* floats into the flat vector; bias -1 = none */
    int64_t packed;  /* elements into the packed weights; -1 = w is read as it is */
};

/* One decoder layer. Norm weights are offsets into the flat vector; -1 = none. */
struct plumb_layer {
    struct plumb_linear q, k, v, o, gate, up, down;
    int64_t norm1, norm2; /* before attention, before the feed-forward */
    int64_t q_norm, k_norm;
};

/* The weights on the host: m->w itself, or a copy in *owned (the caller frees it; else NULL). */
plumb_status plumb_model_host_weights(const plumb_model *m, float **w, float **owned);

struct plumb_net {
    int64_t embed, norm;      /* offsets */
    struct plumb_linear head; /* vocabulary head (tied: the embedding), or the score rows */
    struct plumb_layer layer[];
};

/* Lays the parameters of an architecture out in their one order (embedding, layers, norm,
 * head). Call with param == NULL to count: *n tensors, *count floats, *packed elements. Each
 * tensor starts at a multiple of PLUMB_PARAM_ALIGN; *count is padded to PLUMB_PARAM_BLOCK. */
plumb_status plumb_params_layout(struct plumb_param *param, struct plumb_net *net, int64_t *n,
                                 int64_t *count, int64_t *packed, const struct plumb_spec *s,
                                 const struct plumb_backend *b);

/* s->tied, as config.json has it, becomes what the files of the folder say: false where they hold a
 * head whose values are not the embedding's. PLUMB_ERR_FORMAT when there is no head at all. */
plumb_status plumb_tie_resolve(struct plumb_spec *s, const plumb_st *files, const char *dir);

/* Gives a new classifier no padding token, and says so: its padding token is the end token. */
void plumb_model_drop_pad(plumb_model *m);

/* Rotation table in float32, step by step as Hugging Face computes it.
 *   table (max_pos, d): d/2 cos, then d/2 sin                                      host */
void plumb_rope_table(float *table, const struct plumb_spec *s);

/* A tensor over memory of the backend b, as an argument of plumb_op_*; named as written. float *
 * is float32, plumb_real * of b's dtype. */
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

/* What one layer leaves behind for n rows; all device, row-major. */
struct plumb_act {
    plumb_real *x;             /* (n,c) input of the layer */
    plumb_real *n1;            /* (n,c) after the first norm */
    plumb_real *q, *k, *v;     /* (n,h,d), (n,hk,d) twice; q, k rotated */
    plumb_real *q0, *k0;       /* q, k before their norm; NULL without qk norm */
    plumb_real *o;             /* (n,h,d) attention */
    plumb_real *xm;            /* (n,c) after the attention residual */
    plumb_real *n2;            /* (n,c) after the second norm */
    plumb_real *gate, *up, *y; /* (n,f) each; y = silu(gate) up */
    plumb_real *kc, *vc;       /* this layer's pages */
    int64_t pages;
    float *rstd1, *rstd2; /* (n,) of the norms */
    float *rstdq, *rstdk; /* (n,h), (n,hk) */
    float *lse;           /* (n,h) of attention */
};

static inline struct plumb_attn_shape plumb_attention_shape(const struct plumb_spec *s)
{
    return (struct plumb_attn_shape){s->h, s->hk, s->d, 1.0f / sqrtf((float)s->d), s->window};
}

/* Takes the buffers of one layer for n rows, x and the pages excepted. */
plumb_status plumb_act_take(struct plumb_act *a, struct plumb_arena *arena,
                            const struct plumb_backend *b, const struct plumb_spec *s, int64_t n);
/* Takes `pages` pages of one layer. */
plumb_status plumb_act_take_pages(struct plumb_act *a, struct plumb_arena *arena,
                                  const struct plumb_backend *b, const struct plumb_spec *s,
                                  int64_t pages);

/* x[i,:] = embedding of ids[i]                                       x (n,c)  ids (n,) */
plumb_status plumb_embed_forward(const plumb_model *m, plumb_real *x, const int32_t *ids,
                                 int64_t n);
/* grad of the embedding += dx, row by row */
plumb_status plumb_embed_backward(const plumb_model *m, float *grad, const plumb_real *dx,
                                  const int32_t *ids, int64_t n);

/* out (n,c) = layer l of a->x: the only forward there is, for training, prefill and decode.
 * Row-invariant. Writes the rows' keys and values to a->kc, a->vc and all else in *a. out may
 * be a->x; NULL leaves the last projection out (what backward needs is in *a by then). */
plumb_status plumb_layer_forward(const plumb_model *m, int64_t l, const struct plumb_act *a,
                                 plumb_real *out, const struct plumb_rows *rows);
/* The weights as the forward reads them: packed, or w itself. */
struct plumb_tensor plumb_linear_packed(const plumb_model *m, const struct plumb_linear *p);
/* y (n,out) = x w^T + bias with the packed weights */
plumb_status plumb_linear_forward(const plumb_model *m, const struct plumb_linear *p, plumb_real *y,
                                  const plumb_real *x, int64_t n);
/* y (n,c) = the final norm of x (n,c)   rstd (n,) */
plumb_status plumb_norm_forward(const plumb_model *m, plumb_real *y, float *rstd,
                                const plumb_real *x, int64_t n);
/* y (n,out) = the head of x (n,c): logits or scores, always float32 */
plumb_status plumb_head_forward(const plumb_model *m, float *y, const plumb_real *x, int64_t n);

/* Scratch of the backward pass. */
struct plumb_back {
    plumb_real *dn;           /* (n,c) */
    plumb_real *dq, *dk, *dv; /* (n,h,d), (n,hk,d) twice */
    plumb_real *dq0, *dk0;    /* the same before the qk norm; NULL without */
    plumb_real *dout;         /* (n,h,d) */
    plumb_real *dy;           /* (n,f) */
    float *work;              /* (work_count,) of linear_bwd_* and attention_bwd */
    int64_t work_count;
};
/* For up to n rows. */
plumb_status plumb_back_take(struct plumb_back *w, struct plumb_arena *arena, const plumb_model *m,
                             int64_t n);

/* dx (n,c): in, d/d out of layer l; out, d/d a->x. grad += the layer's. Overwrites a->gate and
 * a->up. The rows are whole sequences. */
plumb_status plumb_layer_backward(const plumb_model *m, int64_t l, const struct plumb_act *a,
                                  plumb_real *dx, float *grad, const struct plumb_back *w,
                                  const struct plumb_rows *rows);
/* dx = (accumulate: +=) dy w ; grad += dy^T x and the bias's */
plumb_status plumb_linear_backward(const plumb_model *m, const struct plumb_linear *p,
                                   plumb_real *dx, bool accumulate, float *grad,
                                   const plumb_real *dy, const plumb_real *x,
                                   const struct plumb_back *w, int64_t n);
/* dx += ; grad += the final norm's */
plumb_status plumb_norm_backward(const plumb_model *m, plumb_real *dx, float *grad,
                                 const plumb_real *dy, const plumb_real *x, const float *rstd,
                                 int64_t n);
/* A head's weights as its gradients read them: (out,in), the master's or the packed ones */
struct plumb_tensor plumb_linear_weight(const plumb_model *m, const struct plumb_linear *p);

#endif
