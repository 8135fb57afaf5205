/* chat.h - messages become text by a chat template, as transformers' apply_chat_template does.
 * Layer 3. Includes base/, io/json.h and text/jinja/jinja.h. */
#ifndef PLUMB_TEXT_CHAT_H
#define PLUMB_TEXT_CHAT_H

#include "text/jinja/jinja.h"

/* What one conversation is rendered with. All nodes are borrowed. */
struct plumb_chat {
    const plumb_json *messages;  /* array of objects, at least one */
    const plumb_json *tools;     /* array, or NULL for none */
    const plumb_json *documents; /* array, or NULL for none */
    const plumb_json *arguments; /* object: variables by name, or NULL for none */
    bool add_generation_prompt;
    bool continue_final_message; /* leave the last message open; not with the one above */
};

/* Special tokens by their variable ("bos_token"). Strings are borrowed. */
struct plumb_chat_token {
    const char *name, *text;
};

/* out += the text of one conversation. Members of a message that are null are dropped; a message's
 * reasoning is found under "reasoning_content", "thinking" and "reasoning", and given as the first
 * two. Arguments win over special tokens. spans: as in plumb_jinja_render, NULL when not wanted;
 * refused together with continue_final_message. where: file and line, for messages.
 * Errors: PLUMB_ERR_FORMAT for messages of another shape, and those of plumb_jinja_render. */
plumb_status plumb_chat_render(const plumb_jinja *t, struct plumb_buf *out,
                               struct plumb_jinja_spans *spans, const struct plumb_chat *chat,
                               const struct plumb_chat_token *tokens, int64_t n_tokens,
                               const struct plumb_jinja_limits *limits, const char *where);

/* Finds a chat template and compiles it. want: a file; a name of one of the folder's templates; or
 * "auto", the folder's own: chat_template.jinja, otherwise chat_template of tokenizer_config.json,
 * where "tool_use" is taken if there are tools and a template of that name, otherwise "default".
 * Names come from additional_chat_templates/NAME.jinja, or from the list in tokenizer_config.json.
 * folder: the folder of the tokenizer, or NULL. *out is owned by the caller; it is NULL when want
 * is "auto" and the folder has no template.
 * Errors: PLUMB_ERR_IO, PLUMB_ERR_CONFIG when there is no such template (the message lists those
 * that there are), and those of plumb_jinja_compile. */
plumb_status plumb_chat_template_find(plumb_jinja **out, const char *want, const char *folder,
                                      bool tools);

#endif
