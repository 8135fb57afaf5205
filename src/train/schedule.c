/* schedule.c - the learning rate of every step.
 * Layer 5. Includes base/. */
#include "train/schedule.h"

#include <math.h>
#include <string.h>

static const char *const kind_name[] = {"constant", "linear", "cosine"};
#define N_KINDS ((int)(sizeof(kind_name) / sizeof(kind_name[0])))

const char *plumb_schedule_name(enum plumb_schedule_kind kind)
{
    return (int)kind >= 0 && (int)kind < N_KINDS ? kind_name[kind] : "unknown";
}

plumb_status plumb_schedule_parse(enum plumb_schedule_kind *out, const char *name)
{
    for (int i = 0; i < N_KINDS; i++) {
        if (!strcmp(name, kind_name[i])) {
            *out = (enum plumb_schedule_kind)i;
            return PLUMB_OK;
        }
    }
    PLUMB_FAIL(PLUMB_ERR_ARG, "learning rate schedule '%s': use constant, linear or cosine", name);
}

int64_t plumb_schedule_warmup(const struct plumb_schedule *s)
{
    return (int64_t)ceil((double)s->total * s->warmup_ratio);
}

double plumb_lr_at(const struct plumb_schedule *s, int64_t step)
{
    const int64_t warmup = plumb_schedule_warmup(s);
    if (step < warmup)
        return (double)step / (double)warmup;
    if (s->kind == PLUMB_LR_CONSTANT)
        return 1.0;
    const int64_t span = s->total > warmup ? s->total - warmup : 1;
    double f = 0.0;
    if (step < s->total) {
        const double progress = (double)(step - warmup) / (double)span;
        f = s->kind == PLUMB_LR_LINEAR ? (double)(s->total - step) / (double)span
                                       : 0.5 * (1.0 + cos(acos(-1.0) * progress));
    }
    return fmax(f, 0.0) * (1.0 - s->min_lr_ratio) + s->min_lr_ratio;
}
