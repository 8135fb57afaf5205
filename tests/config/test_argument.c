/* test_argument.c - checks values of key=value on the command line: plumb reads them as in a file,
 * or refuses them.
 * Test. Includes load.h, config/. */
#include "load.h"

/* value: the text after `key=`. file: the text after `key: ` in a YAML file that must have the same
 * meaning; NULL if it is the same text as value. effective: what config.effective.yaml contains for
 * both. */
static const struct {
    const char *section, *name, *value, *file, *effective;
} values[] = {
    {"generate", "stop", "were", NULL, "[were]"},
    {"generate", "stop", "\"were\"", NULL, "[were]"},
    {"generate", "stop", "'were'", NULL, "[were]"},
    {"generate", "stop", "[were]", NULL, "[were]"},
    {"generate", "stop", "[\"were\"]", NULL, "[were]"},
    {"generate", "stop", "\\n", "\"\\n\"", "[\"\\n\"]"},
    {"generate", "stop", "a\\tb,\\n\\n,\\d", "[\"a\\tb\", \"\\n\\n\", '\\d']",
     "[\"a\\tb\", \"\\n\\n\", \"\\\\d\"]"},
    {"generate", "stop", "\"\\n\"", NULL, "[\"\\n\"]"},
    {"generate", "stop", "'\\n'", NULL, "[\"\\\\n\"]"},
    {"generate", "stop", "\n", "\"\\n\"", "[\"\\n\"]"},
    {"generate", "stop", "'it''s'", NULL, "[\"it's\"]"},
    {"generate", "stop", "\"a,b\"", NULL, "[\"a,b\"]"},
    {"generate", "stop", "[\"a,b\", c]", NULL, "[\"a,b\", c]"},
    {"generate", "stop", "a,b", "[a, b]", "[a, b]"},
    {"generate", "stop", "a, b", "[a, \" b\"]", "[a, \" b\"]"},
    {"generate", "stop", "\"\\n\",END", "[\"\\n\", END]", "[\"\\n\", END]"},
    {"generate", "stop", "a, '\"' ,b", "[a, '\"', b]", "[a, \"\\\"\", b]"},
    {"generate", "stop", " x", "' x'", "[\" x\"]"},
    {"generate", "stop", " ", "' '", "[\" \"]"},
    {"generate", "stop", "\"\"", NULL, "[\"\"]"},
    {"generate", "stop", "#", "'#'", "[\"#\"]"},
    {"generate", "stop", "a #b", "'a #b'", "[\"a #b\"]"},
    {"generate", "stop", "a: b=c", "'a: b=c'", "[\"a: b=c\"]"},
    {"generate", "stop", "a:b", NULL, "[\"a:b\"]"},
    {"generate", "stop", "3", NULL, "[\"3\"]"},
    {"generate", "stop", "true", NULL, "[\"true\"]"},
    {"generate", "stop", "[1, yes]", NULL, "[\"1\", \"yes\"]"},
    {"generate", "stop", "[]", NULL, "[]"},
    {"generate", "stop", "", NULL, "[]"},
    {"generate", "stop", "~", NULL, "[]"},
    {"generate", "stop", "null", NULL, "[]"},
    {"generate", "stop", "\"null\"", NULL, "[\"null\"]"},
    {"generate", "stop", "[\"\\u00e9\\U0001F600\\x41\\t\"]", NULL,
     "[\"\xc3\xa9\xf0\x9f\x98\x80"
     "A\\t\"]"},
    {"generate", "stop", "\"\xc2\x85\xe2\x80\xa8\xef\xbb\xbf\"", NULL,
     "[\"\xc2\x85\xe2\x80\xa8\xef\xbb\xbf\"]"},
    {"data", "prompt_template", "{prompt}", "'{prompt}'", "\"{prompt}\""},
    {"data", "prompt_template", "\"Q {prompt}\\nA\"", NULL, "\"Q {prompt}\\nA\""},
    {"data", "prompt_template", "'Q {prompt}\\nA'", NULL, "\"Q {prompt}\\\\nA\""},
    {"data", "prompt_template", "Q {prompt}\\nA", "\"Q {prompt}\\nA\"", "\"Q {prompt}\\nA\""},
    {"data", "prompt_template", "\\ta\\\\b\\", "\"\\ta\\\\\\\\b\\\\\"", "\"\\ta\\\\\\\\b\\\\\""},
    {"data", "system", "Be brief.\\n", "\"Be brief.\\n\"", "\"Be brief.\\n\""},
    {"data", "prompts", "a\\nb", NULL, "\"a\\\\nb\""},
    {"data", "prompt_template", "Q: {prompt} # 1 ", "'Q: {prompt} # 1 '", "\"Q: {prompt} # 1 \""},
    {"data", "prompt_template", "null", NULL, "\"{prompt}\""},
    {"data", "prompt_template", " \"x {prompt}\" ", NULL, "\"x {prompt}\""},
    {"data", "prompts", "null", NULL, "\"\""},
    {"data", "limit", " null ", NULL, "0"},
    {"data", "prompts", "a=b", NULL, "a=b"},
    {"data", "prompts", "\"a b\"", NULL, "\"a b\""},
    {"data", "prompts", "", NULL, "\"\""},
    {"data", "shuffle", "False", NULL, "false"},
    {"data", "shuffle", " TRUE", NULL, "true"},
    {"data", "shuffle", "~", NULL, "true"},
    {"data", "limit", "5e9", NULL, "5000000000"},
    {"data", "limit", " 7\t", NULL, "7"},
    {"data", "limit", "0", NULL, "0"},
    {"data", "limit", "null", NULL, "0"},
    {"generate", "temperature", ".5", NULL, "0.5"},
    {"generate", "temperature", "1", NULL, "1"},
    {"method", "threshold", "\"none\"", NULL, "none"},
    {"method", "threshold", " decay ", NULL, "decay"},
    {"reward", "functions", "[{name: length, target: 3}]", NULL,
     "[{name: length, weight: 1, target: 3}]"},
    {"reward", "functions", "null", NULL, "[]"},
    {"reward", "functions", "", NULL, "[]"},
};

static const char other_first[] = "generate: {stop: [q], temperature: 0.3}\n"
                                  "data: {prompt_template: \"z{prompt}\", prompts: q, limit: 9}\n"
                                  "reward: {functions: [{name: regex, pattern: q}]}\n";

static void test_values(void)
{
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        char argument[300], file[300], line[300];
        snprintf(argument, sizeof(argument), "%s.%s=%s", values[i].section, values[i].name,
                 values[i].value);
        snprintf(file, sizeof(file), "%s:\n  %s: %s\n", values[i].section, values[i].name,
                 values[i].file ? values[i].file : values[i].value);
        snprintf(line, sizeof(line), "\n  %s: %s\n", values[i].name, values[i].effective);
        char *const override[] = {argument};
        struct plumb_config *a = load("align", other_first, override, 1);
        struct plumb_config *b = load("align", file, NULL, 0);
        struct plumb_buf yaml[2] = {{0}, {0}};
        CHECK_OK(plumb_config_to_yaml(&yaml[0], a, NULL));
        CHECK_OK(plumb_config_to_yaml(&yaml[1], b, NULL));
        for (int k = 0; k < 2; k++)
            CHECKF(strstr(yaml[k].data, line), "%s, %s: no line '%s'", argument,
                   k ? "in the file" : "argument", line + 1);
        struct plumb_config *again = load("align", yaml[0].data, NULL, 0);
        CHECKF(plumb_config_hash(again, NULL) == plumb_config_hash(a, NULL), "%s", argument);
        plumb_config_free(&again);
        plumb_config_free(&a);
        plumb_config_free(&b);
        plumb_buf_fini(&yaml[0]);
        plumb_buf_fini(&yaml[1]);
    }
}

/* Checks that a text is refused if it is no value of the option or could mean two values. */
static void test_bad_values(void)
{
    bad_override("align", "stop=\"a", "the quotation does not end");
    bad_override("align", "stop=\"a\" b", "the quotation ends before the element does");
    bad_override("align", "stop=a,,b", "is empty; write \"\" for an empty text");
    bad_override("align", "stop=a,", "is empty");
    bad_override("align", "stop=a,[b]", "is a list, expected a text");
    bad_override("align", "stop=a,{b}", "is a map, expected a text");
    bad_override("align", "stop=a,null", "write \"null\" in quotes");
    bad_override("align", "stop=[[a]]", "a list with a list in it");
    bad_override("align", "stop={a: b}", "generate.stop is a map");
    bad_override("align", "stop=[a, ~]", "a list with null in it");
    bad_override("align", "prompt_template=\"a\" {prompt}", "the quotation ends before the value");
    bad_override("align", "prompt_template='a", "the quotation does not end");
    bad_override("align", "prompt_template=\"\\q\"", "YAML");
    bad_override("align", "prompt_template=\"a\\0\"", "a NUL byte");
    bad_override("align", "prompt_template=", "is empty; write null for the default");
    bad_override("align", "epochs=\"2\"", "is text in quotes, expected an integer");
    bad_override("align", "shuffle=\"true\"", "is text in quotes, expected true or false");
    bad_override("align", "shuffle=yes", "is 'yes', expected true or false");
    bad_override("align", "shuffle=1", "is '1', expected true or false");
    bad_override("align", "shuffle=", "is '', expected true or false");
    bad_override("align", "limit=1_000", "is '1_000', expected an integer");
    bad_override("align", "limit=1,000", "is '1,000', expected an integer");
    bad_override("align", "limit=0x10", "is '0x10', expected an integer");
    bad_override("align", "limit=010", "an octal number in YAML 1.1");
    bad_override("align", "seed=-017", "an octal number");
    bad_override("align", "limit=1 2", "is '1 2', expected an integer");
    bad_override("align", "shard_bytes=80GB", "as a plain number of bytes");
    bad_override("align", "functions={name: length}", "is a map, expected a list");
    bad_override("align", "functions=length", "reward.functions is a scalar");
    bad_override("align", "stop=a\xff,b", "generate.stop is not valid UTF-8");
}

int main(void)
{
    load_begin();
    test_values();
    test_bad_values();
    load_end();
    return 0;
}
