/* inputs.c - hashes of what a run reads.
 * Layer 5. Includes train/inputs.h, base/, io/. */
#include "train/inputs.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "train/manifest.h"

static bool is_of_model(const char *name)
{
    static const char end[] = ".safetensors";
    const size_t n = strlen(name), tail = sizeof(end) - 1;
    return strcmp(name, "config.json") == 0 || strcmp(name, "tokenizer.json") == 0 ||
           (n > tail && strcmp(name + n - tail, end) == 0);
}

/* *hash goes on with the hash of a folder's file, as hashes.json has it or from the file. */
static plumb_status add_file(uint64_t *hash, const char *dir, const char *name,
                             const plumb_json *known)
{
    const plumb_json *entry = plumb_json_member(known, name);
    const char *written = plumb_json_string(plumb_json_member(entry, "hash"), NULL);
    char path[4096], text[20];
    if (!written) {
        uint64_t of_file = 0;
        PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, name));
        PLUMB_TRY(plumb_file_hash(&of_file, path));
        snprintf(text, sizeof(text), "%016" PRIx64, of_file);
        written = text;
    }
    *hash = plumb_hash(name, (int64_t)strlen(name) + 1, *hash);
    *hash = plumb_hash(written, (int64_t)strlen(written) + 1, *hash);
    return PLUMB_OK;
}

static plumb_status hash_folder(uint64_t *out, const char *dir)
{
    char path[4096];
    plumb_json *manifest = NULL;
    struct plumb_names names = {0};
    plumb_status st = PLUMB_OK;
    *out = 0;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, PLUMB_MANIFEST_NAME));
    if (plumb_file_exists(path))
        PLUMB_TRY(plumb_json_read_file(&manifest, path));
    PLUMB_TRY_GOTO(st, plumb_dir_list(&names, dir), done);
    for (int64_t i = 0; i < names.n; i++)
        if (is_of_model(names.name[i]))
            PLUMB_TRY_GOTO(st, add_file(out, dir, names.name[i], plumb_json_get(manifest, "files")),
                           done);
done:
    plumb_names_fini(&names);
    plumb_json_free(&manifest);
    return st;
}

static plumb_status put_input(void *arg, const char *key, const char *path)
{
    struct plumb_buf *out = arg;
    const bool folder = plumb_dir_exists(path);
    uint64_t hash = 0;
    if (!folder && !plumb_file_exists(path))
        return PLUMB_OK; /* a word like init, or whoever opens it says that it is not there */
    PLUMB_TRY(folder ? hash_folder(&hash, path) : plumb_file_hash(&hash, path));
    PLUMB_TRY(plumb_buf_add_text(out, plumb_buf_text(out)[out->len - 1] == '{' ? "" : ", "));
    PLUMB_TRY(plumb_json_put_string(out, key, (int64_t)strlen(key)));
    return plumb_buf_addf(out, ": \"%016" PRIx64 "\"", hash);
}

plumb_status plumb_inputs_put(struct plumb_buf *out, const struct plumb_config *cfg,
                              const char *command)
{
    PLUMB_TRY(plumb_buf_add_text(out, "{"));
    PLUMB_TRY(plumb_config_inputs(cfg, command, put_input, out));
    return plumb_buf_add_text(out, "}");
}

void plumb_inputs_changed(const char **path, const plumb_json *then, const plumb_json *now)
{
    *path = NULL;
    for (int64_t i = 0; i < plumb_json_count(now) && !*path; i++) {
        const char *key;
        const plumb_json *value;
        if (plumb_json_member_at(now, i, &key, &value) != PLUMB_OK)
            continue;
        const char *before = plumb_json_string(plumb_json_member(then, key), NULL);
        if (before && strcmp(before, plumb_json_string(value, "")) != 0)
            *path = key;
    }
}

plumb_status plumb_inputs_check(const struct plumb_buf *now, const char *run_json)
{
    plumb_json *root = NULL, *inputs = NULL;
    const char *path = NULL;
    plumb_status st = PLUMB_OK;
    if (!plumb_file_exists(run_json))
        return PLUMB_OK;
    PLUMB_TRY(plumb_json_read_file(&root, run_json));
    PLUMB_TRY_GOTO(st, plumb_json_parse(&inputs, plumb_buf_text(now), now->len, "inputs"), done);
    plumb_inputs_changed(&path, plumb_json_get(root, "inputs"), inputs);
    if (path)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_CONFIG, done,
                        "%s: its content is another than when the run began (%s has hashes); put "
                        "back what was there, or start in a new output_dir",
                        path, run_json);
done:
    plumb_json_free(&root);
    plumb_json_free(&inputs);
    return st;
}
