/* method.h - describes a method by its selector, threshold rule and objective, and by the functions
 * that it adds to the stages of a run.
 * Layer 1. Includes base/ only. The table of all methods is in src/stage/methods.c.
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

/* Texts that are joined with the prompts to make guided prompts, besides the plain prompts. */
enum plumb_guide {
    PLUMB_GUIDE_PRINCIPLES = 1u << 0, /* the text of the file that method.principles names */
    PLUMB_GUIDE_CONTRARY = 1u << 1,   /* the text of the file that method.contrary names */
};

struct plumb_method_stages; /* both structs are defined in stage/method.h */
struct plumb_method_given;

struct plumb_method {
    const char *name;
    const char *summary; /* one line for the help text */
    const char *paper;
    const struct plumb_selector *selector;
    const struct plumb_objective *objective;
    /* Returns how many completions of a group, the last ones, are sampled with the principles; -1
     * if a group of this size cannot be divided. NULL if all completions are plain. */
    int64_t (*principled)(int64_t group_size);
    unsigned guides; /* PLUMB_GUIDE_* of the guided prompts that the method reads */
    bool reward;     /* needs rewards: a completion with a missing reward is dropped */
    /* Sets branch and weights of a prompt by the threshold, unless the selector skipped the prompt.
     * NULL if the method has no threshold rule. */
    plumb_threshold_rule *rule;
    /* Sets the parameters that this method fixes; NULL if it fixes none. */
    void (*fix)(struct plumb_align_param *p);
    /* Returns PLUMB_ERR_CONFIG if parameters do not fit this method; NULL if all of them fit. */
    plumb_status (*check)(const struct plumb_align_param *p);
    /* add: functions that the method adds to the stages of a run; NULL if it adds none. given: how
     * the method trains on given pairs; NULL if it cannot. Only src/stage reads them. */
    const struct plumb_method_stages *add;
    const struct plumb_method_given *given;
};

/* Checks that the method can run with these parameters (after fix) and group size.
 * Returns PLUMB_ERR_CONFIG with the field's name. */
plumb_status plumb_method_check(const struct plumb_method *m, const struct plumb_align_param *p,
                                int64_t group_size);
/* Returns the number of principled completions of a group; see struct plumb_method. */
int64_t plumb_method_principled(const struct plumb_method *m, int64_t group_size);
/* Returns true if the method compares the margins of prompts with the threshold. */
bool plumb_method_compares_tau(const struct plumb_method *m);
/* Returns true if the method's objective reads log-probs of the frozen reference. */
bool plumb_method_needs_reference(const struct plumb_method *m, const struct plumb_align_param *p);

/* Returns true if the method reads the option of that name (without "method.") when the other
 * parameters are *p (after fix). Also true for a name that is not in align/param_list.h. */
bool plumb_method_reads(const struct plumb_method *m, const struct plumb_align_param *p,
                        const char *option);
/* Returns the name of option i in align/param_list.h, or NULL if i is not below their number. */
const char *plumb_method_option(int i);

/* Results of plumb_align_decide for the metrics of an iteration, over all ranks. */
struct plumb_align_report {
    struct plumb_align_stats stats;
    double tau;                              /* threshold of this iteration */
    int64_t prompts;                         /* prompts of the iteration */
    int64_t branch[PLUMB_BRANCH_COUNT];      /* number of prompts in each branch */
    double branch_share[PLUMB_BRANCH_COUNT]; /* branch[] divided by prompts */
    /* Entropy of the weights of a prompt's completions, in nats: the mean over the prompts of the
     * weighted branch; NaN if there are none. */
    double weight_entropy;
    int64_t terms; /* prompts with a term in the loss */
};

/* Closes the scoreboard, normalizes the rewards, lets the method's selector choose completions of
 * each prompt, computes tau, and applies the method's threshold rule. This sets the branch and the
 * weights of every prompt. Updates *state, so call it once per iteration. progress: position of the
 * iteration in the run, 0 (first) to 1 (last). Not collective; the same result on every rank.
 * Errors: those of plumb_scoreboard_close. */
plumb_status plumb_align_decide(struct plumb_scoreboard *b, struct plumb_threshold_state *state,
                                struct plumb_align_report *report, const struct plumb_method *m,
                                const struct plumb_align_param *p, double progress);

#endif
