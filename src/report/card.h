/* card.h - README.md of a checkpoint: the model card.
 * Layer 4. Includes base/, io/. */
#ifndef PLUMB_REPORT_CARD_H
#define PLUMB_REPORT_CARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct plumb_card_field {
    const char *name;
    const char *value;
};

/* The contents of the card. All text is borrowed and UTF-8. */
struct plumb_card {
    const char *base_model; /* folder or name of the model that the run started from */
    const char *method;                       /* "psle" */
    const char *dataset;                      /* prompt file or name; NULL = none named */
    const char *license;                      /* of the weights; NULL = "other" */
    const struct plumb_card_field *parameter; /* key hyper-parameters */
    int64_t n_parameter;
    const struct plumb_card_field *metric; /* figures at this step */
    int64_t n_metric;
};

/* Writes the card as Markdown with Hugging Face front matter. The front matter has base_model and
 * dataset only if they look like names of the hub ("org/name"). The text does not depend on time,
 * machine or world size. */
plumb_status plumb_card_write(const char *path, const struct plumb_card *card, int64_t step,
                              int64_t iteration, bool classifier);

#endif
