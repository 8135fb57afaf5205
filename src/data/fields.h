/* fields.h - members of a record or a message that plumb does not read: honoured, refused or named.
 * Layer 4. Includes base/, io/, data/dataset.h. Inside data/ only.
 *
 * Other trainers and chat templates read more than plumb does. What such a field says decides:
 *   - it says what plumb does anyway (weight 1, train true, an empty list): nothing is said;
 *   - it would change the text that the model sees (tools, reasoning_content, images, ...) or what
 *     is trained on (weight 0, train false): PLUMB_ERR_UNSUPPORTED names it;
 *   - it looks like one of these, or it is an unknown member of a message: a warning names it once
 *     for each file.
 * Any other member of a record is data of the user's and stays without a word.
 * Source of the names: the data formats of OpenAI's fine-tuning, TRL 0.2x, axolotl, NeMo Automodel,
 * LLaMA-Factory and vLLM's chat endpoint. */
#ifndef PLUMB_DATA_FIELDS_H
#define PLUMB_DATA_FIELDS_H

#include "base/buf.h"
#include "data/dataset.h"
#include "io/json.h"

/* The names that a file's warnings have named so far; zero-initialise. */
struct plumb_fields_named {
    struct plumb_buf names; /* each ended by a NUL */
    int64_t n;
};
void plumb_fields_fini(struct plumb_fields_named *named);

/* True for null, "", "[]", an empty list or an empty object. */
bool plumb_field_is_empty(const plumb_json *v);

/* The members of a record that its shape does not read. where is "file:line".
 * PLUMB_ERR_UNSUPPORTED, see above. */
plumb_status plumb_fields_check_record(const plumb_json *line, enum plumb_data_kind kind,
                                       struct plumb_fields_named *named, const char *where);
/* The members of one message besides role and content. at: "messages[2].". trained: the loss covers
 * this message; false: it is part of a prompt. training: the record is trained on at all. */
plumb_status plumb_fields_check_message(const plumb_json *message, const char *at, bool trained,
                                        bool training, struct plumb_fields_named *named,
                                        const char *where);

#endif
