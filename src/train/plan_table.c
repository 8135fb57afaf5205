/* plan_table.c - writes the table of a memory plan.
 * Layer 5. Includes train/plan.h, base/. */
#include <string.h>

#include "base/num.h"
#include "train/plan.h"

/* The largest number of named parts of a table line; the other parts are summed as "other". */
enum { PARTS = 4 };

struct part {
    const char *what;
    int64_t bytes;
};

static bool same_line(const struct plumb_memory_row *a, const struct plumb_memory_row *b)
{
    return a->phase == b->phase && a->beside == b->beside && strcmp(a->owner, b->owner) == 0;
}

static bool is_first(const struct plumb_memory *m, int64_t i)
{
    for (int64_t k = 0; k < i; k++)
        if (same_line(&m->row[k], &m->row[i]))
            return false;
    return true;
}

/* A table line stands for all rows with the same owner, phase and `beside`. Row i must be the first
 * of these rows. Sets part[] to the PARTS largest of these rows, in descending order, and returns
 * the sum of the bytes of all these rows. */
static int64_t largest(struct part part[PARTS], const struct plumb_memory *m, int64_t i)
{
    int64_t sum = 0;
    memset(part, 0, PARTS * sizeof(*part));
    for (int64_t k = i; k < m->rows; k++) {
        const struct plumb_memory_row *r = &m->row[k];
        if (!same_line(r, &m->row[i]))
            continue;
        sum += r->bytes;
        int at = PARTS;
        while (at > 0 && r->bytes > part[at - 1].bytes)
            at--;
        if (at == PARTS)
            continue;
        memmove(&part[at + 1], &part[at], (size_t)(PARTS - 1 - at) * sizeof(*part));
        part[at] = (struct part){r->what, r->bytes};
    }
    return sum;
}

static plumb_status put_line(struct plumb_buf *out, const struct plumb_memory *m, int64_t i)
{
    const struct plumb_memory_row *r = &m->row[i];
    struct part part[PARTS];
    const int64_t sum = largest(part, m, i);
    int64_t rest = sum;
    PLUMB_TRY(plumb_buf_addf(out, "  %-16s %-8s %14.3f MB ", r->owner,
                             r->beside ? "(host)" : plumb_phase_names[r->phase],
                             1e-6 * (double)sum));
    for (int k = 0; k < PARTS && part[k].bytes > sum / 50; k++) {
        PLUMB_TRY(plumb_buf_addf(out, "%s%s %.3f", k ? ", " : " ", part[k].what,
                                 1e-6 * (double)part[k].bytes));
        rest -= part[k].bytes;
    }
    return plumb_buf_addf(out, rest > sum / 50 ? ", other %.3f\n" : "\n", 1e-6 * (double)rest);
}

plumb_status plumb_plan_table(struct plumb_buf *out, const struct plumb_backend *plan)
{
    const struct plumb_memory *m = &plan->memory;
    for (int beside = 0; beside < 2; beside++)
        for (int p = 0; p < PLUMB_PHASES; p++)
            for (int64_t i = 0; i < m->rows; i++)
                if (m->row[i].beside == (beside == 1) && (int)m->row[i].phase == p &&
                    is_first(m, i))
                    PLUMB_TRY(put_line(out, m, i));
    if (plan->margin > 0)
        PLUMB_TRY(plumb_buf_addf(out,
                                 "  %-25s %14.3f MB  stay free for the driver and its graphs\n",
                                 "margin", 1e-6 * (double)plan->margin));
    PLUMB_TRY(plumb_buf_addf(out, "  %-25s %14.3f MB  always %.3f, and the largest of", "total",
                             1e-6 * (double)m->most, 1e-6 * (double)m->held[PLUMB_PHASE_ALWAYS]));
    for (int p = PLUMB_PHASE_ALWAYS + 1; p < PLUMB_PHASES; p++)
        PLUMB_TRY(plumb_buf_addf(out, "%s %s %.3f", p > 1 ? "," : "", plumb_phase_names[p],
                                 1e-6 * (double)m->held[p]));
    return plumb_buf_add_text(out, "\n");
}
