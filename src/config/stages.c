/* stages.c - reads the list of stages of a YAML file into one configuration per stage.
 * Layer 3. Includes stages.h, option.h, io/, base/. */
#include "config/stages.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/option.h"

#define RUN    "run"
#define PREFIX "stage:"

static const char *const top_keys[] = {"stages", NULL}, *const own_keys[] = {"name", "command",
                                                                             NULL};
static const char *const commands[] = {"sft", "reward", "prefer", "align", "eval", NULL};

void plumb_stages_free(struct plumb_stages **sp)
{
    struct plumb_stages *s = *sp;
    if (!s)
        return;
    for (int64_t i = 0; s->item && i < s->n; i++)
        plumb_config_free(&s->item[i].cfg);
    plumb_config_free(&s->top);
    free(s->item);
    free(s);
    *sp = NULL;
}

static const struct plumb_yaml *member(const struct plumb_yaml *map, const char *key)
{
    for (const struct plumb_yaml *v = map->first; v; v = v->next)
        if (strcmp(v->key, key) == 0)
            return v;
    return NULL;
}

/* Copies the text of member `key` of the stage's map `at` into memory that is freed together with
 * the stage's configuration. Returns PLUMB_ERR_CONFIG if `at` is not a map or lacks the member. */
static plumb_status take_word(const char **out, struct plumb_config *c, const struct plumb_yaml *at,
                              const char *key, const char *path)
{
    const struct plumb_yaml *v = at->type == PLUMB_YAML_MAP ? member(at, key) : NULL;
    PLUMB_REQUIRE(at->type == PLUMB_YAML_MAP, PLUMB_ERR_CONFIG,
                  "%s:%d:%d: a stage is %s, expected a map with name, command and options", path,
                  at->line, at->column, plumb_yaml_type_name(at));
    PLUMB_REQUIRE(v && v->type == PLUMB_YAML_SCALAR && *v->text, PLUMB_ERR_CONFIG,
                  "%s:%d:%d: the stage has no %s", path, at->line, at->column, key);
    void *text;
    const size_t bytes = strlen(v->text) + 1;
    PLUMB_TRY(plumb_config_take(&text, c, (int64_t)bytes));
    memcpy(text, v->text, bytes);
    *out = text;
    return PLUMB_OK;
}

/* Checks that the name of stage i has only letters, digits, _ and -, that no earlier stage has the
 * same name, and that its command is one that stages may have. The name is also the name of the
 * stage's folder, and the text before the colon in NAME:key=value. */
static plumb_status check_name(const struct plumb_stages *s, int64_t i, const char *path)
{
    const struct plumb_stage *one = &s->item[i];
    for (const char *p = one->name; *p; p++)
        PLUMB_REQUIRE(isalnum((unsigned char)*p) || *p == '_' || *p == '-', PLUMB_ERR_CONFIG,
                      "%s:%d: the stage's name is '%s'; expected letters, digits, _ and -", path,
                      one->line, one->name);
    for (int64_t k = 0; k < i; k++)
        PLUMB_REQUIRE(strcmp(s->item[k].name, one->name) != 0, PLUMB_ERR_CONFIG,
                      "%s:%d: a second stage '%s', the first is in line %d", path, one->line,
                      one->name, s->item[k].line);
    for (int k = 0; commands[k]; k++)
        if (strcmp(commands[k], one->command) == 0)
            return PLUMB_OK;
    PLUMB_FAIL(PLUMB_ERR_CONFIG,
               "%s:%d: stage %s has the command '%s'; expected sft, reward, prefer, align or eval",
               path, one->line, one->name, one->command);
}

/* Fails if a stage sets an option of the whole run, such as device or output_dir. */
static plumb_status check_members(const struct plumb_yaml *at, const char *section,
                                  const char *path)
{
    for (const struct plumb_yaml *v = at->first; v; v = v->next) {
        const struct plumb_option *o = plumb_option_find(section, v->key);
        PLUMB_REQUIRE(!o || !plumb_option_used(o, RUN), PLUMB_ERR_CONFIG,
                      "%s:%d:%d: %s applies to the whole run: set it outside of stages", path,
                      v->key_line, v->key_column, o->path);
        if (!*section && v->type == PLUMB_YAML_MAP && plumb_section_help(v->key))
            PLUMB_TRY(check_members(v, v->key, path));
    }
    return PLUMB_OK;
}

/* ---- stage:NAME ----------------------------------------------------------------------------- */

/* Replaces "stage:NAME" after the first `head` bytes of *text by OUTPUT_DIR/NAME/latest. *text is a
 * value of stage i. Returns PLUMB_ERR_CONFIG if no earlier stage of this name saves checkpoints. */
static plumb_status resolve_link(const char **text, const struct plumb_stages *s, int64_t i,
                                 size_t head, const char *option)
{
    const char *name = *text + head + strlen(PREFIX), *dir = s->top->output_dir;
    int64_t k = 0;
    while (k < i && strcmp(s->item[k].name, name) != 0)
        k++;
    PLUMB_REQUIRE(k < i, PLUMB_ERR_CONFIG, "stage %s: %s: there is no earlier stage '%s'",
                  s->item[i].name, option, name);
    PLUMB_REQUIRE(strcmp(s->item[k].command, "eval") != 0, PLUMB_ERR_CONFIG,
                  "stage %s: %s: stage %s has the command eval, which writes no checkpoint",
                  s->item[i].name, option, name);
    void *to;
    const size_t bytes = head + strlen(dir) + strlen(name) + sizeof("//latest");
    PLUMB_TRY(plumb_config_take(&to, s->item[i].cfg, (int64_t)bytes));
    snprintf(to, bytes, "%.*s%s/%s/latest", (int)head, *text, dir, name);
    if (strcmp(option, "model") == 0)
        s->item[i].from = k;
    *text = to;
    return PLUMB_OK;
}

static bool is_stage(const char *text)
{
    return strncmp(text, PREFIX, strlen(PREFIX)) == 0;
}

static bool is_folder(const struct plumb_option *o)
{
    return o->type == PLUMB_TYPE_TEXT && strcmp(o->unit, "folder") == 0;
}

static plumb_status resolve(struct plumb_stages *s, int64_t i)
{
    struct plumb_config *c = s->item[i].cfg;
    const struct plumb_option *o;
    for (int k = 0; (o = plumb_option_at(k)); k++) {
        void *field = (char *)c + o->offset;
        const char **text = field;
        if (is_folder(o) && is_stage(*text))
            PLUMB_TRY(resolve_link(text, s, i, 0, o->path));
    }
    for (int64_t k = 0; k < c->eval.models.n; k++) {
        const char *at = c->eval.models.item[k], *equals = strchr(at, '=');
        if (equals && is_stage(equals + 1))
            PLUMB_TRY(resolve_link(&c->eval.models.item[k], s, i, (size_t)(equals + 1 - at),
                                   "eval.models"));
    }
    return PLUMB_OK;
}

/* ---- the command line ----------------------------------------------------------------------- */

/* Splits "NAME:key=value": *which is the index of the stage and *rest is key=value. Without NAME,
 * *which is -1: the argument is for all stages. */
static plumb_status split_stage_name(int64_t *which, const char **rest,
                                     const struct plumb_stages *s, const char *text)
{
    const size_t name = strcspn(text, ":=");
    *which = -1;
    *rest = text;
    if (text[name] != ':')
        return PLUMB_OK;
    for (int64_t i = 0; i < s->n; i++)
        if (strlen(s->item[i].name) == name && strncmp(text, s->item[i].name, name) == 0) {
            *which = i;
            *rest = text + name + 1;
            return PLUMB_OK;
        }
    PLUMB_FAIL(PLUMB_ERR_CONFIG, "'%s': there is no stage '%.*s'", text, (int)name, text);
}

/* Returns true if key=value is an option of `plumb run` itself. */
static bool is_own(const char *text)
{
    const size_t n = strcspn(text, "=");
    const struct plumb_option *o;
    for (int i = 0; (o = plumb_option_at(i)); i++)
        if (plumb_option_used(o, RUN) &&
            ((strlen(o->path) == n && strncmp(o->path, text, n) == 0) ||
             (strlen(o->name) == n && strncmp(o->name, text, n) == 0)))
            return true;
    return false;
}

/* Sets each option of c that was stage:NAME in `before` to stage:NAME again. `before` is the
 * configuration before a value for all stages was set; such a value must not replace stage:NAME. */
static void keep_links(struct plumb_config *c, const struct plumb_config *before)
{
    const struct plumb_option *o;
    for (int k = 0; (o = plumb_option_at(k)); k++) {
        const char *const *was = (const void *)((const char *)before + o->offset);
        if (is_folder(o) && is_stage(*was))
            *(const char **)(void *)((char *)c + o->offset) = *was;
    }
}

static plumb_status set_overrides(struct plumb_stages *s, char *const *override, int n)
{
    const char *own[PLUMB_OPTIONS_MOST];
    for (int k = 0; k < n; k++) {
        int64_t which;
        const char *text;
        bool used = false;
        PLUMB_TRY(split_stage_name(&which, &text, s, override[k]));
        if (which < 0 && is_own(text)) {
            PLUMB_TRY(plumb_config_override(s->top, RUN, text, 3 + k, NULL));
            continue;
        }
        for (int64_t i = which < 0 ? 0 : which; i < (which < 0 ? s->n : which + 1); i++) {
            struct plumb_config *c = s->item[i].cfg, before = *c;
            bool here = false;
            struct plumb_config_marks *m = c->marks;
            memcpy(own, m->where, sizeof(own));
            PLUMB_TRY(plumb_config_override(c, s->item[i].command, text, 3 + k, &here));
            for (int o = 0; o < PLUMB_OPTIONS_MOST; o++)
                if (m->where[o] != own[o])
                    m->shared[o] = which < 0;
            if (which < 0)
                keep_links(c, &before);
            used = used || here;
        }
        PLUMB_REQUIRE(used, PLUMB_ERR_CONFIG,
                      "command line argument %d (%.200s): no stage's command uses it", 3 + k,
                      override[k]);
    }
    return PLUMB_OK;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* Copies the options of the whole run to a stage, and sets the stage's output_dir. */
static plumb_status copy_run_options(struct plumb_stages *s, struct plumb_stage *one)
{
    struct plumb_config *c = one->cfg;
    const struct plumb_option *o;
    for (int k = 0; (o = plumb_option_at(k)); k++) {
        struct plumb_buf text = {0};
        if (!plumb_option_used(o, RUN))
            continue;
        plumb_status st = plumb_option_put(&text, s->top, o);
        if (st == PLUMB_OK) {
            const char *value = o->type == PLUMB_TYPE_TEXT
                                    ? *(char *const *)((const char *)s->top + o->offset)
                                    : plumb_buf_text(&text);
            st = plumb_option_set_text(c, c, o, value, "the run");
        }
        plumb_buf_fini(&text);
        PLUMB_TRY(st);
    }
    void *dir;
    const size_t bytes = strlen(s->top->output_dir) + strlen(one->name) + 2;
    PLUMB_TRY(plumb_config_take(&dir, c, (int64_t)bytes));
    snprintf(dir, bytes, "%s/%s", s->top->output_dir, one->name);
    c->output_dir = dir;
    return PLUMB_OK;
}

/* Returns the stage's command, or NULL if the map has none. */
static const char *command_of(const struct plumb_yaml *at)
{
    const struct plumb_yaml *v = at->type == PLUMB_YAML_MAP ? member(at, "command") : NULL;
    return v && v->type == PLUMB_YAML_SCALAR ? v->text : NULL;
}

static plumb_status read_stages(struct plumb_stages *s, const struct plumb_yaml *root,
                                const char *path)
{
    const struct plumb_yaml *list = root->type == PLUMB_YAML_MAP ? member(root, "stages") : NULL;
    PLUMB_REQUIRE(list && list->type == PLUMB_YAML_LIST && list->n > 0, PLUMB_ERR_CONFIG,
                  "%s: expected a list `stages` of maps with name, command and options", path);
    PLUMB_TRY(plumb_config_fresh(&s->top, RUN));
    PLUMB_TRY(plumb_config_set_yaml(s->top, root, path, top_keys));
    s->item = calloc((size_t)list->n, sizeof(*s->item));
    PLUMB_REQUIRE(s->item, PLUMB_ERR_NOMEM, "cannot store %lld stages", (long long)list->n);
    for (const struct plumb_yaml *at = list->first; at; at = at->next) {
        struct plumb_stage *one = &s->item[s->n];
        one->line = at->line;
        one->from = -1;
        PLUMB_TRY(plumb_config_fresh(&one->cfg, command_of(at)));
        s->n++;
        PLUMB_TRY(take_word(&one->name, one->cfg, at, "name", path));
        PLUMB_TRY(take_word(&one->command, one->cfg, at, "command", path));
        PLUMB_TRY(check_name(s, s->n - 1, path));
        PLUMB_TRY(check_members(at, "", path));
        PLUMB_TRY(plumb_config_set_yaml(one->cfg, root, path, top_keys));
        struct plumb_config_marks *m = one->cfg->marks;
        for (int i = 0; i < PLUMB_OPTIONS_MOST; i++) {
            m->shared[i] = m->given[i] != PLUMB_GIVEN_NO;
            /* Clears the marks of the options that are given outside of `stages` until the stage's
             * own options are read, so that the two kinds can be distinguished. */
            m->given[i] = PLUMB_GIVEN_NO;
        }
        PLUMB_TRY(plumb_config_set_yaml(one->cfg, at, path, own_keys));
        char stage[256];
        snprintf(stage, sizeof(stage), "%.60s: stage %.100s", path, one->name);
        PLUMB_TRY(plumb_config_note_unused(one->cfg, one->command, stage));
        for (int i = 0; i < PLUMB_OPTIONS_MOST; i++) {
            m->shared[i] = m->shared[i] && m->given[i] == PLUMB_GIVEN_NO;
            if (m->shared[i])
                m->given[i] = PLUMB_GIVEN_FILE;
        }
    }
    return PLUMB_OK;
}

static plumb_status load(struct plumb_stages *s, const char *yaml_path, char *const *override,
                         int n)
{
    struct plumb_yaml *root = NULL;
    PLUMB_REQUIRE(yaml_path, PLUMB_ERR_CONFIG, "run needs a YAML file that lists stages");
    const char *name = strcmp(yaml_path, "-") == 0 ? "standard input" : yaml_path;
    plumb_status st = plumb_yaml_read_file(&root, yaml_path);
    if (st == PLUMB_ERR_FORMAT)
        st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__, "%s", plumb_trail_message());
    if (st == PLUMB_OK)
        st = read_stages(s, root, name);
    plumb_yaml_free(&root);
    PLUMB_TRY(st);
    PLUMB_TRY(set_overrides(s, override, n));
    PLUMB_REQUIRE(*s->top->output_dir, PLUMB_ERR_CONFIG,
                  "output_dir: is not set; name the folder in which each stage gets a folder");
    for (int64_t i = 0; i < s->n; i++) {
        PLUMB_TRY(copy_run_options(s, &s->item[i]));
        PLUMB_TRY(resolve(s, i));
        PLUMB_TRY(plumb_config_complete(s->item[i].cfg));
    }
    return PLUMB_OK;
}

/* Reports options that were given for all stages and that no stage reads. */
plumb_status plumb_stages_check(const struct plumb_stages *s)
{
    const struct plumb_option *o;
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        const char *where = NULL;
        bool read = plumb_option_used(o, RUN), refuse = false;
        for (int64_t k = 0; k < s->n; k++) {
            const struct plumb_stage *one = &s->item[k];
            const struct plumb_config_marks *m = one->cfg->marks;
            if (plumb_config_reads(one->cfg, one->command, i))
                read = true;
            if (!m->shared[i] || !m->where[i])
                continue;
            where = m->where[i];
            refuse = refuse || m->given[i] == PLUMB_GIVEN_COMMAND;
        }
        if (!where || read)
            continue;
        char text[1024];
        snprintf(text, sizeof(text), "%s: no stage uses %s", where, o->path);
        PLUMB_REQUIRE(!refuse, PLUMB_ERR_CONFIG, "%s", text);
        PLUMB_TRY(plumb_config_add_note(s->top, text));
    }
    return PLUMB_OK;
}

plumb_status plumb_stages_load(struct plumb_stages **out, const char *yaml_path,
                               char *const *override, int n)
{
    struct plumb_stages *s = calloc(1, sizeof(*s));
    *out = NULL;
    PLUMB_REQUIRE(s, PLUMB_ERR_NOMEM, "cannot store the stages");
    const plumb_status st = load(s, yaml_path, override, n);
    if (st != PLUMB_OK)
        plumb_stages_free(&s);
    *out = s;
    return st;
}
