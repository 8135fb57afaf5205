/* tokenize_chat.h - tokenize with a chat template: converts conversations to text, ids and a mask.
 * Layer 6. Includes app.h. */
#ifndef PLUMB_APP_TOKENIZE_CHAT_H
#define PLUMB_APP_TOKENIZE_CHAT_H

#include "app/app.h"

/* Returns true if the user has named a chat template. Each input line is then a conversation:
 *     {"messages": [..], "tools": [..], "documents": [..], "add_generation_prompt": false,
 *      "continue_final_message": false, "template_arguments": {..}}
 * Only messages is required. If an argument is in template_arguments of the line and of the
 * option, the line's value is used. */
bool plumb_tokenize_is_chat(const struct plumb_config *cfg);

/* Writes {"text", "ids", "mask", "decoded"} for each line. text is the result of transformers'
 * apply_chat_template; ids are the token ids of text, encoded without adding special tokens. mask
 * is 1 for every token of a {% generation %} block and 0 for others; it is absent if the template
 * has no such block, and for continue_final_message. Without a tokenizer only the text is written.
 * Collective. Returns PLUMB_ERR_FORMAT with file and line; otherwise the errors of
 * plumb_chat_render. */
plumb_status plumb_tokenize_chat(struct plumb_app *app);

#endif
