/* defaults.c - creates a configuration with the default values of a command, and completes values
 * that depend on other values or on the installation.
 * Layer 3. Includes option.h, io/installed.h, base/. */
#include <string.h>

#include "config/option.h"
#include "io/installed.h"

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

/* If o names a file below configs/ that does not exist, replaces its value by the path of the same
 * file in the folder of installed files (io/installed.h), if it exists there. */
static plumb_status find_installed(struct plumb_config *c, const struct plumb_option *o)
{
    const char **value = (const char **)((char *)c + o->offset);
    char path[4096];
    void *copy;
    if (o->type != PLUMB_TYPE_TEXT || strcmp(o->unit, "file") != 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_installed_find(path, sizeof(path), *value));
    if (!strcmp(path, *value))
        return PLUMB_OK;
    PLUMB_TRY(plumb_config_take(&copy, c, (int64_t)strlen(path) + 1));
    *value = strcpy(copy, path);
    return PLUMB_OK;
}

plumb_status plumb_config_complete(struct plumb_config *c)
{
    const struct plumb_option *o;
    for (int i = 0; (o = plumb_option_at(i)); i++)
        PLUMB_TRY(find_installed(c, o));
    if (!*c->tokenizer)
        c->tokenizer = c->model;
    return PLUMB_OK;
}
