/* option.c - the tables of options and commands, and functions that search them.
 * Layer 3. Includes option.h, options.h, base/. */
#include "config/option.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

#define TOP(type, name, value, range, unit, commands, changes, help)                               \
    {#name,                                                                                        \
     #name,                                                                                        \
     "",                                                                                           \
     PLUMB_TYPE_##type,                                                                            \
     value,                                                                                        \
     range,                                                                                        \
     unit,                                                                                         \
     commands,                                                                                     \
     (changes) != 0,                                                                               \
     help,                                                                                         \
     offsetof(struct plumb_config, name)},
#define IN(section, type, name, value, range, unit, commands, changes, help)                       \
    {#section "." #name,                                                                           \
     #name,                                                                                        \
     #section,                                                                                     \
     PLUMB_TYPE_##type,                                                                            \
     value,                                                                                        \
     range,                                                                                        \
     unit,                                                                                         \
     commands,                                                                                     \
     (changes) != 0,                                                                               \
     help,                                                                                         \
     offsetof(struct plumb_config, section.name)},
#define COMM(...)                    IN(comm, __VA_ARGS__)
#define DATA(...)                    IN(data, __VA_ARGS__)
#define GENERATE(...)                IN(generate, __VA_ARGS__)
#define METHOD(...)                  IN(method, __VA_ARGS__)
#define REWARD(...)                  IN(reward, __VA_ARGS__)
#define LORA(...)                    IN(lora, __VA_ARGS__)
#define TRAIN(...)                   IN(train, __VA_ARGS__)
#define HEALTH(...)                  IN(health, __VA_ARGS__)
#define CHECKPOINT(...)              IN(checkpoint, __VA_ARGS__)
#define EVAL(...)                    IN(eval, __VA_ARGS__)
#define COMPARE(...)                 IN(compare, __VA_ARGS__)
#define REPORT(...)                  IN(report, __VA_ARGS__)
#define PLAN(...)                    IN(plan, __VA_ARGS__)
#define SECTION(list, section, help) PLUMB_OPTIONS_##list(list)
static const struct plumb_option options[] = {PLUMB_OPTIONS_TOP(TOP)
                                                  PLUMB_OPTION_SECTIONS(SECTION)};

#define NAME(list, section, help) {#section, help},
static const struct {
    const char *name, *help;
} sections[] = {PLUMB_OPTION_SECTIONS(NAME)};

static const struct plumb_command commands[] = {
    {"align", 'a', false, false,
     "train a model on its own completions: sample, score, select pairs, update"},
    {"sft", 's', false, false, "supervised fine-tuning on completions or dialogues"},
    {"reward", 'r', false, false,
     "train a reward model on pairs of a chosen and a rejected completion"},
    {"prefer", 'f', false, false,
     "train a model on given pairs of a chosen and a rejected completion"},
    {"run", 'n', false, false,
     "run the commands of a file of stages, one after the other: plumb run STAGES.yaml"},
    {"generate", 'g', false, false,
     "sample completions of prompts; write one JSON line per completion"},
    {"logprob", 'l', false, false, "compute the log-probabilities of given completions"},
    {"gradient", 'd', false, false,
     "compute the gradient of the mean negative log-likelihood of a file"},
    {"score", 'c', false, false, "score completions with a reward model, a command or functions"},
    {"eval", 'e', false, false,
     "compare models on held-out prompts: reward, win rate, divergence, texts"},
    {"compare", 'm', false, false,
     "compare finished runs by method, averaged over seeds: plumb compare DIR..."},
    {"tokenize", 't', false, false,
     "convert text, messages or prompts to ids, or ids to text: plumb tokenize DIR FILE"},
    {"inspect", 'i', true, false,
     "describe what a path contains: a model, checkpoint, run, rollouts, data, ..."},
    {"top", 'k', true, false,
     "show what a running or ended run does, from its files: plumb top OUTPUT_DIR"},
    {"replay", 'p', true, false,
     "compute the micro-batch of a replay file again and compare it bit for bit"},
    {"plan", 'b', false, true,
     "memory and time that a training command or stages need; exit code 4: does not fit"},
    {"merge", 'w', false, false,
     "add a LoRA adapter to its base model and write a whole model folder"},
    {"doctor", 'o', false, false, "show the versions, ranks, devices and limits of this machine"},
    {"help", 'h', false, false, "show this text, or the options of a command: plumb help align"},
};

#define COUNT(a) ((int)(sizeof(a) / sizeof(*(a))))

/* Commands with a default of their own for an option, instead of the default in the option
 * table. */
static const struct {
    const char *path;
    char letter;
    const char *value;
} own_default[] = {
    /* the table's default, psle, generates its own pairs, but prefer trains on given pairs */
    {"method.name", 'f', "dpo"},
    {"generate.group_size", 'a', "4"},
};

const char *plumb_option_default(const struct plumb_option *o, const char *command)
{
    for (const char *word = command ? command : ""; *word; word += strspn(word, " ")) {
        const struct plumb_command *c = plumb_command_find(word);
        for (int i = 0; c && i < COUNT(own_default); i++)
            if (own_default[i].letter == c->letter && !strcmp(own_default[i].path, o->path))
                return own_default[i].value;
        word += strcspn(word, " ");
    }
    return o->value;
}

_Static_assert(COUNT(options) <= PLUMB_OPTIONS_MOST,
               "PLUMB_OPTIONS_MOST is smaller than the number of options");

int plumb_option_index(const char *path)
{
    for (int i = 0; i < COUNT(options); i++)
        if (!strcmp(options[i].path, path))
            return i;
    return -1;
}

const struct plumb_option *plumb_option_at(int i)
{
    return i >= 0 && i < COUNT(options) ? &options[i] : NULL;
}

const struct plumb_command *plumb_command_at(int i)
{
    return i >= 0 && i < COUNT(commands) ? &commands[i] : NULL;
}

const char *plumb_section_at(int i)
{
    return i >= 0 && i < COUNT(sections) ? sections[i].name : NULL;
}

const char *plumb_section_help(const char *section)
{
    for (int i = 0; i < COUNT(sections); i++)
        if (!strcmp(sections[i].name, section))
            return sections[i].help;
    return NULL;
}

const struct plumb_command *plumb_command_find(const char *name)
{
    const size_t word = strcspn(name, " ");
    for (int i = 0; i < COUNT(commands); i++)
        if (strlen(commands[i].name) == word && !strncmp(commands[i].name, name, word))
            return &commands[i];
    return NULL;
}

const struct plumb_option *plumb_option_find(const char *section, const char *name)
{
    for (int i = 0; i < COUNT(options); i++)
        if (!strcmp(options[i].section, section) && !strcmp(options[i].name, name))
            return &options[i];
    return NULL;
}

bool plumb_option_used(const struct plumb_option *o, const char *command)
{
    if (!command)
        return true;
    for (const char *word = command; *word; word += strspn(word, " ")) {
        const struct plumb_command *c = plumb_command_find(word);
        if (c && strchr(o->commands, c->letter))
            return true;
        word += strcspn(word, " ");
    }
    return false;
}

const struct plumb_option *plumb_option_nearest(const char *key)
{
    const struct plumb_option *best = NULL;
    int least = INT_MAX;
    const char *dot = strrchr(key, '.');
    for (int i = 0; i < COUNT(options); i++) {
        const int d[3] = {plumb_edit_distance(key, options[i].path),
                          plumb_edit_distance(key, options[i].name),
                          /* distance of the name alone, in any section; the loop below adds 1
                           * because the section differs */
                          dot ? plumb_edit_distance(dot + 1, options[i].name) : INT_MAX};
        for (int k = 0; k < 3; k++) {
            const int steps = k == 2 && d[k] < INT_MAX ? d[k] + 1 : d[k];
            if (steps < least) {
                least = steps;
                best = &options[i];
            }
        }
    }
    return best && plumb_is_near(least, key) ? best : NULL;
}

const char *plumb_option_type_name(enum plumb_option_type type)
{
    static const char *const name[] = {
        [PLUMB_TYPE_BOOL] = "bool",   [PLUMB_TYPE_INT] = "int",
        [PLUMB_TYPE_SEED] = "int",    [PLUMB_TYPE_REAL] = "real",
        [PLUMB_TYPE_AUTO] = "real",   [PLUMB_TYPE_TEXT] = "text",
        [PLUMB_TYPE_WORD] = "choice", [PLUMB_TYPE_CHOICE] = "choice",
        [PLUMB_TYPE_TEXTS] = "list",  [PLUMB_TYPE_FUNCTIONS] = "maps",
        [PLUMB_TYPE_MAP] = "map",
    };
    return name[type];
}
