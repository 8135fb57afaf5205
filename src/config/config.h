/* config.h - the configuration of a command: read once, checked completely, immutable.
 * Layer 3. Includes base/, options.h.
 *
 * Values come from, later ones winning: the table's defaults, the YAML file, the command line's
 * key=value arguments. A YAML file nests options in their sections (train: {epochs: 2}) and may
 * hold sections for other commands too, so that one file serves several. On the command line a
 * key is the dotted path (train.epochs=2) or the last name alone where only one option of the
 * command has it; top-level options win (model= is the model, reward.model= needs its path). Lists
 * are comma-separated, or YAML ([a, "b, c"]). Relative paths are relative to the current folder. */
#ifndef PLUMB_CONFIG_CONFIG_H
#define PLUMB_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "config/options.h"

struct plumb_texts {
    const char **item;
    int64_t n;
};

enum plumb_reward_kind {
    PLUMB_REWARD_LENGTH,     /* of the completion, as its distance from target */
    PLUMB_REWARD_REGEX,      /* matches of pattern */
    PLUMB_REWARD_WORDS,      /* occurrences of words */
    PLUMB_REWARD_REPETITION, /* share of repeated text */
    PLUMB_REWARD_EXACT,      /* the record's own answer */
};
extern const char *const plumb_reward_kind_names[]; /* NULL at the end */

/* One entry of reward.functions. What a field means to a function is said where it is computed. */
struct plumb_reward_function {
    int name;                 /* enum plumb_reward_kind; required */
    double weight;            /* 1 */
    const char *pattern;      /* "": not given */
    struct plumb_texts words; /* empty: not given */
    const char *file;         /* "": not given; one word per line */
    const char *field;        /* "": not given; a member of the record */
    double target, min, max;  /* NaN: not given */
};
struct plumb_reward_functions {
    const struct plumb_reward_function *item;
    int64_t n;
};

/* Choices whose order no other header defines. */
enum plumb_end { PLUMB_END_TRAINED, PLUMB_END_TRUE, PLUMB_END_FALSE }; /* reward.append_eos */
enum plumb_init { PLUMB_INIT_CHECKPOINT, PLUMB_INIT_RANDOM };

#define PLUMB_OPTION_BOOL      bool
#define PLUMB_OPTION_INT       int64_t
#define PLUMB_OPTION_SEED      uint64_t
#define PLUMB_OPTION_REAL      double
#define PLUMB_OPTION_TEXT      const char *
#define PLUMB_OPTION_WORD      const char *
#define PLUMB_OPTION_CHOICE    int
#define PLUMB_OPTION_TEXTS     struct plumb_texts
#define PLUMB_OPTION_FUNCTIONS struct plumb_reward_functions

#define PLUMB_OPTION_FIELD(type, name, value, range, unit, commands, changes, help)                \
    PLUMB_OPTION_##type name;
#define PLUMB_OPTION_STRUCT(list, section, help)                                                   \
    struct {                                                                                       \
        PLUMB_OPTIONS_##list(PLUMB_OPTION_FIELD)                                                   \
    } section;

struct plumb_config {
    PLUMB_OPTIONS_TOP(PLUMB_OPTION_FIELD)
    PLUMB_OPTION_SECTIONS(PLUMB_OPTION_STRUCT)
    struct plumb_config_marks *marks; /* config/ alone; NULL: nothing is known of what was given */
};

/* Reads everything for one command. yaml_path may be NULL, "-" is standard input. override (n):
 * key=value texts. An error names the file, line and column, or the number of the command line's
 * argument (counted as in `plumb COMMAND [CONFIG.yaml] key=value ...`, COMMAND being 1), what was
 * expected, and for an unknown key the nearest one. An override of an option that the command
 * does not use is an error that names the commands that do. A command that works on one file
 * (replay) takes yaml_path as its input. *out is owned by the caller. Errors: PLUMB_ERR_CONFIG;
 * PLUMB_ERR_IO for a file that cannot be read. */
plumb_status plumb_config_load(struct plumb_config **out, const char *command,
                               const char *yaml_path, char *const *override, int n);
void plumb_config_free(struct plumb_config **config); /* NULL is allowed */

/* Logs a warning for every value that is allowed and probably not meant: a backslash and an n where
 * a newline was to be written. command: whose options are looked at. */
void plumb_config_notes(const struct plumb_config *config, const char *command);

/* Whether key is an option's path, or its name alone, that the command uses. */
bool plumb_config_is_option(const char *key, const char *command);
/* Whether the command's own argument is a file to work on (inspect, replay), no configuration. */
bool plumb_config_takes_file(const char *command);

/* ---- what was given, and what is read of it --------------------------------------------------
 *
 * plumb_config_load warns of what its command does not use. Which parameters a method reads is
 * known above this layer: it says so with the functions below, before the configuration is used. */
enum plumb_given { PLUMB_GIVEN_NO, PLUMB_GIVEN_FILE, PLUMB_GIVEN_COMMAND };
/* Whether a file or the command line has set the option; NO for a path that is no option's. */
enum plumb_given plumb_config_given(const struct plumb_config *c, const char *path);
/* The option is not read, because (`why`: "is not read by method dpo"). It leaves
 * config.effective.yaml. A warning if a file has set it, PLUMB_ERR_CONFIG if the command line
 * has. */
plumb_status plumb_config_unread(struct plumb_config *c, const char *path, const char *why);
/* Only the warning: the option stays in config.effective.yaml, as what runs are compared by. */
plumb_status plumb_config_warn(struct plumb_config *c, const char *path, const char *why);
/* The option has this value in this run. PLUMB_ERR_CONFIG with `why` ("method psle_curriculum
 * decides it") if it was set to another one. */
plumb_status plumb_config_decide(struct plumb_config *c, const char *path, const char *value,
                                 const char *why);
/* Warns of options that other options make needless (top_k at temperature 0). For the end, when all
 * values are known. */
plumb_status plumb_config_note_needless(struct plumb_config *c, const char *command);
/* The warnings so far, a line each; "" for none. */
const char *plumb_config_warnings(const struct plumb_config *c);

/* out += the help text of a command, or of plumb itself (NULL). PLUMB_ERR_CONFIG with the nearest
 * name when there is no such command. */
plumb_status plumb_config_help(struct plumb_buf *out, const char *command);

/* out += every option that the command uses (NULL: all) and the run reads, as YAML that loads to
 * the same values. */
plumb_status plumb_config_to_yaml(struct plumb_buf *out, const struct plumb_config *config,
                                  const char *command);

/* The same of the options that change the command's results. */
plumb_status plumb_config_results(struct plumb_buf *out, const struct plumb_config *config,
                                  const char *command);
/* Calls fn for every option that changes the command's results and whose values differ; both as
 * YAML. fn's error stops the walk and is passed on. */
typedef plumb_status plumb_config_change_fn(void *arg, const char *path, const char *then,
                                            const char *now);
plumb_status plumb_config_changes(const struct plumb_config *then, const struct plumb_config *now,
                                  const char *command, plumb_config_change_fn *fn, void *arg);
/* out += a line "train.beta1: 0.9 in THERE, 0.8 now" for every option that changes the command's
 * results and has another value in yaml (len bytes, a whole configuration, named by `there`).
 * PLUMB_ERR_CONFIG when yaml is no configuration of this plumb. */
plumb_status plumb_config_diff(struct plumb_buf *out, const struct plumb_config *now,
                               const char *yaml, int64_t len, const char *there,
                               const char *command);

/* Calls fn with option and path for every file and folder that the command reads and that decides
 * its results: also each NAME=FOLDER of eval.models (as eval.models.NAME), data.eval, and files of
 * reward.functions. Empty ones are left out; a path may be a word (init, previous). fn's
 * error stops the walk and is passed on. */
typedef plumb_status plumb_config_input_fn(void *arg, const char *key, const char *path);
plumb_status plumb_config_inputs(const struct plumb_config *config, const char *command,
                                 plumb_config_input_fn *fn, void *arg);

/* Hash of the options that the command uses (NULL: all) and that change its results. */
uint64_t plumb_config_hash(const struct plumb_config *config, const char *command);

#endif
