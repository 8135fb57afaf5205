/* model.h - a model: its parameters on a device, and the passes over it.
 * Layer 4. Includes base/, io/, backend/, op/, text/, model/spec.h. */
#ifndef PLUMB_MODEL_MODEL_H
#define PLUMB_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/status.h"
#include "model/spec.h"
#include "text/tokenizer.h"

/* Each tensor starts at a multiple of ALIGN floats in the flat vector, whose length is a multiple
 * of BLOCK: optimizer shards end on block borders (PLUMB_SHARD_BLOCK of comm.h). */
#define PLUMB_PARAM_ALIGN 64
#define PLUMB_PARAM_BLOCK 4096

/* One parameter tensor inside the flat parameter vector. */
struct plumb_param {
    char name[96];  /* Hugging Face name, "model.layers.0.self_attn.q_proj.weight" */
    int rank;       /* 1 or 2 */
    int64_t dim[2]; /* (out,in) for linear weights, (v,c) for the embedding, (n,) else */
    int64_t offset; /* floats into the flat vector */
    int64_t count;  /* floats */
    bool decay;     /* weight decay applies: matrices, not norms or biases */
    int64_t packed; /* elements into the packed weights; -1 = used as it is */
};

/* Everything is readable by callers; only model/ writes it. Gradients, moments and any other
 * per-parameter state are vectors of `count` floats with the same offsets. */
struct plumb_model {
    struct plumb_spec spec;
    struct plumb_backend *backend; /* borrowed; must outlive the model */
    char *dir;                     /* where config.json and generation_config.json came from */
    char *tokenizer_dir;           /* where the tokenizer files that are saved with it lie */
    bool fresh_score;              /* the score row of a classifier was drawn, not read */
    int64_t n_param, count;        /* tensors; floats in the flat vector, padding included */
    struct plumb_param *param;
    struct plumb_net *net; /* the same, by role; private to model/ */
    float *w;              /* (count,) device, master weights; padding is zero */
    plumb_real *packed;    /* packed linear weights, device */
    float *rope;           /* (max_pos, d) cos, sin */
    struct plumb_arena arena;
    struct plumb_tensor hash; /* (count / PLUMB_HASH_BLOCK,) i64 device: of the blocks of w */
    uint64_t *hash_host;      /* the same */
    uint64_t fingerprint;     /* XXH3 of the hashes of w since the last refresh; 0 = unknown */
};
typedef struct plumb_model plumb_model;

/* Reads a Hugging Face checkpoint folder. The reader maps the files and converts to float32.
 * Errors name the tensor: missing, extra, or of another shape than config.json says. A model
 * whose vocabulary differs from the tokenizer's is refused by the caller, not here. */
plumb_status plumb_model_open(plumb_model **out, struct plumb_backend *b, const char *dir);
/* Fresh weights, normal(0, init_range), norms 1, biases 0; a function of (config.json, seed). */
plumb_status plumb_model_create(plumb_model **out, struct plumb_backend *b, const char *dir,
                                uint64_t seed);
/* As plumb_model_open, but a sequence classifier of `labels` scores over that base model: a
 * causal checkpoint's body with a fresh score row (seed), or a classifier's own. */
plumb_status plumb_model_open_classifier(plumb_model **out, struct plumb_backend *b,
                                         const char *dir, int64_t labels, uint64_t seed);
/* Sets the folders that plumb_model_save copies from: config.json from dir, the tokenizer's files
 * from tokenizer_dir. They must outlive the model: a checkpoint that it was opened from may be
 * removed. PLUMB_ERR_NOMEM. */
plumb_status plumb_model_set_source(plumb_model *m, const char *dir, const char *tokenizer_dir);
/* Compares the model with the tokenizer whose text it is to read; tokenizer_dir is its folder.
 * Refuses a tokenizer with more ids than the model (PLUMB_ERR_FORMAT), warns where the end, begin
 * and padding tokens of the two do not agree. A new classifier whose padding token is the
 * tokenizer's end token loses the padding token. t NULL: nothing to compare. */
plumb_status plumb_model_fit_tokenizer(plumb_model *m, const plumb_tokenizer *t,
                                       const char *tokenizer_dir);
void plumb_model_destroy(plumb_model **m); /* NULL is allowed */

/* Must follow every change of m->w: packs the linear weights again and renews fingerprint. */
plumb_status plumb_model_refresh(plumb_model *m);
/* to's weights = from's; both of the same sizes and backend. Takes the way through the host. */
plumb_status plumb_model_copy(plumb_model *to, const plumb_model *from);
/* *hash = the fingerprint of the weights as they are now, whatever m->fingerprint says; the same
 * on every device. */
plumb_status plumb_model_hash(const plumb_model *m, uint64_t *hash);
/* Writes model.safetensors (float32, sharded above shard_bytes), config.json (the source's, with
 * architectures, dtype, tie_word_embeddings and, for a classifier, label fields and pad_token_id as
 * they are now), generation_config.json and the tokenizer files byte for byte, into an existing
 * folder. Reads config.json and generation_config.json from m->dir and the others from
 * m->tokenizer_dir, which must still be there. */
plumb_status plumb_model_save(const plumb_model *m, const char *dir, int64_t shard_bytes);
const struct plumb_param *plumb_model_find(const plumb_model *m, const char *name); /* or NULL */

/* ---- packed batches --------------------------------------------------------------------- */

/* Sequences end to end, no padding tokens. Host memory, borrowed. Sequence i is
 * ids[offset[i] .. offset[i+1]-1]; its first prompt_tokens[i] >= 1 ids are prompt, the rest
 * (possibly none) completion. Completion tokens are the n_targets outputs, in order. */
struct plumb_batch {
    int64_t n_seq;
    const int32_t *ids;
    const int64_t *offset;        /* (n_seq+1,) */
    const int64_t *prompt_tokens; /* (n_seq,) */
};
int64_t plumb_batch_tokens(const struct plumb_batch *b);
int64_t plumb_batch_targets(const struct plumb_batch *b); /* completion tokens of all sequences */

/* ---- forward and backward over whole sequences -------------------------------------------- */

/* Working memory of a pass: all of it is allocated in create, nothing later. */
struct plumb_pass_limit {
    int64_t max_tokens, max_seq;
    int64_t max_targets; /* completion tokens; 0 = max_tokens */
    bool train;          /* keep what backward needs */
    bool recompute;      /* keep layer inputs only, run each layer's forward again in backward */
    int64_t head_rows;   /* rows of logits that exist at a time; 0 = default (512) */
};
typedef struct plumb_pass plumb_pass; /* bound to one architecture, not to one set of weights */

plumb_status plumb_pass_create(plumb_pass **out, const plumb_model *m,
                               const struct plumb_pass_limit *limit);
void plumb_pass_destroy(plumb_pass **p); /* NULL is allowed */
int64_t plumb_pass_bytes(const plumb_pass *p);

/* logp[j] = log p(completion token j | everything before it), nats, raw (temperature 1).
 *   logp (n_targets,) host        Row-invariant: bit-equal to what generation stored. */
plumb_status plumb_pass_logprob(plumb_pass *p, const plumb_model *m, const struct plumb_batch *b,
                                float *logp);
/* grad += d(sum_j dlogp[j] logp[j])/dw for the batch of the last plumb_pass_logprob on this
 * pass (limit.train).   dlogp (n_targets,) host   grad (count,) device */
plumb_status plumb_pass_logprob_backward(plumb_pass *p, const plumb_model *m, const float *dlogp,
                                         float *grad);
/* Told by a backward: grad[from, count) is final once the device has done what it was told so far.
 * from falls, layer by layer. */
typedef plumb_status plumb_final_fn(void *arg, int64_t from);
void plumb_pass_on_final(plumb_pass *p, plumb_final_fn *fn, void *arg); /* fn NULL: nobody */
/* score[i,:] of a sequence classifier, read as transformers reads it: at the last token of sequence
 * i that is not the padding token of config.json (spec.pad; -1: at the last token).
 *   score (n_seq, labels) host */
plumb_status plumb_pass_score(plumb_pass *p, const plumb_model *m, const struct plumb_batch *b,
                              float *score);
plumb_status plumb_pass_score_backward(plumb_pass *p, const plumb_model *m, const float *dscore,
                                       float *grad);
/* The layers alone, without a head: enough for plumb_pass_embedding. */
plumb_status plumb_pass_hidden(plumb_pass *p, const plumb_model *m, const struct plumb_batch *b);
/* out (n_seq, c) host: mean over completion tokens of the last hidden state, after the final
 * norm; the batch of the last plumb_pass_hidden, _logprob or _score. */
plumb_status plumb_pass_embedding(plumb_pass *p, const plumb_model *m, float *out);
/* The logits row after every token of the batch. For tests and small inputs.
 *   logits (tokens, v) host */
plumb_status plumb_pass_logits(plumb_pass *p, const plumb_model *m, const struct plumb_batch *b,
                               float *logits);

#endif
