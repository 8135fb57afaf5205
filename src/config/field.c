/* field.c - sets and writes the field of an option of any type.
 * Layer 3. Includes option.h, base/.
 *
 * functions.c handles reward.functions, whose elements have options of their own. value.c handles
 * every other type. */
#include "config/option.h"

plumb_status plumb_option_set(struct plumb_config *c, void *base, const struct plumb_option *o,
                              const struct plumb_yaml *v, const char *where)
{
    if (o->type == PLUMB_TYPE_FUNCTIONS && v->type == PLUMB_YAML_LIST)
        return plumb_functions_set(c, (void *)((char *)base + o->offset), v, where);
    return plumb_value_set(c, base, o, v, where);
}

plumb_status plumb_option_put(struct plumb_buf *b, const void *base, const struct plumb_option *o)
{
    if (o->type == PLUMB_TYPE_FUNCTIONS)
        return plumb_functions_put(b, (const void *)((const char *)base + o->offset));
    return plumb_value_put(b, base, o);
}
