/* record.h - one JSON line to texts: the record shapes. Inside data/ only.
 * Layer 4. Includes base/, io/, text/. */
#ifndef PLUMB_DATA_RECORD_H
#define PLUMB_DATA_RECORD_H

#include "base/buf.h"
#include "data/dataset.h"
#include "data/fields.h"
#include "io/json.h"

/* What a record says, rendered but not yet tokenised. Reused from line to line. */
struct plumb_draft {
    struct plumb_buf prompt, principled, contrary, completion[2];
    int completions;      /* 0, 1 or 2 */
    bool by_ids;          /* the record gave ids; the texts are empty */
    struct plumb_ids ids; /* prompt and completion */
    int64_t prompt_tokens;
    struct plumb_buf id, solution, asked;
    bool has_id, has_solution;
    struct plumb_columns json;       /* the line; borrowed; set before the record is read */
    double score[2];                 /* NaN = not given */
    struct plumb_fields_named named; /* of the whole file: what warnings have named */
};
void plumb_draft_clear(struct plumb_draft *d);
void plumb_draft_fini(struct plumb_draft *d);

/* The options' templates. Errors: PLUMB_ERR_CONFIG. */
plumb_status plumb_record_check(const struct plumb_data_options *o);

/* Fills *d from a parsed line. where is "file:line". Errors: PLUMB_ERR_FORMAT. */
plumb_status plumb_record_read(struct plumb_draft *d, const plumb_json *line,
                               const struct plumb_data_options *o, const char *where);

#endif
