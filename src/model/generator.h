/* generator.h - inside of the generator: slots, groups, one step's rows.
 * Layer 4, private to model/. Includes model/generate.h, model/kv.h, model/net.h.
 *
 * A group is a request whose prompt has pages: it is prefilled once, its samples start from
 * those pages. A slot is one living completion. Sequences of a step's rows are numbered
 * 0..slots-1 for slots, then the groups, then one whose only page nobody reads: rows that fill a
 * step up are its token 0. */
#ifndef PLUMB_MODEL_GENERATOR_H
#define PLUMB_MODEL_GENERATOR_H

#include "base/buf.h"
#include "model/generate.h"
#include "model/kv.h"
#include "model/net.h"

/* Prompt rows that a step takes besides one row per living slot. */
#define PLUMB_PREFILL_ROWS 256

struct plumb_slot {
    enum { SLOT_FREE, SLOT_WAIT, SLOT_LIVE } state; /* WAIT: its group's prompt is not ready */
    int64_t request;
    int32_t sample;
    int64_t group;              /* while WAIT */
    int64_t n;                  /* tokens generated */
    int64_t pages;              /* columns of its page table in use */
    int64_t source;             /* row of x that its next token is drawn from */
    int32_t *ids;               /* (limit,) */
    float *logp, *logp_sampled; /* (limit,) */
};

struct plumb_group {
    int64_t request; /* -1 = free */
    int64_t rows;    /* of the prompt, done so far */
    int64_t waiting; /* slots that wait for it */
    int64_t pages;
    bool open; /* samples of it are still in the queue */
};

/* What a step reads and draws: one block of memory on the host, the same on the device, so that
 * one copy takes a step's rows there, one its draws, one both, and one brings the tokens back. */
struct plumb_step {
    double *u;                /* (slots,) in, draws: random numbers */
    int32_t *source;          /* (slots,) rows of x to draw from */
    int32_t *ids, *seq, *pos; /* (max_rows,) in, rows */
    int32_t *page;            /* (sequences, max_pages) */
    int32_t *token;           /* (slots,) out */
    float *logp, *logp_sampled;
    int64_t draw_bytes, in_bytes, out_bytes, bytes; /* u, source; all in; out; the block */
};

/* A decode step of `rows` rows; recorded when it comes again. */
struct plumb_decode_graph {
    int64_t rows; /* 0: none */
    plumb_graph *graph;
};
enum { PLUMB_DECODE_GRAPHS = 40 }; /* numbers of rows: powers of two, 3/4 of them, slots */

/* What a recorded step has in it besides its rows. */
struct plumb_decode_key {
    const plumb_model *m;
    const void *w, *packed, *rope;
    struct plumb_sample_param sample;
};

struct plumb_generator {
    struct plumb_backend *backend;
    struct plumb_spec spec;
    const plumb_tokenizer *tokenizer;
    int64_t slots, groups, sequences, limit, max_pages, max_rows, block;
    struct plumb_arena arena;
    struct plumb_kv kv;
    struct plumb_slot *slot;
    struct plumb_group *group;
    int64_t *prefill; /* (groups,) queue of groups whose prompt is not done */
    int64_t n_prefill;
    struct plumb_buf text, before; /* of stop strings */
    struct plumb_ids tail;         /* the same */

    int64_t steps, tokens;       /* since the generator was created */
    int64_t n_rows, n_draw;      /* of this step */
    int64_t *drawer;             /* (slots,) the slots that draw */
    struct plumb_step host, dev; /* host: page-locked */
    struct plumb_decode_key key; /* of the graphs */
    struct plumb_decode_graph decode[PLUMB_DECODE_GRAPHS];
    plumb_real *x;         /* (max_rows + groups, c): the rows, then each group's last row */
    struct plumb_act *act; /* (l): one set of buffers, its own pages each */
    plumb_real *hx, *hn;   /* (block,c) twice */
    float *hrstd;          /* (block,) */
    float *logits, *work;  /* (block,v), (work_count,) */
    int64_t work_count;
};

/* Lays a step out from `block` on, which may be NULL: then it only counts. */
void plumb_step_place(struct plumb_step *s, const struct plumb_generator *g, void *block);

/* Kernels alone, in the stream's order, on what dev holds. x = the layers' output for the first
 * n rows; dev.token ... = n draws. */
plumb_status plumb_step_forward(plumb_generator *g, const plumb_model *m, int64_t n);
plumb_status plumb_step_draw(plumb_generator *g, const plumb_model *m,
                             const struct plumb_sample_param *sample, int64_t n);
/* dev.token ... of n_draw draws to the host. Synchronous. */
plumb_status plumb_step_receive(plumb_generator *g);

/* A step that has nothing but one row for each of n_draw living slots, row k for draw k, all on the
 * host: to the device, forward, draw, back. With `graphs` the backend's recorded step is launched
 * where it has one, on a number of rows that is rounded up: rows do not depend on each other. */
plumb_status plumb_step_decode(plumb_generator *g, const plumb_model *m,
                               const struct plumb_sample_param *sample, bool graphs);
void plumb_decode_forget(plumb_generator *g); /* destroys the recorded steps */

#endif
