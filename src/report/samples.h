/* samples.h - the table of sample completions for the console and the log.
 * Layer 4. Includes base/. */
#ifndef PLUMB_REPORT_SAMPLES_H
#define PLUMB_REPORT_SAMPLES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* Borrowed UTF-8 text; a NaN reward is shown as missing. */
struct plumb_sample_row {
    const char *prompt; /* better the text that was asked last than a whole chat */
    const char *completion;
    double reward;
    bool principled;
};

/* out += a head line and one line per row, each with a line end and at most `width` columns of a
 * terminal: reward, plain or principled, prompt, completion. Control characters and line ends
 * become spaces, bytes that are no UTF-8 become U+FFFD. A long completion ends in U+2026; of a long
 * prompt the end is shown, behind U+2026: prompts of one template begin alike. */
plumb_status plumb_samples_format(struct plumb_buf *out, const struct plumb_sample_row *row,
                                  int64_t n, int width);
/* Columns of the terminal on standard output; COLUMNS when it is set; else 120. */
int plumb_samples_width(void);
/* out += text cut to at most `columns` columns, cleaned as above. Returns the columns used in
 * *used when it is not NULL. */
plumb_status plumb_samples_cut(struct plumb_buf *out, const char *text, int columns, int *used);
/* The same with the beginning cut off instead of the end. */
plumb_status plumb_samples_tail(struct plumb_buf *out, const char *text, int columns, int *used);

#endif
