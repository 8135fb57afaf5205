/* alike.h - says when the scores of a command tell no answer from another.
 * Layer 6. Includes app.h. */
#ifndef PLUMB_APP_ALIKE_H
#define PLUMB_APP_ALIKE_H

#include "app/app.h"

/* The finite scores of this rank so far; zero-initialise. */
struct plumb_alike {
    int64_t n;
    double low, high;
};

void plumb_alike_add(struct plumb_alike *a, double score);
/* Warns when all scores of all ranks are the same. Collective. */
plumb_status plumb_alike_end(const struct plumb_alike *a, const struct plumb_app *app);
/* The same of n scores by their mean and standard deviation. who: the model whose answers they
 * score. Not collective. */
void plumb_alike_say(const char *who, int64_t n, double mean, double std);

#endif
