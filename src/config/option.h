/* option.h - one option of the table: how to find it, read it and write it. Inside config/ only.
 * Layer 3. Includes base/, io/yaml.h, config.h. */
#ifndef PLUMB_CONFIG_OPTION_H
#define PLUMB_CONFIG_OPTION_H

#include <stddef.h>

#include "config/config.h"
#include "io/yaml.h"

enum plumb_option_type {
    PLUMB_TYPE_BOOL,
    PLUMB_TYPE_INT,
    PLUMB_TYPE_SEED,
    PLUMB_TYPE_REAL,
    PLUMB_TYPE_TEXT,
    PLUMB_TYPE_WORD,
    PLUMB_TYPE_CHOICE,
    PLUMB_TYPE_TEXTS,
    PLUMB_TYPE_FUNCTIONS,
};

struct plumb_option {
    const char *path, *name, *section; /* "train.epochs", "epochs", "train" ("" at the top) */
    enum plumb_option_type type;
    const char *value, *range, *unit, *commands; /* value: the default as text; see options.h */
    bool changes;
    const char *help;
    size_t offset; /* in struct plumb_config (or struct plumb_reward_function) */
};

struct plumb_command {
    const char *name;
    char letter; /* in plumb_option.commands */
    bool file;   /* its first argument is its input, not a configuration */
    bool of;     /* its first argument is another command, whose options it takes, too */
    const char *help;
};

/* NULL past the end. */
const struct plumb_option *plumb_option_at(int i);
const struct plumb_command *plumb_command_at(int i);
const char *plumb_section_at(int i);
const char *plumb_section_help(const char *section);

/* Its place in the table; -1: there is no option of that path. */
int plumb_option_index(const char *path);
/* The default as text: some commands have another one than the table. NULL: of no command. */
const char *plumb_option_default(const struct plumb_option *o, const char *command);

/* By the first word of name ("plan align"); NULL: unknown. */
const struct plumb_command *plumb_command_find(const char *name);
const struct plumb_option *plumb_option_find(const char *section, const char *name);
/* command: NULL = any; of several words ("plan align"), one of them. */
bool plumb_option_used(const struct plumb_option *o, const char *command);

/* Insertions, deletions, changes and swaps of neighbours between two names. */
int plumb_edit_distance(const char *a, const char *b);
/* The option whose path or name is closest to key; NULL when none is close. */
const struct plumb_option *plumb_option_nearest(const char *key);
/* Whether distance d is close enough for a suggestion in place of a name like key. */
bool plumb_is_near(int d, const char *key);

/* The error for a name that is no option: in TRL, transformers, OpenRLHF or verl it is one, and the
 * message says what plumb calls it for this command (NULL: any). PLUMB_OK when the name is not
 * known there either. */
plumb_status plumb_alias_refuse(const char *key, const char *command, const char *where);

/* How the options of a configuration were set. Indices are those of the table. */
enum { PLUMB_OPTIONS_MOST = 256 };
struct plumb_config_marks {
    unsigned char given[PLUMB_OPTIONS_MOST]; /* enum plumb_given */
    bool shared[PLUMB_OPTIONS_MOST];         /* given to several stages at once */
    const char *where[PLUMB_OPTIONS_MOST];   /* of a given one: the file and line, the argument */
    const char *unread[PLUMB_OPTIONS_MOST];  /* why the run does not read it; NULL: it does */
    const char *notes;                       /* lines of warnings; NULL: none */
};
/* Notes that the option was set, and where. */
plumb_status plumb_config_mark(struct plumb_config *c, const struct plumb_option *o,
                               enum plumb_given given, const char *where);
plumb_status plumb_config_add_note(struct plumb_config *c, const char *text);
/* Notes the options of the file that the command does not use. */
plumb_status plumb_config_note_unused(struct plumb_config *c, const char *command,
                                      const char *path);
/* Whether the command uses option i, and nothing else makes it needless. */
bool plumb_config_reads(const struct plumb_config *c, const char *command, int i);

/* A configuration with every byte zero and no marks. *out is owned by the caller. */
plumb_status plumb_config_blank(struct plumb_config **out);
/* Memory that lives as long as the configuration. */
plumb_status plumb_config_take(void **out, struct plumb_config *c, int64_t bytes);

/* A configuration of the command's defaults (NULL: the table's). *out is owned by the caller. */
plumb_status plumb_config_fresh(struct plumb_config **out, const char *command);
/* What a map of options says, but for the members named in skip (NULL at the end; NULL: none). */
plumb_status plumb_config_set_yaml(struct plumb_config *c, const struct plumb_yaml *root,
                                   const char *path, const char *const *skip);
/* One key=value, the command line's argument of that number. An option that the command does not
 * use is an error, or makes *used false where used is not NULL. */
plumb_status plumb_config_override(struct plumb_config *c, const char *command, const char *text,
                                   int number, bool *used);
/* Defaults, then len bytes of YAML; `where` names them in messages. *out is owned by the caller. */
plumb_status plumb_config_parse(struct plumb_config **out, const char *yaml, int64_t len,
                                const char *where);

/* Sets the option's field in `base` (the configuration, or a function in it). `where` begins the
 * message; PLUMB_ERR_CONFIG says what was found and what was expected.
 *
 * From a YAML value; null leaves the field as it is. */
plumb_status plumb_option_set(struct plumb_config *c, void *base, const struct plumb_option *o,
                              const struct plumb_yaml *v, const char *where);
/* The same for every type but PLUMB_TYPE_FUNCTIONS, of which it refuses any value but null. */
plumb_status plumb_value_set(struct plumb_config *c, void *base, const struct plumb_option *o,
                             const struct plumb_yaml *v, const char *where);
/* From the text itself, in which nothing is quoted (a default, a path). A list: "" for none. */
plumb_status plumb_option_set_text(struct plumb_config *c, void *base, const struct plumb_option *o,
                                   const char *text, const char *where);
/* From what stands behind key= on the command line. In quotes: what YAML makes of it. null and ~:
 * the default. A list: a YAML list, or a,b, whose elements may be in quotes. Otherwise the text as
 * it stands; numbers and words without the blanks around them. */
plumb_status plumb_option_set_argument(struct plumb_config *c, void *base,
                                       const struct plumb_option *o, const char *text,
                                       const char *where);
plumb_status plumb_functions_set(struct plumb_config *c, struct plumb_reward_functions *out,
                                 const struct plumb_yaml *v, const char *where);

/* Appends the field's value as YAML on one line. */
plumb_status plumb_option_put(struct plumb_buf *b, const void *base, const struct plumb_option *o);
/* The same for every type but PLUMB_TYPE_FUNCTIONS, of which it appends nothing. */
plumb_status plumb_value_put(struct plumb_buf *b, const void *base, const struct plumb_option *o);
plumb_status plumb_functions_put(struct plumb_buf *b, const struct plumb_reward_functions *f);

#endif
