/* effective.c - writes the final configuration as YAML, compares configurations and hashes them.
 * Layer 3. Includes config.h, option.h, io/file.h, base/. */
#include <stdio.h>
#include <string.h>

#include "config/option.h"
#include "io/file.h"

static plumb_status put_all(struct plumb_buf *out, const struct plumb_config *config,
                            const char *command, bool results)
{
    const struct plumb_option *o;
    const struct plumb_config_marks *m = config->marks;
    const char *section = "";
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        if (!plumb_option_used(o, command) || (results && !o->changes) ||
            (!results && m && m->unread[i]))
            continue;
        if (strcmp(o->section, section)) {
            section = o->section;
            PLUMB_TRY(plumb_buf_addf(out, "%s:\n", section));
        }
        PLUMB_TRY(plumb_buf_addf(out, "%s%s: ", *section ? "  " : "", o->name));
        PLUMB_TRY(plumb_option_put(out, config, o));
        PLUMB_TRY(plumb_buf_add_text(out, "\n"));
    }
    return PLUMB_OK;
}

plumb_status plumb_config_to_yaml(struct plumb_buf *out, const struct plumb_config *config,
                                  const char *command)
{
    return put_all(out, config, command, false);
}

plumb_status plumb_config_results(struct plumb_buf *out, const struct plumb_config *config,
                                  const char *command)
{
    return put_all(out, config, command, true);
}

plumb_status plumb_config_changes(const struct plumb_config *then, const struct plumb_config *now,
                                  const char *command, plumb_config_change_fn *fn, void *arg)
{
    struct plumb_buf a = {0}, b = {0};
    const struct plumb_option *o;
    plumb_status st = PLUMB_OK;
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        if (!o->changes || !plumb_option_used(o, command))
            continue;
        plumb_buf_clear(&a);
        plumb_buf_clear(&b);
        PLUMB_TRY_GOTO(st, plumb_option_put(&a, then, o), done);
        PLUMB_TRY_GOTO(st, plumb_option_put(&b, now, o), done);
        if (strcmp(plumb_buf_text(&a), plumb_buf_text(&b)) != 0)
            PLUMB_TRY_GOTO(st, fn(arg, o->path, plumb_buf_text(&a), plumb_buf_text(&b)), done);
    }
done:
    plumb_buf_fini(&a);
    plumb_buf_fini(&b);
    return st;
}

struct listed {
    struct plumb_buf *out;
    const char *there;
};

static plumb_status put_change(void *arg, const char *path, const char *then, const char *now)
{
    const struct listed *l = arg;
    return plumb_buf_addf(l->out, "%s: %s in %s, %s now\n", path, then, l->there, now);
}

plumb_status plumb_config_diff(struct plumb_buf *out, const struct plumb_config *now,
                               const char *yaml, int64_t len, const char *there,
                               const char *command)
{
    struct plumb_config *then = NULL;
    struct listed l = {.out = out, .there = there};
    PLUMB_TRY(plumb_config_parse(&then, yaml, len, there));
    const plumb_status st = plumb_config_changes(then, now, command, put_change, &l);
    plumb_config_free(&then);
    return st;
}

static plumb_status walk_lists(const struct plumb_config *c, const char *command,
                               plumb_config_input_fn *fn, void *arg)
{
    char key[160];
    const bool eval = strcmp(command, "eval") == 0;
    for (int64_t i = 0; eval && i < c->eval.models.n; i++) {
        const char *text = c->eval.models.item[i], *equals = strchr(text, '=');
        snprintf(key, sizeof(key), "eval.models.%.*s", (int)(equals ? equals - text : 0), text);
        if (equals)
            PLUMB_TRY(fn(arg, key, equals + 1));
    }
    if (!plumb_option_used(plumb_option_find("reward", "functions"), command))
        return PLUMB_OK;
    for (int64_t i = 0; i < c->reward.functions.n; i++) {
        snprintf(key, sizeof(key), "reward.functions[%lld].file", (long long)i);
        if (*c->reward.functions.item[i].file)
            PLUMB_TRY(fn(arg, key, c->reward.functions.item[i].file));
    }
    return PLUMB_OK;
}

plumb_status plumb_config_inputs(const struct plumb_config *config, const char *command,
                                 plumb_config_input_fn *fn, void *arg)
{
    const struct plumb_option *o;
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        const char *path =
            o->type == PLUMB_TYPE_TEXT ? *(char *const *)((const char *)config + o->offset) : "";
        /* data.eval does not change the weights, but it changes the evaluation results in
         * metrics.jsonl, which must stay comparable when a run is resumed. */
        const bool held_out = strcmp(o->path, "data.eval") == 0;
        if (!*path || (!o->changes && !held_out) || !plumb_option_used(o, command) ||
            (strcmp(o->unit, "file") != 0 && strcmp(o->unit, "folder") != 0))
            continue;
        if (strcmp(o->path, "tokenizer") != 0 || strcmp(path, config->model) != 0)
            PLUMB_TRY(fn(arg, o->path, path));
    }
    return walk_lists(config, command, fn, arg);
}

uint64_t plumb_config_hash(const struct plumb_config *config, const char *command)
{
    const struct plumb_option *o;
    struct plumb_buf b = {0};
    uint64_t hash = 0;
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        if (!o->changes || !plumb_option_used(o, command))
            continue;
        plumb_buf_clear(&b);
        /* if memory runs out, the hash covers only the path of this option */
        if (plumb_option_put(&b, config, o) != PLUMB_OK)
            plumb_buf_clear(&b);
        hash = plumb_hash(o->path, (int64_t)strlen(o->path) + 1, hash);
        hash = plumb_hash(plumb_buf_text(&b), b.len + 1, hash);
    }
    plumb_buf_fini(&b);
    return hash;
}
