/* method.h - a method is a row: one selector, one objective, what it needs, what it adds to a run.
 * Layer 1. Includes base/ only. The rows are in src/stage/methods.c.
 *
 * One iteration, on every rank:
 *   plumb_scoreboard_begin, plumb_scoreboard_put for the rank's own completions,
 *   plumb_comm_allreduce_f64(comm, board->slot, board->slots, PLUMB_SUM),
 *   plumb_align_decide, then read board->choice and board->weight. */
#ifndef PLUMB_ALIGN_METHOD_H
#define PLUMB_ALIGN_METHOD_H

#include "align/objective.h"
#include "align/param.h"
#include "align/scoreboard.h"
#include "align/selector.h"
#include "align/stats.h"
#include "align/threshold.h"

/* Texts that the configuration names and with which prompts are encoded, besides the plain ones. */
enum plumb_guide {
    PLUMB_GUIDE_PRINCIPLES = 1u << 0, /* method.principles */
    PLUMB_GUIDE_CONTRARY = 1u << 1,   /* method.contrary */
};

struct plumb_method_stages;

struct plumb_method {
    const char *name;
    const char *summary; /* one line for help */
    const char *paper;
    const struct plumb_selector *selector;
    const struct plumb_objective *objective;
    bool principled;  /* half of each group (the second half) is sampled under the principles */
    unsigned guides;  /* PLUMB_GUIDE_* of the prompts that it reads, sampled under them or not */
    bool reward;      /* needs rewards: a missing one drops its completion */
    bool given_pairs; /* plumb prefer can train it on pairs that somebody else has made */
    bool some_pairs;  /* plumb prefer trains it on the share `keep` of them, chosen by `pick` */
    /* What the threshold does to a prompt that the selector did not skip; NULL: nothing. */
    plumb_threshold_rule *rule;
    /* Sets the fields that make this method what it is; NULL: none. */
    void (*fix)(struct plumb_align_param *p);
    /* Parameters that do not go together for this method: PLUMB_ERR_CONFIG; NULL: none. */
    plumb_status (*check)(const struct plumb_align_param *p);
    /* What it adds to the stages of a run. Only src/stage looks inside; NULL: nothing. */
    const struct plumb_method_stages *add;
};

/* Whether the method can run with these parameters (after fix) and group size. PLUMB_ERR_CONFIG
 * naming the field. */
plumb_status plumb_method_check(const struct plumb_method *m, const struct plumb_align_param *p,
                                int64_t group_size);
/* Whether log-probs of the frozen reference are needed. */
bool plumb_method_needs_reference(const struct plumb_method *m, const struct plumb_align_param *p);

/* Whether the method reads the option of that name (without "method."), when the others are as in p
 * (after fix). True for a name that is not in align/param_list.h. */
bool plumb_method_reads(const struct plumb_method *m, const struct plumb_align_param *p,
                        const char *option);
const char *plumb_method_option(int i); /* in the order of the list; NULL past the end */

/* What every iteration reports. */
struct plumb_align_report {
    struct plumb_align_stats stats;
    double tau;                              /* used in this iteration */
    int64_t prompts;                         /* over all ranks */
    int64_t branch[PLUMB_BRANCH_COUNT];      /* prompts in each */
    double branch_share[PLUMB_BRANCH_COUNT]; /* of all prompts */
    double weight_entropy;                   /* nats, mean over weighted prompts; NaN if none */
    int64_t terms;                           /* prompts with a term in the loss */
};

/* Closes the scoreboard, normalises, selects, updates the threshold (once per call: call once
 * per iteration), decides every prompt's branch and weights. progress: in [0, 1], see threshold.h.
 * Not collective; the same result on every rank.
 * Errors: those of plumb_scoreboard_close. */
plumb_status plumb_align_decide(struct plumb_scoreboard *b, struct plumb_threshold_state *state,
                                struct plumb_align_report *report, const struct plumb_method *m,
                                const struct plumb_align_param *p, double progress);

#endif
