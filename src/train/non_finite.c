/* non_finite.c - finds the micro-batch whose loss or gradient is not finite and writes a replay
 * file of it.
 * Layer 5. Includes train/non_finite.h, train/replay.h, base/, comm/, io/. */
#include "train/non_finite.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "comm/tree.h"
#include "io/file.h"
#include "model/adapter.h"
#include "train/replay.h"

enum { TEXT_BYTES = 1024, PATH_BYTES = 4096 };

/* ---- the folder that has the weights ----------------------------------------------------- */

/* Sets out to the name of a checkpoint of this run that has the current weights, or to "" if there
 * is none. */
static plumb_status find_checkpoint(char *out, int64_t size, const struct plumb_trainer *t)
{
    struct plumb_names names = {0};
    struct plumb_train_state state;
    char dir[PATH_BYTES], path[PATH_BYTES];
    out[0] = '\0';
    PLUMB_TRY(plumb_dir_list(&names, t->cfg->output_dir));
    for (int64_t i = 0; i < names.n && !out[0]; i++) {
        const char *name = names.name[i];
        const size_t len = strlen(name);
        if (strncmp(name, "checkpoint-", 11) != 0 || !strcmp(name + len - 4, ".tmp") ||
            (int64_t)len >= size)
            continue;
        if (plumb_path_join(dir, sizeof(dir), t->cfg->output_dir, name) == PLUMB_OK &&
            plumb_path_join(path, sizeof(path), dir, "trainer_state.h5") == PLUMB_OK &&
            plumb_file_exists(path) && plumb_checkpoint_read_state(&state, dir) == PLUMB_OK &&
            plumb_state_stored(&state) == t->model->fingerprint)
            snprintf(out, (size_t)size, "%s", name);
    }
    plumb_names_fini(&names);
    return PLUMB_OK;
}

/* Returns true if the folder cfg->model has the current weights, because training has not changed
 * them yet. Also returns false for a reward model, for a policy with an adapter and with
 * train.init=random; the caller writes their weights to a new folder. */
static bool is_start(const struct plumb_trainer *t)
{
    return t->state.start_fingerprint == t->model->fingerprint && t->model->spec.labels == 0 &&
           !plumb_adapter_lora(t->model) && t->cfg->train.init == PLUMB_INIT_CHECKPOINT;
}

static plumb_status save_weights(char *out, int64_t size, const struct plumb_trainer *t,
                                 int64_t step)
{
    char work[PATH_BYTES], dir[PATH_BYTES], name[64];
    snprintf(out, (size_t)size, "replay-%lld", (long long)step);
    snprintf(name, sizeof(name), "replay-%lld.tmp", (long long)step);
    PLUMB_TRY(plumb_path_join(dir, sizeof(dir), t->cfg->output_dir, out));
    PLUMB_TRY(plumb_path_join(work, sizeof(work), t->cfg->output_dir, name));
    PLUMB_TRY(plumb_dir_remove(work));
    PLUMB_TRY(plumb_dir_create(work));
    /* a replay needs the float32 weights, not rounded ones */
    const enum plumb_dtype dtype = t->model->saved_as;
    t->model->saved_as = PLUMB_F32;
    const plumb_status st = plumb_model_save(t->model, work, t->cfg->checkpoint.shard_bytes);
    t->model->saved_as = dtype;
    PLUMB_TRY(st);
    PLUMB_TRY(plumb_dir_remove(dir));
    return plumb_dir_publish(work, dir);
}

/* Sets out to a folder that has the current weights; writes a new folder if there is none. lasting:
 * true if the run continues. The run may then remove its checkpoints, so a checkpoint folder is
 * used only if the run keeps all checkpoints. */
static plumb_status place_weights(char *out, int64_t size, const struct plumb_trainer *t,
                                  int64_t step, bool lasting)
{
    out[0] = '\0';
    if (!lasting || t->cfg->checkpoint.keep_last == 0)
        PLUMB_TRY(find_checkpoint(out, size, t));
    if (out[0])
        return PLUMB_OK;
    if (is_start(t)) {
        char *whole = realpath(t->cfg->model, NULL);
        if (whole && (int64_t)strlen(whole) < size)
            snprintf(out, (size_t)size, "%s", whole);
        free(whole);
    }
    return out[0] ? PLUMB_OK : save_weights(out, size, t, step);
}

/* Sets g->weights on all ranks to a folder with the current weights, if the masters are divided
 * among the ranks. (Otherwise the rank that writes the replay file sets it later.) Rank 0 needs the
 * other ranks to write such weights. lasting: as in place_weights. Collective. */
static plumb_status place_shared(struct plumb_non_finite *g, bool lasting)
{
    struct plumb_trainer *t = g->t;
    plumb_status st = PLUMB_OK;
    if (!t->model->masters)
        return PLUMB_OK;
    if (plumb_comm_rank(t->comm) == 0)
        st = place_weights(g->weights, sizeof(g->weights), t, t->state.step + 1, lasting);
    st = plumb_comm_agree(t->comm, plumb_masters_finish(t->model, st));
    if (st != PLUMB_OK)
        g->weights[0] = '\0';
    PLUMB_TRY(st);
    return plumb_comm_broadcast(t->comm, g->weights, sizeof(g->weights), 0);
}

plumb_status plumb_non_finite_begin(struct plumb_non_finite *g)
{
    return g->t->state.step + 1 == g->t->replay_step ? place_shared(g, true) : PLUMB_OK;
}

/* ---- the file ----------------------------------------------------------------------------- */

/* Writes the replay file of a micro-batch and sets path (PATH_BYTES). grad (count,) on the host is
 * the gradient of this micro-batch alone, or NULL if the backward pass did not run. */
static plumb_status write_replay(char *path, const struct plumb_non_finite *g, int64_t micro_batch,
                                 enum plumb_replay_outcome outcome, const float *grad,
                                 const char *reason)
{
    const struct plumb_trainer *t = g->t;
    const bool align = strcmp(t->command, "align") == 0;
    struct plumb_replay r = {
        .outcome = outcome,
        .config_hash = t->state.config_hash,
        .seed = t->cfg->seed,
        .fingerprint = t->model->fingerprint,
        .step = t->state.step + 1,
        .iteration = align ? t->state.iteration + 1 : 0,
        .micro_batch = micro_batch,
        .head_rows = t->cfg->train.head_rows,
        .longest = t->model->longest,
        .loss = grad ? t->micro->out.loss : NAN,
    };
    snprintf(r.command, sizeof(r.command), "%s", t->command);
    const bool by_method = align || strcmp(t->command, "prefer") == 0;
    snprintf(r.method, sizeof(r.method), "%s", by_method ? t->cfg->method.name : t->command);
    snprintf(r.device, sizeof(r.device), "%s", t->backend->name);
    snprintf(r.reason, sizeof(r.reason), "%s", reason);
    if (grad)
        PLUMB_TRY(plumb_replay_hash(&r.gradient_hash, t->model, grad, PLUMB_HOST));
    PLUMB_TRY(plumb_replay_path(path, PATH_BYTES, t->cfg->output_dir, r.step, micro_batch));
    snprintf(r.weights, sizeof(r.weights), "%s", g->weights);
    PLUMB_REQUIRE(*g->weights || !t->model->masters, PLUMB_ERR_IO,
                  "step %lld: the weights could not be written", (long long)r.step);
    if (!*g->weights)
        PLUMB_TRY(place_weights(r.weights, sizeof(r.weights), t, r.step,
                                outcome == PLUMB_REPLAY_HEALTHY));
    return plumb_replay_write(&r, t->micro, path);
}

/* Writes the replay file of the micro-batch that train.replay names: the input with which `plumb
 * replay` runs this micro-batch again. If the micro-batch has no sequences, only logs a warning. */
static plumb_status write_asked(const struct plumb_non_finite *g, int64_t micro_batch,
                                const float *grad)
{
    const struct plumb_trainer *t = g->t;
    char path[PATH_BYTES];
    if (t->micro->pack.n_seq == 0) {
        plumb_log(PLUMB_LOG_WARN, "train.replay: micro-batch %lld of step %lld has no term",
                  (long long)micro_batch, (long long)t->replay_step);
        return PLUMB_OK;
    }
    PLUMB_TRY(write_replay(path, g, micro_batch, PLUMB_REPLAY_HEALTHY, grad,
                           "train.replay asked for it"));
    plumb_log(PLUMB_LOG_INFO, "%s: plumb replay runs this micro-batch again", path);
    return PLUMB_OK;
}

/* Allocates the gradient of one micro-batch in host memory. */
static plumb_status take_host(float **out, const struct plumb_trainer *t)
{
    *out = malloc((size_t)t->gradient.count * sizeof(**out));
    PLUMB_REQUIRE(*out, PLUMB_ERR_NOMEM, "gradient of one micro-batch, for its replay file");
    return PLUMB_OK;
}

plumb_status plumb_non_finite_micro(void *arg, int64_t micro_batch, float *grad,
                                    double value[PLUMB_MICRO_BATCH_VALUES])
{
    struct plumb_non_finite *g = arg;
    struct plumb_trainer *t = g->t;
    const bool asked = t->state.step + 1 == t->replay_step && micro_batch == t->replay_micro_batch;
    float *own = NULL;
    if (asked)
        PLUMB_TRY(take_host(&own, t));
    plumb_gradient_keep(&t->gradient, own);
    plumb_status st = g->fn(g->arg, micro_batch, grad, value);
    if (st == PLUMB_ERR_NUMERIC)
        g->failed = micro_batch;
    if (st == PLUMB_OK && asked)
        st = plumb_gradient_take(&t->gradient, own, grad);
    if (st == PLUMB_OK && asked)
        st = write_asked(g, micro_batch, own);
    plumb_gradient_keep(&t->gradient, NULL);
    free(own);
    return st;
}

/* Writes the replay file and appends its path to the message `said`. If the file cannot be written,
 * appends the reason. */
static void write_and_say(char said[TEXT_BYTES], const struct plumb_non_finite *g,
                          int64_t micro_batch, enum plumb_replay_outcome outcome, const float *grad)
{
    char path[PATH_BYTES], reason[TEXT_BYTES];
    const size_t len = strlen(said);
    snprintf(reason, sizeof(reason), "%s", said);
    if (write_replay(path, g, micro_batch, outcome, grad, reason) == PLUMB_OK)
        snprintf(said + len, TEXT_BYTES - len, "; 'plumb replay %.300s' runs it again", path);
    else
        snprintf(said + len, TEXT_BYTES - len, "; no replay file: %.300s", plumb_trail_message());
}

plumb_status plumb_non_finite_micro_failed(struct plumb_non_finite *g, plumb_status st)
{
    struct plumb_trainer *t = g->t;
    char said[TEXT_BYTES], words[500];
    snprintf(said, sizeof(said), "%s", plumb_trail_message());
    if (st == PLUMB_ERR_COMM || st == PLUMB_STOPPED)
        return st;
    double lowest = g->failed >= 0 ? (double)g->failed : INFINITY;
    const plumb_status agreed = plumb_comm_allreduce_f64(t->comm, &lowest, 1, PLUMB_MIN);
    if (agreed == PLUMB_OK && isfinite(lowest)) /* if this fails, the replay file says so */
        (void)place_shared(g, false);
    if (agreed == PLUMB_OK && lowest == (double)g->failed) {
        snprintf(words, sizeof(words), "%.499s", said);
        snprintf(said, sizeof(said),
                 "step %lld, micro-batch %lld: %s; the weights stay as they are",
                 (long long)t->state.step + 1, (long long)g->failed, words);
        write_and_say(said, g, g->failed, PLUMB_REPLAY_FORWARD, NULL);
    }
    (void)plumb_fail_at(st, __FILE__, __LINE__, "%s", said);
    /* the other ranks wait here until the file is written, so that none of them ends the run
     * before */
    const plumb_status met = plumb_comm_agree(t->comm, PLUMB_OK);
    return met == PLUMB_ERR_COMM ? met : plumb_fail_at(st, __FILE__, __LINE__, "%s", said);
}

/* Computes this rank's micro-batches again until the gradient of one is not finite. Sets g->failed
 * to the number of this micro-batch, own (count,) on the host to its gradient, and `said` to the
 * message. If all are finite, g->failed and `said` do not change. */
static plumb_status find_micro_batch(struct plumb_non_finite *g, float *own, int64_t micro_batches,
                                     char said[TEXT_BYTES])
{
    struct plumb_trainer *t = g->t;
    const struct plumb_trained trained = plumb_model_trained(t->model);
    const struct plumb_leaves mine =
        plumb_gradient_leaves(t->gradient.rounds != NULL, micro_batches, t->comm);
    char records[400];
    for (int64_t micro_batch = mine.begin; micro_batch < mine.end; micro_batch += mine.step) {
        double value[PLUMB_MICRO_BATCH_VALUES] = {0};
        int64_t tensor = 0, element = 0;
        PLUMB_TRY(plumb_gradient_alone(&t->gradient, own, micro_batch, g->fn, g->arg, value));
        PLUMB_TRY(plumb_replay_non_finite(&tensor, &element, t->model, own, PLUMB_HOST));
        if (tensor == trained.n_param)
            continue;
        g->failed = micro_batch;
        plumb_micro_describe(records, sizeof(records), t->micro);
        snprintf(said, TEXT_BYTES,
                 "step %lld: the gradient of micro-batch %lld (%s) is not finite, first in "
                 "%s[%lld]; the weights stay as they are",
                 (long long)t->state.step + 1, (long long)micro_batch, records,
                 trained.param[tensor].name, (long long)element);
        return PLUMB_OK;
    }
    return PLUMB_OK;
}

/* Finds the micro-batch whose gradient is not finite, and fails as plumb_non_finite_gradient_failed
 * describes it. own (count,): host memory for the gradient of one micro-batch. `refused`: the
 * message with which the optimizer step failed. st: this rank's status so far. Collective. */
static plumb_status find_and_fail(struct plumb_non_finite *g, float *own, int64_t micro_batches,
                                  const char *refused, plumb_status st)
{
    struct plumb_trainer *t = g->t;
    char said[TEXT_BYTES] = "";
    g->failed = -1;
    if (st == PLUMB_OK)
        st = find_micro_batch(g, own, micro_batches, said);
    PLUMB_TRY(plumb_comm_agree(t->comm, st));
    double at[2] = {g->failed >= 0 ? (double)g->failed : INFINITY, 0};
    PLUMB_TRY(plumb_comm_allreduce_f64(t->comm, &at[0], 1, PLUMB_MIN));
    PLUMB_REQUIRE(isfinite(at[0]), PLUMB_ERR_NUMERIC,
                  "%s; every micro-batch's own gradient is finite, their sum is not", refused);
    (void)place_shared(g, false); /* if this fails, the replay file says so */
    if (at[0] == (double)g->failed) {
        write_and_say(said, g, g->failed, PLUMB_REPLAY_GRADIENT, own);
        at[1] = plumb_comm_rank(t->comm);
    }
    PLUMB_TRY(plumb_comm_allreduce_f64(t->comm, &at[1], 1, PLUMB_MAX));
    PLUMB_TRY(plumb_comm_broadcast(t->comm, said, sizeof(said), (int)at[1]));
    PLUMB_FAIL(PLUMB_ERR_NUMERIC, "%s", said);
}

plumb_status plumb_non_finite_gradient_failed(struct plumb_non_finite *g, int64_t micro_batches)
{
    float *own = NULL;
    char refused[400];
    snprintf(refused, sizeof(refused), "%s", plumb_trail_message());
    plumb_status st = take_host(&own, g->t);
    st = find_and_fail(g, own, micro_batches, refused, st);
    free(own);
    return st;
}
