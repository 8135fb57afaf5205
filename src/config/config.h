/* config.h - the configuration of a command. It is read once, checked completely and not changed
 * afterwards.
 * Layer 3. Includes base/, options.h.
 *
 * A value comes from the default in the option table, from the YAML file, or from a key=value
 * argument of the command line. The command line overrides the file, and the file overrides the
 * default. A YAML file groups the options in sections (train: {epochs: 2}). It may contain options
 * of other commands, so that one file can serve several commands. On the command line a key is the
 * dotted path (train.epochs=2), or the last name alone if only one option of the command has it. A
 * top-level option takes precedence over an option of a section: model= sets the option `model`,
 * and only reward.model= sets the reward model. Lists are separated by commas or written as YAML
 * ([a, "b, c"]). A map is written as YAML ({a: 1}); a key with the name of a member sets that
 * member (template_arguments.a=1). Relative paths are relative to the current folder. */
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
    /* 0 if the length in tokens is `target` or in [min, max], else negative */
    PLUMB_REWARD_LENGTH,
    PLUMB_REWARD_REGEX,      /* the number of matches of `pattern` */
    PLUMB_REWARD_WORDS,      /* the share of words that are in `words` or `file` */
    PLUMB_REWARD_REPETITION, /* minus the share of repeated text */
    PLUMB_REWARD_EXACT,      /* equality with the record's solution, or with its member `field` */
};
/* Names of the values of enum plumb_reward_kind, in the order of the enum. The last element is
 * NULL. */
extern const char *const plumb_reward_kind_names[];

/* One entry of reward.functions. data/reward_builtin.h describes how a function uses the fields. */
struct plumb_reward_function {
    int name;                 /* an enum plumb_reward_kind; a required field */
    double weight;            /* weight of the function in the sum; default 1 */
    const char *pattern;      /* "" if not given */
    struct plumb_texts words; /* empty if not given */
    const char *file;         /* file of words; "" if not given */
    const char *field; /* name of the record's field that the function reads; "" if not given */
    double target, min, max; /* NaN if not given */
};
struct plumb_reward_functions {
    const struct plumb_reward_function *item;
    int64_t n;
};

/* The enums below are for options whose values have no enum in another header. The order of the
 * values is that of the option's range in config/options.h or align/param_list.h. */
/* Values of reward.append_eos. */
enum plumb_end { PLUMB_END_TRAINED, PLUMB_END_TRUE, PLUMB_END_FALSE };
/* Values of method.principle_role. */
enum plumb_principle_role { PLUMB_PRINCIPLE_USER, PLUMB_PRINCIPLE_SYSTEM };
/* Values of health.action. */
enum plumb_health_action { PLUMB_HEALTH_WARN, PLUMB_HEALTH_STOP };
/* The number that stands for "auto" in an option of type AUTO, whose other values are not negative.
 */
#define PLUMB_AUTO (-1.0)
/* Values of checkpoint.dtype. */
enum plumb_saved { PLUMB_SAVED_FLOAT32, PLUMB_SAVED_BFLOAT16, PLUMB_SAVED_SOURCE };
/* Values of train.shard. With GRADIENTS, the float32 master weights of a bfloat16 run are also
 * sharded (train/masters.h). */
enum plumb_shard { PLUMB_SHARD_OPTIMIZER, PLUMB_SHARD_GRADIENTS, PLUMB_SHARD_AUTO };
/* Values of generate.balance. */
enum plumb_balance_rule { PLUMB_BALANCE_NONE, PLUMB_BALANCE_LENGTH, PLUMB_BALANCE_QUEUE };
/* Values of train.init. */
enum plumb_init { PLUMB_INIT_CHECKPOINT, PLUMB_INIT_RANDOM };

#define PLUMB_OPTION_BOOL      bool
#define PLUMB_OPTION_INT       int64_t
#define PLUMB_OPTION_SEED      uint64_t
#define PLUMB_OPTION_REAL      double
#define PLUMB_OPTION_AUTO      double /* PLUMB_AUTO for the value "auto" */
#define PLUMB_OPTION_TEXT      const char *
#define PLUMB_OPTION_WORD      const char *
#define PLUMB_OPTION_CHOICE    int
#define PLUMB_OPTION_TEXTS     struct plumb_texts
#define PLUMB_OPTION_MAP       const char * /* text of a JSON object; "{}" is empty */
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
    /* Records which options the user has set, and where. Used only inside config/. NULL if nothing
     * was recorded. */
    struct plumb_config_marks *marks;
};

/* Builds the configuration of one command. yaml_path is a YAML file, "-" for standard input, or
 * NULL. override has n texts key=value. A message names the file, line and column, or the number of
 * the command-line argument (as in `plumb COMMAND [CONFIG.yaml] key=value ...`, where COMMAND is
 * number 1), and says what was expected; for an unknown key it suggests the most similar one. An
 * override of an option that the command does not use is an error that names the commands that use
 * it. For a command whose first argument is a file to work on (inspect, replay), yaml_path is that
 * file; it becomes the option `input`. The caller owns *out. Returns PLUMB_ERR_CONFIG, or
 * PLUMB_ERR_IO if the file cannot be read. */
plumb_status plumb_config_load(struct plumb_config **out, const char *command,
                               const char *yaml_path, char *const *override, int n);
void plumb_config_free(struct plumb_config **config); /* does nothing if *config is NULL */

/* Warns about values of this command's options that are allowed but probably a mistake: in a text
 * that the model reads or writes, a backslash followed by n, t or r, where the user probably meant
 * a line break, tab or carriage return. */
void plumb_config_notes(const struct plumb_config *config, const char *command);

/* Returns true if key is the path or the name of an option that the command uses, or NAME.MEMBER
 * for such an option whose value is a map. */
bool plumb_config_is_option(const char *key, const char *command);
/* Returns a text that says what plumb has instead of a method (`command` false) or command
 * (`command` true) of other programs, such as grpo; NULL if plumb does not know the name. */
const char *plumb_alias_elsewhere(const char *name, bool command);
/* Returns true if the command's first argument is a file to work on (inspect, replay) instead of a
 * configuration. */
bool plumb_config_takes_file(const char *command);

/* ---- options that were given but are not read --------------------------------------------------
 *
 * plumb_config_load warns about options that its command does not use. Only higher layers know
 * which parameters a method reads; they report the parameters that the method does not read with
 * the functions below, before they use the configuration. */
enum plumb_given { PLUMB_GIVEN_NO, PLUMB_GIVEN_FILE, PLUMB_GIVEN_COMMAND };
/* Returns whether the file or the command line has set the option; PLUMB_GIVEN_NO if there is no
 * option with this path. */
enum plumb_given plumb_config_given(const struct plumb_config *c, const char *path);
/* Appends a line "train.epochs: 2" for each option that the file or the command line has set. */
plumb_status plumb_config_put_given(struct plumb_buf *out, const struct plumb_config *c);
/* Records that the option is not read; `why` is the reason for the message, such as "is not read by
 * method dpo". The option is then left out of config.effective.yaml. If the file has set it, a
 * warning is recorded; if the command line has set it, PLUMB_ERR_CONFIG is returned. */
plumb_status plumb_config_unread(struct plumb_config *c, const char *path, const char *why);
/* Records the same warning as plumb_config_unread if the user has set the option, but never returns
 * PLUMB_ERR_CONFIG. The option stays in config.effective.yaml. */
plumb_status plumb_config_warn(struct plumb_config *c, const char *path, const char *why);
/* Sets the option to the value that the run requires. Returns PLUMB_ERR_CONFIG with the reason
 * `why` ("method psle_curriculum decides it") if the user has set another value. */
plumb_status plumb_config_decide(struct plumb_config *c, const char *path, const char *value,
                                 const char *why);
/* Records a warning for each option that the user has set to another value than the default and
 * that has no effect because of another option, such as top_k at temperature 0. Call it when all
 * values are final. */
plumb_status plumb_config_note_needless(struct plumb_config *c, const char *command);
/* Returns the recorded warnings, one per line; "" if there are none. */
const char *plumb_config_warnings(const struct plumb_config *c);

/* Appends the help text of a command, or of plumb itself if command is NULL; "man-page" and
 * "bash-completion" give the man page and the completion script. Returns PLUMB_ERR_CONFIG with the
 * most similar name if there is no such command. */
plumb_status plumb_config_help(struct plumb_buf *out, const char *command);

/* Appends, as YAML, each option that the command uses (all commands if NULL) and the run reads.
 * Loading this text gives the same values. */
plumb_status plumb_config_to_yaml(struct plumb_buf *out, const struct plumb_config *config,
                                  const char *command);

/* Appends, as YAML, each option that changes the command's results. */
plumb_status plumb_config_results(struct plumb_buf *out, const struct plumb_config *config,
                                  const char *command);
/* Calls fn for each option that changes the command's results and differs between the two
 * configurations; `then` and `now` are the values as YAML. If fn fails, the calls stop and its
 * error is returned. */
typedef plumb_status plumb_config_change_fn(void *arg, const char *path, const char *then,
                                            const char *now);
plumb_status plumb_config_changes(const struct plumb_config *then, const struct plumb_config *now,
                                  const char *command, plumb_config_change_fn *fn, void *arg);
/* Appends a line "train.beta1: 0.9 in THERE, 0.8 now" for each option that changes the command's
 * results and has another value in yaml. yaml (len bytes) is a whole configuration; `there` is the
 * name of that configuration in the lines. Returns PLUMB_ERR_CONFIG if yaml is not a valid
 * configuration of this version of plumb. */
plumb_status plumb_config_diff(struct plumb_buf *out, const struct plumb_config *now,
                               const char *yaml, int64_t len, const char *there,
                               const char *command);

/* Calls fn with the option and the path of each file and folder that the command reads and that
 * decides its results. This includes each NAME=FOLDER of eval.models (as eval.models.NAME),
 * data.eval, and the files of reward.functions. Empty paths are left out, and so is the tokenizer
 * if it is the model's folder. Instead of a path, fn may get a keyword (init, previous). If fn
 * fails, the calls stop and its error is returned. */
typedef plumb_status plumb_config_input_fn(void *arg, const char *key, const char *path);
plumb_status plumb_config_inputs(const struct plumb_config *config, const char *command,
                                 plumb_config_input_fn *fn, void *arg);

/* Returns a hash of the options that the command uses (all commands if NULL) and that change its
 * results. */
uint64_t plumb_config_hash(const struct plumb_config *config, const char *command);

#endif
