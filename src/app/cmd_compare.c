/* cmd_compare.c - compares finished runs of several methods and seeds in tables and on one page.
 * Layer 6. May include everything. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/arguments.h"
#include "app/compare.h"
#include "app/process.h"
#include "io/file.h"
#include "io/json.h"

static bool is_yaml(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml"));
}

/* Returns true if text has the form KEY=VALUE and sets an option. If KEY is not an option of
 * compare and VALUE is an existing folder, text names a run instead. */
static bool is_option(const char *text)
{
    char key[128];
    const char *equals = strchr(text, '=');
    if (!plumb_argument_is_option(text))
        return false;
    snprintf(key, sizeof(key), "%.*s", (int)(equals - text < 127 ? equals - text : 127), text);
    return plumb_config_is_option(key, "compare") || !plumb_dir_exists(equals + 1);
}

plumb_status plumb_compare_load(struct plumb_config **out, char *const *argv, int n)
{
    const int first = n > 0 && is_yaml(argv[0]);
    struct plumb_buf list = {0};
    char **option = calloc((size_t)n + 1, sizeof(*option));
    int options = 0;
    plumb_status st = PLUMB_OK;
    *out = NULL;
    if (!option)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "list of %d arguments", n);
    for (int i = first; i < n; i++) {
        if (is_option(argv[i])) {
            option[options++] = argv[i];
            continue;
        }
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(&list, list.len ? ", " : "compare.runs=["), done);
        PLUMB_TRY_GOTO(st, plumb_json_put_string(&list, argv[i], (int64_t)strlen(argv[i])), done);
    }
    if (list.len) {
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(&list, "]"), done);
        option[options++] = list.data;
    }
    st = plumb_config_load(out, "compare", first ? argv[0] : NULL, option, options);
done:
    plumb_buf_fini(&list);
    free(option);
    return st;
}

/* Reads every run. The label of a run is the text before '=', or else the name of its method. */
static plumb_status open_runs(struct plumb_compare *c)
{
    const struct plumb_config *cfg = c->cfg;
    const int64_t n = cfg->compare.runs.n;
    PLUMB_REQUIRE(n > 0, PLUMB_ERR_CONFIG,
                  "name the folders of finished runs: plumb compare DIR... (or NAME=DIR...)");
    c->run = calloc((size_t)n, sizeof(*c->run));
    c->label = calloc((size_t)n, sizeof(*c->label));
    PLUMB_REQUIRE(c->run && c->label, PLUMB_ERR_NOMEM, "results of %lld runs", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        const char *text = cfg->compare.runs.item[i];
        const char *equals = plumb_argument_is_option(text) ? strchr(text, '=') : NULL;
        PLUMB_REQUIRE(!equals || (equals != text && equals[1]), PLUMB_ERR_CONFIG,
                      "compare.runs: expected FOLDER or NAME=FOLDER, found '%s'", text);
        c->n++;
        PLUMB_TRY(plumb_run_results_open(&c->run[i], equals ? equals + 1 : text,
                                         cfg->compare.evaluation));
        c->label[i] =
            equals ? strndup(text, (size_t)(equals - text)) : strdup(c->run[i].cfg->method.name);
        PLUMB_REQUIRE(c->label[i], PLUMB_ERR_NOMEM, "label of a run");
    }
    return PLUMB_OK;
}

static plumb_status compare(struct plumb_app *app, struct plumb_compare *c)
{
    const struct plumb_config *cfg = c->cfg;
    PLUMB_TRY(plumb_process_check_output(app, cfg->output));
    if (*cfg->output_dir)
        PLUMB_TRY(plumb_dir_check_output(cfg->output_dir, "output_dir"));
    PLUMB_TRY(open_runs(c));
    PLUMB_TRY(plumb_compare_check(c));
    PLUMB_TRY(plumb_compare_sort(c));
    return plumb_compare_write(c);
}

plumb_status plumb_cmd_compare(struct plumb_app *app)
{
    struct plumb_compare c = {.cfg = app->cfg};
    plumb_lock *lock = NULL;
    plumb_status st = plumb_app_lock(&lock, app);
    if (st == PLUMB_OK && plumb_comm_rank(app->comm) == 0)
        st = compare(app, &c);
    for (int64_t i = 0; i < c.n; i++) {
        plumb_run_results_close(&c.run[i]);
        free((char *)c.label[i]);
    }
    for (int64_t i = 0; i < c.groups; i++)
        free(c.group[i].run);
    free(c.run);
    free(c.label);
    free(c.group);
    plumb_lock_release(&lock);
    return plumb_comm_agree(app->comm, st);
}
