/* bash.c - writes the completion script for bash from the tables of options and commands.
 * Layer 3. Includes config.h, option.h, base/. */
#include <string.h>

#include "config/option.h"

/* Returns true if only this option of the command has its name, so that the name alone is a key. */
static bool is_unique(const struct plumb_option *o, const char *command)
{
    const struct plumb_option *other;
    for (int i = 0; (other = plumb_option_at(i)); i++)
        if (other != o && !strcmp(other->name, o->name) && plumb_option_used(other, command))
            return false;
    return true;
}

/* Appends the bash function _plumb_keys. Called with the name of a command, it appends the keys of
 * this command to the shell variable `words`, each followed by '='. */
static plumb_status put_keys(struct plumb_buf *out)
{
    const struct plumb_command *c;
    const struct plumb_option *o;
    PLUMB_TRY(plumb_buf_add_text(out, "_plumb_keys()\n{\n    case $1 in\n"));
    for (int i = 0; (c = plumb_command_at(i)); i++) {
        PLUMB_TRY(plumb_buf_addf(out, "    %s) words+='", c->name));
        for (int k = 0; (o = plumb_option_at(k)); k++) {
            if (!plumb_option_used(o, c->name))
                continue;
            PLUMB_TRY(plumb_buf_addf(out, " %s=", o->path));
            if (*o->section && is_unique(o, c->name))
                PLUMB_TRY(plumb_buf_addf(out, " %s=", o->name));
        }
        PLUMB_TRY(plumb_buf_add_text(out, "' ;;\n"));
    }
    return plumb_buf_add_text(out, "    esac\n}\n\n");
}

/* Appends the words that bash may offer as values of o, each after a space. @file and @folder stand
 * for the names of files and folders, which bash itself completes. Appends nothing if o accepts any
 * number or text. */
static plumb_status put_words(struct plumb_buf *out, const struct plumb_option *o)
{
    if (o->type == PLUMB_TYPE_BOOL)
        return plumb_buf_add_text(out, " true false");
    if (o->type == PLUMB_TYPE_WORD || o->type == PLUMB_TYPE_CHOICE) {
        PLUMB_TRY(plumb_buf_add_text(out, " "));
        for (const char *at = o->range; *at; at++)
            PLUMB_TRY(plumb_buf_add(out, *at == '|' ? " " : at, 1));
        return PLUMB_OK;
    }
    if (!strcmp(o->path, "resume"))
        return plumb_buf_add_text(out, " never auto @folder");
    if (!strcmp(o->unit, "file") || !strcmp(o->unit, "folder"))
        return plumb_buf_addf(out, " @%s", o->unit);
    return PLUMB_OK;
}

/* Appends the bash function _plumb_values. Called with a key, it sets the shell variable `words` to
 * the values that put_words lists. For a key without a section, the values are those of the first
 * option of that name. */
static plumb_status put_values(struct plumb_buf *out)
{
    const struct plumb_option *o;
    struct plumb_buf words = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_buf_add_text(out, "_plumb_values()\n{\n    case $1 in\n"));
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        plumb_buf_clear(&words);
        PLUMB_TRY_GOTO(st, put_words(&words, o), done);
        if (!words.len)
            continue;
        const char *also = *o->section ? " | " : "", *name = *o->section ? o->name : "";
        PLUMB_TRY_GOTO(st,
                       plumb_buf_addf(out, "    %s%s%s) words='%s' ;;\n", o->path, also, name,
                                      plumb_buf_text(&words) + 1),
                       done);
    }
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, "    esac\n}\n\n"), done);
done:
    plumb_buf_fini(&words);
    return st;
}

/* The bash function that completes the arguments of plumb. It handles both settings of bash: by
 * default bash splits the word key=value at '='; it does not if the user has removed '=' from
 * COMP_WORDBREAKS. */
static const char script[] =
    "_plumb()\n"
    "{\n"
    "    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
    "    local key= head= words= command=${COMP_WORDS[1]}\n"
    "    COMPREPLY=()\n"
    "    if [[ $current == '=' ]]; then\n"
    "        key=$before current=\n"
    "    elif [[ $before == '=' ]]; then\n"
    "        key=${COMP_WORDS[COMP_CWORD-2]}\n"
    "    elif [[ $current == ?*=* ]]; then\n"
    "        key=${current%%=*} head=$key= current=${current#*=}\n"
    "    fi\n"
    "    if [[ -n $key ]]; then\n"
    "        _plumb_values \"$key\"\n"
    "        COMPREPLY=($(compgen -P \"$head\" -W \"${words//@*/}\" -- \"$current\"))\n"
    "        case $words in\n"
    "        *@file) compopt -o filenames\n"
    "            COMPREPLY+=($(compgen -P \"$head\" -f -- \"$current\")) ;;\n"
    "        *@folder) compopt -o filenames\n"
    "            COMPREPLY+=($(compgen -P \"$head\" -d -- \"$current\")) ;;\n"
    "        esac\n"
    "        return\n"
    "    fi\n"
    "    if [[ $COMP_CWORD -eq 1 || ( $COMP_CWORD -eq 2 && $command == @(help|plan) ) ]]; then\n"
    "        words=$_plumb_commands\n"
    "        [[ $command != plan || $COMP_CWORD -eq 1 ]] || words='align sft reward prefer run'\n"
    "        COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
    "        return\n"
    "    fi\n"
    "    _plumb_keys \"$command\"\n"
    "    [[ $command != plan ]] || _plumb_keys \"${COMP_WORDS[2]}\"\n"
    "    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
    "    if [[ ${#COMPREPLY[@]} -gt 0 && -n $current ]]; then\n"
    "        compopt -o nospace\n"
    "    else\n"
    "        compopt -o filenames\n"
    "        COMPREPLY=($(compgen -f -- \"$current\"))\n"
    "        [[ -n $current ]] || COMPREPLY+=($(compgen -W \"$words\"))\n"
    "    fi\n"
    "}\n"
    "complete -F _plumb plumb\n";

plumb_status plumb_config_bash(struct plumb_buf *out)
{
    const struct plumb_command *c;
    PLUMB_TRY(
        plumb_buf_add_text(out, "# bash completion of plumb " PLUMB_VERSION
                                ", written by `plumb help bash-completion`.\n\n_plumb_commands='"));
    for (int i = 0; (c = plumb_command_at(i)); i++)
        PLUMB_TRY(plumb_buf_addf(out, "%s%s", i ? " " : "", c->name));
    PLUMB_TRY(plumb_buf_add_text(out, "'\n\n"));
    PLUMB_TRY(put_keys(out));
    PLUMB_TRY(put_values(out));
    return plumb_buf_add_text(out, script);
}
