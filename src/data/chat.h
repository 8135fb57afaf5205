/* chat.h - describes how a run prompts one model (chat template, system text, template arguments),
 * and renders the messages of a record for this model.
 * Layer 4. Includes base/, config/, io/, text/.
 *
 * A run writes these settings into the folder of its model, so that a later command prompts the
 * model in the same way. chat_template.jinja contains the template. The file PLUMB_CHAT_NAME
 * contains one JSON object. The object says whether the template was used (auto) or not (none), and
 * has the system text and the template arguments:
 *     {"chat_template": "auto", "system": "Be brief.", "template_arguments": {"thinking": false}}
 */
#ifndef PLUMB_DATA_CHAT_H
#define PLUMB_DATA_CHAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "config/config.h"
#include "io/json.h"
#include "text/chat.h"

#define PLUMB_CHAT_NAME          "plumb_chat.json"
#define PLUMB_CHAT_TEMPLATE_NAME "chat_template.jinja"

enum { PLUMB_CHAT_TOKENS = 8 };

/* The chat settings of one model. They do not change after plumb_chat_open. */
struct plumb_chat_setting {
    /* The chat template. NULL if there is none; then data.prompt_template renders the messages. */
    plumb_jinja *template;
    /* The template for records with tools. NULL if `template` is used for them, too. */
    plumb_jinja *tool_use;
    /* True if data.chat_template names the template; false if it was found in the model's or
     * tokenizer's folder. */
    bool given;
    /* True if no template is used although the folder may have one: because data.chat_template is
     * none, or because data.chat_template is not set and the model was trained without a
     * template. */
    bool none;
    /* True if the template accepts a message whose content is not a string, but a list of parts
     * such as {"type": "text", "text": ".."}. */
    bool parts;
    /* The system text, which is added to conversations without a system message. NULL if there is
     * none. */
    char *system;
    /* The template arguments: a JSON object whose members the template reads as variables. NULL if
     * there are none. */
    plumb_json *arguments;
    /* JSON text of `arguments`; NULL if there are none. */
    char *arguments_text;
    /* Special tokens such as bos_token. Their strings belong to `files`. */
    struct plumb_chat_token token[PLUMB_CHAT_TOKENS];
    int64_t tokens;
    /* Parsed tokenizer_config.json and special_tokens_map.json; NULL for a file that was not
     * read. */
    plumb_json *files[2];
};

/* Determines the chat settings from data.chat_template, data.system and data.template_arguments.
 *
 *   in  dir    folder of the model or checkpoint; its PLUMB_CHAT_NAME has the settings of the run
 *              that wrote it
 *       words  folder of the tokenizer, with the template and the special tokens
 *
 * data.chat_template=auto means the template of the tokenizer's folder, or no template if
 * data.prompt_template is set. If an option is not set, the value in PLUMB_CHAT_NAME of `dir` is
 * used, which may be "none". If an option is set and differs from that value, a warning shows both
 * values.
 * Errors: PLUMB_ERR_CONFIG if a chat template is named although prompt_template is set, or if
 * data.system or data.template_arguments is set without a template; and the errors of
 * plumb_chat_template_find. */
plumb_status plumb_chat_open(struct plumb_chat_setting *out, const struct plumb_config *cfg,
                             const char *dir, const char *words);
/* Reads the chat settings from a folder and ignores the options. Used for a reward model, which has
 * its own folder. */
plumb_status plumb_chat_open_folder(struct plumb_chat_setting *out, const char *dir);
void plumb_chat_close(struct plumb_chat_setting *c);

/* Appends the settings to out as one JSON object: the source of the template, and the system text
 * and the arguments if they are set. */
plumb_status plumb_chat_put(struct plumb_buf *out, const struct plumb_chat_setting *c);
/* Writes chat_template.jinja and PLUMB_CHAT_NAME into an existing folder. The first file is written
 * only if data.chat_template names a template, the second only if a template was used or c->none is
 * set. Returns PLUMB_ERR_IO if a file cannot be written. */
plumb_status plumb_chat_write(const char *dir, const struct plumb_chat_setting *c);

/* ---- messages ------------------------------------------------------------------------------- */

/* The messages of one conversation as JSON text, in order. Initialise with zeros; release with
 * plumb_turns_fini. */
struct plumb_turns {
    struct plumb_buf json; /* the messages as JSON objects, separated by commas */
    int64_t *end;          /* (n,) byte offset in json at which message i ends */
    bool *assistant;       /* (n,) true if message i has the role "assistant" */
    int64_t n, cap;
    struct plumb_buf role; /* role of the last message */
};
void plumb_turns_clear(struct plumb_turns *t);
void plumb_turns_fini(struct plumb_turns *t);

/* The principle that is added to a conversation. */
struct plumb_turns_extra {
    const char *principle;          /* text of the principle; NULL if there is none */
    const char *principle_template; /* text with the placeholders {principle} and {prompt} */
    /* True: the principle is put into the system message, or into a new system message if there is
     * none. False: into the last message of the user. */
    bool in_system;
};

/* Appends messages [begin, end) of a list; end = -1 stands for the number of messages. If v is a
 * string instead of a list, appends it as one message of `role`; if role is NULL, a string is
 * refused. key is the name of the field. If the template does not accept a list of parts, a content
 * that is a list of text parts is joined to one text with spaces between the parts. Returns
 * PLUMB_ERR_FORMAT with the field's name, or PLUMB_ERR_UNSUPPORTED for a part that is not text. */
plumb_status plumb_turns_add(struct plumb_turns *t, const struct plumb_chat_setting *c,
                             const plumb_json *v, const char *role, const char *key, int64_t begin,
                             int64_t end, const char *where);
/* Appends one message with this role and this text. */
plumb_status plumb_turns_add_text(struct plumb_turns *t, const char *role, const char *text,
                                  int64_t len, const char *where);
/* Appends the text of a message's content v to out. If v is a list of text parts, their texts are
 * joined with spaces. `at`: name of the field. Returns PLUMB_ERR_FORMAT for a part whose "text" is
 * not a string; PLUMB_ERR_UNSUPPORTED for a part of another type than text. */
plumb_status plumb_content_text(struct plumb_buf *out, const plumb_json *v, const char *at,
                                const char *where);
/* Adds the system text of c if the conversation does not begin with a system message, and then the
 * principle in `extra`, unless extra is NULL. Returns PLUMB_ERR_FORMAT if the principle belongs
 * into a message of the user and there is none. */
plumb_status plumb_turns_complete(struct plumb_turns *t, const struct plumb_chat_setting *c,
                                  const struct plumb_turns_extra *extra, const char *where);

enum plumb_turns_tail {
    PLUMB_TAIL_NONE,     /* the conversation is complete; nothing follows the last message */
    PLUMB_TAIL_GENERATE, /* a generation prompt follows: it begins the assistant's turn */
    /* The role of the last message decides what follows. After a message of user or tool, a
     * generation prompt follows. A message of the assistant is not closed, so that the model
     * continues it. */
    PLUMB_TAIL_ROLE
};

/* Returns the template that renders a record: c->tool_use if the record has tools and the folder
 * has such a template, else c->template. */
const plumb_jinja *plumb_chat_template_for(const struct plumb_chat_setting *c,
                                           const plumb_json *record);

/* Appends the rendered text of the first n messages to out. `record` is the JSON record of the
 * conversation; its tools, documents and chat_template_kwargs are passed to the template. spans is
 * set to the byte ranges that {% generation %} blocks wrote; it may be NULL. Returns
 * PLUMB_ERR_FORMAT if tail is PLUMB_TAIL_ROLE and the last message of t has another role than user,
 * tool or assistant; otherwise the errors of plumb_chat_render. */
plumb_status plumb_turns_render(const struct plumb_turns *t, int64_t n,
                                const struct plumb_chat_setting *c, const plumb_json *record,
                                enum plumb_turns_tail tail, struct plumb_buf *out,
                                struct plumb_jinja_spans *spans, const char *where);

/* Renders all messages into `whole` and sets spans to the byte ranges of `whole` that are turns of
 * the assistant. If the template has {% generation %} blocks, these are the ranges. Otherwise the
 * range of message i is found by rendering messages 0..i-1 with a generation prompt, and messages
 * 0..i: it begins after the common beginning of these two texts, and ends where the text of
 * messages 0..i ends. Returns PLUMB_ERR_UNSUPPORTED if `whole` does not begin with the text of
 * messages 0..i for a message i of the assistant; PLUMB_ERR_FORMAT if the assistant has no message
 * or no {% generation %} block wrote text. */
plumb_status plumb_turns_spans(const struct plumb_turns *t, const struct plumb_chat_setting *c,
                               const plumb_json *record, struct plumb_buf *whole,
                               struct plumb_jinja_spans *spans, const char *where);

#endif
