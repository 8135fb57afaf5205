/* cmd_replay.c - runs one recorded micro-batch again and compares the results bit by bit.
 * Layer 6. May include everything. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/output.h"
#include "base/log.h"
#include "io/file.h"
#include "io/hdf5.h"
#include "io/json.h"
#include "io/kind.h"
#include "train/replay.h"

/* The results of the repeated computation. The members *_at name the first non-finite value of the
 * weights, the forward, the loss and the gradient; "" if all values are finite. */
struct replay {
    struct plumb_app *app;
    struct plumb_replay recorded;
    struct plumb_micro micro;
    plumb_model *model;
    plumb_pass *pass;
    float *grad; /* (count,) gradient, on the device */
    bool has_loss, has_gradient;
    /* number of sequences whose log-probs or score differ from the recorded ones in any bit */
    int64_t unequal;
    uint64_t gradient_hash;
    double norm;
    char weights_at[256], forward_at[256], loss_at[256], gradient_at[256];
};

/* Returns true if a and b have the same bits. A NaN equals a NaN with the same bits. */
static bool same_f32(float a, float b)
{
    return memcmp(&a, &b, sizeof(a)) == 0;
}
static bool same_f64(double a, double b)
{
    return memcmp(&a, &b, sizeof(a)) == 0;
}

static plumb_status open_model(struct replay *r)
{
    const struct plumb_replay *c = &r->recorded;
    const char *dir = *r->app->cfg->model ? r->app->cfg->model : c->weights;
    if (r->micro.kind == PLUMB_MICRO_SCORE)
        PLUMB_TRY(plumb_model_open_classifier(&r->model, r->app->backend, dir, 1, c->seed));
    else
        PLUMB_TRY(plumb_model_open(&r->model, r->app->backend, dir));
    PLUMB_TRY(plumb_model_set_longest(r->model, c->longest, NULL));
    PLUMB_REQUIRE(r->model->fingerprint == c->fingerprint, PLUMB_ERR_FORMAT,
                  "%s holds weights %016" PRIx64 ", the micro-batch was run with %016" PRIx64
                  "; name their folder with model=DIR",
                  dir, r->model->fingerprint, c->fingerprint);
    const struct plumb_pass_limit limit =
        plumb_pack_limit(&r->micro.pack, true, false, c->head_rows);
    PLUMB_TRY(plumb_pass_create(&r->pass, r->model, &limit));
    const int64_t bytes = plumb_model_trained(r->model).count * (int64_t)sizeof(float);
    PLUMB_TRY(r->app->backend->alloc(r->app->backend, (void **)&r->grad, bytes, "gradient"));
    return r->app->backend->zero(r->app->backend, r->grad, bytes);
}

static plumb_status note_place(char out[256], const plumb_model *m, const float *x)
{
    const struct plumb_trained t = plumb_model_trained(m);
    int64_t tensor = 0, element = 0;
    PLUMB_TRY(plumb_replay_non_finite(&tensor, &element, m, x, m->backend->place));
    if (tensor < t.n_param)
        snprintf(out, 256, "%s[%lld]", t.param[tensor].name, (long long)element);
    return PLUMB_OK;
}

/* Computes forward, loss and backward in the order of training. As in training, a non-finite result
 * of the forward or of the loss ends the computation. */
static plumb_status run_stages(struct replay *r)
{
    struct plumb_micro *m = &r->micro;
    PLUMB_TRY(note_place(r->weights_at, r->model, plumb_model_trained(r->model).w));
    PLUMB_TRY(plumb_micro_forward(m, r->pass, r->model));
    if (plumb_micro_check(m) != PLUMB_OK)
        snprintf(r->forward_at, sizeof(r->forward_at), "%.250s", plumb_trail_message());
    else if (plumb_micro_loss(m) != PLUMB_OK)
        snprintf(r->loss_at, sizeof(r->loss_at), "%.250s", plumb_trail_message());
    r->has_loss = !r->forward_at[0] && !r->loss_at[0];
    if (!r->has_loss)
        return PLUMB_OK;
    PLUMB_TRY(plumb_micro_backward(m, r->pass, r->model, r->grad));
    PLUMB_TRY(note_place(r->gradient_at, r->model, r->grad));
    r->has_gradient = true;
    return plumb_replay_hash(&r->gradient_hash, r->model, r->grad, r->app->backend->place);
}

/* ---- results ------------------------------------------------------------------------------ */

static plumb_status put_text(struct plumb_buf *b, const char *key, const char *text)
{
    PLUMB_TRY(plumb_buf_addf(b, "%s\"%s\": ", b->data[b->len - 1] == '{' ? "" : ", ", key));
    return *text ? plumb_json_put_string(b, text, (int64_t)strlen(text))
                 : plumb_buf_add_text(b, "null");
}
static plumb_status put_int(struct plumb_buf *b, const char *key, int64_t x)
{
    return plumb_buf_addf(b, "%s\"%s\": %lld", b->data[b->len - 1] == '{' ? "" : ", ", key,
                          (long long)x);
}
static plumb_status put_real(struct plumb_buf *b, const char *key, double x)
{
    PLUMB_TRY(plumb_buf_addf(b, "%s\"%s\": ", b->data[b->len - 1] == '{' ? "" : ", ", key));
    return plumb_json_put_real(b, x);
}
static plumb_status put_hash(struct plumb_buf *b, const char *key, bool known, uint64_t x)
{
    char text[32] = "";
    if (known)
        snprintf(text, sizeof(text), "%016" PRIx64, x);
    return put_text(b, key, text);
}
static plumb_status put_flag(struct plumb_buf *b, const char *key, bool x)
{
    return plumb_buf_addf(b, ", \"%s\": %s", key, x ? "true" : "false");
}

static plumb_status put_head(struct plumb_buf *b, const struct replay *r)
{
    const struct plumb_replay *c = &r->recorded;
    PLUMB_TRY(plumb_buf_add_text(b, "{"));
    PLUMB_TRY(put_text(b, "replay", r->app->cfg->input));
    PLUMB_TRY(put_text(b, "command", c->command));
    PLUMB_TRY(put_text(b, "method", c->method));
    PLUMB_TRY(put_text(b, "objective", r->micro.objective ? r->micro.objective->name : "tokens"));
    PLUMB_TRY(put_int(b, "step", c->step));
    PLUMB_TRY(put_int(b, "iteration", c->iteration));
    PLUMB_TRY(put_int(b, "micro_batch", c->micro_batch));
    PLUMB_TRY(put_text(b, "outcome", plumb_replay_outcomes[c->outcome]));
    PLUMB_TRY(put_text(b, "reason", c->reason));
    PLUMB_TRY(put_hash(b, "weights", true, c->fingerprint));
    PLUMB_TRY(put_text(b, "folder", r->model->dir));
    return plumb_buf_add_text(b, "}\n");
}

/* Compares sequence q with its recording, bit by bit, and appends the result as JSON. Element
 * `first` of the micro-batch's log-probs belongs to the sequence's first token. */
static plumb_status put_sequence(struct plumb_buf *b, struct replay *r, int64_t q, int64_t first)
{
    const struct plumb_micro *m = &r->micro;
    const bool score = m->kind == PLUMB_MICRO_SCORE;
    const float *recorded = r->recorded.logp + first, *logp = m->pack.logp + first;
    int64_t differs = -1, bad = -1;
    double sum = 0;
    for (int32_t j = 0; j < m->len[q] && !score; j++) {
        sum += (double)recorded[j];
        if (differs < 0 && !same_f32(recorded[j], logp[j]))
            differs = j;
        if (bad < 0 && !isfinite(logp[j]))
            bad = j;
    }
    const bool same = score ? same_f64(m->score[q], r->recorded.score[q]) : differs < 0;
    r->unequal += !same;
    PLUMB_TRY(plumb_buf_add_text(b, "{"));
    PLUMB_TRY(put_int(b, "sequence", q));
    PLUMB_TRY(put_int(b, "record", m->record[q]));
    PLUMB_TRY(put_int(b, "sample", m->sample[q]));
    PLUMB_TRY(put_int(b, "prompt_tokens", m->pack.prompt_tokens[q]));
    PLUMB_TRY(put_int(b, "tokens", m->len[q]));
    PLUMB_TRY(put_real(b, score ? "score" : "logprob", score ? m->score[q] : m->logp[q]));
    PLUMB_TRY(put_real(b, "recorded", score ? r->recorded.score[q] : sum));
    PLUMB_TRY(put_flag(b, "same_bits", same));
    if (differs >= 0)
        PLUMB_TRY(put_int(b, "first_difference", differs));
    if (bad >= 0)
        PLUMB_TRY(put_int(b, "first_non_finite", bad));
    return plumb_buf_add_text(b, "}\n");
}

/* Appends the norm of the gradient for each tensor as JSON. Sets r->norm to the norm of the whole
 * gradient, computed from the same sums. */
static plumb_status put_tensors(struct plumb_buf *b, struct replay *r)
{
    const struct plumb_trained t = plumb_model_trained(r->model);
    float *host = malloc((size_t)t.count * sizeof(*host));
    PLUMB_REQUIRE(host, PLUMB_ERR_NOMEM, "gradient of %lld floats", (long long)t.count);
    plumb_status st =
        r->app->backend->to_host(r->app->backend, host, r->grad, t.count * (int64_t)sizeof(*host));
    double all = 0;
    for (int64_t p = 0; p < t.n_param && st == PLUMB_OK; p++) {
        const float *x = host + t.param[p].offset;
        double sum = 0;
        int64_t bad = -1;
        for (int64_t i = 0; i < t.param[p].count; i++) {
            sum += (double)x[i] * (double)x[i];
            if (bad < 0 && !isfinite(x[i]))
                bad = i;
        }
        all += sum;
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(b, "{"), done);
        PLUMB_TRY_GOTO(st, put_text(b, "tensor", t.param[p].name), done);
        PLUMB_TRY_GOTO(st, put_real(b, "norm", sqrt(sum)), done);
        if (bad >= 0)
            PLUMB_TRY_GOTO(st, put_int(b, "first_non_finite", bad), done);
        st = plumb_buf_add_text(b, "}\n");
    }
    r->norm = sqrt(all);
done:
    free(host);
    return st;
}

static plumb_status put_result(struct plumb_buf *b, const struct replay *r)
{
    const struct plumb_replay *c = &r->recorded;
    const bool recorded = c->outcome != PLUMB_REPLAY_FORWARD;
    const double loss = r->has_loss ? r->micro.out.loss : NAN;
    PLUMB_TRY(plumb_buf_add_text(b, "{"));
    PLUMB_TRY(put_real(b, "loss", loss));
    PLUMB_TRY(put_real(b, "recorded", recorded ? c->loss : NAN));
    PLUMB_TRY(put_flag(b, "same_bits",
                       r->has_loss == recorded && (!recorded || same_f64(loss, c->loss))));
    PLUMB_TRY(plumb_buf_add_text(b, "}\n{"));
    PLUMB_TRY(put_real(b, "gradient_norm", r->has_gradient ? r->norm : NAN));
    PLUMB_TRY(put_hash(b, "gradient_hash", r->has_gradient, r->gradient_hash));
    PLUMB_TRY(put_hash(b, "recorded", recorded, c->gradient_hash));
    PLUMB_TRY(put_flag(b, "same_bits",
                       r->has_gradient == recorded &&
                           (!recorded || r->gradient_hash == c->gradient_hash)));
    PLUMB_TRY(plumb_buf_add_text(b, "}\n{"));
    PLUMB_TRY(put_text(b, "non_finite_weights", r->weights_at));
    PLUMB_TRY(put_text(b, "non_finite_forward", r->forward_at));
    PLUMB_TRY(put_text(b, "non_finite_loss", r->loss_at));
    PLUMB_TRY(put_text(b, "non_finite_gradient", r->gradient_at));
    return plumb_buf_add_text(b, "}\n");
}

static plumb_status put_all(struct plumb_buf *b, struct replay *r)
{
    int64_t first = 0;
    PLUMB_TRY(put_head(b, r));
    for (int64_t q = 0; q < r->micro.pack.n_seq; q++) {
        PLUMB_TRY(put_sequence(b, r, q, first));
        first += r->micro.len[q];
    }
    if (r->has_gradient)
        PLUMB_TRY(put_tensors(b, r));
    return put_result(b, r);
}

/* Prints the results that are also in the JSON output to standard error, as text for people. */
static void summarise(const struct replay *r)
{
    const struct plumb_replay *c = &r->recorded;
    const struct plumb_micro *m = &r->micro;
    char records[400];
    plumb_micro_describe(records, sizeof(records), m);
    plumb_log(PLUMB_LOG_INFO, "%s %s, step %lld, micro-batch %lld: %s", c->command, c->method,
              (long long)c->step, (long long)c->micro_batch, records);
    plumb_log(PLUMB_LOG_INFO, "recorded (%s): %s", plumb_replay_outcomes[c->outcome], c->reason);
    if (strcmp(c->device, r->app->backend->name) != 0)
        plumb_log(PLUMB_LOG_WARN, "recorded on device %s, this is %s: other bits are no surprise",
                  c->device, r->app->backend->name);
    const char *what = m->kind == PLUMB_MICRO_SCORE ? "scores" : "log-probs";
    plumb_log(PLUMB_LOG_INFO, "%s: %lld of %lld sequences have the recorded bits", what,
              (long long)(m->pack.n_seq - r->unequal), (long long)m->pack.n_seq);
    if (r->has_loss)
        plumb_log(PLUMB_LOG_INFO, "loss %.9g, recorded %.9g; gradient norm %.9g, %s", m->out.loss,
                  c->loss, r->norm,
                  c->outcome == PLUMB_REPLAY_FORWARD     ? "none was recorded"
                  : r->gradient_hash == c->gradient_hash ? "the recorded bits"
                                                         : "OTHER bits than recorded");
    const struct {
        const char *stage, *at;
    } places[] = {{"weights", r->weights_at},
                  {"forward", r->forward_at},
                  {"loss", r->loss_at},
                  {"gradient", r->gradient_at}};
    for (int i = 0; i < 4; i++)
        if (*places[i].at)
            plumb_log(PLUMB_LOG_INFO, "not finite in %s: %s", places[i].stage, places[i].at);
}

/* Fails, because a replay file is expected. The message lists the replay files in the folder
 * dir. */
static plumb_status refuse_folder(const char *dir)
{
    struct plumb_names names = {0};
    struct plumb_buf list = {0};
    plumb_status st;
    PLUMB_TRY(plumb_dir_list(&names, dir));
    for (int64_t i = 0; i < names.n; i++)
        if (!strncmp(names.name[i], "replay-", 7) && strstr(names.name[i], ".h5"))
            PLUMB_TRY_GOTO(st, plumb_buf_addf(&list, " %s/%s", dir, names.name[i]), done);
    st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                       "%s is a folder, expected a replay file%s%s", dir,
                       list.len ? ":" : "; there is none in it", plumb_buf_text(&list));
done:
    plumb_buf_fini(&list);
    plumb_names_fini(&names);
    return st;
}

/* Fails for a folder, for a file that is not HDF5, and for a file of rollouts. The replay reader
 * reports any other fault. */
static plumb_status check_input(const char *path)
{
    plumb_h5 *f = NULL;
    PLUMB_REQUIRE(strcmp(path, "-") != 0, PLUMB_ERR_CONFIG,
                  "no file is named: plumb replay OUTPUT_DIR/replay-STEP-MICRO_BATCH.h5");
    if (plumb_dir_exists(path))
        return refuse_folder(path);
    PLUMB_TRY(plumb_file_expect(path, PLUMB_FILE_HDF5));
    PLUMB_TRY(plumb_h5_open(&f, path));
    const bool rollouts = plumb_h5_has(f, "completion_start");
    plumb_h5_close(&f);
    PLUMB_REQUIRE(!rollouts, PLUMB_ERR_FORMAT,
                  "%s: holds rollouts, expected a replay file (replay-STEP-MICRO_BATCH.h5); plumb "
                  "inspect describes rollouts",
                  path);
    return PLUMB_OK;
}

static plumb_status replay(struct replay *r, struct plumb_buf *out)
{
    const char *path = r->app->cfg->input;
    PLUMB_REQUIRE(plumb_comm_size(r->app->comm) == 1, PLUMB_ERR_ARG,
                  "replay runs one micro-batch: start it without mpirun");
    PLUMB_TRY(check_input(path));
    PLUMB_TRY(plumb_replay_read(&r->recorded, &r->micro, path));
    PLUMB_TRY(open_model(r));
    PLUMB_TRY(run_stages(r));
    PLUMB_TRY(put_all(out, r));
    summarise(r);
    return PLUMB_OK;
}

plumb_status plumb_cmd_replay(struct plumb_app *app)
{
    struct replay r = {.app = app};
    struct plumb_output output = {0};
    struct plumb_buf out = {0};
    plumb_status st = plumb_comm_agree(app->comm, replay(&r, &out));
    if (st == PLUMB_OK) /* there is only one rank: replay fails on several */
        st = plumb_output_open(&output, app, PLUMB_OUTPUT_TEXT, app->cfg->output, 0);
    if (st == PLUMB_OK)
        st = plumb_output_add(&output, plumb_buf_text(&out), out.len);
    if (st == PLUMB_OK)
        st = plumb_output_commit(&output);
    plumb_output_leave(&output);
    plumb_buf_fini(&out);
    if (r.grad)
        app->backend->release(app->backend, r.grad);
    plumb_pass_destroy(&r.pass);
    plumb_model_destroy(&r.model);
    plumb_micro_fini(&r.micro);
    plumb_replay_fini(&r.recorded);
    return st;
}
