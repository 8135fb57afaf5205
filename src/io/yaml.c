/* yaml.c - builds a tree from the events of libfyaml's parser.
 * Layer 1. Includes yaml.h, json.h, file.h, base/, libfyaml.
 *
 * It uses the parser's events and not libfyaml's documents, because each event has the line and
 * column of its token, and because unsupported YAML features can be reported with their position.
 */
#include "io/yaml.h"

#include <ctype.h>
#include <inttypes.h>
#include <libfyaml.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"
#include "io/utf8.h"

enum { MAX_DEPTH = 64 };

struct reader {
    struct fy_parser *parser;
    struct fy_diag *diag;
    const char *where;
};

static void free_tree(struct plumb_yaml *v)
{
    while (v) {
        struct plumb_yaml *next = v->next;
        free_tree(v->first); /* recursion of at most MAX_DEPTH levels */
        free((char *)v->text);
        free((char *)v->key);
        free(v);
        v = next;
    }
}

void plumb_yaml_free(struct plumb_yaml **root)
{
    if (!root || !*root)
        return;
    free_tree(*root);
    *root = NULL;
}

/* Raises the error that libfyaml has collected, or an error with `text` if it has collected
 * none. */
static plumb_status parser_error(const struct reader *r, const char *text)
{
    void *at = NULL;
    const struct fy_diag_error *e = r->diag ? fy_diag_errors_iterate(r->diag, &at) : NULL;
    if (!e)
        PLUMB_FAIL(PLUMB_ERR_FORMAT, "%s: YAML: %s", r->where, text);
    PLUMB_FAIL(PLUMB_ERR_FORMAT, "%s:%d:%d: YAML: %s", r->where, e->line, e->column, e->msg);
}

static void place(int *line, int *column, struct fy_token *token)
{
    const struct fy_mark *mark = token ? fy_token_start_mark(token) : NULL;
    *line = mark ? mark->line + 1 : 1;
    *column = mark ? mark->column + 1 : 1;
}

static plumb_status refuse(const struct reader *r, struct fy_token *token, const char *what)
{
    int line, column;
    place(&line, &column, token);
    PLUMB_FAIL(PLUMB_ERR_FORMAT, "%s:%d:%d: YAML: %s is not supported here; write the value out",
               r->where, line, column, what);
}

static plumb_status copy_text(const char **out, struct fy_token *token, const struct reader *r)
{
    size_t len = 0;
    const char *text = token ? fy_token_get_text(token, &len) : "";
    int line, column;
    place(&line, &column, token);
    PLUMB_REQUIRE(text, PLUMB_ERR_NOMEM, "%s:%d:%d: cannot read a YAML scalar", r->where, line,
                  column);
    PLUMB_REQUIRE(!memchr(text, '\0', len), PLUMB_ERR_FORMAT,
                  "%s:%d:%d: YAML: a NUL byte inside a scalar", r->where, line, column);
    *out = strndup(text, len);
    PLUMB_REQUIRE(*out, PLUMB_ERR_NOMEM, "%s: cannot store a YAML scalar of %zu bytes", r->where,
                  len);
    return PLUMB_OK;
}

/* Refuses an alias, an anchor or a tag. Then sets the type, line and column of v, and the text of a
 * scalar. */
static plumb_status begin(struct plumb_yaml *v, const struct reader *r, struct fy_event *e)
{
    struct fy_token *anchor = NULL, *tag = NULL, *token = NULL;
    switch (e->type) {
    case FYET_SCALAR:
        anchor = e->scalar.anchor, tag = e->scalar.tag, token = e->scalar.value;
        v->type = PLUMB_YAML_SCALAR;
        break;
    case FYET_SEQUENCE_START:
        anchor = e->sequence_start.anchor, tag = e->sequence_start.tag;
        token = e->sequence_start.sequence_start;
        v->type = PLUMB_YAML_LIST;
        break;
    case FYET_MAPPING_START:
        anchor = e->mapping_start.anchor, tag = e->mapping_start.tag;
        token = e->mapping_start.mapping_start;
        v->type = PLUMB_YAML_MAP;
        break;
    case FYET_ALIAS:
        return refuse(r, e->alias.anchor, "an alias");
    default:
        return parser_error(r, "a value is missing");
    }
    if (anchor)
        return refuse(r, anchor, "an anchor");
    if (tag)
        return refuse(r, tag, "a tag");
    const enum fy_scalar_style style =
        v->type == PLUMB_YAML_SCALAR && token ? fy_token_scalar_style(token) : FYSS_PLAIN;
    v->quoted = style != FYSS_PLAIN;
    /* A null without text and a block scalar keep the line and column of their key, which the
     * caller has set. */
    if (!v->line || (token && style != FYSS_LITERAL && style != FYSS_FOLDED))
        place(&v->line, &v->column, token);
    if (style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED)
        v->column--; /* libfyaml reports the column after the opening quote */
    if (v->type == PLUMB_YAML_SCALAR)
        PLUMB_TRY(copy_text(&v->text, token, r));
    return PLUMB_OK;
}

static plumb_status read_children(struct plumb_yaml *v, const struct reader *r, int depth);

/* Reads the value that begins with the event *e into *v. Releases *e. */
static plumb_status read_value(struct plumb_yaml *v, const struct reader *r, struct fy_event *e,
                               int depth)
{
    const plumb_status st = begin(v, r, e);
    fy_parser_event_free(r->parser, e);
    PLUMB_TRY(st);
    PLUMB_REQUIRE(depth <= MAX_DEPTH, PLUMB_ERR_FORMAT,
                  "%s:%d:%d: YAML: more than %d nested levels", r->where, v->line, v->column,
                  MAX_DEPTH);
    if (v->type != PLUMB_YAML_SCALAR)
        PLUMB_TRY(read_children(v, r, depth));
    return PLUMB_OK;
}

/* Reads the key of a map member from the event *e. Releases *e. */
static plumb_status read_key(struct plumb_yaml *member, const struct plumb_yaml *map,
                             const struct reader *r, struct fy_event *e)
{
    plumb_status st = PLUMB_OK;
    struct plumb_yaml key = {0};
    PLUMB_TRY_GOTO(st, begin(&key, r, e), fail);
    if (key.type != PLUMB_YAML_SCALAR)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail, "%s:%d:%d: YAML: a key must be a scalar",
                        r->where, key.line, key.column);
    if (!key.quoted && !strcmp(key.text, "<<"))
        PLUMB_TRY_GOTO(st, refuse(r, e->scalar.value, "a merge key"), fail);
    for (const struct plumb_yaml *m = map->first; m; m = m->next)
        if (m != member && !strcmp(m->key, key.text))
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail,
                            "%s:%d:%d: YAML: key '%s' is in this map already, on line %d", r->where,
                            key.line, key.column, key.text, m->key_line);
    member->key = key.text;
    member->key_line = key.line;
    member->key_column = key.column;
    key.text = NULL;
fail:
    free((char *)key.text);
    fy_parser_event_free(r->parser, e);
    return st;
}

static plumb_status read_children(struct plumb_yaml *v, const struct reader *r, int depth)
{
    const bool map = v->type == PLUMB_YAML_MAP;
    struct plumb_yaml **end = &v->first;
    for (;;) {
        struct fy_event *e = fy_parser_parse(r->parser);
        if (!e)
            return parser_error(r, "the text ends inside a map or list");
        if (e->type == (map ? FYET_MAPPING_END : FYET_SEQUENCE_END)) {
            fy_parser_event_free(r->parser, e);
            return PLUMB_OK;
        }
        struct plumb_yaml *child = calloc(1, sizeof(*child));
        if (!child) {
            fy_parser_event_free(r->parser, e);
            PLUMB_FAIL(PLUMB_ERR_NOMEM, "%s: cannot store a YAML value", r->where);
        }
        if (map) {
            const plumb_status st = read_key(child, v, r, e);
            if (st != PLUMB_OK) {
                free(child);
                return plumb_pass_at(st, __FILE__, __LINE__, "read_key");
            }
            e = fy_parser_parse(r->parser);
        }
        *end = child; /* from here on the tree owns the child */
        end = &child->next;
        v->n++;
        if (!e)
            return parser_error(r, "a value is missing");
        /* the position of a null without text is that of its key or list */
        child->line = map ? child->key_line : v->line;
        child->column = map ? child->key_column : v->column;
        PLUMB_TRY(read_value(child, r, e, depth + 1));
    }
}

/* Reads the only document of the stream into root; a stream without a document gives an empty
 * map. */
static plumb_status read_stream(struct plumb_yaml *root, const struct reader *r)
{
    bool seen = false;
    root->type = PLUMB_YAML_MAP;
    root->line = root->column = 1;
    for (;;) {
        struct fy_event *e = fy_parser_parse(r->parser);
        if (!e)
            return parser_error(r, "the text cannot be parsed");
        const enum fy_event_type type = e->type;
        if (type == FYET_SCALAR || type == FYET_SEQUENCE_START || type == FYET_MAPPING_START ||
            type == FYET_ALIAS) {
            PLUMB_TRY(read_value(root, r, e, 1));
            continue;
        }
        int line, column;
        place(&line, &column,
              type == FYET_DOCUMENT_START ? e->document_start.document_start : NULL);
        fy_parser_event_free(r->parser, e);
        if (type == FYET_STREAM_END)
            return PLUMB_OK;
        PLUMB_REQUIRE(type != FYET_DOCUMENT_START || !seen, PLUMB_ERR_FORMAT,
                      "%s:%d:%d: YAML: a second document begins, expected one", r->where, line,
                      column);
        seen = seen || type == FYET_DOCUMENT_START;
    }
}

plumb_status plumb_yaml_parse(struct plumb_yaml **out, const char *text, int64_t len,
                              const char *where)
{
    *out = NULL;
    PLUMB_REQUIRE(len >= 0 && len <= 1 << 24, PLUMB_ERR_UNSUPPORTED,
                  "%s: the YAML text has %" PRId64 " bytes, but at most %d are allowed", where, len,
                  1 << 24);
    PLUMB_REQUIRE(!len || !memchr(text, '\0', (size_t)len), PLUMB_ERR_FORMAT,
                  "%s: YAML: the text contains a NUL byte", where);
    /* libfyaml would silently drop all bytes after an invalid one. */
    const int64_t valid = len ? plumb_utf8_valid(text, len) : 0;
    PLUMB_REQUIRE(valid == len, PLUMB_ERR_FORMAT, "%s: YAML: byte %" PRId64 " is not valid UTF-8",
                  where, valid);
    struct reader r = {.where = where};
    plumb_status st = PLUMB_OK;
    struct fy_diag_cfg quiet;
    fy_diag_cfg_default(&quiet);
    quiet.fp = NULL;
    struct plumb_yaml *root = calloc(1, sizeof(*root));
    r.diag = fy_diag_create(&quiet);
    if (!root || !r.diag)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "%s: cannot create a YAML reader", where);
    fy_diag_set_collect_errors(r.diag, true);
    const struct fy_parse_cfg cfg = {.search_path = "",
                                     .flags =
                                         FYPCF_QUIET | FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE,
                                     .diag = r.diag};
    r.parser = fy_parser_create(&cfg);
    if (!r.parser || fy_parser_set_string(r.parser, len ? text : "", (size_t)len) != 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "%s: cannot create a YAML parser", where);
    PLUMB_TRY_GOTO(st, read_stream(root, &r), fail);
    *out = root;
    root = NULL;
fail:
    if (r.parser)
        fy_parser_destroy(r.parser);
    if (r.diag)
        fy_diag_destroy(r.diag);
    plumb_yaml_free(&root);
    return st;
}

plumb_status plumb_yaml_read_file(struct plumb_yaml **out, const char *path)
{
    *out = NULL;
    struct plumb_buf text = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_file_read_text(&text, path, "a YAML file"), fail);
    PLUMB_TRY_GOTO(st, plumb_yaml_parse(out, plumb_buf_text(&text), text.len, path), fail);
fail:
    plumb_buf_fini(&text);
    return st;
}

bool plumb_yaml_is_null(const struct plumb_yaml *v)
{
    static const char *const name[] = {"", "~", "null", "Null", "NULL"};
    if (!v)
        return true;
    if (v->type != PLUMB_YAML_SCALAR || v->quoted)
        return false;
    for (size_t i = 0; i < sizeof(name) / sizeof(*name); i++)
        if (!strcmp(v->text, name[i]))
            return true;
    return false;
}

const char *plumb_yaml_type_name(const struct plumb_yaml *v)
{
    static const char *const name[] = {"a scalar", "a list", "a map"};
    return name[v->type];
}

/* Returns true if text can be written without quotes: its first character is a letter, '/' or '_',
 * no character has a special meaning in YAML, and the text is not a word that YAML 1.1 or 1.2 reads
 * as a boolean or null. */
static bool plain_is_safe(const char *text)
{
    static const char *const word[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"};
    if (!isalpha((unsigned char)text[0]) && text[0] != '/' && text[0] != '_')
        return false;
    for (const char *c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("_-./+=@", *c))
            return false;
    for (size_t i = 0; i < sizeof(word) / sizeof(*word); i++)
        if (!strcasecmp(text, word[i]))
            return false;
    return true;
}

plumb_status plumb_yaml_put_string(struct plumb_buf *b, const char *text)
{
    /* the quoted form is a JSON string: every JSON string is also a double-quoted YAML scalar */
    if (plain_is_safe(text))
        PLUMB_TRY(plumb_buf_add_text(b, text));
    else
        PLUMB_TRY(plumb_json_put_string(b, text, (int64_t)strlen(text)));
    return PLUMB_OK;
}
