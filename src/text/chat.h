/* chat.h - renders the messages of a conversation to text with a chat template, like
 * apply_chat_template of transformers.
 * Layer 3. Includes base/, io/json.h and text/jinja/jinja.h. */
#ifndef PLUMB_TEXT_CHAT_H
#define PLUMB_TEXT_CHAT_H

#include "text/jinja/jinja.h"

/* The input of one rendering. All JSON nodes are borrowed. */
struct plumb_chat {
    const plumb_json *messages;  /* array of one or more message objects */
    const plumb_json *tools;     /* array of tool descriptions; NULL if there are none */
    const plumb_json *documents; /* array of documents; NULL if there are none */
    /* object with further template variables; NULL if there are none */
    const plumb_json *arguments;
    bool add_generation_prompt;
    /* The text ends after the content of the last message, so that a model can continue the
     * message. Not allowed together with add_generation_prompt. */
    bool continue_final_message;
};

/* A special token and the template variable that contains it, such as "bos_token". The strings are
 * borrowed. */
struct plumb_chat_token {
    const char *name, *text;
};

/* Appends the text of one conversation to out. Members of a message that are null are dropped. The
 * reasoning of a message may be named "reasoning_content", "thinking" or "reasoning"; the template
 * finds it under the first two names. With continue_final_message, the text is cut after the
 * content of the last message. If an argument and a special token have the same name, the argument
 * is used. spans is as in plumb_jinja_render and may be NULL; it must be NULL with
 * continue_final_message. where is "file:line", for messages. Returns PLUMB_ERR_UNSUPPORTED for an
 * argument with the name of a parameter of transformers' apply_chat_template; PLUMB_ERR_ARG if
 * continue_final_message is combined with add_generation_prompt or spans; PLUMB_ERR_FORMAT if there
 * is no message, if a message is not an object, if the message to continue has no text, or if the
 * output of the template does not have this text unchanged (white space around it does not count);
 * otherwise the errors of plumb_jinja_render. */
plumb_status plumb_chat_render(const plumb_jinja *t, struct plumb_buf *out,
                               struct plumb_jinja_spans *spans, const struct plumb_chat *chat,
                               const struct plumb_chat_token *tokens, int64_t n_tokens,
                               const struct plumb_jinja_limits *limits, const char *where);

/* Returns true if the n bytes of text contain the len bytes of `part` without the white space
 * around it, which templates often remove. White space is that of Python's str.strip. */
bool plumb_chat_contains(const char *text, int64_t n, const char *part, int64_t len);

/* Finds a chat template and compiles it.
 *
 *   in   want    a file, the name of a template in the folder, or "auto"
 *        folder  folder of the tokenizer; NULL if there is none
 *        tools   with "auto": take the template named "tool_use" if there is one
 *   out  *out    the template, owned by the caller; NULL if want is "auto" and the folder has none
 *
 * A named template is additional_chat_templates/NAME.jinja, or an element of the list or object
 * "chat_template" in tokenizer_config.json. "auto" takes chat_template.jinja, or else the string
 * "chat_template" in tokenizer_config.json, or else the template named "default". If the folder has
 * chat_template.jinja or a file in additional_chat_templates, tokenizer_config.json has no effect.
 * Errors: PLUMB_ERR_IO; PLUMB_ERR_CONFIG if there is no such template (the message lists the
 * existing ones); and the errors of plumb_jinja_compile. */
plumb_status plumb_chat_template_find(plumb_jinja **out, const char *want, const char *folder,
                                      bool tools);

#endif
