/* inputs.c - hashes the files that a run reads, and compares the hashes of two runs.
 * Layer 5. Includes train/inputs.h, base/, data/, io/. */
#include "train/inputs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "data/chat.h"
#include "data/encoding.h"
#include "io/file.h"
#include "model/model.h"

/* Suffix of the JSON key for the files that a shell command names. */
#define FILES_OF_COMMAND " (files)"

/* The characters that separate the words of a shell command, including quotes. */
#define BETWEEN_WORDS " \t\r\n\"'`;|&<>()="

static bool ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), tail = strlen(end);
    return n > tail && strcmp(name + n - tail, end) == 0;
}

bool plumb_inputs_decides(const char *name)
{
    static const char *const whole[] = {
        "config.json",
        "adapter_config.json",
        "generation_config.json",
        "tokenizer.json",
        "added_tokens.json",
        "special_tokens_map.json",
        "tokenizer_config.json",
        "chat_template.json",
        PLUMB_ENCODING_NAME,
        PLUMB_CHAT_NAME,
        PLUMB_LONGEST_NAME,
        "vocab.json",
        "merges.txt",
        "tokenizer.model",
        "model.safetensors.index.json",
        "vocab.txt",
        "spiece.model",
        "sentencepiece.bpe.model",
        "tekken.json",
    };
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
        if (strcmp(name, whole[i]) == 0)
            return true;
    return ends_with(name, ".safetensors") || ends_with(name, ".jinja");
}

/* Appends the member "name": "HASH" to out, where HASH is the hash of the file at path. Writes a
 * comma before it unless it is the first member of its object. */
static plumb_status put_file(struct plumb_buf *out, const char *name, const char *path)
{
    uint64_t hash = 0;
    PLUMB_TRY(plumb_file_hash(&hash, path));
    PLUMB_TRY(plumb_buf_add_text(out, plumb_buf_text(out)[out->len - 1] == '{' ? "" : ", "));
    PLUMB_TRY(plumb_json_put_string(out, name, (int64_t)strlen(name)));
    return plumb_buf_addf(out, ": \"%016" PRIx64 "\"", hash);
}

/* Appends "key": { to out. */
static plumb_status open_object(struct plumb_buf *out, const char *key)
{
    PLUMB_TRY(plumb_buf_add_text(out, plumb_buf_text(out)[out->len - 1] == '{' ? "" : ", "));
    PLUMB_TRY(plumb_json_put_string(out, key, (int64_t)strlen(key)));
    return plumb_buf_add_text(out, ": {");
}

static plumb_status put_folder(struct plumb_buf *out, const char *key, const char *dir)
{
    char path[4096];
    struct plumb_names names = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_dir_list(&names, dir));
    PLUMB_TRY_GOTO(st, open_object(out, key), done);
    for (int64_t i = 0; i < names.n; i++) {
        if (!plumb_inputs_decides(names.name[i]))
            continue;
        PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof(path), dir, names.name[i]), done);
        /* skip a dangling link; the code that opens it later reports it */
        if (plumb_file_exists(path))
            PLUMB_TRY_GOTO(st, put_file(out, names.name[i], path), done);
    }
    st = plumb_buf_add_text(out, "}");
done:
    plumb_names_fini(&names);
    return st;
}

static plumb_status put_input(void *arg, const char *key, const char *path)
{
    struct plumb_buf *out = arg;
    if (plumb_dir_exists(path))
        return put_folder(out, key, path);
    /* If path is neither a file nor a folder, it is a keyword such as init, or a missing file,
     * which the code that opens it reports. */
    return plumb_file_exists(path) ? put_file(out, key, path) : PLUMB_OK;
}

/* Returns true if `word` also occurs earlier in `words`, the words of a command separated by 0
 * bytes. The caller then skips the word, because JSON keys must be unique. */
static bool is_repeated(const char *words, const char *word)
{
    for (const char *at = words; at < word; at += strlen(at) + 1)
        if (strcmp(at, word) == 0)
            return true;
    return false;
}

/* Appends the member "OPTION (files)" to out: names and hashes of the regular files among the words
 * of a shell command. Appends nothing if the command is empty. */
static plumb_status put_command(struct plumb_buf *out, const char *option, const char *command)
{
    char key[64];
    struct stat s;
    plumb_status st = PLUMB_OK;
    if (!*command)
        return PLUMB_OK;
    char *words = strdup(command);
    PLUMB_REQUIRE(words, PLUMB_ERR_NOMEM, "%s: %zu bytes", option, strlen(command));
    const char *end = words + strlen(words);
    for (char *at = words; at < end; at++)
        if (strchr(BETWEEN_WORDS, *at))
            *at = '\0';
    snprintf(key, sizeof(key), "%s" FILES_OF_COMMAND, option);
    PLUMB_TRY_GOTO(st, open_object(out, key), done);
    for (const char *word = words; word < end; word += strlen(word) + 1)
        if (*word && stat(word, &s) == 0 && S_ISREG(s.st_mode) && !is_repeated(words, word))
            PLUMB_TRY_GOTO(st, put_file(out, word, word), done);
    st = plumb_buf_add_text(out, "}");
done:
    free(words);
    return st;
}

plumb_status plumb_inputs_put(struct plumb_buf *out, const struct plumb_config *cfg,
                              const char *command)
{
    const bool eval = strcmp(command, "eval") == 0;
    PLUMB_TRY(plumb_buf_add_text(out, "{"));
    PLUMB_TRY(plumb_config_inputs(cfg, command, put_input, out));
    if (eval || strcmp(command, "align") == 0 || strcmp(command, "score") == 0)
        PLUMB_TRY(put_command(out, "reward.command", cfg->reward.command));
    if (eval)
        PLUMB_TRY(put_command(out, "eval.judge", cfg->eval.judge));
    return plumb_buf_add_text(out, "}");
}

/* Compares the files of one folder or of one shell command. Returns a text that says how the first
 * differing file differs, and sets *name to the name of this file. Returns NULL if all files are
 * equal. */
static const char *compare_files(const char **name, const plumb_json *then, const plumb_json *now)
{
    const plumb_json *value;
    for (int64_t i = 0; i < plumb_json_count(now); i++) {
        if (plumb_json_member_at(now, i, name, &value) != PLUMB_OK)
            continue;
        const char *before = plumb_json_string(plumb_json_member(then, *name), NULL);
        if (!before)
            return "is new, it was not there";
        if (strcmp(before, plumb_json_string(value, "")) != 0)
            return "has another content than";
    }
    for (int64_t i = 0; i < plumb_json_count(then); i++)
        if (plumb_json_member_at(then, i, name, &value) == PLUMB_OK &&
            !plumb_json_member(now, *name))
            return "is gone, it was there";
    return NULL;
}

static bool is_object(const plumb_json *v)
{
    return plumb_json_type_of(v) == PLUMB_JSON_OBJECT;
}

enum plumb_inputs_relation plumb_inputs_compare(char *out, int64_t size, const plumb_json *then,
                                                const plumb_json *now, const char *key)
{
    const plumb_json *a = plumb_json_member(then, key), *b = plumb_json_member(now, key);
    const char *name = "", *how = NULL;
    if (out)
        out[0] = '\0';
    if (!a || !b || is_object(a) != is_object(b))
        return PLUMB_INPUTS_UNKNOWN;
    if (is_object(a))
        how = compare_files(&name, a, b);
    else if (strcmp(plumb_json_string(a, ""), plumb_json_string(b, "")) != 0)
        how = "has another content than";
    if (how && out)
        snprintf(out, (size_t)size, "%s%s%s %s", key, *name ? ": " : "", name, how);
    return how ? PLUMB_INPUTS_DIFFER : PLUMB_INPUTS_SAME;
}

void plumb_inputs_changed(char *out, int64_t size, const plumb_json *then, const plumb_json *now,
                          bool commands)
{
    out[0] = '\0';
    for (int64_t i = 0; i < plumb_json_count(now) && !*out; i++) {
        const char *key = "";
        const plumb_json *value;
        if (plumb_json_member_at(now, i, &key, &value) != PLUMB_OK ||
            (!commands && ends_with(key, FILES_OF_COMMAND)))
            continue;
        if (plumb_inputs_compare(out, size, then, now, key) == PLUMB_INPUTS_UNKNOWN)
            snprintf(out, (size_t)size, "%s has no hash from", key);
    }
}

/* Compares the input `key` of two runs. If the input has changed, logs a warning if a shell command
 * names the file, and fails for every other input. */
static plumb_status check_key(const plumb_json *then, const plumb_json *now, const char *key,
                              const char *run_json)
{
    char how[512];
    const enum plumb_inputs_relation r = plumb_inputs_compare(how, sizeof(how), then, now, key);
    if (r == PLUMB_INPUTS_UNKNOWN)
        plumb_log(PLUMB_LOG_WARN,
                  "%s: %s has no hashes of it that could be compared, so a change since the run "
                  "began would not be noticed",
                  key, run_json);
    if (r != PLUMB_INPUTS_DIFFER)
        return PLUMB_OK;
    if (ends_with(key, FILES_OF_COMMAND)) {
        plumb_log(PLUMB_LOG_WARN,
                  "%s when the run began; if this reward command now gives other scores, the run "
                  "mixes the scores of two versions",
                  how);
        return PLUMB_OK;
    }
    PLUMB_FAIL(PLUMB_ERR_CONFIG,
               "%s when the run began (%s has the hashes); put back what was there, or start in "
               "a new output_dir",
               how, run_json);
}

plumb_status plumb_inputs_check(const struct plumb_buf *now, const char *run_json)
{
    plumb_json *root = NULL, *inputs = NULL;
    plumb_status st = PLUMB_OK;
    if (!plumb_file_exists(run_json)) {
        plumb_log(PLUMB_LOG_WARN,
                  "%s: there is no such file, so a change of the files that the run reads would "
                  "not be noticed",
                  run_json);
        return PLUMB_OK;
    }
    PLUMB_TRY(plumb_json_read_file(&root, run_json));
    PLUMB_TRY_GOTO(st, plumb_json_parse(&inputs, plumb_buf_text(now), now->len, "inputs"), done);
    for (int64_t i = 0; i < plumb_json_count(inputs); i++) {
        const char *key;
        const plumb_json *value;
        PLUMB_TRY_GOTO(st, plumb_json_member_at(inputs, i, &key, &value), done);
        PLUMB_TRY_GOTO(st, check_key(plumb_json_get(root, "inputs"), inputs, key, run_json), done);
    }
done:
    plumb_json_free(&root);
    plumb_json_free(&inputs);
    return st;
}
