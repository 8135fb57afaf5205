/* template.h - the prompt_template field: messages become the text of a prompt.
 * Layer 3. Includes base/.
 *
 *     {prompt}                       content of the last message with role "user"
 *     {system}                       content of the first message with role "system", or nothing
 *     {#system} .. {/system}         kept only when there is a system message
 *     {#messages} .. {/messages}     once per message; inside, {role} and {content} are its own
 *     {{ and }}                      a brace
 *
 * Contents are inserted as they are and never read as a template. The default is "{prompt}".
 * ChatML, for example:
 *     {#messages}<|im_start|>{role}\n{content}<|im_end|>\n{/messages}<|im_start|>assistant\n */
#ifndef PLUMB_TEXT_TEMPLATE_H
#define PLUMB_TEXT_TEMPLATE_H

#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

#define PLUMB_TEMPLATE_DEFAULT "{prompt}"

struct plumb_message {
    const char *role, *content; /* borrowed */
};

/* out += the template with the messages put in. A prompt that is a plain string is one message
 * of role "user".
 * Errors: PLUMB_ERR_CONFIG for a malformed template, with the byte and what stands there;
 * PLUMB_ERR_FORMAT when {prompt} meets no user message. */
plumb_status plumb_template_render(struct plumb_buf *out, const char *text,
                                   const struct plumb_message *messages, int64_t n);

/* The same errors, found before there are messages. */
plumb_status plumb_template_check(const char *text);

#endif
