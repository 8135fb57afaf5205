/* defaults.c - creates a configuration with the default values of a command.
 * Layer 3. Includes option.h, base/. */
#include "config/option.h"

static plumb_status set_defaults(struct plumb_config *c, const char *command)
{
    const struct plumb_option *o;
    for (int i = 0; (o = plumb_option_at(i)); i++)
        PLUMB_TRY(plumb_option_set_text(c, c, o, plumb_option_default(o, command), "default"));
    return PLUMB_OK;
}

plumb_status plumb_config_fresh(struct plumb_config **out, const char *command)
{
    PLUMB_TRY(plumb_config_blank(out));
    const plumb_status st = set_defaults(*out, command);
    if (st != PLUMB_OK)
        plumb_config_free(out);
    return st;
}
