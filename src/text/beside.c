/* beside.c - reads token definitions from the files beside tokenizer.json.
 * Layer 3. Includes base/, io/json.h and text/beside.h. */
#include "text/beside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "text/pieces.h"

/* The paths of the three files. The macros use z, the struct plumb_beside of the function. */
#define CONFIG z->name[0]
#define MAP    z->name[1]
#define ADDED  z->name[2]

static const char *const role_name[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
#define N_ROLE ((int)(sizeof role_name / sizeof *role_name))

void plumb_beside_fini(struct plumb_beside *z)
{
    for (int64_t i = 0; i < z->n; i++)
        plumb_buf_fini(&z->request[i].content);
    free(z->request);
    plumb_json_free(&z->config);
    plumb_json_free(&z->map);
    plumb_json_free(&z->added);
    *z = (struct plumb_beside){0};
}

void plumb_beside_name(struct plumb_beside *z, const char *where)
{
    static const char *const name[] = {"tokenizer_config.json", "special_tokens_map.json",
                                       "added_tokens.json"};
    const char *slash = strrchr(where, '/');
    const int folder = slash ? (int)(slash - where) + 1 : 0;
    for (int i = 0; i < 3; i++)
        snprintf(z->name[i], sizeof z->name[i], "%.*s%s", folder < 900 ? folder : 0, where,
                 name[i]);
}

/* Returns the text of a token, which is a string or an object with the member "content"; NULL if v
 * is neither. */
static const char *text_of(const plumb_json *v)
{
    if (plumb_json_type_of(v) == PLUMB_JSON_OBJECT)
        v = plumb_json_get(v, "content");
    return plumb_json_string(v, NULL);
}

/* Returns the member `key` of special_tokens_map.json if that file is used and has it, otherwise
 * that of tokenizer_config.json, or NULL. *source becomes the name of the file. */
static const plumb_json *member(const struct plumb_beside *z, const char *key, const char **source)
{
    const plumb_json *in_map = z->listed ? NULL : plumb_json_member(z->map, key);
    *source = in_map ? MAP : CONFIG;
    return in_map ? in_map : plumb_json_member(z->config, key);
}

const char *plumb_beside_role(const struct plumb_beside *z, const char *role, bool *given)
{
    const char *source;
    const plumb_json *v = member(z, role, &source);
    *given = v != NULL;
    return text_of(v);
}

static bool is_role(const char *key)
{
    for (int i = 0; i < N_ROLE; i++)
        if (!strcmp(key, role_name[i]))
            return true;
    return false;
}

/* Appends a request to add a token. v is a string, or an object with "content" and flags. An empty
 * text is skipped, as in huggingface/tokenizers. */
static plumb_status request(struct plumb_beside *z, int kind, const plumb_json *v, bool special,
                            int64_t says, const char *key, const char *source)
{
    const bool no = false, object = plumb_json_type_of(v) == PLUMB_JSON_OBJECT;
    const plumb_json *text = object ? plumb_json_get(v, "content") : v;
    PLUMB_REQUIRE(plumb_json_type_of(text) == PLUMB_JSON_STRING, PLUMB_ERR_FORMAT,
                  "%s: %s: expected a string or {\"content\": string}", source, key);
    if (plumb_json_string_len(text) == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_grow((void **)&z->request, z->n, &z->cap, sizeof *z->request));
    struct plumb_token_request *w = &z->request[z->n++];
    *w = (struct plumb_token_request){.says = says, .source = source};
    w->kind = kind;
    PLUMB_TRY(plumb_buf_add(&w->content, plumb_json_string(text, ""), plumb_json_string_len(text)));
    w->special = special;
    if (object)
        PLUMB_TRY(plumb_json_want_bool(v, "special", &w->special, &special, source));
    w->special |= kind != PLUMB_REQUEST_PUT;
    const bool unless_special = !w->special;
    if (!object) {
        w->normalized = unless_special;
        return PLUMB_OK;
    }
    PLUMB_TRY(plumb_json_want_bool(v, "normalized", &w->normalized, &unless_special, source));
    PLUMB_TRY(plumb_json_want_bool(v, "single_word", &w->single_word, &no, source));
    PLUMB_TRY(plumb_json_want_bool(v, "lstrip", &w->lstrip, &no, source));
    return plumb_json_want_bool(v, "rstrip", &w->rstrip, &no, source);
}

/* ---- lists of tokens with ids --------------------------------------------------------------- */

/* One entry of a list. The id is the key in added_tokens_decoder and the value in
 * added_tokens.json. */
struct entry {
    int64_t id;
    const char *key;
    const plumb_json *value;
};

static int by_id(const void *a, const void *b)
{
    const int64_t x = ((const struct entry *)a)->id, y = ((const struct entry *)b)->id;
    return (x > y) - (x < y);
}

static plumb_status read_id(int64_t *id, const char *key, const plumb_json *value, bool listed,
                            const char *source)
{
    char *end = NULL;
    *id = listed ? strtoll(key, &end, 10) : plumb_json_int(value, -1);
    PLUMB_REQUIRE(*id >= 0 && *id <= INT32_MAX && (!listed || (end != key && !*end)),
                  PLUMB_ERR_FORMAT, "%s: %s\"%s\": expected a token id as %s", source,
                  listed ? "added_tokens_decoder: " : "", key, listed ? "key" : "value");
    return PLUMB_OK;
}

static plumb_status sorted(struct entry **out, const plumb_json *list, bool listed,
                           const char *source)
{
    const int64_t n = plumb_json_count(list);
    plumb_status st = PLUMB_OK;
    PLUMB_REQUIRE(plumb_json_type_of(list) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: %sexpected an object, found %s", source,
                  listed ? "added_tokens_decoder: " : "",
                  plumb_json_type_name(plumb_json_type_of(list)));
    struct entry *e = calloc((size_t)n + 1, sizeof *e);
    PLUMB_REQUIRE(e, PLUMB_ERR_NOMEM, "cannot read %lld added tokens", (long long)n);
    for (int64_t i = 0; i < n && st == PLUMB_OK; i++) {
        st = plumb_json_member_at(list, i, &e[i].key, &e[i].value);
        if (st == PLUMB_OK)
            st = read_id(&e[i].id, e[i].key, e[i].value, listed, source);
    }
    if (st != PLUMB_OK) {
        free(e);
        PLUMB_TRY(st);
    }
    qsort(e, (size_t)n, sizeof *e, by_id);
    *out = e;
    return PLUMB_OK;
}

static plumb_status request_decoder(struct plumb_beside *z, const plumb_json *list)
{
    struct entry *e = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(sorted(&e, list, true, CONFIG));
    for (int64_t i = 0; i < plumb_json_count(list) && st == PLUMB_OK; i++)
        st = request(z, PLUMB_REQUEST_PUT, e[i].value, false, e[i].id, "added_tokens_decoder",
                     CONFIG);
    free(e);
    return st;
}

static bool in_tokenizer_json(const plumb_json *root, int64_t id)
{
    const plumb_json *list = plumb_json_get(root, "added_tokens");
    for (int64_t i = 0; i < plumb_json_count(list); i++)
        if (plumb_json_int(plumb_json_get(plumb_json_at(list, i), "id"), -1) == id)
            return true;
    return false;
}

/* Collects the lists of further special tokens, in the order of transformers: first the list of
 * tokenizer_config.json, then that of special_tokens_map.json. The older name in
 * special_tokens_map.json is used only if there is no other list. Returns the number of lists. */
static int extras(const struct plumb_beside *z, const plumb_json *list[2], const char *source[2])
{
    static const char now[] = "extra_special_tokens", then[] = "additional_special_tokens";
    const plumb_json *map = z->listed ? NULL : z->map;
    int n = 0;
    list[n] = plumb_json_get(z->config, now);
    if (!plumb_json_count(list[n]))
        list[n] = plumb_json_get(z->config, then);
    source[n] = CONFIG;
    n += plumb_json_count(list[n]) > 0;
    list[n] = plumb_json_get(map, now);
    source[n] = MAP;
    n += plumb_json_count(list[n]) > 0;
    if (n == 0) {
        list[n] = plumb_json_get(map, then);
        n += plumb_json_count(list[n]) > 0;
    }
    return n;
}

static bool holds(const plumb_json *list, const char *text)
{
    for (int64_t i = 0; i < plumb_json_count(list); i++) {
        const char *one = text_of(plumb_json_at(list, i));
        if (one && !strcmp(one, text))
            return true;
    }
    return false;
}

/* Returns true if a token of added_tokens.json is special: it has a role of role_name or is in a
 * list of special tokens. As in transformers, additional_special_tokens of special_tokens_map.json
 * is not searched. */
static bool is_special(const struct plumb_beside *z, const char *text)
{
    const plumb_json *list[2];
    const char *source[2];
    bool special = false;
    for (int i = 0; i < N_ROLE; i++) {
        const char *role = text_of(member(z, role_name[i], source));
        special |= role && !strcmp(role, text);
    }
    const int n = extras(z, list, source);
    for (int i = 0; i < n; i++)
        special |=
            list[i] != plumb_json_get(z->map, "additional_special_tokens") && holds(list[i], text);
    return special;
}

static plumb_status put_added(struct plumb_beside *z, const char *text, int64_t id)
{
    const bool special = is_special(z, text);
    PLUMB_TRY(plumb_grow((void **)&z->request, z->n, &z->cap, sizeof *z->request));
    struct plumb_token_request *w = &z->request[z->n++];
    *w = (struct plumb_token_request){.kind = PLUMB_REQUEST_PUT,
                                      .special = special,
                                      .normalized = !special,
                                      .says = id,
                                      .source = ADDED};
    return plumb_buf_add_text(&w->content, text);
}

/* Appends the tokens of added_tokens.json. An entry is skipped if tokenizer.json gives its id to an
 * added token. */
static plumb_status request_added(struct plumb_beside *z, const plumb_json *root)
{
    struct entry *e = NULL;
    plumb_status st = PLUMB_OK;
    if (!z->added)
        return PLUMB_OK;
    PLUMB_TRY(sorted(&e, z->added, false, ADDED));
    for (int64_t i = 0; i < plumb_json_count(z->added) && st == PLUMB_OK; i++)
        if (*e[i].key && !in_tokenizer_json(root, e[i].id))
            st = put_added(z, e[i].key, e[i].id);
    free(e);
    return st;
}

/* ---- roles, and lists of tokens without ids -------------------------------------------------- */

static plumb_status request_role(struct plumb_beside *z, const char *key, const plumb_json *v,
                                 const char *source)
{
    if (plumb_json_type_of(v) == PLUMB_JSON_NULL)
        return PLUMB_OK;
    return request(z, PLUMB_REQUEST_NAMED, v, true, -1, key, source);
}

/* Appends the tokens of one file whose role is not a standard one, such as "image_token". */
static plumb_status request_others(struct plumb_beside *z, const plumb_json *file,
                                   const char *source)
{
    static const char tail[] = "_token";
    for (int64_t i = 0; i < plumb_json_count(file); i++) {
        const char *key;
        const plumb_json *v;
        PLUMB_TRY(plumb_json_member_at(file, i, &key, &v));
        const size_t n = strlen(key);
        if (n >= sizeof tail && !strcmp(key + n - (sizeof tail - 1), tail) && !is_role(key) &&
            text_of(v))
            PLUMB_TRY(request_role(z, key, v, source));
    }
    return PLUMB_OK;
}

static plumb_status request_list(struct plumb_beside *z, const plumb_json *list, const char *source)
{
    static const char name[] = "extra_special_tokens";
    const bool named = plumb_json_type_of(list) == PLUMB_JSON_OBJECT;
    for (int64_t i = 0; i < plumb_json_count(list); i++) {
        const char *key = name;
        const plumb_json *v = plumb_json_at(list, i);
        if (named)
            PLUMB_TRY(plumb_json_member_at(list, i, &key, &v));
        PLUMB_TRY(request(z, named ? PLUMB_REQUEST_NAMED : PLUMB_REQUEST_EXTRA, v, true, -1, key,
                          source));
    }
    return PLUMB_OK;
}

static plumb_status request_extras(struct plumb_beside *z)
{
    const plumb_json *list[2];
    const char *source[2];
    const int n = extras(z, list, source);
    if (plumb_json_count(plumb_json_get(z->config, "extra_special_tokens")) &&
        plumb_json_count(plumb_json_get(z->config, "additional_special_tokens")))
        plumb_log_once(
            PLUMB_LOG_WARN,
            "%s: the file has extra_special_tokens and additional_special_tokens; only the "
            "first is used, as in transformers 5",
            CONFIG);
    for (int i = 0; i < n; i++)
        PLUMB_TRY(request_list(z, list[i], source[i]));
    return PLUMB_OK;
}

static void compare_roles(const struct plumb_beside *z)
{
    for (int i = 0; i < N_ROLE; i++) {
        const char *a = text_of(plumb_json_get(z->config, role_name[i]));
        const char *b = text_of(plumb_json_get(z->map, role_name[i]));
        if (a && b && strcmp(a, b) != 0)
            plumb_log_once(PLUMB_LOG_WARN,
                           "%s: %s is \"%s\", but \"%s\" in special_tokens_map.json; the latter is "
                           "used, as in transformers if the former file has no "
                           "added_tokens_decoder",
                           CONFIG, role_name[i], a, b);
    }
}

static plumb_status want_object(const plumb_json *v, const char *name)
{
    PLUMB_REQUIRE(!v || plumb_json_type_of(v) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: expected an object, found %s", name,
                  plumb_json_type_name(plumb_json_type_of(v)));
    return PLUMB_OK;
}

static plumb_status want_lists(const plumb_json *file, const char *source)
{
    static const char *const name[] = {"extra_special_tokens", "additional_special_tokens"};
    for (int i = 0; i < 2; i++) {
        const enum plumb_json_type type = plumb_json_type_of(plumb_json_get(file, name[i]));
        PLUMB_REQUIRE(type == PLUMB_JSON_NULL || type == PLUMB_JSON_ARRAY ||
                          type == PLUMB_JSON_OBJECT,
                      PLUMB_ERR_FORMAT, "%s: %s: expected an array or an object, found %s", source,
                      name[i], plumb_json_type_name(type));
    }
    return PLUMB_OK;
}

plumb_status plumb_beside_read(struct plumb_beside *z, const plumb_json *root)
{
    const bool no = false;
    bool split = false;
    const char *source;
    PLUMB_TRY(want_object(z->config, CONFIG));
    PLUMB_TRY(want_object(z->map, MAP));
    PLUMB_TRY(want_object(z->added, ADDED));
    PLUMB_TRY(want_lists(z->config, CONFIG));
    PLUMB_TRY(want_lists(z->map, MAP));
    if (z->config)
        PLUMB_TRY(plumb_json_want_bool(z->config, "split_special_tokens", &split, &no, CONFIG));
    PLUMB_REQUIRE(!split, PLUMB_ERR_UNSUPPORTED,
                  "%s: split_special_tokens = true is not supported: plumb always recognises "
                  "special tokens in a text",
                  CONFIG);
    const plumb_json *list = plumb_json_member(z->config, "added_tokens_decoder");
    z->listed = list != NULL;
    if (list)
        PLUMB_TRY(request_decoder(z, list));
    else
        PLUMB_TRY(request_added(z, root));
    if (!z->listed)
        compare_roles(z);
    for (int i = 0; i < N_ROLE; i++) {
        const plumb_json *v = member(z, role_name[i], &source);
        PLUMB_TRY(request_role(z, role_name[i], v, source));
    }
    PLUMB_TRY(request_others(z, z->config, CONFIG));
    if (!z->listed)
        PLUMB_TRY(request_others(z, z->map, MAP));
    return request_extras(z);
}
