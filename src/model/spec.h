/* spec.h - the model architecture described by a config.json.
 * Layer 4. Includes base/ and kernels.h. */
#ifndef PLUMB_MODEL_SPEC_H
#define PLUMB_MODEL_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels.h"

enum plumb_family {
    PLUMB_LLAMA,
    PLUMB_MISTRAL,
    PLUMB_QWEN2,
    PLUMB_QWEN3,
    PLUMB_MINISTRAL,
    PLUMB_OLMO2,
    PLUMB_OLMO3,
    PLUMB_SMOLLM3,
    PLUMB_GRANITE,
    PLUMB_PHI3,
    PLUMB_GEMMA,
    PLUMB_GEMMA2,
    PLUMB_GEMMA3,
    PLUMB_GPT2,
    PLUMB_GPT_NEOX,
    PLUMB_STABLELM,
    PLUMB_STARCODER2,
    PLUMB_SEED_OSS,
    PLUMB_EXAONE4,
    PLUMB_HELIUM,
    PLUMB_ERNIE4_5,
    PLUMB_GLM,
    PLUMB_GLM4,
    PLUMB_N_FAMILY
};
#define PLUMB_MAX_EOS    8
#define PLUMB_MAX_LAYERS 4096
#define PLUMB_MAX_HEAD   1024 /* largest head size */
#define PLUMB_MAX_ROPE   2    /* largest number of rotary embeddings of a model */

/* The matrix products of a block. */
enum plumb_projection {
    PLUMB_Q,
    PLUMB_K,
    PLUMB_V,
    PLUMB_O,
    PLUMB_GATE,
    PLUMB_UP,
    PLUMB_DOWN,
    PLUMB_N_PROJECTION
};

/* The norms of a block, by place: on the input and on the output of attention and of the MLP. */
enum plumb_norm_place {
    PLUMB_NORM_ATTENTION,
    PLUMB_NORM_ATTENTION_OUT,
    PLUMB_NORM_MLP,
    PLUMB_NORM_MLP_OUT,
    PLUMB_N_NORM
};

/* Which norms q and k get: none, one over each head, or one over all heads of a row. */
enum plumb_qk_norm { PLUMB_QK_NORM_NONE, PLUMB_QK_NORM_HEAD, PLUMB_QK_NORM_ROW };

/* The names and the layout that the weights have in files. */
enum plumb_file_layout {
    PLUMB_FILES_LLAMA,      /* one tensor per parameter, with the parameter's name */
    PLUMB_FILES_PHI3,       /* q, k, v are one tensor, and gate, up are one tensor */
    PLUMB_FILES_GPT2,       /* q, k, v are one tensor; matrices are stored as (in,out) */
    PLUMB_FILES_NEOX,       /* q, k, v are one tensor: head by head, the rows of q, k and v */
    PLUMB_FILES_STARCODER2, /* as PLUMB_FILES_LLAMA; the MLP's matrices are c_fc and c_proj */
    PLUMB_FILES_GLM,        /* as PLUMB_FILES_LLAMA; gate, up are one tensor */
    PLUMB_FILES_GLM4,       /* as PLUMB_FILES_GLM, with other names of the norms */
};

/* The description of a decoder block. Forward, backward and the layout of the parameters depend on
 * this description, not on the model family. For n rows:
 *
 * x  --+-> [norm] -> q, k, v -> [qk norm] -> [rotation] -> attention -> o -> [norm] -> (+) -> xm
 *      |                                                                                ^
 *      +--------------------------------------------------------------------------------+
 *
 * xm --+-> [norm] -> gate, up -> act(gate) * up -> down -> [norm] -> (+) -> x of the next layer
 *      |                                                              ^
 *      +--------------------------------------------------------------+
 *
 * A step in brackets exists if the description says so. Without a gate, the MLP computes act(up).
 * In a parallel block the MLP reads x instead of xm. Window and rotation may differ by layer
 * (struct plumb_spec). */
struct plumb_block {
    bool norm[PLUMB_N_NORM];       /* which norms exist */
    bool bias[PLUMB_N_PROJECTION]; /* which projections have a bias */
    enum plumb_qk_norm qk_norm;
    enum plumb_activation activation;
    enum plumb_file_layout files;
    /* In the files the rotary embedding rotates columns 2 i and 2 i + 1 of a head together. In
     * memory it rotates columns i and i + half together, where half is half of the rotated columns.
     * The rows of q and k are reordered when they are read and written. */
    bool neighbours;
    bool layer_norm;     /* every norm is a LayerNorm with a bias; else an RMSNorm */
    bool gated;          /* the MLP has a gate; else it is down act(up) */
    bool parallel;       /* the MLP reads x, not xm; attention and MLP outputs are added to x */
    bool scale_by_layer; /* the attention scores of layer l = 0, 1, ... are divided by l + 1 */
    float norm_shift;    /* added to the weights of every norm, also of the final one */
    float attention_cap; /* soft cap of the scores of attention; 0: none */
    /* attention_scale multiplies the attention scores; residual_scale multiplies the branch that
     * (+) adds to the residual stream */
    float attention_scale, residual_scale;
};

/* A rotary embedding. Source of the types: transformers, modeling_rope_utils.py. */
struct plumb_rope {
    enum plumb_rope_type {
        PLUMB_ROPE_PLAIN,
        PLUMB_ROPE_LINEAR,
        PLUMB_ROPE_LLAMA3,
        PLUMB_ROPE_YARN,
        PLUMB_ROPE_LONGROPE,
        PLUMB_N_ROPE_TYPE
    } type;
    int64_t columns; /* number of rotated columns of a head; even */
    double theta;    /* base of the frequencies theta^(-2 i / columns) */
    double factor;   /* factor by which the context is extended; not used by the plain type */
    double original_max_pos; /* context length before the extension; llama3, yarn, longrope */
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn */
    bool truncate; /* yarn: round the ends of the interpolation range outwards to integers */
    double attention_factor; /* yarn, longrope: multiplies cos and sin; else 1 */
    /* longrope, (columns / 2) each: divisors of the frequencies */
    float short_factor[PLUMB_MAX_HEAD / 2], long_factor[PLUMB_MAX_HEAD / 2];
};

struct plumb_spec {
    enum plumb_family family;
    int64_t v, c, f;                 /* vocabulary, hidden size, feed-forward size */
    int64_t l;                       /* number of layers */
    int64_t h, hk, d;                /* query heads, kv heads, head size */
    int64_t max_pos;                 /* longest sequence: prompt plus completion */
    int64_t window;                  /* attention window in tokens; 0 if no layer has a limit */
    bool windowed[PLUMB_MAX_LAYERS]; /* (l) which layers have that window */
    double eps;
    bool positions; /* a learned vector per position is added to the embedding */
    int n_rope;
    struct plumb_rope rope[PLUMB_MAX_ROPE];
    int8_t rotation[PLUMB_MAX_LAYERS]; /* (l) index in rope; -1 if the layer rotates nothing */
    struct plumb_block block;
    /* embed_scale multiplies the embedding; head_scale multiplies the input of the LM head */
    float embed_scale, head_scale;
    bool embed_scale_rounds; /* embed_scale is first rounded to the type of the activations */
    float head_cap;          /* soft cap of the logits; 0: none */
    bool tied;               /* true if the LM head is the embedding */
    int64_t labels;          /* number of scores of a sequence classifier; 0 for a language model */
    double init_range;       /* standard deviation of randomly initialised weights */
    /* ids of the begin token and of the end tokens, from generation_config.json, or else from
     * config.json; -1 if there is none */
    int32_t bos, eos[PLUMB_MAX_EOS];
    int n_eos;
    /* id of the padding token; -1 if there is none. A classifier's score is read at the last token
     * that is not the padding token. */
    int32_t pad;
};

/* Returns the model_type in config.json, e.g. "llama". */
const char *plumb_spec_type(const struct plumb_spec *s);
/* Returns the Hugging Face class name of the model, e.g. "LlamaForCausalLM". */
const char *plumb_spec_architecture(const struct plumb_spec *s);

/* Reads DIR/config.json, and the stop ids from DIR/generation_config.json. Fails with
 * PLUMB_ERR_UNSUPPORTED if model_type or a field is not supported, and with PLUMB_ERR_FORMAT if a
 * field is missing, has the wrong type or a value out of range; the message names the field. Warns
 * about contradictory and unknown fields. `tied` is the value in config.json; plumb_model_open
 * corrects it by the weights. */
plumb_status plumb_spec_read(struct plumb_spec *out, const char *dir);

/* Fails with PLUMB_ERR_UNSUPPORTED if transformers has no sequence classifier of this family. dir
 * is the folder's name for the message. */
plumb_status plumb_spec_check_classifier(const struct plumb_spec *s, const char *dir);

/* Returns true if this token ends a completion. */
bool plumb_spec_stops_at(const struct plumb_spec *s, int32_t id);

/* Returns true if buffers that were made for one architecture fit the other. */
bool plumb_spec_same_sizes(const struct plumb_spec *a, const struct plumb_spec *b);

#endif
