/* fuzz_template.c - uses any text as a prompt template, and as messages that are inserted into a
 * template.
 * Test. */
#include "text/template.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n);

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n)
{
    struct plumb_buf text = {0}, out = {0};
    if (plumb_buf_add(&text, bytes, (int64_t)n))
        abort();
    const char *s = plumb_buf_text(&text);
    const struct plumb_message m[] = {{"system", "be kind"}, {"user", s}, {s, "yes"}};
    const plumb_status checked = plumb_template_check(s);
    const plumb_status rendered = plumb_template_render(&out, s, m, 3);
    if (checked != rendered) /* there is a user message, so only an invalid template can fail */
        abort();
    if (plumb_template_render(&out, "{#messages}<{role}>{content}{/messages}", m, 3))
        abort();
    plumb_buf_fini(&text);
    plumb_buf_fini(&out);
    return 0;
}
