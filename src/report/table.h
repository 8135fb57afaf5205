/* table.h - writes a table of text to the console, as Markdown, or to report.html.
 * Layer 4. Includes base/, report/report.h. */
#ifndef PLUMB_REPORT_TABLE_H
#define PLUMB_REPORT_TABLE_H

#include <stdint.h>

#include "base/buf.h"
#include "report/report.h"

/* A table under construction. The caller sets title, cols and best_row, may set note, shape and
 * folded, and sets the rest to zero. Then it adds the cells row by row, the head first. */
struct plumb_table {
    const char *title, *note; /* borrowed; note may be NULL */
    int64_t cols, best_row;   /* number of columns; row to highlight, -1 for no row */
    enum plumb_report_shape shape;
    bool folded;
    char **cell; /* (n,) owned; the first cols are the head */
    int64_t n, cap;
};

/* Adds the next cell. A cell with the text "" or "-" counts as empty. */
plumb_status plumb_table_add(struct plumb_table *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Adds a number, or "-" if it is not finite. */
plumb_status plumb_table_add_real(struct plumb_table *t, double x, int decimals, const char *unit);
/* Removes the columns in which every row is empty. The first column always stays. */
void plumb_table_prune(struct plumb_table *t);
/* Append the table to out: as lines with aligned columns, or as Markdown with '|' escaped. The
 * first column is aligned to the left, the others, for numbers, to the right. */
plumb_status plumb_table_console(struct plumb_buf *out, const struct plumb_table *t);
plumb_status plumb_table_markdown(struct plumb_buf *out, const struct plumb_table *t);
/* Returns t as a table for report.html. The result points into t, so t must stay valid. */
struct plumb_report_table plumb_table_report(const struct plumb_table *t);
void plumb_table_fini(struct plumb_table *t);

#endif
