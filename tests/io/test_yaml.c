/* test_yaml.c - checks the YAML tree, the lines and columns of its values, and that certain texts
 * are refused.
 * Test. Includes harness.h, io/. */
#include <string.h>

#include "harness.h"
#include "io/yaml.h"

static struct plumb_yaml *good(const char *text)
{
    struct plumb_yaml *v = NULL;
    CHECK_OK(plumb_yaml_parse(&v, text, (int64_t)strlen(text), "f.yaml"));
    return v;
}

static void bad(const char *text, const char *message)
{
    struct plumb_yaml *v = (struct plumb_yaml *)&v;
    CHECKF(plumb_yaml_parse(&v, text, (int64_t)strlen(text), "f.yaml") == PLUMB_ERR_FORMAT, "%s",
           text);
    CHECK(v == NULL);
    CHECKF(strstr(plumb_trail_message(), message), "'%s' does not say '%s'", plumb_trail_message(),
           message);
}

static const struct plumb_yaml *at(const struct plumb_yaml *v, int i)
{
    for (v = v->first; i > 0; i--)
        v = v->next;
    CHECK(v);
    return v;
}

static void is(const struct plumb_yaml *v, const char *text, bool quoted, int line, int column)
{
    CHECKF(v->type == PLUMB_YAML_SCALAR && !strcmp(v->text, text) && v->quoted == quoted &&
               v->line == line && v->column == column,
           "'%s' %d %d:%d", v->text, v->quoted, v->line, v->column);
}

static void test_tree(void)
{
    struct plumb_yaml *v = good("a: 1\nb:\n  c: [x, 'y', \"z\\n\"]\n  d: {e: 1.5, f: }\n  g:\n"
                                "  - p: 1\n    q: |\n      text\n      more\n  - ~\n\"h\": ~\n");
    CHECK(v->type == PLUMB_YAML_MAP && v->n == 3 && v->line == 1 && v->column == 1);
    is(at(v, 0), "1", false, 1, 4);
    const struct plumb_yaml *b = at(v, 1), *c = at(b, 0), *d = at(b, 1), *g = at(b, 2);
    CHECK(!strcmp(b->key, "b") && b->key_line == 2 && b->key_column == 1 && b->n == 3);
    CHECK(c->type == PLUMB_YAML_LIST && c->n == 3 && c->line == 3 && c->column == 6);
    is(at(c, 0), "x", false, 3, 7);
    is(at(c, 1), "y", true, 3, 10);
    is(at(c, 2), "z\n", true, 3, 15);
    is(at(d, 1), "", false, 4, 15);
    CHECK(g->n == 2 && at(g, 0)->type == PLUMB_YAML_MAP);
    is(at(at(g, 0), 0), "1", false, 6, 8);
    is(at(at(g, 0), 1), "text\nmore\n", true, 7, 5);
    CHECK(plumb_yaml_is_null(at(g, 1)) && at(g, 1)->line == 10);
    CHECK(!strcmp(at(v, 2)->key, "h") && plumb_yaml_is_null(at(v, 2)));
    CHECK(!plumb_yaml_is_null(at(c, 1)) && plumb_yaml_is_null(NULL) && !plumb_yaml_is_null(c));
    CHECK(!strcmp(plumb_yaml_type_name(c), "a list"));
    plumb_yaml_free(&v);
    CHECK(v == NULL);
    plumb_yaml_free(&v);
    static const char *const empty[] = {"", "# only a comment\n", "---\n...\n"};
    for (int i = 0; i < 2; i++) {
        v = good(empty[i]);
        CHECK(v->type == PLUMB_YAML_MAP && v->n == 0);
        plumb_yaml_free(&v);
    }
    v = good("x: \"~\"\n");
    CHECK(!plumb_yaml_is_null(at(v, 0)));
    plumb_yaml_free(&v);
}

static void test_refusals(void)
{
    bad("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: YAML: key 'a' is in this map already, on line 1");
    bad("a: &x 1\n", "f.yaml:1:5: YAML: an anchor");
    bad("a: *x\n", "f.yaml:1:5: YAML: an alias");
    bad("a: !!str 1\n", "f.yaml:1:4: YAML: a tag");
    bad("<<: {a: 1}\n", "f.yaml:1:1: YAML: a merge key");
    bad("? [a]\n: 2\n", "f.yaml:1:3: YAML: a key must be a scalar");
    bad("a: 1\n---\nb: 2\n", "f.yaml:2:1: YAML: a second document");
    bad("a: [1, 2\n", "f.yaml:2:1: YAML: ");
    bad("a:\n\tb: 1\n", "f.yaml:2:");
    bad("a: b: c\n", "f.yaml:1:5: YAML: ");
    bad("a: 'x\n", "YAML: ");
    bad("a: \"x\\0\"\n", "f.yaml:1:5: YAML: a NUL byte inside a scalar");
    bad("a: \xc3\x28\n", "f.yaml: YAML: byte 3 is not valid UTF-8");
    struct plumb_yaml *v;
    CHECK(plumb_yaml_parse(&v, "a: \0", 4, "f.yaml") == PLUMB_ERR_FORMAT);
    CHECK(plumb_yaml_read_file(&v, "/no/such.yaml") == PLUMB_ERR_IO);
    struct plumb_buf deep = {0};
    for (int i = 0; i < 5000; i++)
        CHECK_OK(plumb_buf_add_text(&deep, "["));
    bad(deep.data, "YAML: ");
    plumb_buf_clear(&deep);
    for (int i = 0; i < 100; i++)
        CHECK_OK(plumb_buf_addf(&deep, "%*sa:\n", i, ""));
    bad(deep.data, "more than 64 nested levels");
    plumb_buf_fini(&deep);
}

/* Checks that the text written by put_string is read back as the same string, in YAML's block style
 * and flow style. */
static void test_put_string(void)
{
    static const char *const text[] = {"",
                                       "plain",
                                       "a b",
                                       "a: b",
                                       "- x",
                                       "#c",
                                       "true",
                                       "No",
                                       "null",
                                       "~",
                                       "1",
                                       "1.5e3",
                                       ".5",
                                       "-",
                                       "a,b",
                                       "[x]",
                                       "{y}",
                                       "it's",
                                       "say \"hi\"",
                                       "back\\slash",
                                       "tab\there",
                                       "line\nbreak\n",
                                       " lead",
                                       "trail ",
                                       "caf\xc3\xa9",
                                       "\xf0\x9f\x98\x80",
                                       "&a",
                                       "*a",
                                       "!a",
                                       "%a",
                                       "@a",
                                       "`a",
                                       "a#b",
                                       "a #b",
                                       "/path/to/file.txt",
                                       "../up",
                                       "<<",
                                       "---",
                                       "x=y",
                                       "\x01\x7f",
                                       "\xc2\x85",
                                       "\xe2\x80\xa8",
                                       "\xef\xbb\xbf"};
    struct plumb_buf b = {0};
    for (size_t i = 0; i < sizeof(text) / sizeof(*text); i++) {
        plumb_buf_clear(&b);
        CHECK_OK(plumb_buf_add_text(&b, "k: "));
        CHECK_OK(plumb_yaml_put_string(&b, text[i]));
        CHECK_OK(plumb_buf_add_text(&b, "\nl: [1, "));
        CHECK_OK(plumb_yaml_put_string(&b, text[i]));
        CHECK_OK(plumb_buf_add_text(&b, "]\nm: {n: "));
        CHECK_OK(plumb_yaml_put_string(&b, text[i]));
        CHECK_OK(plumb_buf_add_text(&b, "}\n"));
        struct plumb_yaml *v = good(b.data);
        CHECKF(v->n == 3 && !strcmp(at(v, 0)->text, text[i]) &&
                   !strcmp(at(at(v, 1), 1)->text, text[i]) &&
                   !strcmp(at(at(v, 2), 0)->text, text[i]),
               "%s", b.data);
        CHECK(!plumb_yaml_is_null(at(v, 0)));
        plumb_yaml_free(&v);
    }
    plumb_buf_fini(&b);
}

int main(void)
{
    test_tree();
    test_refusals();
    test_put_string();
    return 0;
}
