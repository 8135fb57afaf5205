/* status.c - keeps the last error of each thread: its message and the calls that passed it on.
 * Layer 0. Includes status.h only. */
#include "base/status.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Of this thread's last failure: the message, and the trail, which has one line for each macro that
 * raised the failure or passed it on. They have separate buffers, so that a long trail cannot
 * overwrite the message. */
static _Thread_local char trail[4096];
static _Thread_local size_t trail_len;
static _Thread_local char message[1536];

const char *plumb_status_text(plumb_status s)
{
    switch (s) {
    case PLUMB_OK:
        return "success";
#define X(name, value, text, code)                                                                 \
    case name:                                                                                     \
        return text;
        PLUMB_STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

int plumb_status_exit_code(plumb_status s)
{
    switch (s) {
    case PLUMB_OK:
        return 0;
#define X(name, value, text, code)                                                                 \
    case name:                                                                                     \
        return code;
        PLUMB_STATUS_LIST(X)
#undef X
    }
    return 1;
}

const char *plumb_trail(void)
{
    return trail;
}

const char *plumb_trail_message(void)
{
    return message;
}

__attribute__((format(printf, 1, 2))) static void add(const char *fmt, ...)
{
    if (trail_len + 1 >= sizeof(trail))
        return;
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(trail + trail_len, sizeof(trail) - trail_len, fmt, ap);
    va_end(ap);
    if (n > 0)
        trail_len += (size_t)n;
    if (trail_len >= sizeof(trail))
        trail_len = sizeof(trail) - 1;
}

plumb_status plumb_fail_at(plumb_status s, const char *file, int line, const char *fmt, ...)
{
    /* The arguments may point into the previous message, so the new message is built in a second
     * buffer. */
    char fresh[sizeof(message)];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(fresh, sizeof(fresh), fmt, ap);
    va_end(ap);
    trail_len = 0;
    add("%s:%d: %s: %s\n", file, line, plumb_status_text(s), fresh);
    /* Most callers say only what could not be allocated, so "out of memory: " is put before their
     * message. */
    const bool prefix = s == PLUMB_ERR_NOMEM && !strstr(fresh, " memory");
    const size_t used = prefix ? sizeof("out of memory: ") - 1 : 0;
    if (prefix)
        memcpy(message, "out of memory: ", used);
    memcpy(message + used, fresh, sizeof(message) - used);
    message[sizeof(message) - 1] = '\0';
    return s;
}

plumb_status plumb_pass_at(plumb_status s, const char *file, int line, const char *expr)
{
    add("  %s:%d: in %s\n", file, line, expr);
    return s;
}
