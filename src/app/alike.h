/* alike.h - warns if all scores of a command are equal.
 * Layer 6. Includes app.h. */
#ifndef PLUMB_APP_ALIKE_H
#define PLUMB_APP_ALIKE_H

#include "app/app.h"

/* Number, minimum and maximum of the finite scores that this rank has added. Initialise this struct
 * with zeros. */
struct plumb_alike {
    int64_t n;
    double low, high;
};

void plumb_alike_add(struct plumb_alike *a, double score);
/* Logs a warning if all ranks together have more than one score and all scores are equal.
 * Collective. */
plumb_status plumb_alike_end(const struct plumb_alike *a, const struct plumb_app *app);
/* Logs the same warning if n > 1 and the standard deviation of the n scores shows that they are
 * equal. who is the name of the model whose answers were scored. Not collective. */
void plumb_alike_say(const char *who, int64_t n, double mean, double std);

#endif
