/* man.c - writes the man page of plumb from the tables of options and commands.
 * Layer 3. Includes config.h, option.h, base/. */
#include <string.h>

#include "config/option.h"

/* Appends text for troff: '-' becomes a minus sign, a backslash is escaped, and a dot or quote at
 * the beginning of a line is protected, so that troff does not read a request. */
static plumb_status put_text(struct plumb_buf *out, const char *text)
{
    const bool first = !out->len || out->data[out->len - 1] == '\n';
    if (first && (*text == '.' || *text == '\''))
        PLUMB_TRY(plumb_buf_add_text(out, "\\&"));
    for (; *text; text++) {
        if (*text == '-')
            PLUMB_TRY(plumb_buf_add_text(out, "\\-"));
        else if (*text == '\\')
            PLUMB_TRY(plumb_buf_add_text(out, "\\e"));
        else
            PLUMB_TRY(plumb_buf_add(out, text, 1));
    }
    return PLUMB_OK;
}

static plumb_status put_bold(struct plumb_buf *out, const char *text)
{
    PLUMB_TRY(plumb_buf_add_text(out, "\\fB"));
    PLUMB_TRY(put_text(out, text));
    PLUMB_TRY(plumb_buf_add_text(out, "\\fR"));
    return PLUMB_OK;
}

static plumb_status put_lines(struct plumb_buf *out, const char *const *line, int n)
{
    for (int i = 0; i < n; i++) {
        PLUMB_TRY(plumb_buf_add_text(out, line[i]));
        PLUMB_TRY(plumb_buf_add_text(out, "\n"));
    }
    return PLUMB_OK;
}
#define PUT_LINES(out, lines) put_lines(out, lines, (int)(sizeof(lines) / sizeof((lines)[0])))

static plumb_status put_commands(struct plumb_buf *out)
{
    const struct plumb_command *c;
    PLUMB_TRY(plumb_buf_add_text(out, ".SH COMMANDS\n"));
    for (int i = 0; (c = plumb_command_at(i)); i++) {
        PLUMB_TRY(plumb_buf_add_text(out, ".TP\n"));
        PLUMB_TRY(put_bold(out, c->name));
        PLUMB_TRY(plumb_buf_add_text(out, "\n"));
        PLUMB_TRY(put_text(out, c->help));
        PLUMB_TRY(plumb_buf_add_text(out, "\n"));
    }
    return PLUMB_OK;
}

/* Appends ", default D" unless the default is empty, and ", COMMAND: D" for each command that has
 * another default. */
static plumb_status put_defaults(struct plumb_buf *out, const struct plumb_option *o)
{
    const struct plumb_command *c;
    if (*o->value) {
        PLUMB_TRY(plumb_buf_add_text(out, ", default "));
        PLUMB_TRY(put_text(out, o->value));
    }
    for (int i = 0; (c = plumb_command_at(i)); i++) {
        const char *own = plumb_option_default(o, c->name);
        if (!strcmp(own, o->value))
            continue;
        PLUMB_TRY(plumb_buf_addf(out, ", %s: ", c->name));
        PLUMB_TRY(put_text(out, own));
    }
    return PLUMB_OK;
}

static plumb_status put_option(struct plumb_buf *out, const struct plumb_option *o)
{
    const struct plumb_command *c;
    PLUMB_TRY(plumb_buf_add_text(out, ".TP\n"));
    PLUMB_TRY(put_bold(out, o->path));
    PLUMB_TRY(plumb_buf_addf(out, " (%s", plumb_option_type_name(o->type)));
    if (*o->range) {
        PLUMB_TRY(plumb_buf_add_text(out, ", "));
        PLUMB_TRY(put_text(out, o->range));
    }
    if (*o->unit)
        PLUMB_TRY(plumb_buf_addf(out, ", %s", o->unit));
    PLUMB_TRY(put_defaults(out, o));
    PLUMB_TRY(plumb_buf_add_text(out, ")\n"));
    PLUMB_TRY(put_text(out, o->help));
    const char *before = ".\nCommands: ";
    for (int i = 0; (c = plumb_command_at(i)); i++) {
        if (!strchr(o->commands, c->letter))
            continue;
        PLUMB_TRY(plumb_buf_addf(out, "%s%s", before, c->name));
        before = ", ";
    }
    return plumb_buf_add_text(out, ".\n");
}

static plumb_status put_options(struct plumb_buf *out)
{
    const struct plumb_option *o;
    const char *section = "";
    PLUMB_TRY(plumb_buf_add_text(out, ".SH OPTIONS\n"));
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        if (strcmp(section, o->section) != 0) {
            section = o->section;
            PLUMB_TRY(plumb_buf_addf(out, ".SS %s: ", section));
            PLUMB_TRY(put_text(out, plumb_section_help(section)));
            PLUMB_TRY(plumb_buf_add_text(out, "\n"));
        }
        PLUMB_TRY(put_option(out, o));
    }
    return PLUMB_OK;
}

static plumb_status put_exit_codes(struct plumb_buf *out)
{
    static const struct {
        plumb_status status;
        int code;
    } codes[] = {
#define X(name, value, text, code) {name, code},
        PLUMB_STATUS_LIST(X)
#undef X
    };
    PLUMB_TRY(plumb_buf_add_text(out, ".SH EXIT STATUS\n.TP\n0\nsuccess\n"));
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        PLUMB_TRY(plumb_buf_addf(out, ".TP\n%d\n%s\n", codes[i].code,
                                 plumb_status_text(codes[i].status)));
    return PLUMB_OK;
}

plumb_status plumb_config_man(struct plumb_buf *out)
{
    static const char *const head[] = {
        ".TH PLUMB 1 \"\" \"plumb " PLUMB_VERSION "\" \"User Commands\"",
        ".SH NAME",
        "plumb \\- distributed alignment of language models",
        ".SH SYNOPSIS",
        "\\fBplumb\\fR \\fICOMMAND\\fR [\\fICONFIG.yaml\\fR] [\\fIkey\\fR=\\fIvalue\\fR ...]",
        ".br",
        "\\fBmpirun \\-n\\fR \\fIRANKS\\fR \\fBplumb\\fR \\fICOMMAND\\fR ...",
        ".SH DESCRIPTION",
        "plumb reads a Hugging Face checkpoint and prompts, generates answers with the model,",
        "scores them, and trains the model on them.",
        "One process is one rank.",
        "The results are the same bytes on any number of ranks that is a power of two.",
        ".PP",
        "Values come from the defaults, then the file, then the command line.",
        "A key is a dotted path (train.epochs=2), or its last name alone if only one option of",
        "the command has it.",
        "\\fBplumb help\\fR explains the syntax of values.",
    };
    static const char *const tail[] = {
        ".SH ENVIRONMENT",
        ".TP",
        "\\fBPLUMB_ISA\\fR",
        "instruction set of the CPU kernels: baseline, avx2 or avx512; not given: the best one",
        ".TP",
        "\\fBPLUMB_PROGRESS\\fR",
        "live: one line is updated in place, also if the output is no terminal; plain: a line is",
        "printed every 5 seconds; plain:SECONDS: at this interval; off: no progress is shown",
        ".SH FILES",
        "A path that begins with configs/ and does not exist is looked up in the folder",
        "share/plumb next to the program's bin folder.",
        ".SH SIGNALS",
        "After SIGUSR1 or SIGTERM a training command saves a checkpoint and ends with exit code",
        "99; resume=auto continues it.",
        ".SH SEE ALSO",
        "\\fBmpirun\\fR(1), \\fBsbatch\\fR(1), \\fBsrun\\fR(1)",
    };
    PLUMB_TRY(PUT_LINES(out, head));
    PLUMB_TRY(put_commands(out));
    PLUMB_TRY(put_options(out));
    PLUMB_TRY(put_exit_codes(out));
    PLUMB_TRY(PUT_LINES(out, tail));
    return PLUMB_OK;
}
