/* pass.h - internals of a pass: its buffers and its batch.
 * Layer 4, private to model/. Includes model/net.h. */
#ifndef PLUMB_MODEL_PASS_H
#define PLUMB_MODEL_PASS_H

#include "model/net.h"

/* The content of a pass's buffers. It decides which functions may be called next. */
enum plumb_pass_state {
    PLUMB_PASS_EMPTY,   /* nothing that a later function may read */
    PLUMB_PASS_LOGPROB, /* results of plumb_pass_logprob; its backward may follow */
    PLUMB_PASS_SCORE,   /* results of plumb_pass_score; its backward may follow */
    PLUMB_PASS_HIDDEN,  /* hidden states of plumb_pass_hidden, which does not run a head */
};

/* A batch in the form that kernels read. A pass has one on the host and one on the device. */
struct plumb_pass_batch {
    int64_t n, n_seq, n_head, n_targets, max_pages;
    int32_t *ids, *seq, *pos; /* (n,) token, sequence and position of each row */
    int32_t *page;            /* (n_seq, max_pages) page table */
    int32_t *head;            /* (n_head,) rows whose hidden state the head reads */
    int32_t *target;          /* (n_targets,) the token that follows each of these rows */
    int32_t *completion;      /* (n_targets,) rows of the completion tokens */
    /* (n_seq+1,) index of the first target of each sequence, followed by n_targets */
    int64_t *segment;
    int64_t bytes; /* all arrays lie in one block of this size, which begins with segment */
};

struct plumb_pass {
    struct plumb_backend *backend;
    struct plumb_spec spec;
    struct plumb_pass_limit limit;
    struct plumb_arena arena;
    /* largest number of pages per sequence; largest number of rows that the head reads */
    int64_t max_pages, max_head;
    enum plumb_pass_state state;
    bool backward_done; /* the backward has run and overwritten the activations */
    plumb_final_fn *on_final;
    void *on_final_arg;
    plumb_place_fn *on_place;
    void *on_place_arg;
    /* host: the batch on the host; batch: its copy on the device; sending: this copy may still be
     * in progress, so that host must not be changed */
    struct plumb_pass_batch host, batch;
    bool sending;
    /* (l+1) buffers: the input of each layer, then the output; without train they are one buffer */
    plumb_real **x;
    /* (l) activations of each layer; the layers share buffers unless the backward needs them */
    struct plumb_act *act;
    /* (max_head,c) each: input of the head before and after the final norm */
    plumb_real *hx, *hn;
    float *hrstd;                /* (max_head plumb_norm_saved,) saved by the final norm */
    float *entropy, *mean_logit; /* (max_targets,) each; NULL without limit.entropy */
    float *logp, *lse, *dlogp;   /* (max_targets,) log-probs, their log-sum-exps, their gradients */
    float *score;                /* (max_seq, labels) scores of a classifier */
    plumb_real *dscore;          /* (max_seq, labels) gradient of score */
    float *head_work;            /* (head_work_count,) logits and scratch of the head */
    int64_t head_work_count;
    /* (max_tokens,c) scratch: gathered hidden states before and after the norm */
    plumb_real *gathered, *normed;
    float *rstd;          /* (max_tokens plumb_norm_saved,) scratch: saved by the norm */
    float *mean;          /* (max_seq,c) mean hidden state of each sequence's completion */
    plumb_real *dx, *dhx; /* (max_tokens,c), (max_head,c) gradients of the hidden states */
    struct plumb_back back;
};

/* Returns the rows of the batch, as kernels read them. */
struct plumb_rows plumb_pass_rows(const plumb_pass *p);
/* Checks a batch against the limits and the model, copies it to the device, and runs the embedding
 * and all layers. x[spec.l] then holds the output of the last layer. */
plumb_status plumb_pass_forward(plumb_pass *p, const plumb_model *m, const struct plumb_batch *b,
                                enum plumb_pass_state state);
/* Computes hx and hn (n_head,c), the hidden states that the head reads, before and after the final
 * norm. */
plumb_status plumb_pass_head_input(plumb_pass *p, const plumb_model *m);
/* If the pass has a plumb_place_fn and part i of the trained vector (plumb_model_part) is not
 * empty, calls the function to set *grad for this part. Otherwise does nothing. */
plumb_status plumb_pass_place(plumb_pass *p, const plumb_model *m, int64_t i, float **grad);
/* Copies n floats from the device to the host, and waits until the copy is complete. */
plumb_status plumb_pass_result(plumb_pass *p, float *host, const float *device, int64_t n);
/* Backpropagates p->dx (n,c), the gradient of x[spec.l], through all layers and the embedding, and
 * adds the gradients of their weights to grad. */
plumb_status plumb_pass_backward(plumb_pass *p, const plumb_model *m, float *grad);

#endif
