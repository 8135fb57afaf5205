/* compare.h - compares finished runs: checks that they are comparable, groups runs that differ only
 * in the seed, and computes means over the seeds of a group.
 * Layer 5. Includes base/, config/, eval/run_results.h. */
#ifndef PLUMB_EVAL_COMPARE_H
#define PLUMB_EVAL_COMPARE_H

#include "eval/run_results.h"

/* Runs of one method with equal settings, which may differ in the seed. The settings are those of
 * run[0]. */
struct plumb_compare_group {
    char name[200];
    const struct plumb_run_results **run; /* (n,) in the order of the command line */
    int64_t n, first;                     /* first: the position of run[0] on the command line */
};

/* The mean of a result over the n seeds of a group. A value is NaN if there are too few seeds. */
struct plumb_compare_mean {
    int64_t n;
    double mean, std,
        half_width; /* std: divisor n - 1; half_width: half the 95 % interval of mean */
};

struct plumb_compare {
    const struct plumb_config *cfg;
    struct plumb_run_results *run; /* (n,) the runs, in the order of the command line */
    const char **label;            /* (n,) NAME of NAME=FOLDER, or the name of the method; owned */
    int64_t n;
    struct plumb_compare_group *group; /* (groups,) set by plumb_compare_sort */
    int64_t groups;
};

/* Fails with PLUMB_ERR_CONFIG if a run has not ended, if it did not use up its token budget, or if
 * it is not comparable with run[0]; the message names the runs and the difference. The option
 * compare.allow names aspects, such as "budget", in which the runs may differ. Also fails if
 * compare.allow has an unknown name. */
plumb_status plumb_compare_check(const struct plumb_compare *c);
/* Sorts the runs into groups, the group with the best reward first. PLUMB_ERR_CONFIG if two runs
 * have the same settings and the same seed. */
plumb_status plumb_compare_sort(struct plumb_compare *c);
/* Returns true if an option of the configuration is a setting of the method. The options
 * seed, model, tokenizer and device are not. */
bool plumb_compare_is_setting(const char *path);

/* Returns the mean of result `id` over the group's seeds: of the trained models, or, if `first` is
 * true, of the model against which the wins are counted. */
struct plumb_compare_mean plumb_compare_figure(const struct plumb_compare_group *g,
                                               enum plumb_figure id, bool first);
/* Returns the value by which groups are ranked: the mean held-out reward, or, if the runs were not
 * evaluated, the mean reward of the last iteration. */
double plumb_compare_rank(const struct plumb_compare_group *g);
/* Returns the mean of the difference a - b of result `id`, over the seeds that both groups have. */
struct plumb_compare_mean plumb_compare_paired(const struct plumb_compare_group *a,
                                               const struct plumb_compare_group *b,
                                               enum plumb_figure id);

#endif
