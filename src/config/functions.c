/* functions.c - reads and writes reward.functions, a list of maps; each map is one built-in reward.
 * Layer 3. Includes option.h, io/yaml.h, base/. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "config/option.h"

const char *const plumb_reward_kind_names[] = {"length",     "regex", "words",
                                               "repetition", "exact", NULL};

#define FIELD(kind, name, value, range)                                                            \
    {                                                                                              \
        "reward.functions: " #name, #name, "", PLUMB_TYPE_##kind, value, range, "", "aec", true,   \
            "", offsetof(struct plumb_reward_function, name)                                       \
    }
static const struct plumb_option fields[] = {
    FIELD(CHOICE, name, "length", "length|regex|words|repetition|exact"),
    FIELD(REAL, weight, "1", "[-1e12, 1e12]"),
    FIELD(TEXT, pattern, "", ""),
    FIELD(TEXTS, words, "", ""),
    FIELD(TEXT, file, "", ""),
    FIELD(TEXT, field, "", ""),
    FIELD(REAL, target, "", "[-1e12, 1e12]"),
    FIELD(REAL, min, "", "[-1e12, 1e12]"),
    FIELD(REAL, max, "", "[-1e12, 1e12]"),
};
enum { FIELDS = sizeof(fields) / sizeof(*fields) };

/* Copies `where`, a position for messages, to out. If it ends with :LINE:COLUMN of the value
 * `whole`, replaces them by `line` and `column`, those of a part of the value. The position of a
 * command-line argument has no line and column, and is copied unchanged. */
static void part_of(char *out, size_t size, const char *where, const struct plumb_yaml *whole,
                    int line, int column)
{
    char end[32];
    const int n = snprintf(end, sizeof(end), ":%d:%d", whole->line, whole->column);
    const size_t len = strlen(where);
    if (len > (size_t)n && !strcmp(where + len - (size_t)n, end))
        snprintf(out, size, "%.*s:%d:%d", (int)(len - (size_t)n), where, line, column);
    else
        snprintf(out, size, "%s", where);
}

static plumb_status unknown(const char *key, const char *where)
{
    int best = 0;
    for (int i = 1; i < FIELDS; i++)
        if (plumb_edit_distance(key, fields[i].name) < plumb_edit_distance(key, fields[best].name))
            best = i;
    const bool near = plumb_is_near(plumb_edit_distance(key, fields[best].name), key);
    PLUMB_FAIL(PLUMB_ERR_CONFIG,
               "%s: unknown key '%s' in a reward function%s%s%s, expected name, weight, pattern, "
               "words, file, field, target, min or max",
               where, key, near ? ", did you mean '" : "", near ? fields[best].name : "",
               near ? "'?" : "");
}

static plumb_status set_one(struct plumb_config *c, struct plumb_reward_function *f,
                            const struct plumb_yaml *map, const struct plumb_yaml *list,
                            const char *where)
{
    char at[4500];
    bool named = false;
    *f = (struct plumb_reward_function){.weight = 1,
                                        .pattern = "",
                                        .file = "",
                                        .field = "",
                                        .target = (double)NAN,
                                        .min = (double)NAN,
                                        .max = (double)NAN};
    part_of(at, sizeof(at), where, list, map->line, map->column);
    PLUMB_REQUIRE(map->type == PLUMB_YAML_MAP, PLUMB_ERR_CONFIG,
                  "%s: a reward function is %s, expected a map like {name: length, target: 40}", at,
                  plumb_yaml_type_name(map));
    for (const struct plumb_yaml *v = map->first; v; v = v->next) {
        int i = 0;
        while (i < FIELDS && strcmp(fields[i].name, v->key))
            i++;
        part_of(at, sizeof(at), where, list, v->key_line, v->key_column);
        if (i == FIELDS)
            return unknown(v->key, at);
        part_of(at, sizeof(at), where, list, v->line, v->column);
        PLUMB_TRY(plumb_value_set(c, f, &fields[i], v, at));
        named = named || (i == 0 && !plumb_yaml_is_null(v));
    }
    part_of(at, sizeof(at), where, list, map->line, map->column);
    PLUMB_REQUIRE(named, PLUMB_ERR_CONFIG, "%s: a reward function has no name, expected one of %s",
                  at, fields[0].range);
    return PLUMB_OK;
}

plumb_status plumb_functions_set(struct plumb_config *c, struct plumb_reward_functions *out,
                                 const struct plumb_yaml *v, const char *where)
{
    void *memory = NULL;
    PLUMB_TRY(plumb_config_take(&memory, c, (v->n + 1) * (int64_t)sizeof(*out->item)));
    struct plumb_reward_function *item = memory;
    int64_t n = 0;
    for (const struct plumb_yaml *f = v->first; f; f = f->next)
        PLUMB_TRY(set_one(c, &item[n++], f, v, where));
    *out = (struct plumb_reward_functions){item, n};
    return PLUMB_OK;
}

static bool is_set(const struct plumb_reward_function *f, const struct plumb_option *o)
{
    const void *field = (const char *)f + o->offset;
    if (o->type == PLUMB_TYPE_REAL)
        return !isnan(*(const double *)field);
    if (o->type == PLUMB_TYPE_TEXT)
        return **(const char *const *)field != '\0';
    return o->type != PLUMB_TYPE_TEXTS || ((const struct plumb_texts *)field)->n > 0;
}

plumb_status plumb_functions_put(struct plumb_buf *b, const struct plumb_reward_functions *f)
{
    PLUMB_TRY(plumb_buf_add_text(b, "["));
    for (int64_t k = 0; k < f->n; k++) {
        PLUMB_TRY(plumb_buf_add_text(b, k ? ", {" : "{"));
        for (int i = 0; i < FIELDS; i++) {
            if (!is_set(&f->item[k], &fields[i]))
                continue;
            PLUMB_TRY(plumb_buf_addf(b, "%s%s: ", i ? ", " : "", fields[i].name));
            PLUMB_TRY(plumb_value_put(b, &f->item[k], &fields[i]));
        }
        PLUMB_TRY(plumb_buf_add_text(b, "}"));
    }
    PLUMB_TRY(plumb_buf_add_text(b, "]"));
    return PLUMB_OK;
}
