/* pass.h - inside of a pass: its buffers and the batch it holds.
 * Layer 4, private to model/. Includes model/net.h. */
#ifndef PLUMB_MODEL_PASS_H
#define PLUMB_MODEL_PASS_H

#include "model/net.h"

/* What the buffers hold. */
enum plumb_pass_state {
    PLUMB_PASS_EMPTY,
    PLUMB_PASS_LOGPROB, /* a forward with log-probs */
    PLUMB_PASS_SCORE,   /* a forward with scores */
    PLUMB_PASS_HIDDEN,  /* a forward that ended before the head */
};

/* The batch, as kernels want it; every array twice, on the host and on the device. */
struct plumb_pass_batch {
    int64_t n, n_seq, n_head, n_targets, max_pages;
    int32_t *ids, *seq, *pos; /* (n,) */
    int32_t *page;            /* (n_seq, max_pages) */
    int32_t *head;            /* (n_head,) rows whose hidden state the head reads */
    int32_t *target;          /* (n_targets,) the tokens that follow them */
    int32_t *completion;      /* (n_targets,) rows of the completion tokens themselves */
    int64_t *segment;         /* (n_seq+1,) where each sequence's targets start */
};

struct plumb_pass {
    struct plumb_backend *backend;
    struct plumb_spec spec;
    struct plumb_pass_limit limit;
    struct plumb_arena arena;
    int64_t max_pages, max_head; /* of a sequence; rows that the head reads */
    enum plumb_pass_state state;
    bool backward_done; /* the activations were used up */
    plumb_final_fn *on_final;
    void *on_final_arg;
    struct plumb_pass_batch host, batch;
    plumb_real **x;        /* (l+1) inputs of the layers and the output; one buffer unless train */
    struct plumb_act *act; /* (l); the same buffers in each unless kept */
    plumb_real *hx, *hn;   /* (max_head,c) twice, around the final norm */
    float *hrstd;          /* (max_head,) */
    float *logp, *lse, *dlogp; /* (max_targets,) */
    float *score;              /* (max_seq, labels) */
    plumb_real *dscore;        /* the same */
    float *head_work;          /* (head_work_count,) */
    int64_t head_work_count;
    plumb_real *gathered, *normed; /* (max_tokens,c): scratch */
    float *rstd;                   /* (max_tokens,): scratch */
    float *mean;                   /* (max_seq,c) */
    plumb_real *dx, *dhx;          /* (max_tokens,c), (max_head,c) */
    struct plumb_back back;
};

/* The rows of the batch. */
struct plumb_rows plumb_pass_rows(const plumb_pass *p);
/* Checks a batch against limits and model, and takes it over; layers run: x[l] is filled. */
plumb_status plumb_pass_forward(plumb_pass *p, const plumb_model *m, const struct plumb_batch *b,
                                enum plumb_pass_state state);
/* hx, hn (n_head,c): the hidden states that the head reads, before and after the final norm. */
plumb_status plumb_pass_head_input(plumb_pass *p, const plumb_model *m);
/* dx (n,c), d/d x[l], back through the layers and the embedding; grad += */
plumb_status plumb_pass_backward(plumb_pass *p, const plumb_model *m, float *grad);

#endif
