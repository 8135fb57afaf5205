/* template.h - renders the prompt template: inserts messages into a text to form a prompt.
 * Layer 3. Includes base/.
 *
 *   {prompt}                       content of the last message with the role "user"
 *   {system}                       content of the first message with the role "system", or nothing
 *   {#system} .. {/system}         kept only if there is a system message
 *   {#messages} .. {/messages}     repeated for each message; inside, {role} and {content} stand
 *                                  for the fields of that message
 *   {{ and }}                      the characters { and }
 *
 * Contents are inserted unchanged; placeholders inside them are not replaced. The default template
 * is "{prompt}". ChatML, for example, where \n stands for a line break (the renderer itself does
 * not interpret escapes):
 *   {#messages}<|im_start|>{role}\n{content}<|im_end|>\n{/messages}<|im_start|>assistant\n */
#ifndef PLUMB_TEXT_TEMPLATE_H
#define PLUMB_TEXT_TEMPLATE_H

#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

#define PLUMB_TEMPLATE_DEFAULT "{prompt}"

struct plumb_message {
    const char *role, *content; /* borrowed from the caller */
};

/* Appends the template with the messages inserted to out. A prompt that is a plain string must be
 * given as one message of the role "user". Returns PLUMB_ERR_CONFIG for a malformed template, with
 * the position of the error and the text there; PLUMB_ERR_FORMAT if the template has {prompt} and
 * no message has the role "user". */
plumb_status plumb_template_render(struct plumb_buf *out, const char *text,
                                   const struct plumb_message *messages, int64_t n);

/* Checks a template without messages. Returns PLUMB_ERR_CONFIG like plumb_template_render. */
plumb_status plumb_template_check(const char *text);

#endif
