/* record.h - reads the texts of one JSON record according to its shape. Used only inside data/.
 * Layer 4. Includes base/, io/, text/. */
#ifndef PLUMB_DATA_RECORD_H
#define PLUMB_DATA_RECORD_H

#include "base/buf.h"
#include "data/dataset.h"
#include "data/fields.h"
#include "io/json.h"

/* The contents of one record, rendered but not yet tokenised. It is reused for each line. */
struct plumb_draft {
    struct plumb_buf prompt, principled, contrary, completion[2];
    int completions;      /* 0, 1 or 2 */
    bool by_ids;          /* the record gave token ids; the texts are empty */
    struct plumb_ids ids; /* ids of prompt and completion */
    int64_t prompt_tokens;
    struct plumb_buf id, solution, asked;
    bool has_id, has_solution;
    /* The line; borrowed. The caller sets it before plumb_record_read. */
    struct plumb_columns json;
    double score[2]; /* NaN if not given */
    /* Fields that warnings have named, for the whole file. */
    struct plumb_fields_named named;
};
void plumb_draft_clear(struct plumb_draft *d);
void plumb_draft_fini(struct plumb_draft *d);

/* Checks the templates in the options. Returns PLUMB_ERR_CONFIG. */
plumb_status plumb_record_check(const struct plumb_data_options *o);

/* Fills *d from a parsed line; `where` is "file:line". Returns PLUMB_ERR_FORMAT. */
plumb_status plumb_record_read(struct plumb_draft *d, const plumb_json *line,
                               const struct plumb_data_options *o, const char *where);

#endif
