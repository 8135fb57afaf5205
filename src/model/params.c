/* params.c - assigns the parameters their places in the flat vector.
 * Layer 4. Includes base/, model/net.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "model/net.h"

struct layout {
    /* the table of parameters; NULL if the parameters are only counted */
    struct plumb_param *param;
    int64_t n, count, packed, held;
    const struct plumb_kernels *k;
    bool packs; /* true if kernels read linear weights in a packed form */
    /* frozen: w has no matrices; they are only in the packed weights. narrow: w has no embedding
     * either, because the forward reads it in bfloat16 */
    bool frozen, narrow;
    bool divided; /* true for PLUMB_FORM_DIVIDED */
    enum plumb_file_layout files;
    /* prefixes of the name of the parameter and of the name of its tensor in the files */
    char prefix[48], file_prefix[48];
};

/* at_top, in_model and in_layer set the name prefixes of the tensors that are placed next. at_top:
 * no prefix, for the head or the score; in_model: for the embedding or the final norm; in_layer:
 * for layer l. */
static void at_top(struct layout *y)
{
    y->prefix[0] = y->file_prefix[0] = '\0';
}

static void in_model(struct layout *y)
{
    snprintf(y->prefix, sizeof y->prefix, "model.");
    snprintf(y->file_prefix, sizeof y->file_prefix, "%s", plumb_file_stem(y->files));
}

static void in_layer(struct layout *y, int64_t l)
{
    snprintf(y->prefix, sizeof y->prefix, "model.layers.%lld.", (long long)l);
    snprintf(y->file_prefix, sizeof y->file_prefix, "%s%s.%lld.", plumb_file_stem(y->files),
             y->files == PLUMB_FILES_GPT2 ? "h" : "layers", (long long)l);
}

static int64_t to_align(int64_t at)
{
    return plumb_ceil_div(at, PLUMB_PARAM_ALIGN) * PLUMB_PARAM_ALIGN;
}

/* Places the next tensor, name.kind (kind: weight or bias), and returns its offset in the flat
 * vector, or -1 if it is not in this vector. cols = 0 stands for a vector of `rows` elements. pack:
 * true if matrix products read the tensor; packed_only: true if it is not in w. */
static int64_t place(struct layout *y, const char *name, const char *kind, int64_t rows,
                     int64_t cols, bool pack, bool packed_only)
{
    const bool whole = !packed_only || y->divided;
    const int64_t at = whole ? y->count : -1, count = cols ? rows * cols : rows;
    pack = packed_only || (pack && y->packs);
    if (y->param) {
        struct plumb_param *p = &y->param[y->n];
        *p = (struct plumb_param){.rank = cols ? 2 : 1, .dim = {rows, cols}, .offset = at};
        snprintf(p->name, sizeof p->name, "%s%s.%s", y->prefix, name, kind);
        snprintf(p->file, sizeof p->file, "%s%s.%s", y->file_prefix,
                 plumb_file_part(y->files, name), kind);
        p->file_rows = p->file_run = p->file_step = rows;
        p->count = count;
        p->decay = cols != 0;
        p->packed = pack ? y->packed : -1;
        p->held = packed_only ? -1 : y->held;
    }
    if (whole)
        y->count = to_align(at + count);
    if (!packed_only)
        y->held = to_align(y->held + count);
    if (y->divided) /* bfloat16: packed element i is element i of the flat vector */
        y->packed = y->count;
    else if (pack)
        y->packed += to_align(y->k->linear_packed_count(rows, cols));
    y->n++;
    return at;
}

static struct plumb_linear linear(struct layout *y, const char *name, int64_t out, int64_t in,
                                  bool bias)
{
    struct plumb_linear p = {
        .out = out, .in = in, .bias = -1, .packed = y->packs || y->frozen ? y->packed : -1};
    p.w = place(y, name, "weight", out, in, true, y->frozen);
    if (bias)
        p.bias = place(y, name, "bias", out, 0, false, false);
    return p;
}

/* Names that the projections have inside a layer, as in Hugging Face's Llama. */
static const char *const projection_name[PLUMB_N_PROJECTION] = {
    [PLUMB_Q] = "self_attn.q_proj", [PLUMB_K] = "self_attn.k_proj", [PLUMB_V] = "self_attn.v_proj",
    [PLUMB_O] = "self_attn.o_proj", [PLUMB_GATE] = "mlp.gate_proj", [PLUMB_UP] = "mlp.up_proj",
    [PLUMB_DOWN] = "mlp.down_proj",
};

const char *plumb_projection_name(enum plumb_projection id)
{
    return projection_name[id];
}

/* Returns the name of a norm inside its layer. post_attention_layernorm is the norm on the output
 * of attention or, in a block without that norm, the norm on the input of the MLP. */
static const char *norm_name(const struct plumb_block *block, enum plumb_norm_place place)
{
    switch (place) {
    case PLUMB_NORM_ATTENTION:
        return "input_layernorm";
    case PLUMB_NORM_ATTENTION_OUT:
        return "post_attention_layernorm";
    case PLUMB_NORM_MLP:
        return block->norm[PLUMB_NORM_ATTENTION_OUT] ? "pre_feedforward_layernorm"
                                                     : "post_attention_layernorm";
    default:
        return "post_feedforward_layernorm";
    }
}

/* Places a norm over rows of the hidden size: its weight and, if it is a LayerNorm, its bias. */
static int64_t norm_of(struct layout *y, const struct plumb_spec *s, const char *name)
{
    const int64_t at = place(y, name, "weight", s->c, 0, false, false);
    if (s->block.layer_norm)
        (void)place(y, name, "bias", s->c, 0, false, false);
    return at;
}

int64_t plumb_norm_bias(int64_t w, int64_t c)
{
    return w + plumb_ceil_div(c, PLUMB_PARAM_ALIGN) * PLUMB_PARAM_ALIGN;
}

static int64_t place_norm(struct layout *y, const struct plumb_spec *s, enum plumb_norm_place at)
{
    return s->block.norm[at] ? norm_of(y, s, norm_name(&s->block, at)) : -1;
}

/* Sets which rows of which file tensor hold the weight and the bias of projection id. This weight
 * and bias must be the parameters that were placed last. */
static void map_to_files(struct layout *y, const struct plumb_spec *s, enum plumb_projection id)
{
    const int64_t q = s->h * s->d, kv = s->hk * s->d, part = id - PLUMB_Q;
    const bool phi3 = y->files == PLUMB_FILES_PHI3, gpt2 = y->files == PLUMB_FILES_GPT2;
    const bool glm = y->files == PLUMB_FILES_GLM || y->files == PLUMB_FILES_GLM4;
    const bool is_qkv = id <= PLUMB_V;
    const bool gate_up = (phi3 || glm) && (id == PLUMB_GATE || id == PLUMB_UP);
    if (!y->param)
        return;
    for (int k = 0; k < 1 + s->block.bias[id]; k++) {
        struct plumb_param *p = &y->param[y->n - 1 - k];
        p->turned = gpt2 && p->rank == 2;
        if (s->block.neighbours && (id == PLUMB_Q || id == PLUMB_K)) {
            p->head = s->d;
            p->paired = s->rope[0].columns;
        }
        if (is_qkv && y->files == PLUMB_FILES_NEOX) {
            p->file_row = part * s->d;
            p->file_run = s->d;
            p->file_step = 3 * s->d;
            p->file_rows = 3 * q;
        } else if (is_qkv && (phi3 || gpt2)) {
            p->file_row = id == PLUMB_Q ? 0 : id == PLUMB_K ? q : q + kv;
            p->file_rows = q + 2 * kv;
        } else if (gate_up) {
            p->file_row = id == PLUMB_GATE ? 0 : s->f;
            p->file_rows = 2 * s->f;
        }
        if ((phi3 && is_qkv) || gate_up)
            snprintf(p->file, sizeof p->file, "%s%s.weight", y->file_prefix,
                     is_qkv ? "self_attn.qkv_proj" : "mlp.gate_up_proj");
    }
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
    map_to_files(y, s, id);
    return p;
}

static struct plumb_layer layer(struct layout *y, const struct plumb_spec *s)
{
    const bool row = s->block.qk_norm == PLUMB_QK_NORM_ROW;
    struct plumb_layer p = {.begin = y->count, .packed = y->packed, .q_norm = -1, .k_norm = -1};
    p.norm[PLUMB_NORM_ATTENTION] = place_norm(y, s, PLUMB_NORM_ATTENTION);
    p.project[PLUMB_Q] = project(y, s, PLUMB_Q);
    p.project[PLUMB_K] = project(y, s, PLUMB_K);
    p.project[PLUMB_V] = project(y, s, PLUMB_V);
    if (s->block.qk_norm) {
        const int64_t q = row ? s->h * s->d : s->d, k = row ? s->hk * s->d : s->d;
        p.q_norm = place(y, "self_attn.q_norm", "weight", q, 0, false, false);
        p.k_norm = place(y, "self_attn.k_norm", "weight", k, 0, false, false);
    }
    p.project[PLUMB_O] = project(y, s, PLUMB_O);
    p.norm[PLUMB_NORM_ATTENTION_OUT] = place_norm(y, s, PLUMB_NORM_ATTENTION_OUT);
    p.norm[PLUMB_NORM_MLP] = place_norm(y, s, PLUMB_NORM_MLP);
    if (s->block.gated)
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
                                 const struct plumb_backend *b, enum plumb_form form)
{
    const bool frozen = form != PLUMB_FORM_WHOLE;
    struct layout y = {.param = param,
                       .k = &b->k,
                       .packs = plumb_linear_packs(b),
                       .frozen = frozen,
                       .narrow = frozen && b->dtype == PLUMB_BF16,
                       .divided = form == PLUMB_FORM_DIVIDED,
                       .files = s->block.files};
    const bool own_head = !s->tied && s->labels == 0;
    const bool tied_head = s->tied && s->labels == 0;
    const int64_t embed_packed = y.packs ? y.packed : -1;
    in_model(&y);
    const int64_t embed = place(&y, "embed_tokens", "weight", s->v, s->c, tied_head, y.narrow);
    const int64_t positions =
        s->positions ? place(&y, "embed_positions", "weight", s->max_pos, s->c, false, false) : -1;
    struct plumb_linear head = {s->v, s->c, embed, -1, embed_packed};
    for (int64_t l = 0; l < s->l; l++) {
        in_layer(&y, l);
        const struct plumb_layer p = layer(&y, s);
        PLUMB_TRY(check_count(&y));
        if (net)
            net->layer[l] = p;
    }
    const int64_t layers_end = y.packed;
    in_model(&y);
    const int64_t norm = norm_of(&y, s, "norm");
    at_top(&y);
    if (s->labels > 0)
        head = linear(&y, "score", s->labels, s->c, false);
    else if (own_head)
        head = linear(&y, "lm_head", s->v, s->c, false);
    if (net) {
        net->embed = embed;
        net->embed_packed = y.narrow ? embed_packed : -1;
        net->packed_end = layers_end;
        net->held = plumb_ceil_div(y.held, PLUMB_PARAM_BLOCK) * PLUMB_PARAM_BLOCK;
        net->positions = positions;
        net->norm = norm;
        net->head = head;
    }
    *n = y.n;
    *count = plumb_ceil_div(y.count, PLUMB_PARAM_BLOCK) * PLUMB_PARAM_BLOCK;
    *packed = y.divided ? *count : y.packed;
    return check_count(&y);
}

const struct plumb_param *plumb_model_find(const plumb_model *m, const char *name)
{
    for (int64_t i = 0; i < m->n_param; i++)
        if (!strcmp(m->param[i].name, name))
            return &m->param[i];
    return NULL;
}

int64_t plumb_param_file_row(const struct plumb_param *p, int64_t r)
{
    const int64_t i = p->paired ? r % p->head : 0, half = p->paired / 2;
    if (i < p->paired)
        r += i < half ? i : 2 * (i - half) + 1 - i;
    return p->file_row + r / p->file_run * p->file_step + r % p->file_run;
}

int64_t plumb_param_file_count(const struct plumb_param *p)
{
    return p->count / p->dim[0] * p->file_rows;
}

int64_t plumb_model_largest(const plumb_model *m)
{
    int64_t most = 1;
    for (int64_t i = 0; i < m->n_param; i++)
        most = plumb_max_i64(most, plumb_param_file_count(&m->param[i]));
    return most;
}
