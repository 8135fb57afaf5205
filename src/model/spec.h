/* spec.h - the architecture that a config.json describes.
 * Layer 4. Includes base/ and io/. */
#ifndef PLUMB_MODEL_SPEC_H
#define PLUMB_MODEL_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum plumb_family { PLUMB_LLAMA, PLUMB_MISTRAL, PLUMB_QWEN2, PLUMB_QWEN3 };
#define PLUMB_MAX_EOS 8

struct plumb_spec {
    enum plumb_family family;
    int64_t v, c, f;  /* vocabulary, hidden size, feed-forward size */
    int64_t l;        /* layers */
    int64_t h, hk, d; /* query heads, kv heads, head size */
    int64_t max_pos;  /* longest sequence, prompt and completion together */
    int64_t window;   /* attention window; 0 = all */
    double eps, rope_theta;
    struct {
        enum { PLUMB_ROPE_PLAIN, PLUMB_ROPE_LINEAR, PLUMB_ROPE_LLAMA3 } type;
        double factor, low_freq_factor, high_freq_factor, original_max_pos;
    } rope;
    bool tied; /* head = embedding */
    bool qkv_bias, o_bias, mlp_bias, qk_norm;
    int64_t labels;                  /* > 0: sequence classification with that many scores */
    double init_range;               /* std of fresh weights */
    int32_t bos, eos[PLUMB_MAX_EOS]; /* -1 = none; from generation_config.json, else config.json */
    int n_eos;
    int32_t pad; /* -1 = none; a classifier's score stands at the last other token */
};

/* Hugging Face class of the model, "LlamaForCausalLM". */
const char *plumb_spec_architecture(const struct plumb_spec *s);

/* Reads DIR/config.json (and generation_config.json for the stop ids). PLUMB_ERR_UNSUPPORTED
 * names model_type or the field that plumb does not implement; PLUMB_ERR_FORMAT names a missing
 * or mistyped field. Fields that contradict each other, and fields that plumb does not know, are
 * warned about. tied is what config.json says; the weights may say otherwise (plumb_model_open). */
plumb_status plumb_spec_read(struct plumb_spec *out, const char *dir);

/* Whether a completion ends with this token. */
bool plumb_spec_stops_at(const struct plumb_spec *s, int32_t id);

/* Whether buffers made for one serve the other. */
bool plumb_spec_same_sizes(const struct plumb_spec *a, const struct plumb_spec *b);

#endif
