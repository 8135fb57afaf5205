/* card.h - writes the model card, the README.md of a checkpoint.
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
    const char *method;     /* name of the method ("psle") */
    /* true if the folder has the weights of an adapter instead of the weights of a model */
    bool adapter;
    const char *dataset;                      /* file or name of the data; NULL if not known */
    const char *license;                      /* license of the weights; NULL stands for "other" */
    const struct plumb_card_field *parameter; /* (n_parameter,) the main hyper-parameters */
    int64_t n_parameter;
    /* (n_metric,) the metrics at the step of the checkpoint */
    const struct plumb_card_field *metric;
    int64_t n_metric;
};

/* Writes the card as Markdown with Hugging Face front matter. The front matter has base_model and
 * dataset only if they look like names of the hub ("org/name"). The text does not depend on the
 * time, the machine or the number of ranks. */
plumb_status plumb_card_write(const char *path, const struct plumb_card *card, int64_t step,
                              int64_t iteration, bool classifier);

#endif
