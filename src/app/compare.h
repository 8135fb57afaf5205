/* compare.h - plumb compare: its command line, and its tables and page.
 * Layer 6. Includes app.h, eval/, report/. */
#ifndef PLUMB_APP_COMPARE_H
#define PLUMB_APP_COMPARE_H

#include "app/app.h"
#include "eval/compare.h"
#include "report/table.h"

/* Reads a command line that lists folders (argv of n, without the command). Adds every argument
 * that is not an option, also NAME=FOLDER, to the option compare.runs. If the first argument ends
 * in .yaml or .yml, it is the configuration file instead. */
plumb_status plumb_compare_load(struct plumb_config **out, char *const *argv, int n);

/* compare_write.c: writes the tables to standard output. If output_dir is set, writes compare.md,
 * compare.json and report.html there. If `output` is not "-", writes the JSON to that file. */
plumb_status plumb_compare_write(const struct plumb_compare *c);

/* Largest number of tables of one comparison. plumb_compare_page (compare_page.c) writes
 * report.html with these tables, and with intervals and curves. */
#define PLUMB_COMPARE_TABLES 4
plumb_status plumb_compare_page(const struct plumb_compare *c, const struct plumb_table *table,
                                int64_t n_tables);

#endif
