/* map.c - reads options whose value is a map. The value is stored as the text of a JSON object.
 * Layer 3. Includes option.h, io/yaml.h, io/json.h, base/. */
#include <string.h>

#include "config/option.h"
#include "io/json.h"

/* Returns true if an unquoted scalar is a number in JSON's syntax. */
static bool is_number(const char *text)
{
    plumb_json *v = NULL;
    if (!*text || strspn(text, "0123456789+-.eE") != strlen(text) ||
        plumb_json_parse(&v, text, (int64_t)strlen(text), "a number") != PLUMB_OK)
        return false;
    const enum plumb_json_type type = plumb_json_type_of(v);
    plumb_json_free(&v);
    return type == PLUMB_JSON_INT || type == PLUMB_JSON_REAL;
}

/* Appends a scalar as JSON. An unquoted null or boolean of YAML 1.2 becomes JSON's null or boolean,
 * and an unquoted number in JSON's syntax becomes a number. Any other scalar becomes a string, even
 * 0x1F or +1. */
static plumb_status put_scalar(struct plumb_buf *out, const struct plumb_yaml *v)
{
    static const char *const truth[] = {"true", "True", "TRUE", "false", "False", "FALSE"};
    if (!v->quoted && plumb_yaml_is_null(v))
        return plumb_buf_add_text(out, "null");
    for (int i = 0; i < 6 && !v->quoted; i++)
        if (strcmp(truth[i], v->text) == 0)
            return plumb_buf_add_text(out, i < 3 ? "true" : "false");
    if (!v->quoted && is_number(v->text))
        return plumb_buf_add_text(out, v->text);
    return plumb_json_put_string(out, v->text, (int64_t)strlen(v->text));
}

static plumb_status put_value(struct plumb_buf *out, const struct plumb_yaml *v)
{
    const bool map = v->type == PLUMB_YAML_MAP;
    if (v->type == PLUMB_YAML_SCALAR)
        return put_scalar(out, v);
    PLUMB_TRY(plumb_buf_add_text(out, map ? "{" : "["));
    for (const struct plumb_yaml *e = v->first; e; e = e->next) {
        PLUMB_TRY(plumb_buf_add_text(out, e == v->first ? "" : ", "));
        if (map) {
            PLUMB_TRY(plumb_json_put_string(out, e->key, (int64_t)strlen(e->key)));
            PLUMB_TRY(plumb_buf_add_text(out, ": "));
        }
        PLUMB_TRY(put_value(out, e));
    }
    return plumb_buf_add_text(out, map ? "}" : "]");
}

static plumb_status keep(const char **out, struct plumb_config *c, const struct plumb_buf *text)
{
    void *copy = NULL;
    PLUMB_TRY(plumb_config_take(&copy, c, text->len + 1));
    memcpy(copy, plumb_buf_text(text), (size_t)text->len + 1);
    *out = copy;
    return PLUMB_OK;
}

plumb_status plumb_map_set(struct plumb_config *c, const char **out, const struct plumb_yaml *v)
{
    struct plumb_buf text = {0};
    plumb_status st = put_value(&text, v);
    if (st == PLUMB_OK)
        st = keep(out, c, &text);
    plumb_buf_fini(&text);
    return st;
}

/* Appends the members of the JSON object `map`, each followed by a comma, but leaves out the member
 * with the name `key`. */
static plumb_status put_others(struct plumb_buf *text, const char *map, const char *key)
{
    plumb_json *all = NULL;
    plumb_status st = plumb_json_parse(&all, map, (int64_t)strlen(map), key);
    for (int64_t i = 0; i < plumb_json_count(all) && st == PLUMB_OK; i++) {
        const char *name = "";
        const plumb_json *v = NULL;
        st = plumb_json_member_at(all, i, &name, &v);
        if (st != PLUMB_OK || strcmp(name, key) == 0)
            continue;
        st = plumb_json_put_string(text, name, (int64_t)strlen(name));
        if (st == PLUMB_OK)
            st = plumb_buf_add_text(text, ": ");
        if (st == PLUMB_OK)
            st = plumb_json_put_node(text, v);
        if (st == PLUMB_OK)
            st = plumb_buf_add_text(text, ", ");
    }
    plumb_json_free(&all);
    return st;
}

plumb_status plumb_map_set_member(struct plumb_config *c, const char **map, const char *key,
                                  const char *value, const char *where)
{
    struct plumb_buf text = {0};
    struct plumb_yaml *v = NULL;
    plumb_status st = plumb_yaml_parse(&v, value, (int64_t)strlen(value), where);
    if (st == PLUMB_ERR_FORMAT)
        st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__, "%s", plumb_trail_message());
    if (st == PLUMB_OK)
        st = plumb_buf_add_text(&text, "{");
    if (st == PLUMB_OK)
        st = put_others(&text, *map, key);
    if (st == PLUMB_OK)
        st = plumb_json_put_string(&text, key, (int64_t)strlen(key));
    if (st == PLUMB_OK)
        st = plumb_buf_add_text(&text, ": ");
    if (st == PLUMB_OK)
        st = put_value(&text, v);
    if (st == PLUMB_OK)
        st = plumb_buf_add_text(&text, "}");
    if (st == PLUMB_OK)
        st = keep(map, c, &text);
    plumb_yaml_free(&v);
    plumb_buf_fini(&text);
    return st;
}
