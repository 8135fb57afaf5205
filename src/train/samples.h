/* samples.h - the table of sample completions for the console and the log.
 * Layer 5. Includes base/. */
#ifndef PLUMB_TRAIN_SAMPLES_H
#define PLUMB_TRAIN_SAMPLES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* Borrowed UTF-8 text; a NaN reward is shown as missing. */
struct plumb_sample_row {
    const char *prompt, *completion;
    double reward;
    bool principled;
};

/* out += a head line and one line per row, each with a line end and at most `width` columns of a
 * terminal: reward, plain or principled, prompt, completion. Control characters and line ends
 * become spaces, bytes that are no UTF-8 become U+FFFD, long text ends in U+2026. */
plumb_status plumb_samples_format(struct plumb_buf *out, const struct plumb_sample_row *row,
                                  int64_t n, int width);
/* Columns of the terminal on standard output; COLUMNS when it is set; else 120. */
int plumb_samples_width(void);
/* out += text cut to at most `columns` columns, cleaned as above. Returns the columns used in
 * *used when it is not NULL. */
plumb_status plumb_samples_cut(struct plumb_buf *out, const char *text, int columns, int *used);

#endif
