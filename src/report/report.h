/* report.h - writes report.html: one file with the summary, tables, curves and samples of a run.
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

/* One answer to a prompt, by one model or by the weights of one iteration. */
struct plumb_report_answer {
    const char *text; /* NULL if the text was not recorded */
    double reward;    /* NaN if the answer has no reward */
};
struct plumb_report_sample {
    const char *prompt; /* if it is long, only its end is shown; for a chat, pass the last user
                         * message only */
    const struct plumb_report_answer *answer; /* (n_answers,); arrows compare the reward of each
                                               * answer with that of the first */
};

enum plumb_report_shape {
    PLUMB_REPORT_FIGURES, /* the first column is text, the others are right-aligned figures */
    PLUMB_REPORT_TEXTS,   /* all columns are text */
    PLUMB_REPORT_MATRIX,  /* narrow columns: vertical heads, "x +- y" in two lines */
};

/* A table of text; cell is row-major (n_rows, n_cols). Row best_row is highlighted; -1: no row.
 * " +- " in a cell becomes the plus-minus sign. A cell that ends in " *" is emphasised, in another
 * colour if it is negative. */
struct plumb_report_table {
    const char *title, *note; /* note may be NULL */
    int64_t n_rows, n_cols, best_row;
    enum plumb_report_shape shape;
    bool folded;             /* collapsed until its title is clicked */
    const char *const *head; /* (n_cols,) heads of the columns */
    const char *const *cell; /* (n_rows, n_cols) texts of the cells */
};

/* All pointers are borrowed. Text is UTF-8; plumb_report_write escapes it. */
struct plumb_report {
    const char *title;                      /* title of the page ("PSLE on stories260K") */
    const char *subtitle;                   /* one sentence below the title; may be NULL */
    const struct plumb_report_field *field; /* (n_fields,) the summary at the top */
    int64_t n_fields;
    const char *metrics_path; /* the metrics.jsonl to draw as cards and curves; NULL for none */
    const struct plumb_report_sample *sample;
    const char *const *answer_name; /* (n_answers,) the model or iteration of each answer */
    int64_t n_answers;
    int64_t n_samples;
    const struct plumb_forest *forest; /* (n_forests,) shown before the tables */
    int64_t n_forests;
    const char *note;                       /* shown after the forest plots; may be NULL */
    const struct plumb_report_table *table; /* shown before the curves; collapsed ones at the end */
    int64_t n_tables;
    const struct plumb_plot *plot; /* more curves, shown after those of the metrics */
    int64_t n_plots;
    const char *configuration; /* YAML text, shown collapsed at the end; NULL if there is none */
};

/* Writes the page to path atomically. It has inline CSS (light and dark) and inline SVG; it has no
 * script and loads nothing.
 * Not collective; rank 0 calls it. Errors: PLUMB_ERR_IO; PLUMB_ERR_FORMAT naming metrics_path and
 * line. */
plumb_status plumb_report_write(const char *path, const struct plumb_report *report);

/* Writes report.html of a training run. This function adds the curves of metrics.jsonl in
 * output_dir and the configuration; the caller fills in the rest of *report. Not collective; rank 0
 * calls it. */
plumb_status plumb_report_run(struct plumb_report *report, const struct plumb_config *cfg,
                              const char *command);

#endif
