/* session.h - opens a model, its tokenizer and its input for commands that read records.
 * Layer 6. Includes app.h, data/, model/, text/, train/start.h. */
#ifndef PLUMB_APP_SESSION_H
#define PLUMB_APP_SESSION_H

#include "app/app.h"
#include "app/lines.h"
#include "data/chat.h"
#include "data/dataset.h"
#include "data/encoding.h"
#include "model/model.h"
#include "text/tokenizer.h"
#include "train/start.h"

struct plumb_session {
    struct plumb_app *app;
    /* NULL if the folder has none; all records must then have token ids */
    plumb_tokenizer *tokenizer;
    plumb_model *model;
    struct plumb_start start; /* folders of the model; empty without a model */
    struct plumb_dataset *data;
    struct plumb_encoding encoding; /* how a record becomes token ids */
    struct plumb_chat_setting chat; /* chat settings with which messages become text */
    plumb_pass *pass;
    int64_t longest; /* number of tokens of the longest record */
};

enum plumb_session_model { PLUMB_SESSION_NO_MODEL, PLUMB_SESSION_CAUSAL, PLUMB_SESSION_CLASSIFIER };

/* Opens app->cfg->model with its tokenizer, and reads `path` as records of this kind. With
 * PLUMB_SESSION_NO_MODEL it opens only app->cfg->tokenizer. Collective: if one rank fails, all
 * fail. */
plumb_status plumb_session_open(struct plumb_session *s, struct plumb_app *app,
                                enum plumb_session_model model, enum plumb_data_kind kind,
                                const char *path);
/* Allocates working memory for the longest record, or for batches of `tokens` tokens if that is
 * larger. Not collective. */
plumb_status plumb_session_pass(struct plumb_session *s, int64_t tokens, bool train);
void plumb_session_close(struct plumb_session *s);

#endif
