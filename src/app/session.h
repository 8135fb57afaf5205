/* session.h - what the commands that read lines share: a model, its tokenizer, its input.
 * Layer 6. Includes app.h, data/, model/, text/. */
#ifndef PLUMB_APP_SESSION_H
#define PLUMB_APP_SESSION_H

#include "app/app.h"
#include "app/lines.h"
#include "data/dataset.h"
#include "data/encoding.h"
#include "model/model.h"
#include "text/tokenizer.h"

struct plumb_session {
    struct plumb_app *app;
    plumb_tokenizer *tokenizer; /* NULL when the folder has none and the input is all ids */
    plumb_model *model;
    struct plumb_dataset *data;
    struct plumb_encoding encoding; /* how the model reads records */
    plumb_pass *pass;
    int64_t longest; /* tokens of the longest record */
};

enum plumb_session_model { PLUMB_SESSION_NO_MODEL, PLUMB_SESSION_CAUSAL, PLUMB_SESSION_CLASSIFIER };

/* Opens app->cfg->model with its tokenizer, or, for NO_MODEL, app->cfg->tokenizer alone, and reads
 * `path` as records of this kind. Collective: one rank's failure is every rank's. */
plumb_status plumb_session_open(struct plumb_session *s, struct plumb_app *app,
                                enum plumb_session_model model, enum plumb_data_kind kind,
                                const char *path);
/* Working memory for the longest record, or for batches of up to `tokens` tokens if that is more.
 * Not collective. */
plumb_status plumb_session_pass(struct plumb_session *s, int64_t tokens, bool train);
void plumb_session_close(struct plumb_session *s);

#endif
