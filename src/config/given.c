/* given.c - records which options the user has set and which of them the run does not read.
 * Layer 3. Includes config.h, option.h, base/. */
#include <stdio.h>
#include <string.h>

#include "config/option.h"

enum plumb_given plumb_config_given(const struct plumb_config *c, const char *path)
{
    const int i = plumb_option_index(path);
    return i < 0 || !c->marks ? PLUMB_GIVEN_NO : (enum plumb_given)c->marks->given[i];
}

plumb_status plumb_config_put_given(struct plumb_buf *out, const struct plumb_config *c)
{
    const struct plumb_option *o;
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        if (!c->marks || c->marks->given[i] == PLUMB_GIVEN_NO)
            continue;
        PLUMB_TRY(plumb_buf_addf(out, "%s: ", o->path));
        PLUMB_TRY(plumb_option_put(out, c, o));
        PLUMB_TRY(plumb_buf_add_text(out, "\n"));
    }
    return PLUMB_OK;
}

plumb_status plumb_config_mark(struct plumb_config *c, const struct plumb_option *o,
                               enum plumb_given given, const char *where)
{
    struct plumb_config_marks *m = c->marks;
    const int i = plumb_option_index(o->path);
    void *copy = NULL;
    PLUMB_TRY(plumb_config_take(&copy, c, (int64_t)strlen(where) + 1));
    memcpy(copy, where, strlen(where) + 1);
    m->given[i] = (unsigned char)given;
    m->where[i] = copy;
    return PLUMB_OK;
}

plumb_status plumb_config_add_note(struct plumb_config *c, const char *text)
{
    struct plumb_config_marks *m = c->marks;
    const size_t before = m->notes ? strlen(m->notes) : 0, more = strlen(text);
    void *all = NULL;
    PLUMB_TRY(plumb_config_take(&all, c, (int64_t)(before + more) + 2));
    snprintf(all, before + more + 2, "%s%s\n", before ? m->notes : "", text);
    m->notes = all;
    return PLUMB_OK;
}

const char *plumb_config_warnings(const struct plumb_config *c)
{
    const struct plumb_config_marks *m = c->marks;
    return m && m->notes ? m->notes : "";
}

/* For an option that one argument has set for all stages of `plumb run`, this function records no
 * message, because another stage may read the option; plumb_stages_check reports the option if no
 * stage reads it. */
plumb_status plumb_config_unread(struct plumb_config *c, const char *path, const char *why)
{
    struct plumb_config_marks *m = c->marks;
    const int i = plumb_option_index(path);
    char text[1024];
    if (i < 0 || m->unread[i])
        return PLUMB_OK;
    void *copy = NULL;
    PLUMB_TRY(plumb_config_take(&copy, c, (int64_t)strlen(why) + 1));
    memcpy(copy, why, strlen(why) + 1);
    m->unread[i] = copy;
    if (m->given[i] == PLUMB_GIVEN_NO || m->shared[i])
        return PLUMB_OK;
    snprintf(text, sizeof(text), "%s: %s %s", m->where[i], path, why);
    PLUMB_REQUIRE(m->given[i] != PLUMB_GIVEN_COMMAND, PLUMB_ERR_CONFIG, "%s", text);
    return plumb_config_add_note(c, text);
}

plumb_status plumb_config_warn(struct plumb_config *c, const char *path, const char *why)
{
    const struct plumb_config_marks *m = c->marks;
    const int i = plumb_option_index(path);
    char text[1024];
    if (i < 0 || m->given[i] == PLUMB_GIVEN_NO || m->shared[i])
        return PLUMB_OK;
    snprintf(text, sizeof(text), "%s: %s %s", m->where[i], path, why);
    return plumb_config_add_note(c, text);
}

plumb_status plumb_config_decide(struct plumb_config *c, const char *path, const char *value,
                                 const char *why)
{
    struct plumb_config_marks *m = c->marks;
    const int i = plumb_option_index(path);
    const struct plumb_option *o = plumb_option_at(i);
    struct plumb_buf before = {0}, after = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_REQUIRE(o, PLUMB_ERR_ARG, "%s: there is no such option", path);
    PLUMB_TRY_GOTO(st, plumb_option_put(&before, c, o), done);
    PLUMB_TRY_GOTO(st, plumb_option_set_text(c, c, o, value, path), done);
    PLUMB_TRY_GOTO(st, plumb_option_put(&after, c, o), done);
    if (m->given[i] != PLUMB_GIVEN_NO &&
        strcmp(plumb_buf_text(&before), plumb_buf_text(&after)) != 0)
        st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                           "%s: %s is %s, but %s: leave it out, or set it to %s", m->where[i], path,
                           plumb_buf_text(&before), why, plumb_buf_text(&after));
done:
    plumb_buf_fini(&before);
    plumb_buf_fini(&after);
    return st;
}

/* Lists all unused options of the file in one warning, because a file may serve several
 * commands. */
plumb_status plumb_config_note_unused(struct plumb_config *c, const char *command, const char *path)
{
    const struct plumb_config_marks *m = c->marks;
    const struct plumb_option *o;
    char list[900] = "";
    size_t at = 0;
    for (int i = 0; (o = plumb_option_at(i)); i++)
        if (m->given[i] == PLUMB_GIVEN_FILE && !plumb_option_used(o, command) &&
            at + strlen(o->path) + 8 < sizeof(list))
            at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s", at ? ", " : "", o->path);
    if (!at)
        return PLUMB_OK;
    char text[1400];
    snprintf(text, sizeof(text), "%.300s: %s does not use %s", path, command, list);
    return plumb_config_add_note(c, text);
}

/* ---- options that another option makes ineffective ------------------------------------------ */

static bool has_reward_model(const struct plumb_config *c)
{
    return *c->reward.model;
}

static bool asks_command(const struct plumb_config *c)
{
    return *c->reward.command || *c->eval.judge;
}

static bool samples(const struct plumb_config *c)
{
    return c->generate.temperature > 0;
}

static bool rate_falls(const struct plumb_config *c)
{
    return c->train.lr_schedule > 0;
}

static bool keeps_best(const struct plumb_config *c)
{
    return c->checkpoint.keep_best > 0;
}

static bool keeps_several(const struct plumb_config *c)
{
    return c->checkpoint.every > 0 || keeps_best(c);
}

static bool saves_by_time(const struct plumb_config *c)
{
    return c->checkpoint.interval != 0;
}

static bool saves_automatically(const struct plumb_config *c)
{
    return c->checkpoint.interval == PLUMB_AUTO;
}

static bool wins_by_reward(const struct plumb_config *c)
{
    return !*c->eval.judge;
}

static bool begins_adapter(const struct plumb_config *c)
{
    return c->lora.r > 0 || *c->lora.adapter;
}

static bool on_gpu(const struct plumb_config *c)
{
    return strcmp(c->device, "cuda") == 0;
}
static bool uses_buckets(const struct plumb_config *c)
{
    return on_gpu(c) || c->train.shard != PLUMB_SHARD_OPTIMIZER;
}

/* Options that are read only under a condition on another option; `why` is the text of the warning
 * if `read` returns false. */
static const struct {
    const char *path;
    bool (*read)(const struct plumb_config *c);
    const char *why;
} conditions[] = {
    {"reward.context", has_reward_model, "is not used: reward.model is not set"},
    {"reward.append_eos", has_reward_model, "is not used: reward.model is not set"},
    {"reward.timeout", asks_command, "is not used: no reward or judge command is set"},
    {"reward.restarts", asks_command, "is not used: no reward or judge command is set"},
    {"generate.top_k", samples, "is not used: generate.temperature is 0"},
    {"generate.top_p", samples, "is not used: generate.temperature is 0"},
    {"generate.min_p", samples, "is not used: generate.temperature is 0"},
    {"train.min_lr_ratio", rate_falls, "is not used: train.lr_schedule is constant"},
    {"checkpoint.best_metric", keeps_best, "is not used: checkpoint.keep_best is 0"},
    {"checkpoint.keep_every", keeps_several,
     "is not used: checkpoint.every and checkpoint.keep_best are 0"},
    {"checkpoint.mtbf", saves_automatically, "is not used: checkpoint.interval is not auto"},
    {"checkpoint.max_share", saves_by_time, "is not used: checkpoint.interval is 0"},
    {"eval.win_margin", wins_by_reward, "is not used: eval.judge decides which answer wins"},
    {"lora.alpha", begins_adapter, "is not used: lora.r is 0 and lora.adapter is not set"},
    {"lora.targets", begins_adapter, "is not used: lora.r is 0 and lora.adapter is not set"},
    {"lora.rslora", begins_adapter, "is not used: lora.r is 0 and lora.adapter is not set"},
    {"pins", on_gpu, "is not used: device is not cuda"},
    {"comm.bucket", uses_buckets, "is not used: device is not cuda, and train.shard is optimizer"},
    {"generate.graphs", on_gpu, "is not used: device is not cuda"},
    {"comm.exchange", on_gpu, "is not used: device is not cuda"},
};

/* Returns the reason why option i has no effect although the command uses it, or NULL if it has an
 * effect. */
static const char *needless(const struct plumb_config *c, int i)
{
    const struct plumb_config_marks *m = c->marks;
    if (m->unread[i])
        return m->unread[i];
    for (size_t k = 0; k < sizeof(conditions) / sizeof(conditions[0]); k++)
        if (plumb_option_index(conditions[k].path) == i && !conditions[k].read(c))
            return conditions[k].why;
    return NULL;
}

bool plumb_config_reads(const struct plumb_config *c, const char *command, int i)
{
    return plumb_option_used(plumb_option_at(i), command) && !needless(c, i);
}

/* Sets *out to true if the option's value differs from the command's default. */
static plumb_status differs(bool *out, const struct plumb_config *c, const struct plumb_option *o,
                            const char *command)
{
    struct plumb_config *fresh = NULL;
    struct plumb_buf a = {0}, b = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_config_fresh(&fresh, command), done);
    PLUMB_TRY_GOTO(st, plumb_option_put(&a, c, o), done);
    PLUMB_TRY_GOTO(st, plumb_option_put(&b, fresh, o), done);
    *out = strcmp(plumb_buf_text(&a), plumb_buf_text(&b)) != 0;
done:
    plumb_buf_fini(&a);
    plumb_buf_fini(&b);
    plumb_config_free(&fresh);
    return st;
}

plumb_status plumb_config_note_needless(struct plumb_config *c, const char *command)
{
    struct plumb_config_marks *m = c->marks;
    const struct plumb_option *o;
    char text[1024];
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        /* An unread option was already reported by plumb_config_unread. */
        const char *why = m->unread[i] ? NULL : needless(c, i);
        bool set = false;
        if (m->given[i] == PLUMB_GIVEN_NO || m->shared[i] || !why || !plumb_option_used(o, command))
            continue;
        PLUMB_TRY(differs(&set, c, o, command));
        if (!set)
            continue;
        snprintf(text, sizeof(text), "%s: %s %s", m->where[i], o->path, why);
        PLUMB_TRY(plumb_config_add_note(c, text));
    }
    return PLUMB_OK;
}
