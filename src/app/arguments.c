/* arguments.c - sorts the arguments of the command line into options and file names.
 * Layer 6. Includes arguments.h, config/, io/. */
#include "app/arguments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/option.h"
#include "io/file.h"
#include "io/installed.h"
#include "io/json.h"
#include "io/kind.h"

bool plumb_argument_is_option(const char *text)
{
    const char *equals = strchr(text, '=');
    return equals && !memchr(text, '/', (size_t)(equals - text));
}

/* Returns the option by which the command gets its file of JSON lines, for example "data.train" for
 * sft; "input" for a command that is not in the table. */
static const char *lines_option(const char *command)
{
    static const struct {
        const char *command, *option;
    } options[] = {{"align", "data.prompts"}, {"generate", "data.prompts"}, {"sft", "data.train"},
                   {"reward", "data.train"},  {"prefer", "data.train"},     {"eval", "data.eval"}};
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        if (!strcmp(options[i].command, command))
            return options[i].option;
    return "input";
}

static bool ends_in(const char *path, const char *end)
{
    const size_t n = strlen(path), m = strlen(end);
    return n >= m && !strcmp(path + n - m, end);
}

static bool is_there(const char *dir, const char *file)
{
    char path[4096];
    return plumb_path_join(path, sizeof(path), dir, file) == PLUMB_OK && plumb_file_exists(path);
}

/* Fails because text is an option with dashes (--key=value, --key value or -k), which plumb does
 * not have. The message shows the same option in plumb's form. */
static plumb_status refuse_dashes(const char *text, const char *next, const char *command,
                                  const char *where)
{
    const char *key = text + strspn(text, "-"), *equals = strchr(key, '=');
    const char *value = equals ? equals + 1 : next && *next != '-' ? next : "VALUE";
    const int n = equals ? (int)(equals - key) : (int)strlen(key);
    PLUMB_REQUIRE(strncmp(key, "config", 6) != 0, PLUMB_ERR_CONFIG,
                  "%s: the configuration is named alone, right behind the command: write %s", where,
                  value);
    char name[128];
    snprintf(name, sizeof(name), "%.*s", n, key);
    /* If another program has an option of this name, fails with a message that names plumb's option
     * instead. */
    if (!plumb_config_is_option(name, command))
        PLUMB_TRY(plumb_alias_refuse(name, command, where));
    PLUMB_FAIL(PLUMB_ERR_CONFIG, "%s: options have no dashes here: write %s=%s", where, name,
               value);
}

static plumb_status refuse_folder(const char *path, const char *command, const char *where)
{
    const bool takes_model = plumb_config_is_option("model", command);
    if (is_there(path, "config.json") && !strcmp(command, "eval"))
        PLUMB_FAIL(PLUMB_ERR_CONFIG,
                   "%s: %s is a model's folder: write eval.models=NAME=%s,NAME=FOLDER", where, path,
                   path);
    if (is_there(path, "config.json") && takes_model)
        PLUMB_FAIL(PLUMB_ERR_CONFIG, "%s: %s is a model's folder: write model=%s", where, path,
                   path);
    if (is_there(path, "run.json"))
        PLUMB_FAIL(PLUMB_ERR_CONFIG,
                   "%s: %s is the folder of a run: its configuration is %s/config.effective.yaml, "
                   "its model %s/latest",
                   where, path, path, path);
    PLUMB_FAIL(PLUMB_ERR_CONFIG,
               "%s: %s is a folder, expected a configuration (a YAML file) or key=value; plumb "
               "inspect %s says what is in it",
               where, path, path);
}

static plumb_status refuse_missing(const char *path, const char *next, const char *command,
                                   const char *where)
{
    if (plumb_config_is_option(path, command))
        PLUMB_FAIL(PLUMB_ERR_CONFIG, "%s: an option is written with '=': %s=%s", where, path,
                   next ? next + (*next == '=') : "VALUE");
    PLUMB_REQUIRE(
        strcmp(command, "tokenize") != 0, PLUMB_ERR_CONFIG,
        "%s: there is no file or folder %s; expected the folder of a tokenizer, a file of "
        "JSON lines, a configuration (a YAML file) or key=value",
        where, path);
    PLUMB_FAIL(PLUMB_ERR_CONFIG,
               "%s: there is no file %s; expected a configuration (a YAML file) or key=value",
               where, path);
}

/* Of the first two lines of a file: `lines` is the number of lines that exist, `objects` the number
 * of those that are JSON objects. is_lines takes a file for JSON Lines if its name ends in .jsonl
 * or if both lines are JSON objects. */
struct first_lines {
    int objects, lines;
};
static plumb_status note_line(void *arg, const char *line, int64_t len, int64_t number)
{
    struct first_lines *f = arg;
    plumb_json *v = NULL;
    if (number > 2)
        return PLUMB_OK;
    f->lines++;
    if (plumb_json_parse(&v, line, len, "line") == PLUMB_OK)
        f->objects += plumb_json_type_of(v) == PLUMB_JSON_OBJECT;
    plumb_json_free(&v);
    return PLUMB_OK;
}

static bool is_lines(const char *path)
{
    struct first_lines f = {0};
    struct plumb_buf text = {0};
    bool found = ends_in(path, ".jsonl");
    if (!found && plumb_file_read_lines(&text, path) == PLUMB_OK &&
        plumb_text_lines(plumb_buf_text(&text), text.len, note_line, &f) == PLUMB_OK)
        found = f.objects == 2;
    plumb_buf_fini(&text);
    return found;
}

/* Fails if path cannot be a YAML configuration: for example a folder, weights, HDF5 or JSON Lines.
 * Errors in the YAML itself are reported later, by the YAML reader. */
static plumb_status check_config(const char *path, const char *next, const char *command,
                                 const char *where)
{
    enum plumb_file_kind kind;
    if (!strcmp(path, "-"))
        return PLUMB_OK;
    if (path[0] == '-')
        return refuse_dashes(path, next, command, where);
    if (!plumb_file_exists(path) && !plumb_dir_exists(path))
        return refuse_missing(path, next, command, where);
    PLUMB_TRY(plumb_file_kind_at(&kind, path));
    if (kind == PLUMB_FILE_FOLDER)
        return refuse_folder(path, command, where);
    PLUMB_REQUIRE(kind != PLUMB_FILE_SAFETENSORS, PLUMB_ERR_CONFIG,
                  "%s: %s holds weights: name the folder that it lies in: model=FOLDER", where,
                  path);
    PLUMB_REQUIRE(
        kind != PLUMB_FILE_HDF5, PLUMB_ERR_CONFIG,
        "%s: %s is an HDF5 file, expected a configuration (a YAML file): plumb inspect %s "
        "says what is in it",
        where, path, path);
    PLUMB_REQUIRE((kind != PLUMB_FILE_JSON && kind != PLUMB_FILE_GZIP) || !is_lines(path),
                  PLUMB_ERR_CONFIG,
                  "%s: %s is a file of JSON lines, expected a configuration (a YAML file): write "
                  "%s=%s",
                  where, path, lines_option(command), path);
    return PLUMB_OK;
}

/* Adds the option key="PATH", where PATH is the first n bytes of path, and stores its text in
 * a->own[which]. Because of the quotes, the path is not parsed as YAML. */
static plumb_status add_option(struct plumb_arguments *a, int which, const char *key,
                               const char *path, size_t n)
{
    PLUMB_TRY(plumb_buf_addf(&a->own[which], "%s=", key));
    PLUMB_TRY(plumb_json_put_string(&a->own[which], path, (int64_t)n));
    a->option[a->n++] = a->own[which].data;
    return PLUMB_OK;
}

/* Handles a path without a key for the command tokenize: a folder or a tokenizer.json becomes
 * tokenizer=, a file of JSON Lines becomes input=. *taken becomes false if path is neither of
 * these, or if an earlier path was of the same kind. */
static plumb_status take_for_tokenize(bool *taken, struct plumb_arguments *a, const char *path)
{
    static const char file[] = "/tokenizer.json";
    const bool folder = plumb_dir_exists(path);
    const size_t n = strlen(path);
    *taken = true;
    if (folder && !a->own[0].len)
        return add_option(a, 0, "tokenizer", path, n);
    if (!strcmp(path, file + 1) && !a->own[0].len)
        return add_option(a, 0, "tokenizer", ".", 1);
    if (ends_in(path, file) && n > strlen(file) && !a->own[0].len)
        return add_option(a, 0, "tokenizer", path, n - strlen(file));
    if (!folder && plumb_file_exists(path) && is_lines(path) && !a->own[1].len)
        return add_option(a, 1, "input", path, n);
    *taken = false;
    return PLUMB_OK;
}

static plumb_status read_one(struct plumb_arguments *a, const char *command, char *const *argv,
                             int i, int n, int number)
{
    char where[128];
    bool taken = false;
    snprintf(where, sizeof(where), "command line argument %d", number + i);
    if (plumb_argument_is_option(argv[i]) && argv[i][0] != '-') {
        a->option[a->n++] = argv[i];
        return PLUMB_OK;
    }
    if (plumb_config_takes_file(command) && !a->file) {
        a->file = argv[i];
        return argv[i][0] == '-' && argv[i][1] ? refuse_dashes(argv[i], argv[i + 1], command, where)
                                               : PLUMB_OK;
    }
    if (!strcmp(command, "tokenize"))
        PLUMB_TRY(take_for_tokenize(&taken, a, argv[i]));
    if (taken)
        return PLUMB_OK;
    const char *next = i + 1 < n ? argv[i + 1] : NULL;
    const char *file = argv[i];
    if (!plumb_config_takes_file(command) && !a->file) {
        PLUMB_TRY(plumb_installed_find(a->installed, sizeof(a->installed), argv[i]));
        file = a->installed;
    }
    if (!plumb_config_takes_file(command))
        PLUMB_TRY(check_config(file, next, command, where));
    PLUMB_REQUIRE(!a->file, PLUMB_ERR_CONFIG,
                  "%s: '%s' is a second file, the first is '%s'; expected key=value behind it",
                  where, argv[i], a->file);
    a->file = file;
    return PLUMB_OK;
}

plumb_status plumb_arguments_read(struct plumb_arguments *out, const char *command,
                                  char *const *argv, int n, int number)
{
    *out = (struct plumb_arguments){.option = calloc((size_t)n + 1, sizeof(*out->option))};
    PLUMB_REQUIRE(out->option, PLUMB_ERR_NOMEM, "list of %d arguments", n);
    for (int i = 0; i < n; i++)
        PLUMB_TRY(read_one(out, command, argv, i, n, number));
    return PLUMB_OK;
}

void plumb_arguments_fini(struct plumb_arguments *a)
{
    plumb_buf_fini(&a->own[0]);
    plumb_buf_fini(&a->own[1]);
    free(a->option);
}
