/* generator.h - the data structures of the generator: slots, groups and the rows of one step.
 * Layer 4, private to model/. Includes model/generate.h, model/kv.h, model/net.h.
 *
 * A group is a request whose prompt is being read into the KV cache, or has been, and some of whose
 * samples have not begun. The prompt is read once (prefill), and all
 * samples of the request start from its pages. A slot holds one unfinished completion. The page
 * table has one row per sequence:
 *
 *     0 .. slots-1                  slots
 *     slots .. slots+groups-1       groups
 *     sequences-1                   an extra sequence with one page that nobody reads; the rows
 *                                   that pad a recorded step belong to it */
#ifndef PLUMB_MODEL_GENERATOR_H
#define PLUMB_MODEL_GENERATOR_H

#include "base/buf.h"
#include "model/generate.h"
#include "model/kv.h"
#include "model/net.h"

/* A step has up to slots + PLUMB_PREFILL_ROWS rows. Live slots take one row each; the other rows
 * read prompts. */
#define PLUMB_PREFILL_ROWS 256

struct plumb_slot {
    /* SLOT_WAIT: the prompt of the slot's group is not complete */
    enum { SLOT_FREE, SLOT_WAIT, SLOT_LIVE } state;
    int64_t request;
    int32_t sample;
    int64_t group;  /* SLOT_WAIT: the slot waits until the prompt of this group is computed */
    int64_t n;      /* number of tokens of the completion so far */
    int64_t pages;  /* number of pages in the slot's page table */
    int64_t source; /* row of x from which the next token is drawn */
    int32_t *ids;   /* (plumb_generator.limit,) tokens of the completion */
    float *logp, *logp_sampled; /* (limit,) log-probs of the tokens */
    int32_t *seen; /* (seen_words,) a bit for each token of the prompt and the completion */
};

struct plumb_group {
    int64_t request; /* index of the request; -1 if the group is free */
    int64_t rows;    /* number of the prompt's tokens that have been read */
    int64_t waiting; /* number of slots that wait for the prompt */
    int64_t pages;   /* number of pages in the group's page table */
    bool open;       /* true if samples of the request are still in the queue */
};

/* The inputs and outputs of a step, in one block on the host and an equal one on the device:
 *
 *     | u | source | seen | ids | seq | pos | page | token | logp | logp_sampled |
 *     |<----- draw ------>|                        |                             |
 *     |<------------------ in -------------------->|<---------- out ------------>|
 *
 * The inputs of the draw, the inputs of the forward, all inputs, and all outputs are each
 * contiguous, so that one copy moves them. */
struct plumb_step {
    double *u;                /* (slots,) input of the draw: uniform random numbers */
    int32_t *source;          /* (slots,) input of the draw: the rows of x to draw from */
    int32_t *seen;            /* (slots, seen_words) input of the draw: the tokens to penalise */
    int32_t *ids, *seq, *pos; /* (max_rows,) input of the forward: the rows */
    int32_t *page;            /* (sequences, max_pages) input of the forward: the page table */
    int32_t *token;           /* (slots,) output: the tokens drawn */
    float *logp, *logp_sampled;
    /* sizes in bytes of u, source and seen, of all inputs, of all outputs, and of the whole block
     */
    int64_t draw_bytes, in_bytes, out_bytes, bytes;
};

/* A decode step with `rows` rows, which is recorded when it runs for the second time. */
struct plumb_decode_graph {
    int64_t rows; /* number of rows of the recorded step; 0 if the entry is free */
    plumb_graph *graph;
};
enum { PLUMB_DECODE_GRAPHS = 40 }; /* enough for all powers of two, 3/4 of each, and `slots` */

/* What a recorded step depends on, besides its number of rows. */
struct plumb_decode_key {
    const plumb_model *m;
    const void *adapter, *w, *packed, *rope;
    struct plumb_sample_param sample;
    double repetition_penalty;
};

struct plumb_generator {
    struct plumb_backend *backend;
    struct plumb_spec spec;
    const plumb_tokenizer *tokenizer;
    /* limit: most tokens of a sequence; max_pages: most pages of a sequence; max_rows: most rows of
     * a step; block: most rows of logits at a time */
    int64_t slots, groups, sequences, limit, max_pages, max_rows, block;
    struct plumb_arena arena;
    struct plumb_kv kv;
    struct plumb_slot *slot;
    struct plumb_group *group;
    int64_t *prefill; /* (groups,) queue of the groups whose prompt is not complete */
    int64_t n_prefill;
    struct plumb_buf text, before; /* scratch memory for the search of stop strings */
    struct plumb_ids tail;         /* scratch memory for the search of stop strings */

    /* numbers of steps and of drawn tokens since the generator was created */
    int64_t steps, tokens;
    int64_t n_rows, n_draw;      /* numbers of rows and of draws in the current step */
    int64_t *drawer;             /* (slots,) the slots that draw a token in this step */
    struct plumb_step host, dev; /* the step's block on the host (page-locked) and on the device */
    /* the model and sampling parameters of the decode steps that are recorded as CUDA graphs */
    struct plumb_decode_key key;
    struct plumb_decode_graph decode[PLUMB_DECODE_GRAPHS];
    /* (max_rows + groups, c): hidden states of the rows, then the last one of each group's
     * prompt */
    plumb_real *x;
    /* (l) activations: all layers share the buffers, but each has its own pages */
    struct plumb_act *act;
    plumb_real *hx, *hn;  /* (block,c) each: input of the head before and after the norm */
    float *hrstd;         /* (block,) saved statistics of the head's norm */
    float *logits, *work; /* (block,v) logits, (work_count,) scratch memory for sampling */
    int64_t work_count;
    /* For the repetition penalty; 0 and NULL in a generator without it. seen_words: number of words
     * with a bit for each token. (block,v) penalised logits, (block,) log-sum-exp of the raw
     * logits */
    int64_t seen_words;
    float *penalised, *lse;
};

/* Sets the pointers of a step to its parts of `block`. If block is NULL, only the sizes are set. */
void plumb_step_place(struct plumb_step *s, const struct plumb_generator *g, void *block);

/* Launch the kernels of a step on the data in g->dev, asynchronously. plumb_step_forward computes x
 * for the first n rows; plumb_step_draw draws n tokens. */
plumb_status plumb_step_forward(plumb_generator *g, const plumb_model *m, int64_t n);
plumb_status plumb_step_draw(plumb_generator *g, const plumb_model *m,
                             const struct plumb_generate_options *o, int64_t n);
/* Copies the tokens and log-probs of the draws to the host. Synchronous. */
plumb_status plumb_step_receive(plumb_generator *g);

/* Runs a step in which each live slot has exactly one row and row k belongs to draw k. Copies the
 * inputs from the host, runs forward and draw, and copies the outputs back. Unless o->eager is set
 * or the backend cannot record, the step runs as a recorded step; its number of rows is rounded up,
 * which does not change the results. */
plumb_status plumb_step_decode(plumb_generator *g, const plumb_model *m,
                               const struct plumb_generate_options *o);
void plumb_decode_forget(plumb_generator *g); /* deletes all recorded steps of g */

#endif
