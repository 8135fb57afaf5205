/* model.h - a model: its parameters on a device, and forward and backward passes.
 * Layer 4. Includes base/, io/, backend/, op/, text/, model/spec.h. */
#ifndef PLUMB_MODEL_MODEL_H
#define PLUMB_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/status.h"
#include "model/spec.h"
#include "text/tokenizer.h"

/* All parameters of a model are in one flat vector of floats; gradients and moments have the same
 * layout:
 *
 *     | embedding | [positions] | layer 0 | layer 1 | ... | final norm | [head] |
 *     layer:  [norm], q, k, v, [q_norm, k_norm], o, [norm], [norm], [gate], up, down, [norm]
 *
 * Parts in brackets exist in some architectures only. The head is absent if it is tied to the
 * embedding. In a classifier, the score rows take the place of the head. A bias follows its matrix
 * or LayerNorm weight.
 *
 * Each tensor starts at a multiple of PLUMB_PARAM_ALIGN floats. The length is a multiple of
 * PLUMB_PARAM_BLOCK, because optimizer shards end at block borders (PLUMB_SHARD_BLOCK of
 * comm.h). */
#define PLUMB_PARAM_ALIGN 64
#define PLUMB_PARAM_BLOCK 4096

/* One parameter tensor of the flat vector. */
struct plumb_param {
    char name[96]; /* e.g. "model.layers.0.self_attn.q_proj.weight", as in Hugging Face's Llama */
    /* The tensor of the files that holds this parameter. Usually the tensor has the parameter's
     * name and no other rows. In general, row r of the parameter is row file_row + r / file_run *
     * file_step + r % file_run (integer division) of the tensor's file_rows rows. If `turned`, the
     * file stores the transpose: those rows are its columns. If paired > 0, the first `paired` rows
     * of each head of `head` rows have another order in the file (struct plumb_block, neighbours):
     * row i < paired / 2 is row 2 i there, and row paired / 2 + i is row 2 i + 1.
     * plumb_param_file_row computes the row. */
    char file[96];
    int64_t file_row, file_rows, file_run, file_step;
    int64_t head, paired;
    bool turned;
    int rank;       /* number of dimensions: 1 or 2 */
    int64_t dim[2]; /* (out,in) for linear weights, (v,c) for the embedding, (n,) for others */
    int64_t offset; /* index of the tensor's first float in the flat vector */
    int64_t count;  /* number of floats of the tensor */
    bool decay; /* true for matrices and embeddings: they get weight decay; norms, biases do not */
    /* index of the tensor's first element in plumb_model.packed; -1 if the tensor is not there */
    int64_t packed;
    /* index of the first float in plumb_model.w; -1 if the tensor is only in the packed weights */
    int64_t held;
};

/* Returns the row of the file's tensor that holds row r of the parameter. */
int64_t plumb_param_file_row(const struct plumb_param *p, int64_t r);

/* The trained view of a model: the tensors that a training run changes, in one flat vector.
 * Gradients and the optimizer's moments have the layout of this vector. The view is valid as long
 * as the model. */
struct plumb_trained {
    int64_t n_param, count;          /* number of tensors; floats in the vector, with padding */
    const struct plumb_param *param; /* (n_param,) names, shapes and places in the vector */
    /* (count,) float32 masters on the device; padding is zero. NULL if they are divided among the
     * ranks (plumb_model.masters) */
    float *w;
};

/* Where the matrices of a frozen model are. RESIDENT: on the device. SHARDED: each rank holds a
 * share, and a pass gathers layer by layer. OFFLOAD: in host memory, from which a pass copies layer
 * by layer. AUTO: the memory plan chooses the first of the other three modes that fits. */
enum plumb_frozen_mode {
    PLUMB_FROZEN_AUTO,
    PLUMB_FROZEN_RESIDENT,
    PLUMB_FROZEN_SHARDED,
    PLUMB_FROZEN_OFFLOAD
};
struct plumb_frozen {
    enum plumb_frozen_mode mode;
    /* Only for SHARDED; functions of the communicator. share: sets [*begin, *end) to this rank's
     * share of a vector of n floats. gather: begins to send every rank's share of x (n,), in device
     * memory, to all ranks. gathered: makes the device's later work wait for the end of the
     * gather. */
    void (*share)(void *arg, int64_t n, int64_t *begin, int64_t *end);
    plumb_status (*gather)(void *arg, float *x, int64_t n);
    plumb_status (*gathered)(void *arg);
    void *arg;
};

/* Functions that store and return the float32 masters of a model of which each rank holds only a
 * share (train/masters.h). The values w are in host memory. */
struct plumb_model;
struct plumb_model_masters {
    /* Allocates this rank's share for m. The tensors of m have offsets, but no values yet. */
    plumb_status (*open)(void *arg, const struct plumb_model *m);
    /* Copies the elements of tensor p that belong to this rank's share to this share. w
     * (p->count,): the values of the whole tensor. */
    plumb_status (*put)(void *arg, const struct plumb_param *p, const float *w);
    /* Sets w (p->count,) to the values of tensor p. The other ranks must call plumb_masters_finish
     * meanwhile, which sends their shares. */
    plumb_status (*get)(void *arg, const struct plumb_param *p, float *w);
    void *arg;
};

/* A model. Callers may read all fields, but only model/ writes them. Code that trains reads the
 * tensors through plumb_model_trained. */
struct plumb_model {
    struct plumb_spec spec;
    struct plumb_backend *backend; /* owned by the caller; must outlive the model */
    char *dir;                     /* folder of config.json and generation_config.json */
    char *tokenizer_dir;           /* folder of the tokenizer files that are saved with the model */
    /* true if the score rows of a classifier were initialised randomly, not read */
    bool fresh_score;
    /* number of tensors; number of floats in the flat vector, including padding */
    int64_t n_param, count;
    struct plumb_param *param;
    struct plumb_net *net; /* offsets of the tensors by role; private to model/ */
    float *w;              /* (n_held,) float32 master weights on the device; padding is zero */
    /* LoRA adapter, or NULL; model/adapter.h. The tensors above are then frozen. */
    struct plumb_adapter *adapter;
    /* true if tensors, tables and hashes belong to another model (plumb_model_share) */
    bool shared;
    plumb_real *packed; /* matrices on the device, in the form that the forward's products read */
    float *rope;        /* (max_pos, columns) per rotary embedding: cos and sin */
    int64_t longest;    /* tokens of the longest sequence; set by plumb_model_set_longest */
    /* A frozen model (plumb_model_open_frozen) has its matrices only in packed, not in w. n_held:
     * floats in w; n_packed: elements in packed; held_hash: the hash of w and packed
     * (plumb_held_hash) after their last change */
    bool frozen;
    int64_t n_held, n_packed;
    uint64_t held_hash;
    /* Not NULL if the float32 masters are divided among the ranks (plumb_model_open_divided).
     * Element i of packed is then element i of the flat vector, rounded to bfloat16; w has only the
     * norms, the biases and the learned positions. */
    const struct plumb_model_masters *masters;
    /* copies or gathers the layers of a frozen model; private to model/; NULL if all layers are in
     * `packed` */
    struct plumb_provider *provider;
    struct plumb_arena arena;
    /* (n_held / PLUMB_HASH_BLOCK,) i64 device: hashes of the blocks of w. In a frozen model, and in
     * one whose masters are divided among the ranks, the hashes of the blocks of packed follow. */
    struct plumb_tensor hash;
    uint64_t *hash_host;       /* copy of `hash` on the host */
    uint64_t base_fingerprint; /* XXH3 of the hashes of w at the last refresh; 0 if unknown */
    /* without an adapter equal to base_fingerprint; with an adapter a hash of base_fingerprint and
     * of the adapter's weights */
    uint64_t fingerprint;
    /* dtype in which plumb_model_save writes the weights: PLUMB_F32 (0, the default) or
     * PLUMB_BF16, rounded to nearest. An adapter is always float32. */
    enum plumb_dtype saved_as;
};
typedef struct plumb_model plumb_model;

/* Opens a Hugging Face checkpoint folder, or an adapter folder together with the base model that it
 * names (model/adapter.h). Memory-maps the files and converts the weights to float32. The message
 * of an error names the tensor that is missing, unexpected or of another shape than config.json
 * says. The vocabulary is not compared with the tokenizer here; see plumb_model_fit_tokenizer. */
plumb_status plumb_model_open(plumb_model **out, struct plumb_backend *b, const char *dir);
/* Creates a model with random weights: matrices are normal(0, init_range), norms multiply by 1, and
 * biases are 0. The weights are a function of (config.json, seed). */
plumb_status plumb_model_create(plumb_model **out, struct plumb_backend *b, const char *dir,
                                uint64_t seed);
/* Opens a checkpoint as a sequence classifier with `labels` scores. A checkpoint of a language
 * model gets new score rows, drawn from seed; a classifier checkpoint and the adapter folder of a
 * classifier keep their score rows. Fails with PLUMB_ERR_SHAPE if the folder is a classifier
 * checkpoint or an adapter with another number of scores, and with PLUMB_ERR_UNSUPPORTED if
 * transformers has no classifier of this model_type. */
plumb_status plumb_model_open_classifier(plumb_model **out, struct plumb_backend *b,
                                         const char *dir, int64_t labels, uint64_t seed);
/* Opens a model for forward passes only. It holds each matrix once, in the form that a forward
 * reads; a bfloat16 model holds no float32 copy of a matrix or of the embedding. Its results and
 * its fingerprint are those of plumb_model_open, wherever `how` places its layers. labels: the
 * number of scores of a classifier, as in plumb_model_open_classifier, or 0 to open the folder as
 * the kind of model that it holds. The adapter of a classifier and its base are opened as by
 * plumb_model_open, that is, not frozen; fails with PLUMB_ERR_UNSUPPORTED if `how` is then not
 * resident. */
plumb_status plumb_model_open_frozen(plumb_model **out, struct plumb_backend *b, const char *dir,
                                     int64_t labels, const struct plumb_frozen *how);
/* Opens a model to train in bfloat16 whose float32 masters are divided among the ranks. *masters
 * (borrowed) stores this rank's share of the masters. Its results and its fingerprint are those of
 * plumb_model_open, of plumb_model_open_classifier (labels > 0), or of plumb_model_create (draw).
 * An adapter folder is refused with PLUMB_ERR_UNSUPPORTED. plumb_model_hash detects a change of
 * packed and w only; plumb_weights_agree checks the masters, too. */
plumb_status plumb_model_open_divided(plumb_model **out, struct plumb_backend *b, const char *dir,
                                      int64_t labels, bool draw, uint64_t seed,
                                      const struct plumb_model_masters *masters);
/* Tells a model of plumb_model_open_divided that the caller has changed packed and w. fingerprint:
 * that of the new weights. */
plumb_status plumb_model_replaced(plumb_model *m, uint64_t fingerprint);
/* Returns true if forward passes of m are collective, because each rank holds only a share of its
 * layers. A rank that has nothing to compute while another one runs a pass calls plumb_model_follow
 * instead. A pass that fails on one rank still gathers all layers, so that no rank waits for ever.
 */
bool plumb_model_gathers(const plumb_model *m);
plumb_status plumb_model_follow(const plumb_model *m);
/* Sets the folders from which plumb_model_save copies: config.json and generation_config.json from
 * dir, the tokenizer files from tokenizer_dir. The folders must outlive the model. Use this if the
 * checkpoint from which the model was opened may be deleted. Fails with PLUMB_ERR_NOMEM. */
plumb_status plumb_model_set_source(plumb_model *m, const char *dir, const char *tokenizer_dir);
/* Sets m->longest, the number of tokens of the run's longest sequence. If `tokens` is 0 or more
 * than max_pos, m->longest becomes max_pos, which is also its value after opening. Rotary
 * embeddings of type longrope choose their factors by this number, once for all sequences, so that
 * decode and training use the same factors. (transformers chooses them in each forward by the
 * longest sequence of the batch.) All passes and generators must be idle. dir is the folder of a
 * checkpoint or an adapter, or NULL. If the file PLUMB_LONGEST_NAME in this folder says that the
 * run that wrote it used the other list of factors (short_factor or long_factor), a warning is
 * logged. Fails with PLUMB_ERR_FORMAT if that file is damaged. */
plumb_status plumb_model_set_longest(plumb_model *m, int64_t tokens, const char *dir);
/* plumb_model_write_longest writes m->longest to a file of this name in an existing folder, if a
 * rotary embedding of the model is of type longrope. */
#define PLUMB_LONGEST_NAME "plumb_rope.json"
plumb_status plumb_model_write_longest(const plumb_model *m, const char *dir);
/* Compares the model with its tokenizer t, read from tokenizer_dir. Fails with PLUMB_ERR_FORMAT if
 * the tokenizer has ids that the model lacks, and warns if the end, begin or padding tokens
 * disagree. If m is a classifier whose score rows are new and whose padding token is the end token,
 * the padding token of the model is removed. With t NULL, the comparisons with the tokenizer are
 * skipped. */
plumb_status plumb_model_fit_tokenizer(plumb_model *m, const plumb_tokenizer *t,
                                       const char *tokenizer_dir);
void plumb_model_destroy(plumb_model **m); /* frees a model and sets *m to NULL; *m may be NULL */

/* Returns the trained view of m (struct plumb_trained): the tensors of its adapter or, without an
 * adapter, all tensors of m. */
struct plumb_trained plumb_model_trained(const plumb_model *m);
/* The trained vector consists of parts whose gradients a backward completes one after the other:
 * part 0 has the tensors before the layers, part l + 1 those of layer l, and the last part those
 * after the layers. A part may be empty. plumb_model_parts returns their number. plumb_model_part
 * returns the offset of part i, and the length of the vector for i = parts. plumb_model_tied
 * returns true if the head is tied to the embedding and trained: the backward then adds the head's
 * gradient to part 0 before it computes the layers. */
int64_t plumb_model_parts(const plumb_model *m);
int64_t plumb_model_part(const plumb_model *m, int64_t i);
bool plumb_model_tied(const plumb_model *m);
/* Updates the packed form of the linear weights from the master weights, and computes the
 * fingerprint. Must be called after every change of the trained tensors; if the masters are divided
 * among the ranks, call plumb_masters_update instead. */
plumb_status plumb_model_refresh(plumb_model *m);
/* Copies the trained tensors of `from` to `to`. Both must have the same sizes, the same backend
 * and, with adapters, the same base. If the masters are divided among the ranks, this function
 * copies packed and w only; plumb_masters_copy copies the shares. */
plumb_status plumb_model_copy(plumb_model *to, const plumb_model *from);
/* Sets *hash to the fingerprint of the current weights, even if m->fingerprint is out of date. The
 * fingerprint is the same on every device. */
plumb_status plumb_model_hash(const plumb_model *m, uint64_t *hash);
/* Writes the files of the model to an existing folder. For a model with an adapter, these are the
 * adapter's files and copies of the tokenizer files. For any other model, these are
 * model.safetensors (in the dtype m->saved_as, split into several files above shard_bytes bytes),
 * config.json, and byte-for-byte copies of generation_config.json and the tokenizer files.
 * config.json is copied from m->dir; architectures, dtype and tie_word_embeddings, and for a
 * classifier also the labels and pad_token_id, are updated. m->dir and m->tokenizer_dir must still
 * exist. */
plumb_status plumb_model_save(const plumb_model *m, const char *dir, int64_t shard_bytes);
/* Sets *hash to the fingerprint that a model opened from the files of plumb_model_save would have:
 * that of the weights rounded to m->saved_as. */
plumb_status plumb_model_saved_hash(const plumb_model *m, uint64_t *hash);
/* Returns the number of values of the largest tensor in the files. plumb_model_save and
 * plumb_model_saved_hash allocate host memory for one such tensor: at most 4 bytes per value, 2
 * more if they round to bfloat16, and 4 more if a tensor of the files holds several parameters. */
int64_t plumb_model_largest(const plumb_model *m);
/* Sets *out to the dtype that most values in the safetensors files of a folder have. */
plumb_status plumb_model_dtype_in(enum plumb_dtype *out, const char *dir);
/* A function that reads or fills the float32 values w (p->count,) of one tensor in host memory. */
typedef plumb_status plumb_param_fn(void *arg, const struct plumb_param *p, float *w);
/* Calls fn for each tensor, in the order of m->param. plumb_model_each: fn reads the values in w
 * and must not change w. plumb_model_fill: fn writes the new values to w; afterwards the model is
 * refreshed. If the masters are divided among the ranks, plumb_model_each, plumb_model_save and
 * plumb_model_saved_hash work only while the other ranks call plumb_masters_finish. */
plumb_status plumb_model_each(const plumb_model *m, plumb_param_fn *fn, void *arg);
plumb_status plumb_model_fill(plumb_model *m, plumb_param_fn *fn, void *arg);
/* The file tensors of a flat vector, as plumb_param.file* describe them. If a file tensor has the
 * layout of its parameter, its data are in the vector itself. Otherwise (fused or transposed) its
 * data are in memory of their own. */
struct plumb_file_tensors {
    int64_t n;
    struct plumb_st_entry *entry; /* (n,) float32 */
    float **built;                /* (n,) NULL if the entry's data lies in the vector */
};
/* Sets *t to the file tensors of w, a vector in host memory with the parameters param (n_param,).
 * param and w must outlive *t, which the caller passes to plumb_file_tensors_fini. On failure
 * (PLUMB_ERR_NOMEM) *t is empty. */
plumb_status plumb_file_tensors_make(struct plumb_file_tensors *t, const struct plumb_param *param,
                                     int64_t n_param, const float *w);
void plumb_file_tensors_fini(struct plumb_file_tensors *t);
/* Finds a parameter by its name; returns NULL if there is none. */
const struct plumb_param *plumb_model_find(const plumb_model *m, const char *name);

/* ---- packed batches --------------------------------------------------------------------- */

/* A batch of sequences, one after another without padding tokens, in host memory owned by the
 * caller. Sequence i is ids[offset[i] .. offset[i+1]-1]. Its first prompt_tokens[i] >= 1 ids are
 * the prompt; the rest, which may be empty, is the completion. The completion tokens of all
 * sequences, in order, are the n_targets targets. */
struct plumb_batch {
    int64_t n_seq;
    const int32_t *ids;
    /* (n_seq+1,) start of each sequence in ids, and the end of the last one */
    const int64_t *offset;
    const int64_t *prompt_tokens; /* (n_seq,) number of prompt tokens of each sequence */
};
/* Returns the number of tokens of all sequences. */
int64_t plumb_batch_tokens(const struct plumb_batch *b);
/* Returns the number of completion tokens of all sequences. */
int64_t plumb_batch_targets(const struct plumb_batch *b);

/* ---- joined projections ---------------------------------------------------------------------- */

/* Which projections of a layer are computed as one matrix product, because their weights are
 * adjacent in memory. In float32 and on the CPU both fields are false. */
struct plumb_joined {
    bool qkv;     /* q, k and v are one product; the backward computes one product for each */
    bool gate_up; /* gate and up are one product, in forward and backward */
};
/* Returns the joined projections of an architecture s on backend b. */
struct plumb_joined plumb_joined_of(const struct plumb_backend *b, const struct plumb_spec *s);

/* ---- forward and backward over whole sequences -------------------------------------------- */

/* Limits of a pass. plumb_pass_create allocates all working memory for them. */
struct plumb_pass_limit {
    int64_t max_tokens, max_seq;
    /* largest number of completion tokens per batch; 0 stands for max_tokens */
    int64_t max_targets;
    bool entropy; /* also compute what plumb_pass_entropy returns */
    bool train;   /* keep the activations that the backward needs */
    /* keep only the layer inputs; the backward runs each layer's forward again */
    bool recompute;
    /* number of rows of logits that exist at a time; 0 stands for the default (512) */
    int64_t head_rows;
};
/* Working memory for forward and backward passes of one architecture. One pass can be used with
 * every model of this architecture. */
typedef struct plumb_pass plumb_pass;

plumb_status plumb_pass_create(plumb_pass **out, const plumb_model *m,
                               const struct plumb_pass_limit *limit);
void plumb_pass_destroy(plumb_pass **p); /* frees a pass and sets *p to NULL; *p may be NULL */
/* Returns the bytes of the pass's device memory. */
int64_t plumb_pass_bytes(const plumb_pass *p);

/* logp[j] = log p(completion token j | all tokens before it), in nats, at temperature 1.
 *   logp (n_targets,) host
 * Row-invariant: the result of a row does not depend on the other rows of the batch. So logp is
 * bit-equal to the log-probs stored by generation. */
plumb_status plumb_pass_logprob(plumb_pass *p, const plumb_model *m, const struct plumb_batch *b,
                                float *logp);
/* For each completion token of the last plumb_pass_logprob of this pass, returns the entropy, in
 * nats, of the distribution from which its log-prob was taken, and the mean of the logits of that
 * distribution. The pass must have been created with limit.entropy, and the backward must not have
 * run since. entropy, mean (n_targets,) host */
plumb_status plumb_pass_entropy(plumb_pass *p, float *entropy, float *mean);
/* grad += d(sum_j dlogp[j] logp[j])/dw, for the batch of the last plumb_pass_logprob of this pass,
 * which must have been created with limit.train.
 *   dlogp (n_targets,) host   grad (count,) device, with the layout of the vector of
 * plumb_model_trained */
plumb_status plumb_pass_logprob_backward(plumb_pass *p, const plumb_model *m, const float *dlogp,
                                         float *grad);
/* Callback of the backward. It is called when all kernels that write grad[from, count) have been
 * launched; these gradients are final once the stream has run the kernels. `from` decreases layer
 * by layer. */
typedef plumb_status plumb_final_fn(void *arg, int64_t from);
/* Sets the plumb_final_fn that the backward calls as gradients become final; fn may be NULL to have
 * none. */
void plumb_pass_on_final(plumb_pass *p, plumb_final_fn *fn, void *arg);
/* Callback of the backward. It is called before kernels write the gradient of the part [begin, end)
 * of the trained vector. It sets *grad so that element i of the vector is at (*grad)[i] for begin
 * <= i < end; other elements need not exist. */
typedef plumb_status plumb_place_fn(void *arg, float **grad, int64_t begin, int64_t end);
/* Sets the plumb_place_fn that the backward calls; fn may be NULL to have none. With fn, the
 * argument grad of the backward is not used and may be NULL. */
void plumb_pass_on_place(plumb_pass *p, plumb_place_fn *fn, void *arg);
/* Computes the scores of a sequence classifier: score[i,:] of sequence i. As in transformers, the
 * scores are read at the last token that is not the padding token (spec.pad), or at the last token
 * if spec.pad is -1.
 *   score (n_seq, labels) host */
plumb_status plumb_pass_score(plumb_pass *p, const plumb_model *m, const struct plumb_batch *b,
                              float *score);
plumb_status plumb_pass_score_backward(plumb_pass *p, const plumb_model *m, const float *dscore,
                                       float *grad);
/* Runs the layers for the batch, without a head; plumb_pass_embedding can follow. */
plumb_status plumb_pass_hidden(plumb_pass *p, const plumb_model *m, const struct plumb_batch *b);
/* Computes an embedding of each sequence: the mean of the last hidden states of its completion
 * tokens, after the final norm. The batch is that of the last plumb_pass_hidden, plumb_pass_logprob
 * or plumb_pass_score.
 *   out (n_seq, c) host */
plumb_status plumb_pass_embedding(plumb_pass *p, const plumb_model *m, float *out);
/* Computes the logits after every token of the batch, for tests and small inputs. No backward and
 * no plumb_pass_embedding can follow.
 *   logits (tokens, v) host */
plumb_status plumb_pass_logits(plumb_pass *p, const plumb_model *m, const struct plumb_batch *b,
                               float *logits);

#endif
