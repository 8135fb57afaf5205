/* argument.c - parses the value of a key=value argument of the command line.
 * Layer 3. Includes option.h, io/yaml.h, io/json.h, base/.
 *
 * A value means the same as after "key: " in the YAML file, with three exceptions. First, unquoted
 * text is used unchanged, including blanks, ':' and '#', because the shell has already found its
 * end and no comment can follow. Second, in unquoted text for the model (plumb_option_is_prose),
 * \n, \t and \r are a line break, a tab and a carriage return. Third, a list may be written a,b. A
 * value that would mean something else by YAML than by these rules is an error. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "config/option.h"
#include "io/json.h"
#include "io/utf8.h"

#define BLANKS " \t"

static const char *after_blanks(const char *text)
{
    return text + strspn(text, BLANKS);
}

static size_t length_before_blanks(const char *text)
{
    size_t n = strlen(text);
    while (n > 0 && strchr(BLANKS, text[n - 1]))
        n--;
    return n;
}

bool plumb_argument_is_null(const char *text)
{
    char word[8]; /* longer than each word that means null */
    const char *first = after_blanks(text);
    const size_t n = length_before_blanks(first);
    if (n == 0 || n >= sizeof(word))
        return false;
    memcpy(word, first, n);
    word[n] = '\0';
    const struct plumb_yaml plain = {.type = PLUMB_YAML_SCALAR, .text = word};
    return plumb_yaml_is_null(&plain);
}

/* Returns a pointer to the character after the quoted text that begins at `text`, or NULL if the
 * closing quotation mark is missing. */
static const char *quotation_end(const char *text)
{
    const char quote = *text;
    for (const char *at = text + 1; *at; at++) {
        if (quote == '"' && *at == '\\' && at[1])
            at++;
        else if (quote == '\'' && *at == quote && at[1] == quote)
            at++;
        else if (*at == quote)
            return at + 1;
    }
    return NULL;
}

static bool is_quote(char c)
{
    return c == '"' || c == '\'';
}

/* Appends n bytes of unquoted text. If o is text for the model (plumb_option_is_prose), \n, \t and
 * \r in it become control characters. */
static plumb_status add_unquoted(struct plumb_buf *out, const struct plumb_option *o,
                                 const char *text, size_t n)
{
    static const char letters[] = "ntr", control[] = "\n\t\r";
    const bool prose = plumb_option_is_prose(o);
    for (size_t i = 0; i < n; i++) {
        const char *escape = prose && text[i] == '\\' && i + 1 < n && text[i + 1]
                                 ? strchr(letters, text[i + 1])
                                 : NULL;
        PLUMB_TRY(plumb_buf_add(out, escape ? control + (escape - letters) : text + i, 1));
        i += escape != NULL;
    }
    return PLUMB_OK;
}

/* Sets the option from len bytes of YAML. */
static plumb_status set_yaml(struct plumb_config *c, void *base, const struct plumb_option *o,
                             const char *text, int64_t len, const char *where)
{
    struct plumb_yaml *v = NULL;
    plumb_status st = plumb_yaml_parse(&v, text, len, where);
    if (st == PLUMB_OK)
        st = plumb_option_set(c, base, o, v, where);
    else if (st == PLUMB_ERR_FORMAT)
        st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__, "%s", plumb_trail_message());
    plumb_yaml_free(&v);
    return st;
}

/* Sets the option from quoted text, which must be the whole value. */
static plumb_status set_quoted(struct plumb_config *c, void *base, const struct plumb_option *o,
                               const char *text, const char *where)
{
    const char *end = quotation_end(text);
    PLUMB_REQUIRE(end && !*after_blanks(end), PLUMB_ERR_CONFIG,
                  "%s: %s begins with a quotation mark, but the quotation %s; expected the whole "
                  "value in quotes, as \"...\" or '...' (a quotation mark inside is \\\" or '')",
                  where, o->path, end ? "ends before the value does" : "does not end");
    return set_yaml(c, base, o, text, end - text, where);
}

/* ---- lists ---------------------------------------------------------------------------------- */

/* Reads the element at *at of a list written a,b, appends it to the YAML list `list`, and moves *at
 * to the comma or the end of the text after it. */
static plumb_status add_element(struct plumb_buf *list, const char **at,
                                const struct plumb_option *o, const char *where)
{
    const char *begin = *at, *first = after_blanks(begin);
    if (is_quote(*first)) {
        const char *end = quotation_end(first), *next = end ? after_blanks(end) : NULL;
        PLUMB_REQUIRE(next && (!*next || *next == ','), PLUMB_ERR_CONFIG,
                      "%s: %s: an element of the list begins with a quotation mark, but the "
                      "quotation %s; expected the whole element in quotes",
                      where, o->path, end ? "ends before the element does" : "does not end");
        *at = next;
        return plumb_buf_add(list, first, end - first);
    }
    char text[64];
    const size_t n = strcspn(begin, ",");
    snprintf(text, sizeof(text), "%.*s", n < sizeof(text) ? (int)n : (int)sizeof(text) - 1, begin);
    PLUMB_REQUIRE(n > 0, PLUMB_ERR_CONFIG,
                  "%s: %s: an element of the list is empty; write \"\" for an empty text", where,
                  o->path);
    PLUMB_REQUIRE(*first != '[' && *first != '{', PLUMB_ERR_CONFIG,
                  "%s: %s: an element of the list is a %s, expected a text; a text that begins "
                  "with '%c' needs quotes",
                  where, o->path, *first == '[' ? "list" : "map", *first);
    const struct plumb_yaml plain = {.type = PLUMB_YAML_SCALAR, .text = text};
    PLUMB_REQUIRE(!plumb_yaml_is_null(&plain), PLUMB_ERR_CONFIG,
                  "%s: %s: an element of the list is null, expected a text; write \"%s\" in quotes "
                  "for the text",
                  where, o->path, text);
    *at = begin + n;
    struct plumb_buf element = {0};
    plumb_status st = add_unquoted(&element, o, begin, n);
    if (st == PLUMB_OK)
        st = plumb_json_put_string(list, plumb_buf_text(&element), element.len);
    plumb_buf_fini(&element);
    return st;
}

/* Sets the option from a list written a,b, which is converted to [a, b]. */
static plumb_status set_list(struct plumb_config *c, void *base, const struct plumb_option *o,
                             const char *text, const char *where)
{
    struct plumb_buf list = {0};
    const char *at = text;
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&list, "["), done);
    PLUMB_TRY_GOTO(st, add_element(&list, &at, o, where), done);
    while (*at == ',') {
        at++;
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(&list, ", "), done);
        PLUMB_TRY_GOTO(st, add_element(&list, &at, o, where), done);
    }
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&list, "]"), done);
    st = set_yaml(c, base, o, plumb_buf_text(&list), list.len, where);
done:
    plumb_buf_fini(&list);
    return st;
}

/* ---- values of all types --------------------------------------------------------------------- */

/* Sets the option from a value that does not begin with a quotation mark, or from a list. The
 * blanks around an unquoted value are removed, as YAML does for unquoted scalars, unless the option
 * is a text. */
static plumb_status set_word(struct plumb_config *c, void *base, const struct plumb_option *o,
                             const char *text, const char *where)
{
    struct plumb_buf word = {0}, whole = {0};
    const char *first = after_blanks(text);
    const size_t n = length_before_blanks(first);
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_buf_add(&word, first, (int64_t)n), done);
    PLUMB_TRY_GOTO(st, add_unquoted(&whole, o, text, strlen(text)), done);
    const struct plumb_yaml plain = {.type = PLUMB_YAML_SCALAR, .text = plumb_buf_text(&word)};
    if (o->type == PLUMB_TYPE_FUNCTIONS || o->type == PLUMB_TYPE_MAP)
        st = set_yaml(c, base, o, text, (int64_t)strlen(text), where);
    else if (o->type == PLUMB_TYPE_TEXTS && (*first == '[' || *first == '{'))
        st = set_yaml(c, base, o, text, (int64_t)strlen(text), where);
    else if (o->type == PLUMB_TYPE_TEXTS)
        st = set_list(c, base, o, text, where);
    else
        st = plumb_option_set_text(
            c, base, o, o->type == PLUMB_TYPE_TEXT ? plumb_buf_text(&whole) : plain.text, where);
done:
    plumb_buf_fini(&word);
    plumb_buf_fini(&whole);
    return st;
}

plumb_status plumb_option_set_argument(struct plumb_config *c, void *base,
                                       const struct plumb_option *o, const char *text,
                                       const char *where)
{
    const bool list =
        o->type == PLUMB_TYPE_TEXTS || o->type == PLUMB_TYPE_FUNCTIONS || o->type == PLUMB_TYPE_MAP;
    const int64_t len = (int64_t)strlen(text);
    PLUMB_REQUIRE(plumb_utf8_valid(text, len) == len, PLUMB_ERR_CONFIG, "%s: %s is not valid UTF-8",
                  where, o->path);
    if (!*text && o->type == PLUMB_TYPE_TEXT && *o->value)
        PLUMB_FAIL(
            PLUMB_ERR_CONFIG,
            "%s: %s is empty; write null for the default, or \"\" (inside of the shell's own "
            "quotes) for an empty text",
            where, o->path);
    if (!*text && list)
        return plumb_option_set_text(c, base, o, "", where);
    if (is_quote(*after_blanks(text)) && o->type != PLUMB_TYPE_TEXTS)
        return set_quoted(c, base, o, after_blanks(text), where);
    return set_word(c, base, o, text, where);
}
