/* option.h - the option table, and functions that find options and read and write their values.
 * Used only inside config/.
 * Layer 3. Includes base/, io/yaml.h, config.h. */
#ifndef PLUMB_CONFIG_OPTION_H
#define PLUMB_CONFIG_OPTION_H

#include <stddef.h>

#include "config/config.h"
#include "config/near.h"
#include "io/yaml.h"

enum plumb_option_type {
    PLUMB_TYPE_BOOL,
    PLUMB_TYPE_INT,
    PLUMB_TYPE_SEED,
    PLUMB_TYPE_REAL,
    PLUMB_TYPE_AUTO,
    PLUMB_TYPE_TEXT,
    PLUMB_TYPE_WORD,
    PLUMB_TYPE_CHOICE,
    PLUMB_TYPE_TEXTS,
    PLUMB_TYPE_MAP,
    PLUMB_TYPE_FUNCTIONS,
};

struct plumb_option {
    /* For example, path is "train.epochs", name is "epochs" and section is "train". An option at
     * the top level has the section "". */
    const char *path, *name, *section;
    enum plumb_option_type type;
    /* value is the default, as text. All four are columns of the table in options.h; see the head
     * of that file. */
    const char *value, *range, *unit, *commands;
    bool changes;
    const char *help;
    size_t offset; /* offset of the field in struct plumb_config or struct plumb_reward_function */
};

struct plumb_command {
    const char *name;
    char letter; /* the command's letter in plumb_option.commands */
    bool file;   /* the first argument is an input file, not a configuration */
    bool of;     /* the first argument is another command, whose options it also takes */
    const char *help;
};

/* Return option i, command i, the name of section i, and the help text of a section of this name;
 * NULL if i is out of range or the name is unknown. */
const struct plumb_option *plumb_option_at(int i);
const struct plumb_command *plumb_command_at(int i);
const char *plumb_section_at(int i);
const char *plumb_section_help(const char *section);

/* Returns the index of an option in the table; -1 if there is no option with this path. */
int plumb_option_index(const char *path);
/* Returns the option's default for a command as text; if command is NULL, the default in the
 * table. */
const char *plumb_option_default(const struct plumb_option *o, const char *command);

/* Returns the name of the type for the user: "int", "choice" .. */
const char *plumb_option_type_name(enum plumb_option_type type);

/* Append the man page (troff), and the completion script for bash, to out. */
plumb_status plumb_config_man(struct plumb_buf *out);
plumb_status plumb_config_bash(struct plumb_buf *out);

/* Return the command that the first word of name ("plan align") names, or an option by its section
 * and name; NULL if unknown. */
const struct plumb_command *plumb_command_find(const char *name);
const struct plumb_option *plumb_option_find(const char *section, const char *name);
/* Returns true if the command uses the option. command may have several words ("plan align"); one
 * of them must use the option. NULL stands for any command. */
bool plumb_option_used(const struct plumb_option *o, const char *command);

/* Returns true if the model reads or writes the option's text, so that a line break in it is likely
 * and a backslash is not. */
bool plumb_option_is_prose(const struct plumb_option *o);

/* Returns the option whose path or name is most similar to key, or NULL if none is similar. */
const struct plumb_option *plumb_option_nearest(const char *key);

/* Raises an error if key is an option of plumb written with dashes (--seed), or an option of TRL,
 * transformers, OpenRLHF or verl. In the second case the message names the option of plumb that
 * this command (NULL: any command) uses instead. Returns PLUMB_OK for any other key. */
plumb_status plumb_alias_refuse(const char *key, const char *command, const char *where);

/* PLUMB_OPTIONS_MOST is the largest number of options in the table. struct plumb_config_marks
 * records how the options of a configuration were set; element i of each array belongs to option i
 * of the table. */
enum { PLUMB_OPTIONS_MOST = 256 };
struct plumb_config_marks {
    /* how each option was set: values of enum plumb_given */
    unsigned char given[PLUMB_OPTIONS_MOST];
    /* true if one argument or line has set the option for several stages */
    bool shared[PLUMB_OPTIONS_MOST];
    /* File and line, or argument, that has set the option. */
    const char *where[PLUMB_OPTIONS_MOST];
    /* Reason why the run does not read the option; NULL if it does. */
    const char *unread[PLUMB_OPTIONS_MOST];
    const char *notes; /* recorded warnings, one per line; NULL if there are none */
};
/* plumb_config_mark records that the option was set, and where; plumb_config_add_note records a
 * warning. */
plumb_status plumb_config_mark(struct plumb_config *c, const struct plumb_option *o,
                               enum plumb_given given, const char *where);
plumb_status plumb_config_add_note(struct plumb_config *c, const char *text);
/* Records a warning that lists the options of the file that the command does not use. */
plumb_status plumb_config_note_unused(struct plumb_config *c, const char *command,
                                      const char *path);
/* Returns true if the command uses option i and no other option makes it ineffective. */
bool plumb_config_reads(const struct plumb_config *c, const char *command, int i);

/* Allocates a configuration in which all bytes are zero and no option is marked. The caller owns
 * *out. */
plumb_status plumb_config_blank(struct plumb_config **out);
/* Allocates memory that is freed together with the configuration. */
plumb_status plumb_config_take(void **out, struct plumb_config *c, int64_t bytes);

/* Creates a configuration with the defaults of a command (NULL: those in the table). The caller
 * owns *out. */
plumb_status plumb_config_fresh(struct plumb_config **out, const char *command);
/* Call this after all options are set. If tokenizer is not given, sets it to the model's folder. If
 * a file below configs/ does not exist, replaces its path by that of the installed file
 * (io/installed.h). */
plumb_status plumb_config_complete(struct plumb_config *c);
/* Sets the options of a YAML map. Members named in skip, a NULL-terminated list or NULL, are
 * ignored. */
plumb_status plumb_config_set_yaml(struct plumb_config *c, const struct plumb_yaml *root,
                                   const char *path, const char *const *skip);
/* Sets the option of one key=value argument of the command line; number is its position. If the
 * command does not use the option, *used becomes false; if `used` is NULL, the function fails
 * instead. */
plumb_status plumb_config_override(struct plumb_config *c, const char *command, const char *text,
                                   int number, bool *used);
/* Creates a configuration from the defaults and len bytes of YAML; `where` names the YAML in
 * messages. The caller owns *out. */
plumb_status plumb_config_parse(struct plumb_config **out, const char *yaml, int64_t len,
                                const char *where);

/* The functions below set the option's field in `base`, which is the configuration or one of its
 * reward functions. A message begins with `where`; PLUMB_ERR_CONFIG says what was found and what
 * was expected.
 *
 * plumb_option_set takes a YAML value; null leaves the field unchanged. */
plumb_status plumb_option_set(struct plumb_config *c, void *base, const struct plumb_option *o,
                              const struct plumb_yaml *v, const char *where);
/* Like plumb_option_set, but refuses any value except null for PLUMB_TYPE_FUNCTIONS. */
plumb_status plumb_value_set(struct plumb_config *c, void *base, const struct plumb_option *o,
                             const struct plumb_yaml *v, const char *where);
/* Sets the field from plain text in which nothing is quoted, such as a default or a path. For a
 * list only "" (the empty list) is allowed, for a map only "" and "{}" (the empty map). */
plumb_status plumb_option_set_text(struct plumb_config *c, void *base, const struct plumb_option *o,
                                   const char *text, const char *where);
/* Returns true for null and ~, with or without blanks around them: they stand for the default. */
bool plumb_argument_is_null(const char *text);
/* Sets the field from the text after key= on the command line. The text is not null: see
 * plumb_argument_is_null. Quoted text is parsed as YAML. A list is a YAML list, or a,b, whose
 * elements may be quoted. Any other text is used unchanged, except that \n, \t and \r become
 * control characters if plumb_option_is_prose is true; numbers and choices are read without the
 * blanks around them. */
plumb_status plumb_option_set_argument(struct plumb_config *c, void *base,
                                       const struct plumb_option *o, const char *text,
                                       const char *where);
plumb_status plumb_functions_set(struct plumb_config *c, struct plumb_reward_functions *out,
                                 const struct plumb_yaml *v, const char *where);

/* Converts the YAML map v to the text of a JSON object, *out, in memory that belongs to c. */
plumb_status plumb_map_set(struct plumb_config *c, const char **out, const struct plumb_yaml *v);
/* Sets one member of *map to a value that is parsed as YAML. Returns PLUMB_ERR_CONFIG if the YAML
 * is malformed. */
plumb_status plumb_map_set_member(struct plumb_config *c, const char **map, const char *key,
                                  const char *value, const char *where);

/* Appends the field's value as YAML on one line. */
plumb_status plumb_option_put(struct plumb_buf *b, const void *base, const struct plumb_option *o);
/* Like plumb_option_put, but appends nothing for PLUMB_TYPE_FUNCTIONS. */
plumb_status plumb_value_put(struct plumb_buf *b, const void *base, const struct plumb_option *o);
plumb_status plumb_functions_put(struct plumb_buf *b, const struct plumb_reward_functions *f);

#endif
