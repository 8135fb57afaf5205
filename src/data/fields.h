/* fields.h - checks the members of a record or message that plumb does not read: accepts, refuses
 * or reports them.
 * Layer 4. Includes base/, io/, data/dataset.h. Used only inside data/.
 *
 * Other training programs and chat templates read more members than plumb does. The name and the
 * value of such a member decide what happens:
 *   - The value asks for what plumb does anyway (weight 1, train true, an empty list): accepted
 *     silently.
 *   - The chat template of the record reads the member (tools, tool_calls, reasoning_content, ...):
 *     accepted silently.
 *   - The member would change the text that the model sees (tools without such a template, system,
 *     images, ...) or what is trained on (weight 0, train false): PLUMB_ERR_UNSUPPORTED with the
 *     member's name.
 *   - The name only suggests such an effect, or a message has an unknown member: one warning per
 *     file.
 * Any other member of a record is data of the user and is accepted silently, unless its name is
 * almost that of a member that is read (data/misspelt.h). Source of the names:
 * the data formats of OpenAI's fine-tuning, TRL 0.2x, axolotl, NeMo Automodel, LLaMA-Factory and
 * vLLM's chat endpoint. */
#ifndef PLUMB_DATA_FIELDS_H
#define PLUMB_DATA_FIELDS_H

#include "base/buf.h"
#include "data/dataset.h"
#include "io/json.h"
#include "text/jinja/jinja.h"

/* The fields that warnings about one file have named so far. Each field is named only once.
 * Initialise with zeros. */
struct plumb_fields_named {
    struct plumb_buf names; /* each name ends with a NUL */
    int64_t n;
};
void plumb_fields_fini(struct plumb_fields_named *named);

/* Returns true for null, "", "[]", an empty list or an empty object. */
bool plumb_field_is_empty(const plumb_json *v);

/* Returns true for a line that `plumb generate` wrote with token ids: it has prompt_ids and
 * completion_ids, but no completion, messages or conversations. The token ids are its only text;
 * its other members come from the record of the prompt. */
bool plumb_field_is_generated(const plumb_json *line);

/* Checks the members of a record that its shape does not read. `where` is "file:line". t is
 * the chat template of the record, or NULL. Returns PLUMB_ERR_UNSUPPORTED, see above. */
plumb_status plumb_fields_check_record(const plumb_json *line, enum plumb_data_kind kind,
                                       const plumb_jinja *t, struct plumb_fields_named *named,
                                       const char *where);
/* Checks a preference pair of plain texts without a prompt, whose prompt is the common beginning of
 * both texts. Fails with PLUMB_ERR_UNSUPPORTED if a member that usually holds a prompt (question,
 * instruction, ...) is a list, or a text that `chosen` does not contain, because the model would
 * not see that member. */
plumb_status plumb_fields_check_asked(const plumb_json *line, const char *chosen,
                                      const char *where);
/* Warns, once per file and role, that the chat template leaves out the text of a message. at is the
 * place of the text, such as "messages[0].content" or "data.system". */
plumb_status plumb_fields_note_dropped(const char *role, const char *at,
                                       struct plumb_fields_named *named, const char *where);
/* Warns, once per file and role, that the loss covers a message that is not the assistant's,
 * because it is a part of an answer. at is the place of the message, such as "completion[1]". */
plumb_status plumb_fields_note_covered(const char *role, const char *at,
                                       struct plumb_fields_named *named, const char *where);
/* Checks the members of one message except content. A role that is almost a known one is refused
 * (PLUMB_ERR_FORMAT). `at` is the place of the message, such as "messages[2].". trained tells
 * whether the loss covers this message; otherwise it is part of a prompt. training tells whether
 * the record is trained on at all. */
plumb_status plumb_fields_check_message(const plumb_json *message, const char *at, bool trained,
                                        bool training, const plumb_jinja *t,
                                        struct plumb_fields_named *named, const char *where);

#endif
