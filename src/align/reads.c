/* reads.c - tells which options a method reads, from the last column of param_list.h.
 * Layer 1. Includes align/ and base/ only.
 *
 * tests/align/test_reads.c checks that column: for every method it changes every field of struct
 * plumb_align_param and checks whether the results change. */
#include <string.h>

#include "align/method.h"

/* Macros for the expressions in the last column ("read by") of param_list.h. m: the method; p: its
 * parameters. */
#define BY_ALL          true
#define BY_METHOD(who)  (strcmp(m->name, #who) == 0)
#define BY_RULE(what)   (m->rule == plumb_threshold_##what)
#define BY_OBJECTIVE(o) (m->objective == &plumb_obj_##o)
/* True if the objective's `needs` returns the flag PLUMB_what, where `what` is a NEED_* or READ_*
 * name of objective.h. */
#define BY_LOSS(what) ((m->objective->needs(p) & PLUMB_##what) != 0)
/* True if the method compares margins with a threshold of this kind (enum plumb_threshold_kind). */
#define BY_THRESHOLD(kind) (plumb_method_compares_tau(m) && p->threshold == PLUMB_THRESHOLD_##kind)

typedef bool reads_fn(const struct plumb_method *m, const struct plumb_align_param *p);

#define READS(name, expression)                                                                    \
    static bool reads_##name(const struct plumb_method *m, const struct plumb_align_param *p)      \
    {                                                                                              \
        (void)m, (void)p;                                                                          \
        return expression;                                                                         \
    }
#define READS_PARAM(X, type, c_type, name, value, range, unit, commands, help, read_by)            \
    READS(name, read_by)
#define READS_OPTION(X, type, name, value, range, unit, commands, help, read_by)                   \
    READS(name, read_by)
PLUMB_METHOD_LIST(READS_PARAM, READS_OPTION, )

#define ROW_PARAM(X, type, c_type, name, ...) {#name, reads_##name},
#define ROW_OPTION(X, type, name, ...)        {#name, reads_##name},
static const struct {
    const char *option;
    reads_fn *reads;
} table[] = {PLUMB_METHOD_LIST(ROW_PARAM, ROW_OPTION, )};
enum { OPTIONS = sizeof(table) / sizeof(table[0]) };

const char *plumb_method_option(int i)
{
    return i >= 0 && i < OPTIONS ? table[i].option : NULL;
}

bool plumb_method_reads(const struct plumb_method *m, const struct plumb_align_param *p,
                        const char *option)
{
    for (int i = 0; i < OPTIONS; i++)
        if (strcmp(table[i].option, option) == 0)
            return table[i].reads(m, p);
    return true;
}
