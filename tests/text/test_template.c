/* test_template.c - checks the output of prompt templates, and the messages for malformed ones.
 * Test. */
#include "harness.h"
#include "text/template.h"

#include <string.h>

static const struct plumb_message chat[] = {
    {"system", "Be {kind}."}, {"user", "Hi"}, {"assistant", "Hello"}, {"user", "Bye {prompt}"}};

static void renders(const char *text, const struct plumb_message *m, int64_t n, const char *want)
{
    struct plumb_buf out = {0};
    CHECK_OK(plumb_template_check(text));
    CHECK_OK(plumb_template_render(&out, text, m, n));
    CHECKF(strcmp(plumb_buf_text(&out), want) == 0, "'%s' gave '%s', expected '%s'", text,
           plumb_buf_text(&out), want);
    plumb_buf_fini(&out);
}

static void refused(const char *text, plumb_status want, const char *message)
{
    struct plumb_buf out = {0};
    const plumb_status st = plumb_template_render(&out, text, chat, 1);
    CHECKF(st == want, "'%s': status %d", text, (int)st);
    CHECKF(strstr(plumb_trail_message(), message), "'%s': %s", text, plumb_trail_message());
    CHECK(out.len == 0);
    plumb_buf_fini(&out);
}

int main(void)
{
    renders(PLUMB_TEMPLATE_DEFAULT, chat, 4, "Bye {prompt}");
    renders("", chat, 4, "");
    renders("{system}|{prompt}|", chat, 4, "Be {kind}.|Bye {prompt}|");
    renders("{system}|{prompt}|", chat + 1, 1, "|Hi|");
    renders("{#system}[{system}] {/system}{prompt}", chat, 2, "[Be {kind}.] Hi");
    renders("{#system}[{system}] {/system}{prompt}", chat + 1, 1, "Hi");
    renders("a{#messages}<{role}>{content}\n{/messages}b", chat, 3,
            "a<system>Be {kind}.\n<user>Hi\n<assistant>Hello\nb");
    renders("{#messages}{content}{/messages}", chat, 0, "");
    renders("{{{{ {{x}} }}{prompt}{{#messages}}", chat + 1, 1, "{{ {x} }Hi{#messages}");
    refused("{Prompt}", PLUMB_ERR_CONFIG, "{Prompt}");
    refused("ab {promt} cd", PLUMB_ERR_CONFIG, "at byte 3: {promt}");
    refused("{role}", PLUMB_ERR_CONFIG, "belong inside {#messages}");
    refused("{#system}{content}{/system}", PLUMB_ERR_CONFIG, "belong inside {#messages}");
    refused("{prompt", PLUMB_ERR_CONFIG, "{ without }");
    refused("prompt}", PLUMB_ERR_CONFIG, "a lone }");
    refused("{#messages}{content}", PLUMB_ERR_CONFIG, "needs its {/messages}");
    refused("{#messages}{#system}{/system}{/messages}", PLUMB_ERR_CONFIG, "needs its {/messages}");
    refused("{/messages}", PLUMB_ERR_CONFIG, "expected {#messages} or {#system}");
    refused("{#user}{/user}", PLUMB_ERR_CONFIG, "{#user}");
    refused("{prompt}", PLUMB_ERR_FORMAT, "needs a message with the role \"user\"");
    return 0;
}
