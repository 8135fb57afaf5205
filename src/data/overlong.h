/* overlong.h - shortens, leaves out or refuses a record that exceeds max_prompt_tokens or
 * max_tokens, as options.overlong says. Used only inside data/.
 * Layer 4. Includes base/, data/dataset.h. */
#ifndef PLUMB_DATA_OVERLONG_H
#define PLUMB_DATA_OVERLONG_H

#include "data/dataset.h"

/* Sets *ok to true if the record is kept, in full or shortened. A record that is dropped or
 * shortened is counted in *d. With PLUMB_OVERLONG_ERROR, a record that is too long is
 * PLUMB_ERR_ARG; `where` is "file:line". */
plumb_status plumb_overlong_fit(bool *ok, struct plumb_dataset *d, struct plumb_record *rec,
                                const struct plumb_data_options *o, const char *where);
/* Logs how many records of file `path` were shortened and left out, and the first line of each. */
void plumb_overlong_say(const struct plumb_dataset *d, const struct plumb_data_options *o,
                        const char *path);

#endif
