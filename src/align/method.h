/* method.h - struct plumb_method: a method is described by its selector, threshold rule and
 * objective, and by the functions that it adds to the stages of a run.
 * Layer 1. Includes base/ only. The table of all methods is in src/stage/methods.c.
 *
 * What every rank calls in one iteration:
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

/* Texts that a guided prompt contains in addition to the plain prompt. */
enum plumb_guide {
    PLUMB_GUIDE_PRINCIPLES = 1u << 0, /* the text of the file method.principles; a completion
                                       * sampled from such a prompt is called principled */
    PLUMB_GUIDE_CONTRARY = 1u << 1,   /* the text of the file method.contrary */
};

struct plumb_method_stages; /* both structs are defined in stage/method.h */
struct plumb_method_given;

struct plumb_method {
    const char *name;
    const char *summary; /* one line for the help text */
    const char *paper;
    const struct plumb_selector *selector;
    const struct plumb_objective *objective;
    /* Returns how many completions of a group are sampled from the prompt with the principles; they
     * are the last ones of the group. Returns -1 if a group of this size cannot be divided. NULL if
     * all completions are sampled from the plain prompt. */
    int64_t (*principled)(int64_t group_size);
    unsigned guides; /* PLUMB_GUIDE_* flags of the guided prompts that the method reads */
    bool reward;     /* true if the method needs rewards */
    /* Sets branch (enum plumb_branch) and weights of a prompt according to the threshold. Not
     * called for a prompt that the selector skipped. NULL if the method has no threshold rule. */
    plumb_threshold_rule *rule;
    /* Sets the parameters that this method fixes; NULL if it fixes none. */
    void (*fix)(struct plumb_align_param *p);
    /* Returns PLUMB_ERR_CONFIG if the method cannot run with these parameters. NULL if it can run
     * with all. */
    plumb_status (*check)(const struct plumb_align_param *p);
    /* add: functions that the method adds to the stages of a run; NULL if it adds none. given: how
     * the method trains on given pairs; NULL if it cannot. Only src/stage reads these two members.
     */
    const struct plumb_method_stages *add;
    const struct plumb_method_given *given;
};

/* Returns PLUMB_ERR_CONFIG, naming the field, if the method cannot run with this group size and
 * these parameters (after m->fix has changed them). */
plumb_status plumb_method_check(const struct plumb_method *m, const struct plumb_align_param *p,
                                int64_t group_size);
/* Returns the number of principled completions of a group, or -1 (see member `principled` of struct
 * plumb_method). */
int64_t plumb_method_principled(const struct plumb_method *m, int64_t group_size);
/* Returns true if the method's threshold rule compares the margins of prompts with the threshold
 * tau. */
bool plumb_method_compares_tau(const struct plumb_method *m);
/* Returns true if the method's objective, with these parameters, reads log-probs of the reference
 * model. */
bool plumb_method_needs_reference(const struct plumb_method *m, const struct plumb_align_param *p);

/* Returns true if the method reads the option method.`option`, given the other parameters *p (after
 * m->fix has changed them). Also returns true for a name that is not in align/param_list.h. */
bool plumb_method_reads(const struct plumb_method *m, const struct plumb_align_param *p,
                        const char *option);
/* Returns the name of option i (from 0) of align/param_list.h, or NULL if there is no such option.
 */
const char *plumb_method_option(int i);

/* Results of plumb_align_decide for the metrics of an iteration, over all ranks. */
struct plumb_align_report {
    struct plumb_align_stats stats;
    double tau;                              /* threshold of this iteration */
    int64_t prompts;                         /* prompts of the iteration */
    int64_t branch[PLUMB_BRANCH_COUNT];      /* number of prompts in each branch */
    double branch_share[PLUMB_BRANCH_COUNT]; /* branch[] divided by prompts */
    /* mean, over the prompts of the branch WEIGHTED, of the entropy of the weights of a prompt's
     * completions, in nats; NaN if there are no such prompts */
    double weight_entropy;
    int64_t terms; /* number of prompts with a term in the loss */
};

/* Sets the branch, pair and weights of every prompt: calls plumb_scoreboard_close, normalizes the
 * rewards, calls the method's selector for each prompt, computes the threshold tau, and calls the
 * method's threshold rule for each prompt. Updates *state, so call it once per iteration. progress:
 * position of the iteration in the run, 0 (first) to 1 (last). Not collective; the same result on
 * every rank.
 * Errors: those of plumb_scoreboard_close. */
plumb_status plumb_align_decide(struct plumb_scoreboard *b, struct plumb_threshold_state *state,
                                struct plumb_align_report *report, const struct plumb_method *m,
                                const struct plumb_align_param *p, double progress);

#endif
