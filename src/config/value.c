/* value.c - converts the value of an option from text or YAML to its field, and back.
 * Layer 3. Includes option.h, io/yaml.h, io/json.h, base/. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/range.h"
#include "config/option.h"
#include "io/json.h"
#include "io/utf8.h"

static plumb_status wrong(const struct plumb_option *o, const char *found, const char *where)
{
    static const char *const what[] = {
        [PLUMB_TYPE_BOOL] = "true or false",
        [PLUMB_TYPE_INT] = "an integer",
        [PLUMB_TYPE_SEED] = "an integer from 0 to 18446744073709551615",
        [PLUMB_TYPE_REAL] = "a number",
        [PLUMB_TYPE_AUTO] = "auto or a number",
        [PLUMB_TYPE_TEXT] = "text",
        [PLUMB_TYPE_WORD] = "one of",
        [PLUMB_TYPE_CHOICE] = "one of",
        [PLUMB_TYPE_TEXTS] = "a list of texts",
        [PLUMB_TYPE_MAP] = "a map, as {name: value}",
        [PLUMB_TYPE_FUNCTIONS] = "a list of maps, each with a name",
    };
    const bool number =
        o->type == PLUMB_TYPE_INT || o->type == PLUMB_TYPE_REAL || o->type == PLUMB_TYPE_AUTO;
    PLUMB_FAIL(PLUMB_ERR_CONFIG, "%s: %s is %s, expected %s%s%s%s%s", where, o->path, found,
               what[o->type], *o->range ? (number ? " in " : " ") : "", o->range,
               number && *o->unit ? ", as a plain number of " : "", number ? o->unit : "");
}

static plumb_status wrong_text(const struct plumb_option *o, const char *text, const char *where)
{
    char found[256];
    const int64_t valid = plumb_utf8_valid(text, (int64_t)strnlen(text, 200));
    snprintf(found, sizeof(found), "'%.*s'%s", (int)valid, text, text[valid] ? " ..." : "");
    return wrong(o, found, where);
}

/* Reads a decimal number. Hexadecimal numbers, nan, inf and numbers that overflow are refused. */
static bool read_real(double *out, const char *text)
{
    char *end;
    if (!*text || strspn(text, "0123456789+-.eE") != strlen(text))
        return false;
    *out = strtod(text, &end);
    return !*end && isfinite(*out);
}

/* Returns true for an integer with a leading zero, such as 010. Such a number is ambiguous: 010 is
 * 8 in YAML 1.1 and in C, but 10 in YAML 1.2. */
static bool is_octal(const char *text)
{
    text += *text == '+' || *text == '-';
    return text[0] == '0' && text[1] && strspn(text, "0123456789") == strlen(text);
}

/* Reads an integer, which may also be written like 5e9. Returns false if the text is not an integer
 * or too large. */
static bool read_int(int64_t *out, const char *text)
{
    char *end;
    double x;
    if (*text && strspn(text, "0123456789+-") == strlen(text)) {
        errno = 0;
        const long long v = strtoll(text, &end, 10);
        *out = v;
        return !*end && errno == 0;
    }
    if (!read_real(&x, text) || x != trunc(x) || fabs(x) > 0x1p62)
        return false;
    *out = (int64_t)x;
    return true;
}

static bool read_seed(uint64_t *out, const char *text)
{
    char *end;
    if (!*text || strspn(text, "0123456789") != strlen(text))
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0;
}

/* Sets *out to the boolean that text spells as in YAML 1.2 (true, True, TRUE, false ..). Returns
 * false for any other text, also for yes, no, on and off, which only YAML 1.1 accepts. */
static bool read_bool(bool *out, const char *text)
{
    static const char *const word[] = {"true", "True", "TRUE", "false", "False", "FALSE"};
    for (int i = 0; i < 6; i++)
        if (!strcmp(word[i], text)) {
            *out = i < 3;
            return true;
        }
    return false;
}

static plumb_status keep_text(const char **out, struct plumb_config *c, const char *text)
{
    const int64_t bytes = (int64_t)strlen(text) + 1;
    void *copy = NULL;
    PLUMB_TRY(plumb_config_take(&copy, c, bytes));
    memcpy(copy, text, (size_t)bytes);
    *out = copy;
    return PLUMB_OK;
}

static plumb_status set_scalar(struct plumb_config *c, void *field, const struct plumb_option *o,
                               const char *text, const char *where)
{
    int64_t i;
    double x;
    uint64_t seed;
    PLUMB_REQUIRE((o->type != PLUMB_TYPE_INT && o->type != PLUMB_TYPE_SEED) || !is_octal(text),
                  PLUMB_ERR_CONFIG,
                  "%s: %s is '%.40s', which is an octal number in YAML 1.1 and a decimal one in "
                  "YAML 1.2; write it without the zero",
                  where, o->path, text);
    switch (o->type) {
    case PLUMB_TYPE_BOOL:
        if (!read_bool(field, text))
            return wrong_text(o, text, where);
        return PLUMB_OK;
    case PLUMB_TYPE_INT:
        if (!read_int(&i, text) || !plumb_range_holds(o->range, (double)i))
            return wrong_text(o, text, where);
        *(int64_t *)field = i;
        return PLUMB_OK;
    case PLUMB_TYPE_SEED:
        if (!read_seed(&seed, text))
            return wrong_text(o, text, where);
        *(uint64_t *)field = seed;
        return PLUMB_OK;
    case PLUMB_TYPE_AUTO:
    case PLUMB_TYPE_REAL:
        if (o->type == PLUMB_TYPE_AUTO && !strcmp(text, "auto")) {
            *(double *)field = PLUMB_AUTO;
            return PLUMB_OK;
        }
        if (!read_real(&x, text) || !plumb_range_holds(o->range, x))
            return wrong_text(o, text, where);
        *(double *)field = x;
        return PLUMB_OK;
    case PLUMB_TYPE_WORD:
        if (plumb_range_word(o->range, text) < 0)
            return wrong_text(o, text, where);
        PLUMB_TRY(keep_text(field, c, text));
        return PLUMB_OK;
    case PLUMB_TYPE_CHOICE:
        if (plumb_range_word(o->range, text) < 0)
            return wrong_text(o, text, where);
        *(int *)field = plumb_range_word(o->range, text);
        return PLUMB_OK;
    case PLUMB_TYPE_TEXT:
        PLUMB_REQUIRE(plumb_utf8_valid(text, (int64_t)strlen(text)) == (int64_t)strlen(text),
                      PLUMB_ERR_CONFIG, "%s: %s is not valid UTF-8", where, o->path);
        PLUMB_TRY(keep_text(field, c, text));
        return PLUMB_OK;
    default:
        return wrong_text(o, text, where);
    }
}

static plumb_status set_texts(struct plumb_config *c, struct plumb_texts *out,
                              const struct plumb_option *o, const struct plumb_yaml *list,
                              const char *where)
{
    void *memory = NULL;
    int64_t n = 0;
    PLUMB_TRY(plumb_config_take(&memory, c, (list->n + 1) * (int64_t)sizeof(*out->item)));
    const char **item = memory;
    for (const struct plumb_yaml *v = list->first; v; v = v->next) {
        if (v->type != PLUMB_YAML_SCALAR || plumb_yaml_is_null(v))
            return wrong(o,
                         v->type == PLUMB_YAML_LIST  ? "a list with a list in it"
                         : v->type == PLUMB_YAML_MAP ? "a list with a map in it"
                                                     : "a list with null in it",
                         where);
        PLUMB_TRY(keep_text(&item[n++], c, v->text));
    }
    *out = (struct plumb_texts){item, n};
    return PLUMB_OK;
}

/* Sets a list from a scalar, which becomes its only element. A scalar with an unquoted comma is
 * refused, because the user may have meant a list. */
static plumb_status set_one_text(struct plumb_config *c, struct plumb_texts *out,
                                 const struct plumb_option *o, const struct plumb_yaml *v,
                                 const char *where)
{
    void *memory = NULL;
    PLUMB_REQUIRE(v->quoted || !strchr(v->text, ','), PLUMB_ERR_CONFIG,
                  "%s: %s is '%.200s', which may be one text or several; write \"a,b\" in quotes "
                  "for one, [a, b] for a list",
                  where, o->path, v->text);
    PLUMB_TRY(plumb_config_take(&memory, c, (int64_t)sizeof(*out->item)));
    const char **item = memory;
    PLUMB_TRY(keep_text(&item[0], c, v->text));
    *out = (struct plumb_texts){item, 1};
    return PLUMB_OK;
}

static bool is_text(enum plumb_option_type t)
{
    return t == PLUMB_TYPE_TEXT || t == PLUMB_TYPE_WORD || t == PLUMB_TYPE_CHOICE;
}

plumb_status plumb_value_set(struct plumb_config *c, void *base, const struct plumb_option *o,
                             const struct plumb_yaml *v, const char *where)
{
    void *field = (char *)base + o->offset;
    if (plumb_yaml_is_null(v))
        return PLUMB_OK; /* null means that the option is not given */
    PLUMB_REQUIRE(v->type == PLUMB_YAML_SCALAR || o->type != PLUMB_TYPE_TEXT, PLUMB_ERR_CONFIG,
                  "%s: %s is %s, expected text; a text that begins with '[' or '{' needs quotes",
                  where, o->path, plumb_yaml_type_name(v));
    if (o->type == PLUMB_TYPE_MAP)
        return v->type == PLUMB_YAML_MAP    ? plumb_map_set(c, field, v)
               : v->type == PLUMB_YAML_LIST ? wrong(o, plumb_yaml_type_name(v), where)
                                            : wrong_text(o, v->text, where);
    if (v->type == PLUMB_YAML_MAP || o->type == PLUMB_TYPE_FUNCTIONS)
        return wrong(o, plumb_yaml_type_name(v), where);
    if (o->type == PLUMB_TYPE_TEXTS)
        return v->type == PLUMB_YAML_LIST ? set_texts(c, field, o, v, where)
                                          : set_one_text(c, field, o, v, where);
    if (v->type == PLUMB_YAML_LIST)
        return wrong(o, plumb_yaml_type_name(v), where);
    if (v->quoted && !is_text(o->type))
        return wrong(o, "text in quotes", where);
    return set_scalar(c, field, o, v->text, where);
}

plumb_status plumb_option_set_text(struct plumb_config *c, void *base, const struct plumb_option *o,
                                   const char *text, const char *where)
{
    void *field = (char *)base + o->offset;
    if (o->type == PLUMB_TYPE_TEXTS)
        *(struct plumb_texts *)field = (struct plumb_texts){0};
    else if (o->type == PLUMB_TYPE_MAP) {
        *(const char **)field = "{}";
        return !*text || !strcmp(text, "{}") ? PLUMB_OK : wrong_text(o, text, where);
    } else if (o->type == PLUMB_TYPE_FUNCTIONS)
        *(struct plumb_reward_functions *)field = (struct plumb_reward_functions){0};
    else
        return set_scalar(c, field, o, text, where);
    return *text ? wrong_text(o, text, where) : PLUMB_OK;
}

static plumb_status put_texts(struct plumb_buf *b, const struct plumb_texts *t)
{
    PLUMB_TRY(plumb_buf_add_text(b, "["));
    for (int64_t i = 0; i < t->n; i++) {
        PLUMB_TRY(plumb_buf_add_text(b, i ? ", " : ""));
        PLUMB_TRY(plumb_yaml_put_string(b, t->item[i]));
    }
    PLUMB_TRY(plumb_buf_add_text(b, "]"));
    return PLUMB_OK;
}

plumb_status plumb_value_put(struct plumb_buf *b, const void *base, const struct plumb_option *o)
{
    const void *field = (const char *)base + o->offset;
    const char *word = o->range;
    switch (o->type) {
    case PLUMB_TYPE_BOOL:
        return plumb_buf_add_text(b, *(const bool *)field ? "true" : "false");
    case PLUMB_TYPE_INT:
        return plumb_buf_addf(b, "%" PRId64, *(const int64_t *)field);
    case PLUMB_TYPE_SEED:
        return plumb_buf_addf(b, "%" PRIu64, *(const uint64_t *)field);
    case PLUMB_TYPE_AUTO:
        if (*(const double *)field == PLUMB_AUTO)
            return plumb_buf_add_text(b, "auto");
        return plumb_json_put_real(b, *(const double *)field);
    case PLUMB_TYPE_REAL:
        return plumb_json_put_real(b, *(const double *)field);
    case PLUMB_TYPE_TEXT:
    case PLUMB_TYPE_WORD:
        return plumb_yaml_put_string(b, *(const char *const *)field);
    case PLUMB_TYPE_CHOICE:
        for (int i = 0; i < *(const int *)field; i++)
            word += strcspn(word, "|") + 1;
        return plumb_buf_add(b, word, (int64_t)strcspn(word, "|"));
    case PLUMB_TYPE_MAP:
        return plumb_buf_add_text(b, *(const char *const *)field);
    case PLUMB_TYPE_TEXTS:
        return put_texts(b, field);
    case PLUMB_TYPE_FUNCTIONS:
        return PLUMB_OK;
    }
    return PLUMB_OK;
}
