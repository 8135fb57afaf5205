/* spec.h - the model architecture described by a config.json.
 * Layer 4. Includes base/ and io/. */
#ifndef PLUMB_MODEL_SPEC_H
#define PLUMB_MODEL_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum plumb_family { PLUMB_LLAMA, PLUMB_MISTRAL, PLUMB_QWEN2, PLUMB_QWEN3 };
#define PLUMB_MAX_EOS    8
#define PLUMB_MAX_LAYERS 4096

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

/* The norms of a block, by place. */
enum plumb_norm_place { PLUMB_NORM_ATTENTION, PLUMB_NORM_MLP, PLUMB_N_NORM };

/* The description of a decoder block. Forward, backward and the layout of the parameters read it;
 * they do not know families. For n rows:
 *
 *     x ---+--> norm --> q, k, v --> [qk norm] --> rotation --> attention --> o --> (+) -- xm
 *          |                                                                         |
 *          +-------------------------------------------------------------------------+
 *
 *     xm --+--> norm --> gate, up --> silu(gate) * up --> down --> (+) --> x of the next layer
 *          |                                                        |
 *          +--------------------------------------------------------+
 *
 * A step in brackets exists if the description says so. */
struct plumb_block {
    bool bias[PLUMB_N_PROJECTION]; /* which projections have a bias */
    bool qk_norm;                  /* q and k of each head are normalised before the rotation */
};

struct plumb_spec {
    enum plumb_family family;
    int64_t v, c, f;                 /* vocabulary, hidden size, feed-forward size */
    int64_t l;                       /* number of layers */
    int64_t h, hk, d;                /* query heads, kv heads, head size */
    int64_t max_pos;                 /* longest sequence: prompt plus completion */
    int64_t window;                  /* attention window in tokens; 0 if no layer has a limit */
    bool windowed[PLUMB_MAX_LAYERS]; /* (l) which layers have that window */
    double eps, rope_theta;
    struct {
        enum { PLUMB_ROPE_PLAIN, PLUMB_ROPE_LINEAR, PLUMB_ROPE_LLAMA3 } type;
        double factor, low_freq_factor, high_freq_factor, original_max_pos;
    } rope;
    bool tied; /* true if the LM head is the embedding */
    struct plumb_block block;
    int64_t labels;    /* number of scores of a sequence classifier; 0 for a language model */
    double init_range; /* standard deviation of randomly initialised weights */
    /* token ids from generation_config.json, or else from config.json; -1 if there is none */
    int32_t bos, eos[PLUMB_MAX_EOS];
    int n_eos;
    /* padding token; -1 if there is none. A classifier's score is read at the last other token. */
    int32_t pad;
};

/* Returns the Hugging Face class name of the model, e.g. "LlamaForCausalLM". */
const char *plumb_spec_architecture(const struct plumb_spec *s);

/* Reads DIR/config.json, and the stop ids from DIR/generation_config.json. Fails with
 * PLUMB_ERR_UNSUPPORTED if model_type or a field is not supported, and with PLUMB_ERR_FORMAT if a
 * field is missing or has the wrong type; the message names the field. Warns about contradictory
 * and unknown fields. `tied` is the value in config.json; plumb_model_open corrects it by the
 * weights. */
plumb_status plumb_spec_read(struct plumb_spec *out, const char *dir);

/* Returns true if this token ends a completion. */
bool plumb_spec_stops_at(const struct plumb_spec *s, int32_t id);

/* Returns true if buffers that were made for one architecture fit the other. */
bool plumb_spec_same_sizes(const struct plumb_spec *a, const struct plumb_spec *b);

#endif
