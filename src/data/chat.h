/* chat.h - how a run prompts one model: its chat template, the system text and the arguments; and
 * what a record's messages become by it.
 * Layer 4. Includes base/, config/, io/, text/.
 *
 * A folder that a run has written says what the run was prompted with: chat_template.jinja is the
 * template, PLUMB_CHAT_NAME holds the rest, one JSON object:
 *     {"system": "Answer briefly.", "template_arguments": {"enable_thinking": false}} */
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

/* Immutable after open. */
struct plumb_chat_setting {
    plumb_jinja *template; /* NULL: there is none, and messages go through prompt_template */
    plumb_jinja *tool_use; /* for records with tools; NULL: the same template */
    bool given;            /* data.chat_template names it; false: it is the folder's */
    bool parts;            /* the template reads a content that is a list of parts */
    char *system;          /* before conversations without a system message; NULL: none */
    plumb_json *arguments; /* object; NULL: none */
    char *arguments_text;  /* the same as JSON */
    struct plumb_chat_token token[PLUMB_CHAT_TOKENS]; /* special tokens; owned by files */
    int64_t tokens;
    plumb_json *files[2]; /* tokenizer_config.json, special_tokens_map.json; or NULL */
};

/* Finds what data.chat_template, data.system and data.template_arguments ask for.
 *
 *   in  dir    the folder of the model or checkpoint: what its run was prompted with
 *       words  the folder of the tokenizer: template and special tokens
 *
 * data.chat_template=auto takes the folder's template, or none if data.prompt_template is set.
 * What the folder says holds where the option is not set; a difference is a warning that names
 * both.
 * Errors: PLUMB_ERR_CONFIG when prompt_template and a chat template are both named, when
 * data.system or data.template_arguments is set without a template, and those of
 * plumb_chat_template_find. */
plumb_status plumb_chat_open(struct plumb_chat_setting *out, const struct plumb_config *cfg,
                             const char *dir, const char *words);
/* The same of a folder alone, without options: a reward model's own. */
plumb_status plumb_chat_open_folder(struct plumb_chat_setting *out, const char *dir);
void plumb_chat_close(struct plumb_chat_setting *c);

/* out += what messages are put into, as one JSON object: the template's source, the system text and
 * the arguments, each where there is one. */
plumb_status plumb_chat_put(struct plumb_buf *out, const struct plumb_chat_setting *c);
/* Writes chat_template.jinja and PLUMB_CHAT_NAME into a folder that is there: the first if
 * data.chat_template names a template, the second if there is a system text or an argument.
 * PLUMB_ERR_IO. */
plumb_status plumb_chat_write(const char *dir, const struct plumb_chat_setting *c);

/* ---- messages ------------------------------------------------------------------------------- */

/* The messages of one conversation as JSON text, in order. Zero-initialise; released with
 * plumb_turns_fini. */
struct plumb_turns {
    struct plumb_buf json; /* the messages, with commas between them */
    int64_t *end;          /* (n,) where message i ends in json */
    bool *assistant;       /* (n,) whether message i is the assistant's */
    int64_t n, cap;
    struct plumb_buf role; /* of the last message */
};
void plumb_turns_clear(struct plumb_turns *t);
void plumb_turns_fini(struct plumb_turns *t);

/* What a conversation gets besides its own messages. */
struct plumb_turns_extra {
    const char *principle;          /* NULL: none */
    const char *principle_template; /* with {principle} and {prompt} */
    bool in_system;                 /* the principle goes into the system message */
};

/* Appends a string, as one message of this role, or messages [begin, end) of a list (end -1: to its
 * end; begin may be the number of messages). key: the field's name. A content that is a list of
 * text parts becomes one text, joined by spaces, if the template does not read lists. Errors:
 * PLUMB_ERR_FORMAT naming the field; PLUMB_ERR_UNSUPPORTED for parts that are no text. */
plumb_status plumb_turns_add(struct plumb_turns *t, const struct plumb_chat_setting *c,
                             const plumb_json *v, const char *role, const char *key, int64_t begin,
                             int64_t end, const char *where);
/* Appends one message of this role and text. */
plumb_status plumb_turns_add_text(struct plumb_turns *t, const char *role, const char *text,
                                  int64_t len, const char *where);
/* out += the text of a content: of a list, its text parts joined by spaces. at: the field. Errors:
 * PLUMB_ERR_FORMAT, and PLUMB_ERR_UNSUPPORTED for a part that is no text. */
plumb_status plumb_content_text(struct plumb_buf *out, const plumb_json *v, const char *at,
                                const char *where);
/* Puts the system text of c before messages without one, and the principle where extra says.
 * extra NULL: no principle. */
plumb_status plumb_turns_complete(struct plumb_turns *t, const struct plumb_chat_setting *c,
                                  const struct plumb_turns_extra *extra, const char *where);

enum plumb_turns_tail {
    PLUMB_TAIL_NONE,     /* a whole conversation */
    PLUMB_TAIL_GENERATE, /* the assistant's turn begins behind it */
    PLUMB_TAIL_ROLE      /* after user and tool likewise; the assistant's message stays open */
};

/* out += the text of the first n messages. record: the record they are from, for its tools,
 * documents and chat_template_kwargs. spans: what {% generation %} blocks wrote, or NULL.
 * Errors: PLUMB_ERR_FORMAT for TAIL_ROLE behind another role; those of plumb_chat_render. */
plumb_status plumb_turns_render(const struct plumb_turns *t, int64_t n,
                                const struct plumb_chat_setting *c, const plumb_json *record,
                                enum plumb_turns_tail tail, struct plumb_buf *out,
                                struct plumb_jinja_spans *spans, const char *where);

/* spans = the bytes of `whole`, the text of all messages, that the assistant's turns wrote: by
 * {% generation %} if the template has it; otherwise turn i is what messages 0..i have more than
 * messages 0..i-1 with the generation prompt.
 * Errors: PLUMB_ERR_UNSUPPORTED when the text of messages 0..i is no beginning of the whole;
 * PLUMB_ERR_FORMAT when there is no turn of the assistant's. */
plumb_status plumb_turns_spans(const struct plumb_turns *t, const struct plumb_chat_setting *c,
                               const plumb_json *record, struct plumb_buf *whole,
                               struct plumb_jinja_spans *spans, const char *where);

#endif
