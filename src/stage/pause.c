/* pause.c - saves an unfinished iteration to a checkpoint and restores it.
 * Layer 5. Includes stage/align.h, base/, io/.
 *
 * Every rank writes answers.rank-R.h5 with its n completions, finished or not. On resume, every
 * rank reads all files and takes the completions of its own prompts, so the number of ranks may
 * change. slot is the prompt's index in the iteration; logp_* are sums in nats.
 *   slot i64, sample i32, finished u8, scored u8, stop u8, reward f64                  (n,)
 *   logp_ref, logp_start, logp_judge f64                                               (n,)
 *   offsets i64 (n+1,)    completion i is [offsets[i], offsets[i+1]) of
 *   ids i32, logp f32, logp_sampled f32
 *   margins f64           SPA only: margins of the steps taken
 *   previous f32          weights at the iteration's start; only in rank 0's file, and only if a
 *                         reference needs them and the policy has changed since
 *   sums f64              struct plumb_align_sums of the steps taken
 * Attributes: format, version, iteration (from 1), world_size, rank, and weights (fingerprint of
 * the weights that sampled). */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "io/format.h"
#include "io/hdf5.h"
#include "stage/align.h"

static const char *const role_name[PLUMB_ROLES] = {"logp_ref", "logp_start", "logp_judge"};

enum { SUMS = sizeof(struct plumb_align_sums) / sizeof(double) };

static plumb_status file_name(char out[4096], const char *dir, int64_t rank)
{
    char name[64];
    snprintf(name, sizeof(name), "answers.rank-%lld.h5", (long long)rank);
    return plumb_path_join(out, 4096, dir, name);
}

/* The scalars of n completions, as columns of the file. */
struct columns {
    int64_t n;
    int64_t *slot, *offsets;
    int32_t *sample;
    uint8_t *finished, *scored, *stop;
    double *reward, *under; /* (n,) rewards; (PLUMB_ROLES, n) reference log-prob sums */
};

static void columns_fini(struct columns *c)
{
    free(c->slot);
    free(c->offsets);
    free(c->sample);
    free(c->finished);
    free(c->scored);
    free(c->stop);
    free(c->reward);
    free(c->under);
}

static plumb_status columns_init(struct columns *c, int64_t n)
{
    const size_t room = (size_t)n + 1;
    *c = (struct columns){.n = n,
                          .slot = calloc(room, sizeof(*c->slot)),
                          .offsets = calloc(room, sizeof(*c->offsets)),
                          .sample = calloc(room, sizeof(*c->sample)),
                          .finished = calloc(room, 1),
                          .scored = calloc(room, 1),
                          .stop = calloc(room, 1),
                          .reward = calloc(room, sizeof(*c->reward)),
                          .under = calloc(PLUMB_ROLES * room, sizeof(*c->under))};
    if (c->slot && c->offsets && c->sample && c->finished && c->scored && c->stop && c->reward &&
        c->under)
        return PLUMB_OK;
    columns_fini(c);
    PLUMB_FAIL(PLUMB_ERR_NOMEM, "columns of %lld completions", (long long)n);
}

/* ---- out ------------------------------------------------------------------------------------ */

static plumb_status write_columns(plumb_h5 *f, const struct plumb_rollouts *r, struct columns *c,
                                  int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const struct plumb_rollout *o = &r->at[i];
        c->slot[i] = o->prompt;
        c->sample[i] = o->sample;
        c->finished[i] = o->finished;
        c->scored[i] = o->scored;
        c->stop[i] = (uint8_t)o->stop;
        c->reward[i] = o->reward;
        for (int role = 0; role < PLUMB_ROLES; role++)
            c->under[role * n + i] = o->under[role];
        c->offsets[i + 1] = c->offsets[i] + o->n;
    }
    PLUMB_TRY(plumb_h5_put(f, "slot", PLUMB_H5_I64, n, c->slot));
    PLUMB_TRY(plumb_h5_put(f, "sample", PLUMB_H5_I32, n, c->sample));
    PLUMB_TRY(plumb_h5_put(f, "finished", PLUMB_H5_U8, n, c->finished));
    PLUMB_TRY(plumb_h5_put(f, "scored", PLUMB_H5_U8, n, c->scored));
    PLUMB_TRY(plumb_h5_put(f, "stop", PLUMB_H5_U8, n, c->stop));
    PLUMB_TRY(plumb_h5_put(f, "reward", PLUMB_H5_F64, n, c->reward));
    for (int role = 0; role < PLUMB_ROLES; role++)
        PLUMB_TRY(plumb_h5_put(f, role_name[role], PLUMB_H5_F64, n, c->under + role * n));
    return plumb_h5_put(f, "offsets", PLUMB_H5_I64, n + 1, c->offsets);
}

static plumb_status write_tokens(plumb_h5 *f, const struct plumb_rollouts *r,
                                 const struct columns *c, int64_t n)
{
    PLUMB_TRY(plumb_h5_reserve(f, "ids", PLUMB_H5_I32, c->offsets[n]));
    PLUMB_TRY(plumb_h5_reserve(f, "logp", PLUMB_H5_F32, c->offsets[n]));
    PLUMB_TRY(plumb_h5_reserve(f, "logp_sampled", PLUMB_H5_F32, c->offsets[n]));
    for (int64_t i = 0; i < n; i++) {
        const struct plumb_rollout *o = &r->at[i];
        const int64_t at = c->offsets[i];
        if (o->n == 0)
            continue;
        PLUMB_TRY(plumb_h5_write(f, "ids", PLUMB_H5_I32, at, o->n, o->ids));
        PLUMB_TRY(plumb_h5_write(f, "logp", PLUMB_H5_F32, at, o->n, o->logp));
        PLUMB_TRY(plumb_h5_write(f, "logp_sampled", PLUMB_H5_F32, at, o->n, o->logp_sampled));
    }
    return PLUMB_OK;
}

/* Returns the copy of the weights from the iteration's start, or NULL if there is no copy or the
 * policy still has these weights. */
static plumb_model *weights_left(const struct plumb_align_run *a)
{
    plumb_model *held = plumb_references_held(a->reference.set);
    return held && held->fingerprint != a->t->model->fingerprint ? held : NULL;
}

enum { STAGE = 65536 }; /* floats that are copied between device and file at a time */

static plumb_status write_weights(plumb_h5 *f, const plumb_model *m)
{
    struct plumb_backend *b = m->backend;
    const struct plumb_trained t = plumb_model_trained(m);
    PLUMB_TRY(plumb_h5_reserve(f, "previous", PLUMB_H5_F32, t.count));
    float *stage = malloc(STAGE * sizeof(*stage));
    PLUMB_REQUIRE(stage, PLUMB_ERR_NOMEM, "weights of the iteration's beginning");
    plumb_status st = PLUMB_OK;
    for (int64_t at = 0; at < t.count && st == PLUMB_OK; at += STAGE) {
        const int64_t n = plumb_min_i64(STAGE, t.count - at);
        st = b->to_host(b, stage, t.w + at, n * (int64_t)sizeof(*stage));
        if (st == PLUMB_OK)
            st = plumb_h5_write(f, "previous", PLUMB_H5_F32, at, n, stage);
    }
    free(stage);
    return st;
}

static plumb_status write_answers(void *arg, const char *dir)
{
    const struct plumb_align_run *a = arg;
    const struct plumb_rollouts *r = &a->answers;
    const int64_t n = r->prompts * r->group_size;
    char path[4096];
    struct columns c;
    plumb_h5 *f = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(file_name(path, dir, plumb_comm_rank(a->t->comm)));
    PLUMB_TRY(columns_init(&c, n));
    PLUMB_TRY_GOTO(st, plumb_h5_create(&f, path), done);
    PLUMB_TRY_GOTO(st, plumb_format_put(f, PLUMB_FORMAT_PAUSE), done);
    PLUMB_TRY_GOTO(st, plumb_h5_put_attr_i64(f, "iteration", a->t->state.iteration + 1), done);
    PLUMB_TRY_GOTO(st, plumb_h5_put_attr_i64(f, "world_size", plumb_comm_size(a->t->comm)), done);
    PLUMB_TRY_GOTO(st, plumb_h5_put_attr_i64(f, "rank", plumb_comm_rank(a->t->comm)), done);
    PLUMB_TRY_GOTO(st, plumb_h5_put_attr_u64(f, "weights", a->weights), done);
    PLUMB_TRY_GOTO(st, plumb_h5_put(f, "sums", PLUMB_H5_F64, SUMS, &a->update.sums), done);
    if (a->add->pause)
        PLUMB_TRY_GOTO(st, a->add->pause(a, f), done);
    if (weights_left(a) && plumb_comm_rank(a->t->comm) == 0)
        PLUMB_TRY_GOTO(st, write_weights(f, weights_left(a)), done);
    PLUMB_TRY_GOTO(st, write_columns(f, r, &c, n), done);
    PLUMB_TRY_GOTO(st, write_tokens(f, r, &c, n), done);
    st = plumb_h5_commit(&f);
done:
    plumb_h5_close(&f);
    columns_fini(&c);
    return st;
}

plumb_status plumb_align_pause(struct plumb_align_run *a, bool *paused)
{
    const int64_t n = a->answers.prompts * a->answers.group_size;
    struct plumb_checkpoint_pause pause = {.write = write_answers, .arg = a, .bytes = 4096};
    for (int64_t i = 0; i < n; i++)
        pause.bytes += 56 + 12 * a->answers.at[i].n;
    if (a->add->pause_bytes)
        pause.bytes += a->add->pause_bytes(a);
    pause.bytes *= plumb_comm_size(a->t->comm);
    if (weights_left(a))
        pause.bytes += plumb_model_trained(a->t->model).count * (int64_t)sizeof(float);
    return plumb_trainer_pause(a->t, &pause, paused);
}

/* ---- in ------------------------------------------------------------------------------------- */

static plumb_status open_answers(plumb_h5 **out, const char *dir, int64_t rank)
{
    char path[4096];
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(file_name(path, dir, rank));
    PLUMB_TRY(plumb_h5_open(out, path));
    PLUMB_TRY_GOTO(st, plumb_format_get(NULL, *out, PLUMB_FORMAT_PAUSE), fail);
    return PLUMB_OK;
fail:
    plumb_h5_close(out);
    return st;
}

static plumb_status read_columns(const plumb_h5 *f, struct columns *c, int64_t n)
{
    PLUMB_TRY(plumb_h5_read(f, "slot", PLUMB_H5_I64, 0, n, c->slot));
    PLUMB_TRY(plumb_h5_read(f, "sample", PLUMB_H5_I32, 0, n, c->sample));
    PLUMB_TRY(plumb_h5_read(f, "finished", PLUMB_H5_U8, 0, n, c->finished));
    PLUMB_TRY(plumb_h5_read(f, "scored", PLUMB_H5_U8, 0, n, c->scored));
    PLUMB_TRY(plumb_h5_read(f, "stop", PLUMB_H5_U8, 0, n, c->stop));
    PLUMB_TRY(plumb_h5_read(f, "reward", PLUMB_H5_F64, 0, n, c->reward));
    for (int role = 0; role < PLUMB_ROLES; role++)
        PLUMB_TRY(plumb_h5_read(f, role_name[role], PLUMB_H5_F64, 0, n, c->under + role * n));
    PLUMB_TRY(plumb_h5_read(f, "offsets", PLUMB_H5_I64, 0, n + 1, c->offsets));
    for (int64_t i = 0; i < n; i++)
        PLUMB_REQUIRE(c->offsets[0] == 0 && c->offsets[i] <= c->offsets[i + 1], PLUMB_ERR_FORMAT,
                      "completion %lld: its tokens run from %lld to %lld", (long long)i,
                      (long long)c->offsets[i], (long long)c->offsets[i + 1]);
    return PLUMB_OK;
}

int64_t plumb_align_local(const struct plumb_align_run *a, int64_t prompt)
{
    int64_t low = 0, high = a->part.n_local;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (a->part.local_prompt[middle] < prompt)
            low = middle + 1;
        else
            high = middle;
    }
    return low < a->part.n_local && a->part.local_prompt[low] == prompt ? low : -1;
}

static plumb_status take_one(struct plumb_align_run *a, const plumb_h5 *f, const struct columns *c,
                             int64_t i, int64_t *taken)
{
    const struct plumb_rollouts *r = &a->answers;
    const int64_t k = plumb_align_local(a, c->slot[i]), n = c->offsets[i + 1] - c->offsets[i];
    if (k < 0)
        return PLUMB_OK;
    PLUMB_REQUIRE(c->sample[i] >= 0 && c->sample[i] < r->group_size && n >= 0 &&
                      n <= r->max_new_tokens && c->stop[i] <= PLUMB_STOP_PAUSED,
                  PLUMB_ERR_FORMAT,
                  "completion %d of prompt %lld of the iteration: %lld tokens, expected at most "
                  "%lld of a group of %lld",
                  c->sample[i], (long long)c->slot[i], (long long)n, (long long)r->max_new_tokens,
                  (long long)r->group_size);
    struct plumb_rollout *o = &r->at[k * r->group_size + c->sample[i]];
    o->n = n;
    o->finished = c->finished[i];
    o->scored = c->scored[i];
    o->stop = (enum plumb_stop)c->stop[i];
    o->reward = c->reward[i];
    if (!o->old) /* OPTune's begin has set the weights of an old answer */
        o->weights = r->weights;
    for (int role = 0; role < PLUMB_ROLES; role++)
        o->under[role] = c->under[role * c->n + i];
    ++*taken;
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_h5_read(f, "ids", PLUMB_H5_I32, c->offsets[i], n, o->ids));
    for (int64_t t = 0; t < n; t++)
        PLUMB_REQUIRE(o->ids[t] >= 0 && o->ids[t] < a->t->model->spec.v, PLUMB_ERR_FORMAT,
                      "completion %d of prompt %lld of the iteration: token %d is not in the "
                      "vocabulary of %lld",
                      c->sample[i], (long long)c->slot[i], o->ids[t],
                      (long long)a->t->model->spec.v);
    PLUMB_TRY(plumb_h5_read(f, "logp", PLUMB_H5_F32, c->offsets[i], n, o->logp));
    PLUMB_TRY(plumb_h5_read(f, "logp_sampled", PLUMB_H5_F32, c->offsets[i], n, o->logp_sampled));
    plumb_buf_clear(&o->text);
    return o->finished ? plumb_rollout_decode(o, a->data, a->t->tokenizer) : PLUMB_OK;
}

/* Reads `previous` into the copy of the weights from the iteration's start. If the file has no
 * `previous`, the copy keeps the policy's weights. */
static plumb_status read_weights(struct plumb_align_run *a, const plumb_h5 *f)
{
    plumb_model *m = plumb_references_held(a->reference.set);
    struct plumb_backend *b = a->t->backend;
    if (!m || !plumb_h5_has(f, "previous"))
        return PLUMB_OK;
    const struct plumb_trained t = plumb_model_trained(m);
    float *stage = malloc(STAGE * sizeof(*stage));
    PLUMB_REQUIRE(stage, PLUMB_ERR_NOMEM, "weights of the iteration's beginning");
    plumb_status st = PLUMB_OK;
    for (int64_t at = 0; at < t.count && st == PLUMB_OK; at += STAGE) {
        const int64_t n = plumb_min_i64(STAGE, t.count - at);
        st = plumb_h5_read(f, "previous", PLUMB_H5_F32, at, n, stage);
        if (st == PLUMB_OK)
            st = b->to_device(b, t.w + at, stage, n * (int64_t)sizeof(*stage));
    }
    free(stage);
    PLUMB_TRY(st);
    return plumb_model_refresh(m);
}

static plumb_status read_file(struct plumb_align_run *a, const char *dir, int64_t rank,
                              int64_t *taken, int64_t *world)
{
    plumb_h5 *f = NULL;
    struct columns c = {0};
    int64_t n = 0, iteration = 0;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(open_answers(&f, dir, rank));
    PLUMB_TRY_GOTO(st, plumb_h5_get_attr_i64(f, "iteration", &iteration), done);
    PLUMB_TRY_GOTO(st, plumb_h5_get_attr_i64(f, "world_size", world), done);
    PLUMB_TRY_GOTO(st, plumb_h5_get_attr_u64(f, "weights", &a->answers.weights), done);
    if (iteration != a->t->state.iteration + 1)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done,
                        "%s: answers of iteration %lld beside the state of iteration %lld", dir,
                        (long long)iteration, (long long)a->t->state.iteration);
    PLUMB_TRY_GOTO(st, plumb_h5_read(f, "sums", PLUMB_H5_F64, 0, SUMS, &a->update.sums), done);
    if (a->add->resume)
        PLUMB_TRY_GOTO(st, a->add->resume(a, f, dir), done);
    PLUMB_TRY_GOTO(st, read_weights(a, f), done);
    PLUMB_TRY_GOTO(st, plumb_h5_count(f, "slot", &n), done);
    PLUMB_TRY_GOTO(st, columns_init(&c, n), done);
    PLUMB_TRY_GOTO(st, read_columns(f, &c, n), done);
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY_GOTO(st, take_one(a, f, &c, i, taken), done);
done:
    columns_fini(&c);
    plumb_h5_close(&f);
    return st;
}

bool plumb_align_paused_in(const char *dir)
{
    char path[4096];
    return file_name(path, dir, 0) == PLUMB_OK && plumb_file_exists(path);
}

plumb_status plumb_align_resume(struct plumb_align_run *a, const char *dir)
{
    const int64_t wanted = a->answers.prompts * a->answers.group_size;
    int64_t taken = 0, world = 1, finished = 0, tokens = 0;
    for (int64_t rank = 0; rank < world; rank++)
        PLUMB_TRY(read_file(a, dir, rank, &taken, &world));
    PLUMB_REQUIRE(taken == wanted, PLUMB_ERR_FORMAT,
                  "%s: answers of %lld of this rank's %lld completions", dir, (long long)taken,
                  (long long)wanted);
    const plumb_model *held = plumb_references_held(a->reference.set);
    PLUMB_REQUIRE(!held || held->fingerprint == a->answers.weights, PLUMB_ERR_FORMAT,
                  "%s: the iteration began with weights %016" PRIx64 ", the file has %016" PRIx64,
                  dir, a->answers.weights, held ? held->fingerprint : 0);
    if (plumb_comm_rank(a->t->comm) != 0) /* saved sums cover all ranks: keep them on rank 0 only */
        a->update.sums.mismatch = (struct plumb_mismatch){0};
    for (int64_t i = 0; i < wanted; i++) {
        finished += a->answers.at[i].finished;
        tokens += a->answers.at[i].n;
    }
    plumb_log(PLUMB_LOG_INFO,
              "iteration %lld goes on: %lld of %lld completions finished, %lld tokens kept, %lld "
              "steps taken%s",
              (long long)a->t->state.iteration + 1, (long long)finished, (long long)wanted,
              (long long)tokens, (long long)a->update.sums.taken,
              plumb_comm_size(a->t->comm) > 1 ? " (this rank's share)" : "");
    return PLUMB_OK;
}
