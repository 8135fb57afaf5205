/* fuzz_jinja.c - renders any text as a chat template, with a conversation, and with the text itself
 * as the variable s.
 * Test. */
#include "io/utf8.h"
#include "text/jinja/jinja.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n);

static const char conversation[] =
    "[{\"role\": \"system\", \"content\": \"be kind\"}, {\"role\": \"user\", \"content\": "
    "[{\"type\": \"text\", \"text\": \"\\u00df \\ud83d\\ude00\"}]}, {\"role\": \"assistant\", "
    "\"content\": \"\", \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"x\": "
    "[1, 2.5, null, true, \"s\"]}}}]}]";

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n)
{
    const char *text = n ? (const char *)bytes : "";
    const struct plumb_jinja_limits limits = {
        .steps = 100000, .depth = 200, .output = 1 << 20, .memory = 8 << 20};
    struct plumb_jinja_spans spans = {0};
    struct plumb_buf out = {0};
    plumb_jinja_vars *vars = NULL;
    plumb_json *messages = NULL;
    plumb_jinja *t = NULL;
    if (plumb_jinja_compile(&t, text, (int64_t)n, "fuzz"))
        return 0;
    if (plumb_jinja_vars_create(&vars) ||
        plumb_json_parse(&messages, conversation, (int64_t)sizeof(conversation) - 1, "fuzz") ||
        plumb_jinja_set_json(vars, "messages", messages) ||
        plumb_jinja_set_bool(vars, "add_generation_prompt", true) ||
        plumb_jinja_set_string(vars, "s", text, (int64_t)n) ||
        plumb_jinja_set_none(vars, "tools") || plumb_buf_add_text(&out, "before"))
        abort();
    const plumb_status st = plumb_jinja_render(t, &out, &spans, vars, &limits);
    if (st ? out.len != 6 || spans.n != 0 : out.len > 6 + limits.output)
        abort();
    for (int64_t i = 0; i < spans.n; i++)
        if (spans.span[i].begin > spans.span[i].end || spans.span[i].end > out.len - 6 ||
            (i && spans.span[i].begin < spans.span[i - 1].end))
            abort();
    if (!st && plumb_utf8_valid(out.data, out.len) != out.len)
        abort();
    plumb_jinja_spans_fini(&spans);
    plumb_json_free(&messages);
    plumb_jinja_vars_free(&vars);
    plumb_jinja_free(&t);
    plumb_buf_fini(&out);
    return 0;
}
