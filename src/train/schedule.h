/* schedule.h - the learning rate of every step, as a pure function.
 * Layer 5. Includes base/. */
#ifndef PLUMB_TRAIN_SCHEDULE_H
#define PLUMB_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "base/status.h"

enum plumb_schedule_kind { PLUMB_LR_CONSTANT, PLUMB_LR_LINEAR, PLUMB_LR_COSINE };
/* Returns the name of a schedule: "constant", "linear" or "cosine". */
const char *plumb_schedule_name(enum plumb_schedule_kind kind);
plumb_status plumb_schedule_parse(enum plumb_schedule_kind *out, const char *name);

struct plumb_schedule {
    enum plumb_schedule_kind kind;
    int64_t total;       /* optimizer steps of the whole run */
    double warmup_ratio; /* share of total that is warm-up, in [0,1] */
    double min_lr_ratio; /* final value of linear and cosine, as a share of the peak, in [0,1] */
};

/* Returns the number of linear warm-up steps, ceil(total * warmup_ratio). */
int64_t plumb_schedule_warmup(const struct plumb_schedule *s);

/* Returns the learning rate of optimizer step `step` (0 = the first), as a share of the peak:
 *     step/warmup                     while step < warmup (so the first step of a warm-up is 0)
 *     1                               constant
 *     f (1 - min) + min               f = (total - step)/(total - warmup)          linear
 *                                     f = (1 + cos(pi (step-warmup)/(total-warmup)))/2   cosine
 * f is 0 after total. Source: transformers get_{constant,linear,cosine}_schedule_with_warmup and
 * get_cosine_with_min_lr_schedule_with_warmup; linear with min_lr_ratio > 0 is ours. */
double plumb_lr_at(const struct plumb_schedule *s, int64_t step);

#endif
