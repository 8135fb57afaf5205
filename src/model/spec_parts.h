/* spec_parts.h - the parts of reading a config.json, one per file spec_*.c.
 * Layer 4. Includes io/json.h and model/spec.h. For spec*.c only.
 *
 * Where two fields give the same setting, the rules of transformers 5 apply (checked with 5.24). If
 * transformers resolves a contradiction silently, plumb resolves it in the same way and logs a
 * warning that names both fields. `path` is the file name for messages. */
#ifndef PLUMB_MODEL_SPEC_PARTS_H
#define PLUMB_MODEL_SPEC_PARTS_H

#include "io/json.h"
#include "model/spec.h"

/* A model family: its names, and the defaults of its Hugging Face configuration class for absent
 * fields. */
struct plumb_family_row {
    const char *type, *causal; /* model_type; class of the language model */
    const char *classifier;    /* class of the sequence classifier; NULL if transformers has none */
    int64_t hk;                /* num_key_value_heads; 0: as num_attention_heads */
    int64_t d;                 /* head_dim; 0: hidden_size / num_attention_heads */
    double eps, theta;         /* rms_norm_eps, rope_theta */
    int32_t pad;               /* pad_token_id; -1: none */
    bool tied;                 /* tie_word_embeddings */
    bool attention_bias, mlp_bias; /* true if the class reads the field of this name */
    /* which layers may have an attention window. NONE: no layer; ALL: all layers or none, as
     * sliding_window says; TYPES: the layers that layer_types lists or, without this field, the
     * layers that other fields select */
    enum { PLUMB_WINDOW_NONE, PLUMB_WINDOW_ALL, PLUMB_WINDOW_TYPES } window;
    /* fields that this class reads and that most classes do not, separated by blanks; "" if none */
    const char *fields;
    /* fields that most classes read and that this class ignores, separated by blanks; NULL if none
     */
    const char *ignored;
};
const struct plumb_family_row *plumb_family_row(enum plumb_family f);
/* Sets *f to the family of a model_type. Fails with PLUMB_ERR_UNSUPPORTED if there is none. */
plumb_status plumb_family_find(enum plumb_family *f, const char *type, const char *path);

/* Returns true if `name` is the class of the model without a head ("LlamaModel"), which
 * transformers' AutoModel saves. */
bool plumb_family_is_headless(enum plumb_family f, const char *name);

/* Returns true if `word` is one of the words of `list`, which are separated by blanks. */
bool plumb_spec_is_word_of(const char *word, const char *list);

/* Reads an integer from 1 to limit. If the field is absent or null, *out becomes *fallback; if
 * fallback is NULL, the field is required. */
plumb_status plumb_spec_want_size(const plumb_json *j, const char *key, int64_t *out,
                                  const int64_t *fallback, int64_t limit, const char *path);
/* Sets *out to the name under which the config.json of this family has a field, for example
 * "n_embd" for "hidden_size" in GPT-2. If transformers reads both names and the file has the usual
 * one, *out is that one; if the file has both, the function fails with PLUMB_ERR_FORMAT. */
plumb_status plumb_spec_key(const char **out, const struct plumb_spec *s, const plumb_json *j,
                            const char *key, const char *path);
/* Sets s->block, and the scales of the embedding and the head, from config.json. The sizes of the
 * model in *s must be set. */
plumb_status plumb_spec_read_block(struct plumb_spec *s, const plumb_json *j, const char *path);
/* Reads the rotary embeddings from rope_scaling, rope_parameters and the top-level fields. Also
 * reads which layers use no rotary embedding: in GPT-2 all layers, in SmolLM3 the layers with a 0
 * in no_rope_layers or, without this list, every no_rope_layer_interval-th layer. If a model has
 * two embeddings, plumb_spec_read_window sets which one each layer uses. The sizes must be set. */
plumb_status plumb_spec_read_rope(struct plumb_spec *s, const plumb_json *j, const char *path);
/* Reads window and windowed from layer_types, sliding_window, use_sliding_window, max_window_layers
 * and sliding_window_pattern. If the model has two rotary embeddings, sets which one each layer
 * uses, and in EXAONE 4 which layers use none. plumb_spec_read_rope must have run before. */
plumb_status plumb_spec_read_window(struct plumb_spec *s, const plumb_json *j, const char *path);
/* Reads the begin, end and padding tokens (bos, eos, pad). s->v and s->family must be set. */
plumb_status plumb_spec_read_tokens(struct plumb_spec *s, const plumb_json *j, const char *path);
/* Reads bos and eos from DIR/generation_config.json, if the file exists. */
plumb_status plumb_spec_read_generation(struct plumb_spec *s, const char *dir);
/* Fails on fields that change the arithmetic in a way that plumb does not implement, and warns
 * about fields that plumb does not know. family must be set. */
plumb_status plumb_spec_check_fields(const struct plumb_spec *s, const plumb_json *j,
                                     const char *path);

#endif
