/* config.c - builds a checked configuration from the defaults, the YAML file and the command line.
 * Layer 3. Includes config.h, option.h, io/yaml.h, base/. */
#include "config/config.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/option.h"
#include "io/json.h"
#include "io/utf8.h"

/* Raises the error for an unknown key of a file; section "" is the top level. */
static plumb_status unknown_key(const char *section, const char *key, const char *where)
{
    char full[160];
    snprintf(full, sizeof(full), "%s%s%s", section, *section ? "." : "", key);
    PLUMB_TRY(plumb_alias_refuse(full, NULL, where));
    PLUMB_TRY(plumb_alias_refuse(key, NULL, where));
    const struct plumb_option *o = plumb_option_nearest(full);
    int least = o ? plumb_edit_distance(full, o->path) : INT_MAX;
    const int by_name = o ? plumb_edit_distance(key, o->name) : INT_MAX;
    least = by_name < least ? by_name : least;
    const char *name;
    for (int i = 0; !*section && (name = plumb_section_at(i)); i++)
        if (plumb_edit_distance(key, name) <= least && plumb_edit_distance(key, name) <= 3)
            PLUMB_FAIL(PLUMB_ERR_CONFIG, "%s: unknown key '%s', did you mean the section '%s:'?",
                       where, full, name);
    PLUMB_REQUIRE(o, PLUMB_ERR_CONFIG,
                  "%s: unknown key '%s'; 'plumb help COMMAND' lists the options", where, full);
    PLUMB_REQUIRE(*o->section, PLUMB_ERR_CONFIG, "%s: unknown key '%s', did you mean '%s'%s?",
                  where, full, o->name, *section ? " at the top of the file" : "");
    PLUMB_FAIL(PLUMB_ERR_CONFIG, "%s: unknown key '%s', did you mean '%s' in section '%s:'?", where,
               full, o->name, o->section);
}

static plumb_status set_member(struct plumb_config *c, const char *section,
                               const struct plumb_yaml *v, const char *path)
{
    char where[PATH_MAX + 64];
    snprintf(where, sizeof(where), "%s:%d:%d", path, v->key_line, v->key_column);
    const struct plumb_option *o = plumb_option_find(section, v->key);
    if (!o)
        return unknown_key(section, v->key, where);
    snprintf(where, sizeof(where), "%s:%d:%d", path, v->line, v->column);
    PLUMB_TRY(plumb_option_set(c, c, o, v, where));
    return plumb_yaml_is_null(v) ? PLUMB_OK : plumb_config_mark(c, o, PLUMB_GIVEN_FILE, where);
}

static bool listed(const char *const *names, const char *name)
{
    for (int i = 0; names && names[i]; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

plumb_status plumb_config_set_yaml(struct plumb_config *c, const struct plumb_yaml *root,
                                   const char *path, const char *const *skip)
{
    PLUMB_REQUIRE(root->type == PLUMB_YAML_MAP, PLUMB_ERR_CONFIG,
                  "%s:%d:%d: a configuration is %s, expected a map of options", path, root->line,
                  root->column, plumb_yaml_type_name(root));
    for (const struct plumb_yaml *v = root->first; v; v = v->next) {
        if (listed(skip, v->key))
            continue;
        if (!plumb_section_help(v->key)) {
            PLUMB_TRY(set_member(c, "", v, path));
            continue;
        }
        PLUMB_REQUIRE(v->type == PLUMB_YAML_MAP || plumb_yaml_is_null(v), PLUMB_ERR_CONFIG,
                      "%s:%d:%d: section '%s' is %s, expected a map of its options%s", path,
                      v->line, v->column, v->key, plumb_yaml_type_name(v),
                      strcmp(v->key, "method") ? "" : ", as method: {name: dpo}");
        for (const struct plumb_yaml *m = v->first; m; m = m->next)
            PLUMB_TRY(set_member(c, v->key, m, path));
    }
    return PLUMB_OK;
}

static plumb_status load_yaml(struct plumb_config *c, const char *path)
{
    struct plumb_yaml *root = NULL;
    const char *name = !strcmp(path, "-") ? "standard input" : path;
    plumb_status st = plumb_yaml_read_file(&root, path);
    if (st == PLUMB_OK)
        st = plumb_config_set_yaml(c, root, name, NULL);
    else if (st == PLUMB_ERR_FORMAT)
        st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__, "%s", plumb_trail_message());
    plumb_yaml_free(&root);
    return st;
}

/* Returns the option that the user probably meant by giving a section a value: method=dpo means
 * method.name=dpo. Returns NULL if the command has no such option. */
static const char *main_option(const char *section, const char *command)
{
    static const char *const path[] = {"method.name", "data.train",       "data.prompts",
                                       "data.eval",   "checkpoint.every", "plan.memory"};
    const size_t n = strlen(section);
    for (size_t i = 0; i < sizeof(path) / sizeof(path[0]); i++)
        if (!strncmp(path[i], section, n) && path[i][n] == '.' &&
            plumb_option_used(plumb_option_at(plumb_option_index(path[i])), command))
            return path[i];
    return NULL;
}

/* Finds the options of the command that have this name in any section: *found is the first, or NULL
 * if there is none; *second is another one, or NULL if there is only one. */
static void find_name(const struct plumb_option **found, const struct plumb_option **second,
                      const char *name, const char *command)
{
    const struct plumb_option *o;
    *found = *second = NULL;
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        if (strcmp(o->name, name) || !plumb_option_used(o, command))
            continue;
        if (*found)
            *second = o;
        else
            *found = o;
    }
}

/* Finds the option of a command-line key: a whole path, or a name that only one option of the
 * command has. If the command has no such option, the options of all commands are searched, so that
 * a later error message can say which command the option belongs to. */
static plumb_status resolve(const struct plumb_option **out, const char *key, const char *value,
                            const char *command, const char *where)
{
    const struct plumb_option *o, *second;
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        if (!strcmp(o->path, key)) { /* the path of a top-level option is its name */
            *out = o;
            return PLUMB_OK;
        }
    }
    find_name(out, &second, key, command);
    if (!*out)
        find_name(out, &second, key, NULL);
    PLUMB_REQUIRE(!second, PLUMB_ERR_CONFIG,
                  "%s: '%s' may mean '%s' or '%s': write one of these names", where, key,
                  (*out)->path, second->path);
    if (*out)
        return PLUMB_OK;
    PLUMB_REQUIRE(!main_option(key, command), PLUMB_ERR_CONFIG,
                  "%s: '%s' is a section: name one of its options, as %s=%.80s", where, key,
                  main_option(key, command), value);
    PLUMB_REQUIRE(!plumb_section_help(key), PLUMB_ERR_CONFIG,
                  "%s: '%s' is a section: name one of its options, as %s.OPTION=VALUE", where, key,
                  key);
    PLUMB_TRY(plumb_alias_refuse(key, command, where));
    o = plumb_option_nearest(key);
    PLUMB_REQUIRE(o, PLUMB_ERR_CONFIG,
                  "%s: unknown key '%s'; 'plumb help COMMAND' lists the options", where, key);
    PLUMB_FAIL(PLUMB_ERR_CONFIG, "%s: unknown key '%s', did you mean '%s'?", where, key, o->path);
}

/* If key is NAME.MEMBER, where NAME is the path or the name of an option of the command whose value
 * is a map, sets *found to this option and *member to the text after "NAME.". Otherwise leaves both
 * unchanged. */
static void find_map(const struct plumb_option **found, const char **member, const char *key,
                     const char *command)
{
    const struct plumb_option *o;
    for (int i = 0; (o = plumb_option_at(i)); i++) {
        const char *const name[] = {o->path, o->name};
        for (int k = 0; k < 2 && o->type == PLUMB_TYPE_MAP && plumb_option_used(o, command); k++) {
            const size_t n = strlen(name[k]);
            if (strncmp(key, name[k], n) != 0 || key[n] != '.' || !key[n + 1])
                continue;
            *found = o;
            *member = key + n + 1;
        }
    }
}

bool plumb_config_is_option(const char *key, const char *command)
{
    const struct plumb_option *o;
    for (int i = 0; (o = plumb_option_at(i)); i++)
        if (plumb_option_used(o, command) && (!strcmp(o->path, key) || !strcmp(o->name, key)))
            return true;
    const char *member = NULL;
    o = NULL;
    find_map(&o, &member, key, command);
    return o != NULL;
}

bool plumb_config_takes_file(const char *command)
{
    const struct plumb_command *c = plumb_command_find(command);
    return c && c->file;
}

static plumb_status not_used(const struct plumb_option *o, const char *command, const char *where)
{
    char list[256] = "";
    const struct plumb_command *c;
    for (int i = 0; (c = plumb_command_at(i)); i++)
        if (strchr(o->commands, c->letter))
            snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", *list ? ", " : "",
                     c->name);
    PLUMB_FAIL(PLUMB_ERR_CONFIG, "%s: '%s' is not used by %s; it belongs to: %s", where, o->path,
               command, list);
}

plumb_status plumb_config_override(struct plumb_config *c, const char *command, const char *text,
                                   int number, bool *used)
{
    char where[300], key[128], shown[201];
    snprintf(shown, sizeof(shown), "%s", text);
    shown[plumb_utf8_valid(shown, (int64_t)strlen(shown))] = '\0';
    snprintf(where, sizeof(where), "command line argument %d (%s%s)", number, shown,
             strlen(shown) < strlen(text) ? " ..." : "");
    const char *equals = strchr(text, '=');
    PLUMB_REQUIRE(equals || text[0] != '-', PLUMB_ERR_CONFIG,
                  "%s: expected key=value, without dashes and blanks: learning_rate=1e-5", where);
    PLUMB_REQUIRE(
        equals && equals > text, PLUMB_ERR_CONFIG,
        "%s: expected key=value (the configuration file must directly follow the command)", where);
    snprintf(key, sizeof(key), "%.*s", (int)(equals - text < 127 ? equals - text : 127), text);
    const struct plumb_option *o = NULL;
    const char *member = NULL;
    find_map(&o, &member, key, command);
    if (!o)
        PLUMB_TRY(resolve(&o, key, equals + 1, command, where));
    if (used)
        *used = plumb_option_used(o, command);
    if (!plumb_option_used(o, command))
        return used ? PLUMB_OK : not_used(o, command, where);
    if (member) {
        PLUMB_TRY(plumb_map_set_member(c, (const char **)((char *)c + o->offset), member,
                                       equals + 1, where));
        return plumb_config_mark(c, o, PLUMB_GIVEN_COMMAND, where);
    }
    /* key=null: the option gets its default, as if it had not been given */
    if (plumb_argument_is_null(equals + 1)) {
        c->marks->given[plumb_option_index(o->path)] = PLUMB_GIVEN_NO;
        return plumb_option_set_text(c, c, o, plumb_option_default(o, command), where);
    }
    PLUMB_TRY(plumb_option_set_argument(c, c, o, equals + 1, where));
    return plumb_config_mark(c, o, PLUMB_GIVEN_COMMAND, where);
}

plumb_status plumb_config_parse(struct plumb_config **out, const char *yaml, int64_t len,
                                const char *where)
{
    struct plumb_yaml *root = NULL;
    struct plumb_config *c;
    *out = NULL;
    PLUMB_TRY(plumb_config_fresh(&c, NULL));
    plumb_status st = plumb_yaml_parse(&root, yaml, len, where);
    if (st == PLUMB_OK)
        st = plumb_config_set_yaml(c, root, where, NULL);
    plumb_yaml_free(&root);
    if (st != PLUMB_OK)
        plumb_config_free(&c);
    *out = c;
    return st;
}

static plumb_status load(struct plumb_config *c, const char *command, const char *yaml_path,
                         char *const *override, int n)
{
    PLUMB_REQUIRE(!yaml_path || yaml_path[0] != '-' || !yaml_path[1], PLUMB_ERR_CONFIG,
                  "%s: expected a configuration file or key=value; options have no dashes: "
                  "learning_rate=1e-5",
                  yaml_path);
    if (yaml_path && plumb_command_find(command)->file)
        PLUMB_TRY(plumb_option_set_text(c, c, plumb_option_find("", "input"), yaml_path, "input"));
    else if (yaml_path)
        PLUMB_TRY(load_yaml(c, yaml_path));
    if (yaml_path && !plumb_command_find(command)->file)
        PLUMB_TRY(plumb_config_note_unused(c, command, yaml_path));
    const int first = (strchr(command, ' ') ? 3 : 2) + (yaml_path != NULL);
    for (int i = 0; i < n; i++)
        PLUMB_TRY(plumb_config_override(c, command, override[i], first + i, NULL));
    return plumb_config_complete(c);
}

plumb_status plumb_config_load(struct plumb_config **out, const char *command,
                               const char *yaml_path, char *const *override, int n)
{
    *out = NULL;
    PLUMB_REQUIRE(plumb_command_find(command), PLUMB_ERR_CONFIG, "there is no command '%s'",
                  command);
    struct plumb_config *c;
    PLUMB_TRY(plumb_config_fresh(&c, command));
    const plumb_status st = load(c, command, yaml_path, override, n);
    if (st != PLUMB_OK)
        plumb_config_free(&c);
    *out = c;
    return st;
}
