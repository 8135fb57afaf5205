/* samples.h - the table of sample completions for the console and the log.
 * Layer 4. Includes base/. */
#ifndef PLUMB_REPORT_SAMPLES_H
#define PLUMB_REPORT_SAMPLES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* One sample completion. The texts are borrowed UTF-8. A NaN reward is shown as missing. */
struct plumb_sample_row {
    const char *prompt; /* for a chat, the caller passes the last user message only */
    const char *completion;
    double reward;
    bool principled;
};

/* Appends a head line and one line per row to out: reward, kind (plain or principled), prompt,
 * completion. Each line has at most max(width, 40) terminal columns. Control characters and line
 * ends become spaces, invalid UTF-8 becomes U+FFFD. A long completion is cut and ends in U+2026. Of
 * a long prompt only the end is shown, after U+2026, because prompts of one template begin
 * alike. */
plumb_status plumb_samples_format(struct plumb_buf *out, const struct plumb_sample_row *row,
                                  int64_t n, int width);
/* Returns the width of the table in columns: the environment variable COLUMNS if it is a number
 * from 40 to 1000, else the width of the terminal on standard output if it is at least 40, else
 * 120. */
int plumb_samples_width(void);
/* Appends text to out, cut at its end to at most `columns` terminal columns; a text that was cut
 * ends in U+2026. Control characters and line ends become spaces, invalid UTF-8 becomes U+FFFD.
 * Sets *used (may be NULL) to the columns used. */
plumb_status plumb_samples_cut(struct plumb_buf *out, const char *text, int columns, int *used);
/* Does the same as plumb_samples_cut, but cuts off the beginning of the text instead of the end. */
plumb_status plumb_samples_tail(struct plumb_buf *out, const char *text, int columns, int *used);

#endif
