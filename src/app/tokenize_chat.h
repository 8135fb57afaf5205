/* tokenize_chat.h - tokenize with a chat template: conversations to text, ids and a mask.
 * Layer 6. Includes app.h. */
#ifndef PLUMB_APP_TOKENIZE_CHAT_H
#define PLUMB_APP_TOKENIZE_CHAT_H

#include "app/app.h"

/* Whether the user named a chat template. Each line is then a conversation:
 *     {"messages": [..], "tools": [..], "documents": [..], "add_generation_prompt": false,
 *      "continue_final_message": false, "template_arguments": {..}}
 * of which only messages must be there; template_arguments of a line win over the option's. */
bool plumb_tokenize_is_chat(const struct plumb_config *cfg);

/* Writes {"text", "ids", "mask", "decoded"} for each line: what transformers' apply_chat_template
 * gives, encoded without further special tokens. mask has a 1 for every token of a {% generation %}
 * block; it is absent if the template has none, and for continue_final_message. Without a
 * tokenizer only the text is written. Collective.
 * Errors: PLUMB_ERR_FORMAT with file and line, and those of plumb_chat_render. */
plumb_status plumb_tokenize_chat(struct plumb_app *app);

#endif
