/* generator.h - the data structures of the generator: slots, groups and the rows of one step.
 * Layer 4, private to model/. Includes model/kv.h, model/net.h, model/request.h.
 *
 * A group is a request whose prompt is being or has been read into the KV cache, and that has
 * samples that have not begun yet. The prompt is read once (prefill), and all samples of the
 * request start from its pages. A slot holds one unfinished completion. The page table has one row
 * per sequence:
 *
 *     0 .. slots-1                  slots
 *     slots .. slots+groups-1       groups
 *     sequences-1                   an extra sequence, whose one page is never read; the rows
 *                                   that pad a recorded step belong to it */
#ifndef PLUMB_MODEL_GENERATOR_H
#define PLUMB_MODEL_GENERATOR_H

#include "base/buf.h"
#include "model/kv.h"
#include "model/net.h"
#include "model/request.h"

/* Number of rows of a step that read prompts.
 *
 * On the CPU, prompts are read in the steps that decode: a step has up to slots +
 * PLUMB_PREFILL_ROWS rows. Live slots take one row each; the other rows read prompts.
 *
 * On a device, prompts are read in passes of their own (plumb_generator.apart), of up to
 * PLUMB_PREFILL_ROWS_APART rows, so that every decode step can be replayed from a recording. A pass
 * begins when 1 / PLUMB_PREFILL_SHARE of the slots wait for a prompt, when a prompt has waited for
 * PLUMB_PREFILL_WAIT steps, or when nothing else can run. */
#define PLUMB_PREFILL_ROWS       256
#define PLUMB_PREFILL_ROWS_APART 2048
#define PLUMB_PREFILL_SHARE      8
#define PLUMB_PREFILL_WAIT       8

struct plumb_slot {
    /* SLOT_WAIT: the slot waits until the prompt of its group has been read */
    enum { SLOT_FREE, SLOT_WAIT, SLOT_LIVE } state;
    int64_t request;
    int32_t sample;
    int64_t group;  /* SLOT_WAIT: the slot waits until the prompt of this group is computed */
    int64_t n;      /* number of tokens of the completion so far */
    int64_t pages;  /* number of pages in the slot's page table */
    bool begins;    /* true if the next token is the first one after the prompt */
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

/* The inputs of reading prompts, in one block on the host and an equal one on the device: the rows
 * and the page table of a pass (only if plumb_generator.apart), and pairs (from, to) of rows of x
 * and of KV pages to copy after the pass. */
struct plumb_prefill {
    int32_t *ids, *seq, *pos; /* (max_rows,) each */
    int32_t *page;            /* (sequences, max_pages) */
    /* (groups, 2): index of the last row of a prompt, and the index in x to which it is copied */
    int32_t *last;
    /* (slots, 2): a page of a group, and the page of a slot to which it is copied */
    int32_t *copy;
    int64_t bytes; /* size of the whole block */
};

/* A decode step with `rows` rows, which is recorded when it runs for the second time. */
struct plumb_decode_graph {
    int64_t rows; /* number of rows of the recorded step; 0 if the entry is free */
    plumb_graph *graph;
};
enum { PLUMB_DECODE_GRAPHS = 40 }; /* enough for all powers of two, 3/4 of each, and `slots` */

/* The values that are fixed in a recorded step. If one of them changes, the recording must not be
 * replayed. */
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
    bool apart;        /* true if prompts are read in passes of their own */
    int64_t step_rows; /* largest number of rows in a plumb_step */
    struct plumb_arena arena;
    struct plumb_kv kv;
    struct plumb_slot *slot;
    struct plumb_group *group;
    int64_t *prefill; /* (groups,) queue of the groups whose prompt is not complete */
    int64_t n_prefill;
    int64_t waited;         /* number of steps for which prompts have waited in the queue */
    int64_t n_last, n_copy; /* numbers of pairs in read.last and read.copy */
    struct plumb_prefill read_host, read_dev;
    struct plumb_buf text, before; /* scratch memory for the search of stop strings */
    struct plumb_ids tail;         /* scratch memory for the search of stop strings */

    /* Numbers of forward passes and of drawn tokens since the generator was created. A pass that
     * only reads prompts counts, too. */
    int64_t steps, tokens;
    int64_t begun;               /* see plumb_generator_count (generate.h) */
    int64_t n_rows, n_draw;      /* numbers of rows and of draws in the current step */
    int64_t *drawer;             /* (slots,) the slots that draw a token in this step */
    struct plumb_step host, dev; /* the step's block on the host (page-locked) and on the device */
    /* the model and sampling parameters of the decode steps that are recorded as CUDA graphs */
    struct plumb_decode_key key;
    struct plumb_decode_graph decode[PLUMB_DECODE_GRAPHS];
    /* (max_rows + groups, c) hidden states: the first max_rows are for the rows of a step; then
     * there is one for each group, the hidden state of the last token of its prompt */
    plumb_real *x;
    /* (l) the activations of each layer; all layers share the buffers, but each has its own KV
     * pages */
    struct plumb_act *act;
    int64_t plane; /* elements from the key pages of a layer to its value pages, and to the next */
    plumb_real *hx, *hn;  /* (block,c) each: input of the head before and after the norm */
    float *hrstd;         /* (block,) saved statistics of the head's norm */
    float *logits, *work; /* (block,v) logits, (work_count,) scratch memory for sampling */
    int64_t work_count;
    /* Memory for the repetition penalty; 0 and NULL in a generator without it. seen_words: number
     * of 32-bit words that hold one bit for each token of the vocabulary; penalised: (block,v)
     * penalised logits; lse: (block,) log-sum-exp of the raw logits. */
    int64_t seen_words;
    float *penalised, *lse;
};

/* Sets the pointers of a step to its parts of `block`. If block is NULL, only the sizes are set. */
void plumb_step_place(struct plumb_step *s, const struct plumb_generator *g, void *block);

void plumb_prefill_place(struct plumb_prefill *p, const struct plumb_generator *g, void *block);

/* Launch the kernels of a step on the data in g->dev, asynchronously. plumb_step_forward computes
 * the hidden states g->x of the first n rows (tokens) of the step, and is collective if the layers
 * of m are divided among the ranks; plumb_step_draw draws n tokens, token k from the row of g->x
 * with the index g->dev.source[k]. */
plumb_status plumb_step_forward(plumb_generator *g, const plumb_model *m,
                                const struct plumb_generate_options *o, int64_t n);
/* Reads prompts: copies g->read_host to the device, computes the hidden states g->x of its first n
 * rows, which belong to `present` groups, and then copies the rows of x that the pairs in
 * read_host.last list and the KV pages that the pairs in read_host.copy list. Asynchronous: the
 * caller must not change g->read_host before the next sync of the backend. With n > 0 it is
 * collective if the layers of m are divided among the ranks. */
plumb_status plumb_step_read(plumb_generator *g, const plumb_model *m,
                             const struct plumb_generate_options *o, int64_t n, int64_t present);
plumb_status plumb_step_draw(plumb_generator *g, const plumb_model *m,
                             const struct plumb_generate_options *o, int64_t n);
/* Copies the tokens and log-probs of the draws to the host. Synchronous. */
plumb_status plumb_step_receive(plumb_generator *g);

/* Runs a step in which each live slot has exactly one row, and row k belongs to draw k. (A slot
 * whose completion begins has a padding row, because its first token is drawn from the last row of
 * the prompt.) Copies the inputs from the host, runs forward and draw, and copies the outputs back.
 * If o->eager is not set, the backend can record, and the layers of m are resident, the step is
 * recorded and replayed; its number of rows is then rounded up, which does not change the
 * results. */
plumb_status plumb_step_decode(plumb_generator *g, const plumb_model *m,
                               const struct plumb_generate_options *o);
void plumb_decode_forget(plumb_generator *g); /* deletes all recorded steps of g */
/* Writes a padding row, token 0 of the extra sequence, to place k of g->host. Its result is never
 * read. */
void plumb_step_pad(plumb_generator *g, int64_t k);

/* ---- one call of plumb_generate (generate.c, prefill.c) -------------------------------------- */

struct plumb_run {
    plumb_generator *g;
    const plumb_model *m;
    const struct plumb_request *request;
    int64_t n;
    const struct plumb_generate_options *o;
    plumb_completion_fn *done;
    void *arg;
    /* open_group: index of the group that still has samples in the queue; -1 if there is none */
    int64_t next_request, open_group;
    int32_t next_sample;
    int64_t checked; /* number of requests that are ready and have been checked */
    int64_t wanted,
        finished; /* completions of the checked requests; completions passed to done as finished */
    int64_t longest_stop; /* length of the longest stop string, in bytes */
};

/* Returns the number of tokens that are read before the first token is drawn. */
static inline int64_t plumb_prefix(const struct plumb_request *q)
{
    return q->n + q->n_given;
}
static inline int32_t *plumb_slot_pages(const plumb_generator *g, int64_t slot)
{
    return g->host.page + slot * g->max_pages;
}
static inline int32_t *plumb_group_pages(const plumb_generator *g, int64_t group)
{
    return g->host.page + (g->slots + group) * g->max_pages;
}

/* The rows of prompts that the next pass reads. */
struct plumb_reading {
    int32_t *ids, *seq, *pos; /* room for `most` rows */
    int64_t n, most;
    int64_t groups; /* number of groups that the rows belong to */
};
/* Appends rows of the prompts in the queue to *rows until it has `most` rows or the prompts end. */
plumb_status plumb_read_rows(struct plumb_run *r, struct plumb_reading *rows);
/* Returns true if another pass over prompts follows the pass with these rows, before any slot
 * begins. */
static inline bool plumb_reads_on(const plumb_generator *g, const struct plumb_reading *rows)
{
    return g->apart && rows->n > 0 && g->n_prefill > 0;
}
/* Call this function after plumb_read_rows. For each prompt that these rows complete, adds the copy
 * of its last hidden state to g->read_host. Unless plumb_reads_on returns true, also adds the
 * copies of KV pages for the slots that wait for completed prompts, starts these slots, and frees
 * groups that are not needed any more. */
plumb_status plumb_read_end(struct plumb_run *r, const struct plumb_reading *rows);
/* Marks the n tokens ids as seen in slot s, for the repetition penalty. */
void plumb_see(plumb_generator *g, struct plumb_slot *s, const int32_t *ids, int64_t n);

#endif
