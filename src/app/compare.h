/* compare.h - plumb compare: finished runs, those that differ in nothing but the seed together.
 * Layer 6. Includes app.h, eval/, report/. */
#ifndef PLUMB_APP_COMPARE_H
#define PLUMB_APP_COMPARE_H

#include "app/app.h"
#include "eval/run_results.h"
#include "report/table.h"

/* Runs of one method with one setting; run[0] stands for the setting. */
struct plumb_compare_group {
    char name[200];
    const struct plumb_run_results **run; /* (n,) in the order of the command line */
    int64_t n, first;                  /* first: number of run[0] on the command line */
};

/* A figure over seeds; NaN where there are too few of them. */
struct plumb_compare_mean {
    int64_t n;
    double mean, std, half_width; /* std over n - 1; half of the 95 % interval of the mean */
};

struct plumb_compare {
    struct plumb_app *app;
    struct plumb_run_results *run; /* (n,) */
    const char **label;         /* (n,) NAME of NAME=FOLDER, or the method's; owned */
    int64_t n;
    struct plumb_compare_group *group; /* (groups,) */
    int64_t groups;
};

/* The configuration of a command line that lists folders (argv of n, the command left out): every
 * argument that is no option, also NAME=FOLDER, is one of compare.runs, but for a first one that
 * ends in .yaml. */
plumb_status plumb_compare_load(struct plumb_config **out, char *const *argv, int n);

/* compare_groups.c: refuses runs that cannot be compared, naming both and the difference, and sorts
 * them into groups. PLUMB_ERR_CONFIG. */
plumb_status plumb_compare_check(const struct plumb_compare *c);
plumb_status plumb_compare_sort(struct plumb_compare *c); /* the best reward first */
/* Whether an option is a part of a method's setting, and not of where and as what it ran. */
bool plumb_compare_is_setting(const char *path);

/* Over the group's seeds; of the model that wins are counted against when first. */
struct plumb_compare_mean plumb_compare_figure(const struct plumb_compare_group *g,
                                               enum plumb_figure id, bool first);
/* Mean held-out reward; without an evaluation that of the last iteration. */
double plumb_compare_rank(const struct plumb_compare_group *g);
/* a minus b over the seeds that both have. */
struct plumb_compare_mean plumb_compare_paired(const struct plumb_compare_group *a,
                                               const struct plumb_compare_group *b,
                                               enum plumb_figure id);

/* compare_write.c: tables on standard output; compare.md, compare.json and report.html in
 * output_dir when it is set; JSON to `output` when that is no "-". */
plumb_status plumb_compare_write(const struct plumb_compare *c);

/* compare_page.c: report.html of these tables, with intervals and curves. */
#define PLUMB_COMPARE_TABLES 4
plumb_status plumb_compare_page(const struct plumb_compare *c, const struct plumb_table *table,
                                int64_t n_tables);

#endif
