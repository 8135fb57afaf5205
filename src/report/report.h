/* report.h - report.html: one file that shows a run, curves and samples.
 * Layer 4. Includes base/, config/, report/forest.h, report/plot.h. */
#ifndef PLUMB_REPORT_REPORT_H
#define PLUMB_REPORT_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/config.h"
#include "report/forest.h"
#include "report/plot.h"

struct plumb_report_field {
    const char *name, *value;
};

/* One prompt and its answers: of the first and the last iteration, or of every model. */
struct plumb_report_answer {
    const char *text; /* NULL: not recorded */
    double reward;    /* NaN: none */
};
struct plumb_report_sample {
    const char
        *prompt; /* its end is shown; better the text that was asked last than a whole chat */
    const struct plumb_report_answer *answer; /* (n_answers,); the later ones are compared with the
                                               * first by their reward */
};

enum plumb_report_shape {
    PLUMB_REPORT_FIGURES, /* the first column is text, the others are right-aligned figures */
    PLUMB_REPORT_TEXTS,   /* all columns are text */
    PLUMB_REPORT_MATRIX,  /* narrow: heads upright, "x +- y" in two lines */
};

/* A table of text; cell is row-major (n_rows, n_cols). best_row: highlighted, -1 = none. " +- "
 * becomes a sign; a cell that ends in " *" stands out, a negative one in another colour. */
struct plumb_report_table {
    const char *title, *note; /* note may be NULL */
    int64_t n_rows, n_cols, best_row;
    enum plumb_report_shape shape;
    bool folded;             /* shown when its title is clicked */
    const char *const *head; /* (n_cols,) */
    const char *const *cell; /* (n_rows * n_cols,) */
};

/* Everything is borrowed; text is UTF-8 and is escaped by the writer. */
struct plumb_report {
    const char *title;                      /* "PSLE on stories260K" */
    const char *subtitle;                   /* one sentence, or NULL */
    const struct plumb_report_field *field; /* summary header */
    int64_t n_fields;
    const char *metrics_path; /* metrics.jsonl, whose metrics are drawn as curves; NULL: none */
    const struct plumb_report_sample *sample;
    const char *const *answer_name; /* (n_answers,): who gave each answer of a sample */
    int64_t n_answers;
    int64_t n_samples;
    const struct plumb_forest *forest; /* before the tables */
    int64_t n_forests;
    const char *note;                       /* behind them, or NULL */
    const struct plumb_report_table *table; /* before the curves; folded ones at the end */
    int64_t n_tables;
    const struct plumb_plot *plot; /* more curves, behind those of the metrics */
    int64_t n_plots;
    const char *configuration; /* YAML, folded, at the end; NULL: none */
};

/* Writes path atomically: inline CSS (light and dark), inline SVG, no script, nothing fetched.
 * Not collective; rank 0 calls it. Errors: PLUMB_ERR_IO; PLUMB_ERR_FORMAT naming metrics_path and
 * line. */
plumb_status plumb_report_write(const char *path, const struct plumb_report *report);

/* report.html of a training run: of the metrics.jsonl in its output_dir, with its configuration;
 * the rest is the caller's. Not collective; rank 0 calls it. */
plumb_status plumb_report_run(struct plumb_report *report, const struct plumb_config *cfg,
                              const char *command);

#endif
