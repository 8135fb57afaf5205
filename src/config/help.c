/* help.c - builds the text of `plumb help` from the tables of options and commands.
 * Layer 3. Includes config.h, option.h, io/yaml.h, base/. */
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "config/option.h"

enum { WIDTH = 100, INDENT = 6, MAX_COLUMN = 20 };

/* Appends text in lines of at most WIDTH characters, which are broken at blanks and indented by
 * INDENT spaces. */
static plumb_status put_wrapped(struct plumb_buf *out, const char *text)
{
    while (*text) {
        int n = (int)strlen(text);
        if (n > WIDTH - INDENT)
            for (n = WIDTH - INDENT; n > 0 && text[n] != ' '; n--)
                ;
        PLUMB_TRY(plumb_buf_addf(out, "%*s%.*s\n", INDENT, "", n, text));
        text += n;
        text += strspn(text, " ");
    }
    return PLUMB_OK;
}

/* Sets b to the default as the user would write it, or to "-" if it is empty. */
static plumb_status put_default(struct plumb_buf *b, const struct plumb_option *o,
                                const char *command)
{
    const char *value = plumb_option_default(o, command);
    plumb_buf_clear(b);
    if (o->type == PLUMB_TYPE_TEXT && *value)
        return plumb_yaml_put_string(b, value);
    return plumb_buf_add_text(b, *value ? value : "-");
}

struct widths {
    int name, value, range;
};

static plumb_status measure(struct widths *w, const char *command)
{
    const struct plumb_option *o;
    struct plumb_buf b = {0};
    plumb_status st = PLUMB_OK;
    *w = (struct widths){0};
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        if (!plumb_option_used(o, command))
            continue;
        PLUMB_TRY_GOTO(st, put_default(&b, o, command), fail);
        w->name = (int)plumb_max_i64(w->name, (int64_t)strlen(o->name));
        /* A cell longer than MAX_COLUMN does not widen its column; only the rest of its own line
         * moves to the right. */
        if (b.len <= MAX_COLUMN)
            w->value = (int)plumb_max_i64(w->value, b.len);
        if (strlen(o->range) <= MAX_COLUMN)
            w->range = (int)plumb_max_i64(w->range, (int64_t)strlen(o->range));
    }
fail:
    plumb_buf_fini(&b);
    return st;
}

static plumb_status put_option(struct plumb_buf *out, const struct plumb_option *o,
                               const struct widths *w, const char *command)
{
    struct plumb_buf value = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, put_default(&value, o, command), fail);
    PLUMB_TRY_GOTO(st,
                   plumb_buf_addf(out, "  %-*s  %-6s  %-*s  %-*s  %s", w->name, o->name,
                                  plumb_option_type_name(o->type), w->value, value.data, w->range,
                                  o->range, o->unit),
                   fail);
    while (out->data[out->len - 1] == ' ')
        out->data[--out->len] = '\0';
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, "\n"), fail);
    PLUMB_TRY_GOTO(st, put_wrapped(out, o->help), fail);
fail:
    plumb_buf_fini(&value);
    return st;
}

static plumb_status put_overview(struct plumb_buf *out)
{
    const struct plumb_command *c;
    PLUMB_TRY(plumb_buf_add_text(out, "plumb " PLUMB_VERSION
                                      " - distributed alignment of language models\n\n"
                                      "usage: plumb COMMAND [CONFIG.yaml] [key=value ...]\n"
                                      "       mpirun -n RANKS plumb COMMAND ...\n\ncommands\n"));
    for (int i = 0; (c = plumb_command_at(i)); i++)
        PLUMB_TRY(plumb_buf_addf(out, "  %-10s %s\n", c->name, c->help));
    PLUMB_TRY(plumb_buf_add_text(
        out,
        "\nValues come from the defaults, then the file, then the command line. A key is a dotted\n"
        "path (train.epochs=2), or the last name alone if only one option of the command has it.\n"
        "'plumb help COMMAND' lists a command's options, 'plumb help man-page' writes them as a "
        "man\n"
        "page, 'plumb help bash-completion' as a completion script. A key that is given twice\n"
        "counts as given last.\n\nvalues\n"
        "A value has the same syntax on the command line as in the file, after the shell has "
        "removed\n"
        "its quotes:\n"
        "  stop=END                text as it stands; spaces, ':' and '#' belong to it\n"
        "  stop='\\n'               in text for the model, \\n is a line break and \\t a tab\n"
        "  stop='\"\\n\"'             in double quotes, with YAML's escapes: a newline\n"
        "  stop=\"'it''s'\"         in single quotes, without escapes: it's\n"
        "  stop='[\"\\n\", END]'      a list, as in the file\n"
        "  stop='\"\\n\",END'        the same list\n"
        "  stop=a,b                a list of two; stop='\"a,b\"' is one text\n"
        "  stop=null               the default, also ~; stop='\"null\"' is the text\n"
        "  stop=                   no text, an empty list\n"
        "Text for the model: generate.stop, data.prompt_template, data.system and\n"
        "method.principle_template. Any other backslash outside of double quotes is a backslash.\n"
        "Numbers are plain (5000000000 or 5e9, no 5GB, no 5_000); bools are true or false.\n"
        "config.effective.yaml, which a run writes, holds every value as it was read.\n\nexamples\n"
        "  plumb generate model=MODEL prompts=prompts.jsonl output=answers.jsonl temperature=0\n"
        "  mpirun -n 2 plumb align align.yaml output_dir=runs/first seed=1 iterations=8\n"));
    return PLUMB_OK;
}

static plumb_status put_command(struct plumb_buf *out, const struct plumb_command *c)
{
    struct widths w;
    PLUMB_TRY(measure(&w, c->name));
    PLUMB_TRY(plumb_buf_addf(out, "plumb %s - %s\n\nusage: plumb %s %s [key=value ...]\n", c->name,
                             c->help, c->name,
                             c->letter == 'i'   ? "PATH"
                             : c->file          ? "FILE"
                             : c->letter == 'm' ? "[CONFIG.yaml] DIR..."
                             : c->letter == 't' ? "[CONFIG.yaml] [DIR] [FILE]"
                             : c->of            ? "COMMAND [CONFIG.yaml]"
                                                : "[CONFIG.yaml]"));
    if (c->of)
        PLUMB_TRY(plumb_buf_add_text(out, "with every option of COMMAND, and\n"));
    PLUMB_TRY(plumb_buf_addf(out, "\n  %-*s  %-6s  %-*s  %-*s  %s\n", w.name, "name", "type",
                             w.value, "default", w.range, "range", "unit"));
    const struct plumb_option *o;
    const char *section = NULL;
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        if (!plumb_option_used(o, c->name))
            continue;
        if (!section || strcmp(o->section, section)) {
            section = o->section;
            if (*section)
                PLUMB_TRY(plumb_buf_addf(out, "\n%s: %s\n", section, plumb_section_help(section)));
            else
                PLUMB_TRY(plumb_buf_add_text(out, "\ntop level\n"));
        }
        PLUMB_TRY(put_option(out, o, &w, c->name));
    }
    return PLUMB_OK;
}

plumb_status plumb_config_help(struct plumb_buf *out, const char *command)
{
    if (!command || !strcmp(command, "help")) {
        PLUMB_TRY(put_overview(out));
        return PLUMB_OK;
    }
    if (!strcmp(command, "man-page")) {
        PLUMB_TRY(plumb_config_man(out));
        return PLUMB_OK;
    }
    if (!strcmp(command, "bash-completion")) {
        PLUMB_TRY(plumb_config_bash(out));
        return PLUMB_OK;
    }
    const struct plumb_command *c = plumb_command_find(command), *best = plumb_command_at(0), *at;
    for (int i = 0; (at = plumb_command_at(i)); i++)
        if (plumb_edit_distance(command, at->name) < plumb_edit_distance(command, best->name))
            best = at;
    const bool near = plumb_is_near(plumb_edit_distance(command, best->name), command);
    const char *instead = plumb_alias_elsewhere(command, true);
    PLUMB_REQUIRE(c || !instead, PLUMB_ERR_CONFIG,
                  "there is no command '%s': %s; 'plumb help' lists the commands", command,
                  instead);
    PLUMB_REQUIRE(c, PLUMB_ERR_CONFIG, "there is no command '%s'%s%s%s; 'plumb help' lists them",
                  command, near ? ", did you mean '" : "", near ? best->name : "",
                  near ? "'?" : "");
    PLUMB_TRY(put_command(out, c));
    return PLUMB_OK;
}
