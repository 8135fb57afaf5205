/* generator.h - inside of the generator: slots, groups, one step's rows.
 * Layer 4, private to model/. Includes model/generate.h, model/kv.h, model/net.h.
 *
 * A group is a request whose prompt has pages: it is prefilled once, its samples start from
 * those pages. A slot is one living completion. Sequences of a step's rows are numbered
 * 0..slots-1 for slots, then the groups. */
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

struct plumb_generator {
    struct plumb_backend *backend;
    struct plumb_spec spec;
    const plumb_tokenizer *tokenizer;
    int64_t slots, groups, limit, max_pages, max_rows, block;
    struct plumb_arena arena;
    struct plumb_kv kv;
    struct plumb_slot *slot;
    struct plumb_group *group;
    int64_t *prefill; /* (groups,) queue of groups whose prompt is not done */
    int64_t n_prefill;
    struct plumb_buf text; /* of stop strings */

    /* one step; host, with its copy on the device */
    int64_t n_rows, n_draw;
    int32_t *ids, *seq, *pos;   /* (max_rows,) */
    int32_t *page;              /* (slots+groups, max_pages) */
    int32_t *source;            /* (slots,) rows of x to draw from */
    int64_t *drawer;            /* (slots,) the slots that draw; host only */
    double *u;                  /* (slots,) */
    int32_t *token;             /* (slots,) drawn */
    float *logp, *logp_sampled; /* (slots,) */
    struct {
        int32_t *ids, *seq, *pos, *page, *source, *token;
        double *u;
        float *logp, *logp_sampled;
    } dev;
    plumb_real *x;         /* (max_rows + groups, c): the rows, then each group's last row */
    struct plumb_act *act; /* (l): one set of buffers, its own pages each */
    plumb_real *hx, *hn;   /* (block,c) twice */
    float *hrstd;          /* (block,) */
    float *logits, *work;  /* (block,v), (work_count,) */
    int64_t work_count;
};

#endif
