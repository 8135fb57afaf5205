/* params.c - assigns the parameters their places in the flat vector.
 * Layer 4. Includes base/ and model/net.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "model/net.h"

struct layout {
    /* the table of parameters; NULL if the parameters are only counted */
    struct plumb_param *param;
    int64_t n, count, packed;
    const struct plumb_kernels *k;
    bool packs; /* true if kernels read linear weights in a packed form */
    char prefix[48];
};

/* Places the next tensor and returns its offset. cols = 0 stands for a vector of `rows`
 * elements. */
static int64_t place(struct layout *y, const char *name, int64_t rows, int64_t cols, bool pack)
{
    const int64_t at = y->count, count = cols ? rows * cols : rows;
    if (y->param) {
        struct plumb_param *p = &y->param[y->n];
        *p = (struct plumb_param){.rank = cols ? 2 : 1, .dim = {rows, cols}, .offset = at};
        snprintf(p->name, sizeof p->name, "%s%s", y->prefix, name);
        memcpy(p->file, p->name, sizeof p->file);
        p->file_rows = rows;
        p->count = count;
        p->decay = cols != 0;
        p->packed = pack && y->packs ? y->packed : -1;
    }
    if (pack && y->packs)
        y->packed += plumb_ceil_div(y->k->linear_packed_count(rows, cols), PLUMB_PARAM_ALIGN) *
                     PLUMB_PARAM_ALIGN;
    y->n++;
    y->count = plumb_ceil_div(at + count, PLUMB_PARAM_ALIGN) * PLUMB_PARAM_ALIGN;
    return at;
}

static struct plumb_linear linear(struct layout *y, const char *name, int64_t out, int64_t in,
                                  bool bias)
{
    char full[48];
    struct plumb_linear p = {.out = out, .in = in, .bias = -1, .packed = y->packs ? y->packed : -1};
    snprintf(full, sizeof full, "%s.weight", name);
    p.w = place(y, full, out, in, true);
    snprintf(full, sizeof full, "%s.bias", name);
    if (bias)
        p.bias = place(y, full, out, 0, false);
    return p;
}

/* Says that the parameter placed last is a block of rows of another tensor in the files. */
static void fuse(struct layout *y, const char *name, int64_t row, int64_t rows)
{
    if (!y->param)
        return;
    struct plumb_param *p = &y->param[y->n - 1];
    snprintf(p->file, sizeof p->file, "%s%s", y->prefix, name);
    p->file_row = row;
    p->file_rows = rows;
}

/* Names in Hugging Face. */
static const char *const projection_name[PLUMB_N_PROJECTION] = {
    [PLUMB_Q] = "self_attn.q_proj", [PLUMB_K] = "self_attn.k_proj", [PLUMB_V] = "self_attn.v_proj",
    [PLUMB_O] = "self_attn.o_proj", [PLUMB_GATE] = "mlp.gate_proj", [PLUMB_UP] = "mlp.up_proj",
    [PLUMB_DOWN] = "mlp.down_proj",
};

/* The name of a norm weight depends on which norms the block has. */
static const char *norm_name(const struct plumb_block *block, enum plumb_norm_place place)
{
    switch (place) {
    case PLUMB_NORM_ATTENTION:
        return "input_layernorm.weight";
    case PLUMB_NORM_ATTENTION_OUT:
        return "post_attention_layernorm.weight";
    case PLUMB_NORM_MLP:
        return block->norm[PLUMB_NORM_ATTENTION_OUT] ? "pre_feedforward_layernorm.weight"
                                                     : "post_attention_layernorm.weight";
    default:
        return "post_feedforward_layernorm.weight";
    }
}

static int64_t place_norm(struct layout *y, const struct plumb_spec *s, enum plumb_norm_place at)
{
    if (!s->block.norm[at])
        return -1;
    return place(y, norm_name(&s->block, at), s->c, 0, false);
}

static struct plumb_linear project(struct layout *y, const struct plumb_spec *s,
                                   enum plumb_projection id)
{
    const int64_t q = s->h * s->d, kv = s->hk * s->d;
    const int64_t size[PLUMB_N_PROJECTION][2] = {
        [PLUMB_Q] = {q, s->c},       [PLUMB_K] = {kv, s->c},      [PLUMB_V] = {kv, s->c},
        [PLUMB_O] = {s->c, q},       [PLUMB_GATE] = {s->f, s->c}, [PLUMB_UP] = {s->f, s->c},
        [PLUMB_DOWN] = {s->c, s->f},
    };
    const struct plumb_linear p =
        linear(y, projection_name[id], size[id][0], size[id][1], s->block.bias[id]);
    if (!s->block.fused || id == PLUMB_O || id == PLUMB_DOWN)
        return p;
    if (id <= PLUMB_V)
        fuse(y, "self_attn.qkv_proj.weight",
             id == PLUMB_Q   ? 0
             : id == PLUMB_K ? q
                             : q + kv,
             q + 2 * kv);
    else
        fuse(y, "mlp.gate_up_proj.weight", id == PLUMB_GATE ? 0 : s->f, 2 * s->f);
    return p;
}

static struct plumb_layer layer(struct layout *y, const struct plumb_spec *s)
{
    const bool row = s->block.qk_norm == PLUMB_QK_NORM_ROW;
    struct plumb_layer p = {.begin = y->count, .q_norm = -1, .k_norm = -1};
    p.norm[PLUMB_NORM_ATTENTION] = place_norm(y, s, PLUMB_NORM_ATTENTION);
    p.project[PLUMB_Q] = project(y, s, PLUMB_Q);
    p.project[PLUMB_K] = project(y, s, PLUMB_K);
    p.project[PLUMB_V] = project(y, s, PLUMB_V);
    if (s->block.qk_norm) {
        p.q_norm = place(y, "self_attn.q_norm.weight", row ? s->h * s->d : s->d, 0, false);
        p.k_norm = place(y, "self_attn.k_norm.weight", row ? s->hk * s->d : s->d, 0, false);
    }
    p.project[PLUMB_O] = project(y, s, PLUMB_O);
    p.norm[PLUMB_NORM_ATTENTION_OUT] = place_norm(y, s, PLUMB_NORM_ATTENTION_OUT);
    p.norm[PLUMB_NORM_MLP] = place_norm(y, s, PLUMB_NORM_MLP);
    p.project[PLUMB_GATE] = project(y, s, PLUMB_GATE);
    p.project[PLUMB_UP] = project(y, s, PLUMB_UP);
    p.project[PLUMB_DOWN] = project(y, s, PLUMB_DOWN);
    p.norm[PLUMB_NORM_MLP_OUT] = place_norm(y, s, PLUMB_NORM_MLP_OUT);
    return p;
}

/* Checks after every layer that the counts are below 2^56. spec.c limits each size to 2^24 and
 * heads x head size to 2^26, so a tensor has at most 2^50 floats and a layer less than 2^53. The
 * counts therefore cannot overflow between two checks. */
static plumb_status check_count(const struct layout *y)
{
    const int64_t most = (int64_t)1 << 56;
    PLUMB_REQUIRE(y->count < most && y->packed < most, PLUMB_ERR_UNSUPPORTED,
                  "config.json describes at least %lld parameters, too many to address",
                  (long long)(y->count < y->packed ? y->packed : y->count));
    return PLUMB_OK;
}

plumb_status plumb_params_layout(struct plumb_param *param, struct plumb_net *net, int64_t *n,
                                 int64_t *count, int64_t *packed, const struct plumb_spec *s,
                                 const struct plumb_backend *b)
{
    struct layout y = {.param = param,
                       .k = &b->k,
                       .packs = !b->k.linear_plain || b->dtype != PLUMB_F32,
                       .prefix = "model."};
    const bool own_head = !s->tied && s->labels == 0;
    const bool tied_head = s->tied && s->labels == 0;
    const int64_t embed_packed = y.packs ? y.packed : -1;
    const int64_t embed = place(&y, "embed_tokens.weight", s->v, s->c, tied_head);
    struct plumb_linear head = {s->v, s->c, embed, -1, embed_packed};
    for (int64_t l = 0; l < s->l; l++) {
        snprintf(y.prefix, sizeof y.prefix, "model.layers.%lld.", (long long)l);
        const struct plumb_layer p = layer(&y, s);
        PLUMB_TRY(check_count(&y));
        if (net)
            net->layer[l] = p;
    }
    snprintf(y.prefix, sizeof y.prefix, "model.");
    const int64_t norm = place(&y, "norm.weight", s->c, 0, false);
    y.prefix[0] = '\0';
    if (s->labels > 0)
        head = linear(&y, "score", s->labels, s->c, false);
    else if (own_head)
        head = linear(&y, "lm_head", s->v, s->c, false);
    if (net) {
        net->embed = embed;
        net->norm = norm;
        net->head = head;
    }
    *n = y.n;
    *packed = y.packed;
    *count = plumb_ceil_div(y.count, PLUMB_PARAM_BLOCK) * PLUMB_PARAM_BLOCK;
    return check_count(&y);
}
