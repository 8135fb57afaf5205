/* template.c - renders the prompt template: inserts messages into a text to form a prompt.
 * Layer 3. Includes base/. */
#include "text/template.h"

#include <stdbool.h>
#include <string.h>

#define PLACEHOLDERS                                                                               \
    "{prompt}, {system}, {#system}..{/system}, {#messages}..{/messages} with {role} and {content}"

struct state {
    struct plumb_buf *out; /* NULL if the template is only checked */
    const char *text;
    const struct plumb_message *message;
    int64_t n;
};

static plumb_status put(const struct state *s, const char *bytes, int64_t n)
{
    return s->out ? plumb_buf_add(s->out, bytes, n) : PLUMB_OK;
}

static const struct plumb_message *find(const struct state *s, const char *role, bool last)
{
    const struct plumb_message *found = NULL;
    for (int64_t i = 0; i < s->n && (last || !found); i++)
        if (strcmp(s->message[i].role, role) == 0)
            found = &s->message[i];
    return found;
}

static bool is(const char *at, const char *name)
{
    return strncmp(at, name, strlen(name)) == 0;
}

static plumb_status malformed(const struct state *s, const char *at, const char *why)
{
    PLUMB_FAIL(PLUMB_ERR_CONFIG, "prompt_template: %s at byte %lld: %.30s", why,
               (long long)(at - s->text), at);
}

/* Writes the text for the {placeholder} at `at`. `one` is the message of the surrounding
 * {#messages} section, or NULL. */
static plumb_status placeholder(const struct state *s, const char *at, bool in_messages,
                                const struct plumb_message *one)
{
    if (in_messages && is(at, "{role}"))
        return one ? put(s, one->role, (int64_t)strlen(one->role)) : PLUMB_OK;
    if (in_messages && is(at, "{content}"))
        return one ? put(s, one->content, (int64_t)strlen(one->content)) : PLUMB_OK;
    if (is(at, "{role}") || is(at, "{content}"))
        return malformed(s, at,
                         "{role} and {content} belong inside {#messages}..{/messages}, found");
    const bool system = is(at, "{system}");
    if (!system && !is(at, "{prompt}"))
        return malformed(s, at, "expected one of " PLACEHOLDERS ", found");
    if (!s->out)
        return PLUMB_OK;
    const struct plumb_message *m = find(s, system ? "system" : "user", !system);
    PLUMB_REQUIRE(
        m || system, PLUMB_ERR_FORMAT,
        "prompt_template: {prompt} needs a message with the role \"user\", but none of the "
        "%lld messages has it",
        (long long)s->n);
    return m ? put(s, m->content, (int64_t)strlen(m->content)) : PLUMB_OK;
}

/* Writes the part [at, end) of the template, which contains no section, with its placeholders
 * replaced. */
static plumb_status plain(const struct state *s, const char *at, const char *end, bool in_messages,
                          const struct plumb_message *one)
{
    while (at < end) {
        const int64_t n = (int64_t)strcspn(at, "{}");
        const int64_t text = n < end - at ? n : end - at;
        PLUMB_TRY(put(s, at, text));
        at += text;
        if (at == end)
            break;
        if (at[1] == at[0]) {
            PLUMB_TRY(put(s, at, 1));
            at += 2;
            continue;
        }
        if (*at == '}')
            return malformed(s, at, "a lone } (write }} for a brace), found");
        const char *close = strchr(at, '}');
        if (!close || close >= end)
            return malformed(s, at, "{ without } (write {{ for a brace), found");
        PLUMB_TRY(placeholder(s, at, in_messages, one));
        at = close + 1;
    }
    return PLUMB_OK;
}

/* Returns the first section mark {#.. or {/.. at or after `at`, or the end of the text. */
static const char *next_mark(const char *at)
{
    for (; *at; at++) {
        if ((at[0] == '{' || at[0] == '}') && at[1] == at[0])
            at++;
        else if (at[0] == '{' && (at[1] == '#' || at[1] == '/'))
            break;
    }
    return at;
}

static plumb_status section(const struct state *s, const char **at)
{
    const char *open = *at;
    const bool messages = is(open, "{#messages}"), system = is(open, "{#system}");
    if (!messages && !system)
        return malformed(s, open, "expected {#messages} or {#system}, found");
    const char *body = strchr(open, '}') + 1, *close = next_mark(body);
    const char *want = messages ? "{/messages}" : "{/system}";
    if (!is(close, want))
        return malformed(s, open,
                         messages
                             ? "{#messages} needs its {/messages} before any other section, found"
                             : "{#system} needs its {/system} before any other section, found");
    *at = close + strlen(want);
    if (!s->out)
        return plain(s, body, close, messages, NULL);
    if (system)
        return find(s, "system", false) ? plain(s, body, close, false, NULL) : PLUMB_OK;
    for (int64_t i = 0; i < s->n; i++)
        PLUMB_TRY(plain(s, body, close, true, &s->message[i]));
    return PLUMB_OK;
}

static plumb_status walk(const struct state *s)
{
    for (const char *at = s->text; *at;) {
        const char *mark = next_mark(at);
        PLUMB_TRY(plain(s, at, mark, false, NULL));
        at = mark;
        if (*at)
            PLUMB_TRY(section(s, &at));
    }
    return PLUMB_OK;
}

plumb_status plumb_template_check(const char *text)
{
    const struct state s = {.text = text};
    return walk(&s);
}

plumb_status plumb_template_render(struct plumb_buf *out, const char *text,
                                   const struct plumb_message *messages, int64_t n)
{
    PLUMB_TRY(plumb_template_check(text)); /* also checks sections that these messages do not use */
    const struct state s = {out, text, messages, n};
    return walk(&s);
}
