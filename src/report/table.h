/* table.h - a table of text: for the console, for Markdown, for report.html.
 * Layer 4. Includes base/, report/report.h. */
#ifndef PLUMB_REPORT_TABLE_H
#define PLUMB_REPORT_TABLE_H

#include <stdint.h>

#include "base/buf.h"
#include "report/report.h"

/* Zero-initialise with title and best_row; cells come in row by row, head first. */
struct plumb_table {
    const char *title, *note; /* borrowed; note may be NULL */
    int64_t cols, best_row;   /* best_row: -1 = none */
    enum plumb_report_shape shape;
    bool folded;
    char **cell; /* (n,) owned; the first cols are the head */
    int64_t n, cap;
};

/* The next cell; "" and "-" stand for nothing there. The first column is text, the others are
 * figures. */
plumb_status plumb_table_add(struct plumb_table *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The same of a number; "-" when it is not finite. */
plumb_status plumb_table_add_real(struct plumb_table *t, double x, int decimals, const char *unit);
/* Drops the columns, but for the first, in which no row has anything. */
void plumb_table_prune(struct plumb_table *t);
/* out += lines with aligned columns; out += a Markdown table, '|' escaped. */
plumb_status plumb_table_console(struct plumb_buf *out, const struct plumb_table *t);
plumb_status plumb_table_markdown(struct plumb_buf *out, const struct plumb_table *t);
/* The same table for the page; borrows from t. */
struct plumb_report_table plumb_table_report(const struct plumb_table *t);
void plumb_table_fini(struct plumb_table *t);

#endif
