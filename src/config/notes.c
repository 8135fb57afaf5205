/* notes.c - warns about values that are allowed but probably a mistake.
 * Layer 3. Includes config.h, option.h, io/yaml.h, base/. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "config/option.h"

/* Options whose text the model reads or writes. A user rarely wants a backslash in such a text. */
static const char *const texts[] = {"generate.stop", "data.prompt_template", "data.system",
                                    "method.principle_template", NULL};

static void note_escape(const struct plumb_option *o, const char *text)
{
    static const char letters[] = "ntr";
    static const char *const name[] = {"newline", "tabulator", "carriage return"};
    const char *at = strchr(text, '\\');
    while (at && at[1] && !strchr(letters, at[1]))
        at = strchr(at + 1, '\\');
    if (at && at[1])
        plumb_log(PLUMB_LOG_WARN,
                  "%s: '%.200s' contains a backslash and the letter %c; for a %s put the value in "
                  "double quotes, inside the shell's own quotes: '\"...\\%c...\"'",
                  o->path, text, at[1], name[strchr(letters, at[1]) - letters], at[1]);
}

bool plumb_option_is_prose(const struct plumb_option *o)
{
    int k = 0;
    while (texts[k] && strcmp(texts[k], o->path) != 0)
        k++;
    return texts[k] != NULL;
}

void plumb_config_notes(const struct plumb_config *config, const char *command)
{
    const struct plumb_option *o;
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        if (!plumb_option_is_prose(o) || !plumb_option_used(o, command))
            continue;
        const void *field = (const char *)config + o->offset;
        if (o->type == PLUMB_TYPE_TEXT)
            note_escape(o, *(const char *const *)field);
        const struct plumb_texts *list = field;
        for (int64_t n = 0; o->type == PLUMB_TYPE_TEXTS && n < list->n; n++)
            note_escape(o, list->item[n]);
    }
}
