/* alike.c - warns if all scores of a command are equal.
 * Layer 6. Includes app/alike.h, base/. */
#include "app/alike.h"

#include <math.h>

#include "base/log.h"
#include "base/num.h"

void plumb_alike_add(struct plumb_alike *a, double score)
{
    if (!isfinite(score))
        return;
    a->low = a->n ? fmin(a->low, score) : score;
    a->high = a->n ? fmax(a->high, score) : score;
    a->n++;
}

static void warn(const char *who, const char *point, int64_t n, double value)
{
    plumb_log(PLUMB_LOG_WARN,
              "%s%sall %lld scores are %.6g, so no answer is better than another; likely: a reward "
              "that finds nothing to check in these records, or a reward model that was trained on "
              "other texts",
              who, point, (long long)n, value);
}

plumb_status plumb_alike_end(const struct plumb_alike *a, const struct plumb_app *app)
{
    double n = (double)a->n, low = a->n ? a->low : INFINITY, high = a->n ? a->high : -INFINITY;
    PLUMB_TRY(plumb_comm_allreduce_f64(app->comm, &n, 1, PLUMB_SUM));
    PLUMB_TRY(plumb_comm_allreduce_f64(app->comm, &low, 1, PLUMB_MIN));
    PLUMB_TRY(plumb_comm_allreduce_f64(app->comm, &high, 1, PLUMB_MAX));
    if (n > 1 && plumb_scores_same(low, high) && plumb_comm_rank(app->comm) == 0)
        warn("", "", (int64_t)n, high);
    return PLUMB_OK;
}

void plumb_alike_say(const char *who, int64_t n, double mean, double std)
{
    if (n > 1 && std <= PLUMB_SAME_SCORE * fabs(mean))
        warn(who, ": ", n, mean);
}
