/* cmd_inspect.c - determines the kind of a path and calls the function that describes it.
 * Layer 6. May include everything. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "app/app.h"
#include "app/inspect.h"
#include "base/num.h"
#include "config/near.h"
#include "io/file.h"
#include "io/kind.h"

/* ---- folders -------------------------------------------------------------------------------- */

#define KNOWN                                                                                      \
    "a model, checkpoint, tokenizer, run or evaluation folder, a safetensors file or its index, "  \
    "a "                                                                                           \
    "rollout, replay, pause or trainer state file, JSON lines, metrics.jsonl or a configuration"

static plumb_status refuse_folder(const struct plumb_inspect *w, const struct plumb_names *names)
{
    struct plumb_buf list = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_inspect_names(&list, names->name, names->n), done);
    st = plumb_fail_at(PLUMB_ERR_UNSUPPORTED, __FILE__, __LINE__,
                       "%s: is a folder with %s in it; expected " KNOWN, w->path,
                       names->n ? plumb_buf_text(&list) : "nothing");
done:
    plumb_buf_fini(&list);
    return st;
}

static bool holds_rollouts(const struct plumb_names *names)
{
    for (int64_t i = 0; i < names->n; i++)
        if (!strncmp(names->name[i], "iteration-", 10) && strstr(names->name[i], ".h5"))
            return true;
    return false;
}

/* Returns true if `plumb run` wrote the folder: it then has a run folder for each stage. */
static bool holds_runs(const struct plumb_inspect *w, const struct plumb_names *names)
{
    char path[4096], file[300];
    for (int64_t i = 0; i < names->n; i++) {
        snprintf(file, sizeof(file), "%.280s/run.json", names->name[i]);
        if (plumb_inspect_has(w, path, file))
            return true;
    }
    return false;
}

static plumb_status inspect_folder(const struct plumb_inspect *w)
{
    static const struct {
        const char *file;
        plumb_inspect_fn *describe;
    } kinds[] = {
        /* first, because a folder with this file is an adapter, whatever else it contains */
        {"adapter_config.json", plumb_inspect_adapter},
        {"config.json", plumb_inspect_model_folder},
        {"run.json", plumb_inspect_run},
        {"config.effective.yaml", plumb_inspect_run},
        {"eval.json", plumb_inspect_eval},
        {"tokenizer.json", plumb_inspect_tokenizer},
    };
    char path[4096];
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (plumb_inspect_has(w, path, kinds[i].file))
            return kinds[i].describe(w);
    struct plumb_names names = {0};
    PLUMB_TRY(plumb_dir_list(&names, w->path));
    const plumb_status st = holds_rollouts(&names)  ? plumb_inspect_rollout_folder(w)
                            : holds_runs(w, &names) ? plumb_inspect_run(w)
                                                    : refuse_folder(w, &names);
    plumb_names_fini(&names);
    return st;
}

/* ---- files ---------------------------------------------------------------------------------- */

/* The kinds of JSON objects. An object belongs to the first entry of which it has all members. The
 * second member of an entry may be NULL. */
static const struct {
    const char *member[2];
    plumb_inspect_fn *describe;
} objects[] = {
    {{"weight_map", NULL}, plumb_inspect_index},
    {{"model_type", NULL}, plumb_inspect_config_json},
    {{"added_tokens", "model"}, plumb_inspect_tokenizer},
    {{"plumb_version", "command"}, plumb_inspect_run_json},
    {{"models", "win_by"}, plumb_inspect_eval},
    {{"algorithm", "files"}, plumb_inspect_hashes},
    {{"tokenizer_class", NULL}, plumb_inspect_tokenizer},
    {{"step", "iteration"}, plumb_inspect_metrics},
    {{"eos_token_id", NULL}, plumb_inspect_generation_config},
    {{"prompt", NULL}, plumb_inspect_lines},
    {{"prompt_ids", NULL}, plumb_inspect_lines},
    {{"chosen", NULL}, plumb_inspect_lines},
    {{"messages", NULL}, plumb_inspect_lines},
    {{"text", NULL}, plumb_inspect_lines},
    {{"ids", NULL}, plumb_inspect_lines},
};

static plumb_inspect_fn *of_object(const plumb_json *v)
{
    for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
        const char *const *m = objects[i].member;
        if (plumb_json_member(v, m[0]) && (!m[1] || plumb_json_member(v, m[1])))
            return objects[i].describe;
    }
    return NULL;
}

static bool ends_in(const char *path, const char *end)
{
    const size_t n = strlen(path), m = strlen(end);
    return n >= m && !strcmp(path + n - m, end);
}

/* Called for every line; does nothing after the first. Sets *arg to the JSON value of the first
 * line, or to NULL if it is no complete JSON value, so that the file cannot be JSON Lines. */
static plumb_status first_line(void *arg, const char *line, int64_t len, int64_t number)
{
    plumb_json **out = arg;
    if (number == 1 && plumb_json_parse(out, line, len, "line") != PLUMB_OK)
        *out = NULL;
    return PLUMB_OK;
}

static plumb_status refuse_json(const struct plumb_inspect *w, const plumb_json *v)
{
    const enum plumb_json_type type = plumb_json_type_of(v);
    PLUMB_REQUIRE(type != PLUMB_JSON_ARRAY, PLUMB_ERR_UNSUPPORTED,
                  "%s: is one JSON array of %lld values; expected JSON lines, a record a line: jq "
                  "-c '.[]' FILE makes them",
                  w->path, (long long)plumb_json_count(v));
    const char *key[3] = {"", "", ""};
    const plumb_json *value;
    for (int64_t i = 0; i < plumb_min_i64(plumb_json_count(v), 3); i++)
        PLUMB_TRY(plumb_json_member_at(v, i, &key[i], &value));
    PLUMB_FAIL(PLUMB_ERR_UNSUPPORTED,
               "%s: is a JSON %s with the members %s %s %s ..., which plumb does not know; "
               "expected " KNOWN,
               w->path, plumb_json_type_name(type), key[0], key[1], key[2]);
}

static bool is_named_lines(const char *path)
{
    return ends_in(path, ".jsonl") || ends_in(path, ".jsonl.gz");
}

static plumb_status inspect_json(const struct plumb_inspect *w)
{
    struct plumb_buf text = {0};
    plumb_json *whole = NULL, *first = NULL;
    plumb_inspect_fn *describe = NULL;
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_file_read_lines(&text, w->path), done);
    PLUMB_TRY_GOTO(st, plumb_text_lines(plumb_buf_text(&text), text.len, first_line, &first), done);
    if (first && plumb_json_type_of(first) == PLUMB_JSON_OBJECT)
        describe = of_object(first);
    else if (!first || !is_named_lines(w->path))
        PLUMB_TRY_GOTO(st, plumb_json_parse(&whole, plumb_buf_text(&text), text.len, w->path),
                       done);
    if (whole)
        describe = of_object(whole);
    if (!describe && is_named_lines(w->path))
        describe = plumb_inspect_lines;
    plumb_buf_fini(&text);
    st = describe ? describe(w) : refuse_json(w, whole ? whole : first);
done:
    plumb_json_free(&first);
    plumb_json_free(&whole);
    plumb_buf_fini(&text);
    return st;
}

/* Describes a gzip file whose content is JSON or JSON Lines. Fails for gzip data with any other
 * content. */
static plumb_status inspect_packed(const struct plumb_inspect *w)
{
    struct plumb_buf text = {0};
    plumb_status st = plumb_file_read_lines(&text, w->path);
    const enum plumb_file_kind kind = plumb_file_kind_of(text.data, text.len);
    plumb_buf_fini(&text);
    PLUMB_TRY(st);
    PLUMB_REQUIRE(kind == PLUMB_FILE_JSON, PLUMB_ERR_UNSUPPORTED,
                  "%s: is gzip-compressed and holds %s; expected JSON lines, or decompress it: "
                  "gunzip",
                  w->path, plumb_file_kind_name(kind));
    return inspect_json(w);
}

/* Refuses a path that does not exist. The message suggests the most similar name of a file or
 * folder beside it. */
static plumb_status refuse_missing(const char *path)
{
    char folder[4096], best[256] = "";
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    struct plumb_names names = {0};
    int least = INT_MAX;
    snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    if (plumb_dir_exists(*folder ? folder : "/") &&
        plumb_dir_list(&names, *folder ? folder : "/") == PLUMB_OK)
        for (int64_t i = 0; i < names.n; i++) {
            const int d = plumb_edit_distance(name, names.name[i]);
            if (d < least && plumb_is_near(d, name)) {
                least = d;
                snprintf(best, sizeof(best), "%s", names.name[i]);
            }
        }
    plumb_names_fini(&names);
    PLUMB_FAIL(PLUMB_ERR_IO, "%s: there is no file or folder of this name%s%s%s", path,
               *best ? ", did you mean '" : "", best, *best ? "'?" : "");
}

static plumb_status inspect(const struct plumb_inspect *w)
{
    enum plumb_file_kind kind;
    if (!plumb_file_exists(w->path) && !plumb_dir_exists(w->path))
        return refuse_missing(w->path);
    PLUMB_TRY(plumb_file_kind_at(&kind, w->path));
    const char *advice = plumb_file_kind_advice(kind);
    switch (kind) {
    case PLUMB_FILE_FOLDER:
        return inspect_folder(w);
    case PLUMB_FILE_SAFETENSORS:
        return plumb_inspect_safetensors(w);
    case PLUMB_FILE_HDF5:
        return plumb_inspect_hdf5(w);
    case PLUMB_FILE_JSON:
        return inspect_json(w);
    case PLUMB_FILE_GZIP:
        return inspect_packed(w);
    case PLUMB_FILE_TEXT:
        return ends_in(w->path, ".yaml") || ends_in(w->path, ".yml") ? plumb_inspect_config(w)
                                                                     : plumb_inspect_text(w);
    case PLUMB_FILE_HTML:
        PLUMB_FAIL(PLUMB_ERR_UNSUPPORTED,
                   "%s: is an HTML page; open it in a browser if it is a report of a run", w->path);
    default:
        PLUMB_FAIL(PLUMB_ERR_UNSUPPORTED, "%s: is %s%s%s; expected " KNOWN, w->path,
                   plumb_file_kind_name(kind), *advice ? "; " : "", advice);
    }
}

plumb_status plumb_cmd_inspect(struct plumb_app *app)
{
    const struct plumb_config *cfg = app->cfg;
    const struct plumb_inspect w = {.path = cfg->input, .words = cfg->tokenizer};
    plumb_status st = PLUMB_OK;
    if (plumb_comm_rank(app->comm) == 0) {
        if (strcmp(cfg->input, "-") == 0)
            st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                               "nothing is named: plumb inspect PATH; PATH is " KNOWN);
        else
            st = inspect(&w);
    }
    return plumb_comm_agree(app->comm, st);
}
