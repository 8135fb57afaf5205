/* pause.c - saves an unfinished iteration to a checkpoint and restores it.
 * Layer 5. Includes stage/align_run.h, base/, io/.
 *
 * Every rank R writes a file answers.rank-R.h5 with its n completions, finished or not. On resume,
 * every rank reads all files and keeps the completions of its own prompts, so the number of ranks
 * may change. The array `slot` holds the index of the prompt in the iteration. logp_ref, logp_start
 * and logp_judge are sums over the tokens of a completion, in nats.
 *   slot i64, sample i32, finished u8, scored u8, stop u8, reward f64                  (n,)
 *   logp_ref, logp_start, logp_judge f64                                               (n,)
 *   offsets i64 (n+1,)    completion i is [offsets[i], offsets[i+1]) of
 *   ids i32, logp f32, logp_sampled f32
 *   margins f64           SPA only: margins of the steps taken
 *   previous f32          weights at the iteration's start; only in rank 0's file, and only if a
 *                         reference needs them and the policy has changed since
 *   sums f64              struct plumb_align_sums of the steps taken
 * Attributes: format, version, iteration (from 1), world_size, rank, and weights (fingerprint of
 * the weights that sampled the completions). */
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
#include "stage/align_run.h"

static const char *const role_name[PLUMB_ROLES] = {"logp_ref", "logp_start", "logp_judge"};

enum { SUMS = sizeof(struct plumb_align_sums) / sizeof(double) };

static plumb_status file_name(char out[4096], const char *dir, int64_t rank)
{
    char name[64];
    snprintf(name, sizeof(name), "answers.rank-%lld.h5", (long long)rank);
    return plumb_path_join(out, 4096, dir, name);
}

/* The file's arrays for n completions: those with one value per completion, and `offsets` (n+1,).
 */
struct columns {
    int64_t n;
    int64_t *prompt, *offsets; /* `prompt` is the file's array `slot` */
    int32_t *sample;
    uint8_t *finished, *scored, *stop;
    double *reward, *logp; /* (n,) rewards; (PLUMB_ROLES, n) reference log-prob sums */
};

static void columns_fini(struct columns *c)
{
    free(c->prompt);
    free(c->offsets);
    free(c->sample);
    free(c->finished);
    free(c->scored);
    free(c->stop);
    free(c->reward);
    free(c->logp);
}

static plumb_status columns_init(struct columns *c, int64_t n)
{
    const size_t room = (size_t)n + 1;
    *c = (struct columns){.n = n,
                          .prompt = calloc(room, sizeof(*c->prompt)),
                          .offsets = calloc(room, sizeof(*c->offsets)),
                          .sample = calloc(room, sizeof(*c->sample)),
                          .finished = calloc(room, 1),
                          .scored = calloc(room, 1),
                          .stop = calloc(room, 1),
                          .reward = calloc(room, sizeof(*c->reward)),
                          .logp = calloc(PLUMB_ROLES * room, sizeof(*c->logp))};
    if (c->prompt && c->offsets && c->sample && c->finished && c->scored && c->stop && c->reward &&
        c->logp)
        return PLUMB_OK;
    columns_fini(c);
    PLUMB_FAIL(PLUMB_ERR_NOMEM, "columns of %lld completions", (long long)n);
}

/* ---- writing the file ----------------------------------------------------------------------- */

static plumb_status write_columns(plumb_h5 *f, const struct plumb_align_run *a, struct columns *c,
                                  int64_t n)
{
    const struct plumb_scores *scores = &a->reward.scores;
    for (int64_t i = 0; i < n; i++) {
        const struct plumb_rollout *o = &a->rollout.rollouts.at[i];
        c->prompt[i] = o->prompt;
        c->sample[i] = o->sample;
        c->finished[i] = o->finished;
        c->scored[i] = scores->scored[i];
        c->stop[i] = (uint8_t)o->stop;
        c->reward[i] = scores->reward[i];
        for (int role = 0; role < PLUMB_ROLES; role++)
            c->logp[role * n + i] = plumb_reference_logp(&a->reference, i, (enum plumb_role)role);
        c->offsets[i + 1] = c->offsets[i] + o->n;
    }
    PLUMB_TRY(plumb_h5_put(f, "slot", PLUMB_H5_I64, n, c->prompt));
    PLUMB_TRY(plumb_h5_put(f, "sample", PLUMB_H5_I32, n, c->sample));
    PLUMB_TRY(plumb_h5_put(f, "finished", PLUMB_H5_U8, n, c->finished));
    PLUMB_TRY(plumb_h5_put(f, "scored", PLUMB_H5_U8, n, c->scored));
    PLUMB_TRY(plumb_h5_put(f, "stop", PLUMB_H5_U8, n, c->stop));
    PLUMB_TRY(plumb_h5_put(f, "reward", PLUMB_H5_F64, n, c->reward));
    for (int role = 0; role < PLUMB_ROLES; role++)
        PLUMB_TRY(plumb_h5_put(f, role_name[role], PLUMB_H5_F64, n, c->logp + role * n));
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

/* Returns the snapshot of the policy's weights at the iteration's start. Returns NULL if there is
 * no snapshot, or if the policy still has these weights. */
static plumb_model *changed_snapshot(const struct plumb_align_run *a)
{
    plumb_model *snapshot = plumb_references_snapshot(a->reference.set);
    return snapshot && snapshot->fingerprint != a->t->model->fingerprint ? snapshot : NULL;
}

enum { STAGE = 65536 }; /* number of floats that are copied between device and file at a time */

/* Writes a tensor to its place in the flat vector of the file's array `previous`. arg: the file. */
static plumb_status write_tensor(void *arg, const struct plumb_param *p, float *w)
{
    return plumb_h5_write(arg, "previous", PLUMB_H5_F32, p->offset, p->count, w);
}

static plumb_status read_tensor(void *arg, const struct plumb_param *p, float *w)
{
    return plumb_h5_read(arg, "previous", PLUMB_H5_F32, p->offset, p->count, w);
}

static plumb_status write_weights(plumb_h5 *f, const plumb_model *m)
{
    struct plumb_backend *b = m->backend;
    const struct plumb_trained t = plumb_model_trained(m);
    PLUMB_TRY(plumb_h5_reserve(f, "previous", PLUMB_H5_F32, t.count));
    if (m->masters) /* meanwhile the other ranks send their shares in plumb_masters_finish */
        return plumb_model_each(m, write_tensor, f);
    float *stage = malloc(STAGE * sizeof(*stage));
    PLUMB_REQUIRE(stage, PLUMB_ERR_NOMEM, "buffer to write the snapshot of the weights");
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

static plumb_status write_file(const struct plumb_align_run *a, const char *dir)
{
    const struct plumb_rollouts *r = &a->rollout.rollouts;
    const int64_t n = plumb_rollouts_n(r);
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
    PLUMB_TRY_GOTO(st, plumb_h5_put_attr_u64(f, "weights", a->rollout.weights), done);
    PLUMB_TRY_GOTO(st, plumb_h5_put(f, "sums", PLUMB_H5_F64, SUMS, &a->update.sums), done);
    if (a->context.add->pause)
        PLUMB_TRY_GOTO(st, a->context.add->pause(a->own, f), done);
    if (changed_snapshot(a) && plumb_comm_rank(a->t->comm) == 0)
        PLUMB_TRY_GOTO(st, write_weights(f, changed_snapshot(a)), done);
    PLUMB_TRY_GOTO(st, write_columns(f, a, &c, n), done);
    PLUMB_TRY_GOTO(st, write_tokens(f, r, &c, n), done);
    st = plumb_h5_commit(&f);
done:
    plumb_h5_close(&f);
    columns_fini(&c);
    return st;
}

static plumb_status write_answers(void *arg, const char *dir)
{
    const struct plumb_align_run *a = arg;
    const plumb_model *snapshot = changed_snapshot(a);
    const plumb_status st = write_file(a, dir);
    return snapshot ? plumb_masters_finish(snapshot, st) : st;
}

plumb_status plumb_align_pause(struct plumb_align_run *a, bool *paused)
{
    const struct plumb_rollouts *r = &a->rollout.rollouts;
    struct plumb_checkpoint_pause pause = {.write = write_answers, .arg = a, .bytes = 4096};
    for (int64_t i = 0; i < plumb_rollouts_n(r); i++)
        pause.bytes += 56 + 12 * r->at[i].n;
    if (a->context.add->pause_bytes)
        pause.bytes += a->context.add->pause_bytes(a->own);
    pause.bytes *= plumb_comm_size(a->t->comm);
    if (changed_snapshot(a))
        pause.bytes += plumb_model_trained(a->t->model).count * (int64_t)sizeof(float);
    return plumb_trainer_pause(a->t, &pause, paused);
}

/* ---- reading the file ----------------------------------------------------------------------- */

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
    PLUMB_TRY(plumb_h5_read(f, "slot", PLUMB_H5_I64, 0, n, c->prompt));
    PLUMB_TRY(plumb_h5_read(f, "sample", PLUMB_H5_I32, 0, n, c->sample));
    PLUMB_TRY(plumb_h5_read(f, "finished", PLUMB_H5_U8, 0, n, c->finished));
    PLUMB_TRY(plumb_h5_read(f, "scored", PLUMB_H5_U8, 0, n, c->scored));
    PLUMB_TRY(plumb_h5_read(f, "stop", PLUMB_H5_U8, 0, n, c->stop));
    PLUMB_TRY(plumb_h5_read(f, "reward", PLUMB_H5_F64, 0, n, c->reward));
    for (int role = 0; role < PLUMB_ROLES; role++)
        PLUMB_TRY(plumb_h5_read(f, role_name[role], PLUMB_H5_F64, 0, n, c->logp + role * n));
    PLUMB_TRY(plumb_h5_read(f, "offsets", PLUMB_H5_I64, 0, n + 1, c->offsets));
    for (int64_t i = 0; i < n; i++)
        PLUMB_REQUIRE(c->offsets[0] == 0 && c->offsets[i] <= c->offsets[i + 1], PLUMB_ERR_FORMAT,
                      "%s: completion %lld: its tokens run from %lld to %lld; expected offsets "
                      "that begin with 0 and do not decrease",
                      plumb_h5_path(f), (long long)i, (long long)c->offsets[i],
                      (long long)c->offsets[i + 1]);
    return PLUMB_OK;
}

/* If this rank owns the prompt of the file's completion i, copies the completion, its reward and
 * its reference log-probs to the run. */
static plumb_status take_one(struct plumb_align_run *a, const plumb_h5 *f, const struct columns *c,
                             int64_t i, int64_t *taken)
{
    const struct plumb_rollouts *r = &a->rollout.rollouts;
    const int64_t local_prompt = plumb_partition_local(&a->part, c->prompt[i]);
    const int64_t n = c->offsets[i + 1] - c->offsets[i];
    if (local_prompt < 0)
        return PLUMB_OK;
    PLUMB_REQUIRE(c->sample[i] >= 0 && c->sample[i] < r->group_size && n >= 0 &&
                      n <= r->max_new_tokens && c->stop[i] <= PLUMB_STOP_PAUSED,
                  PLUMB_ERR_FORMAT,
                  "%s: prompt %lld of the iteration: found sample %d with %lld tokens and stop %d, "
                  "expected a sample below %lld, at most %lld tokens and a stop up to %d",
                  plumb_h5_path(f), (long long)c->prompt[i], c->sample[i], (long long)n, c->stop[i],
                  (long long)r->group_size, (long long)r->max_new_tokens, (int)PLUMB_STOP_PAUSED);
    const int64_t completion = plumb_rollouts_completion(r, local_prompt, c->sample[i]);
    struct plumb_rollout *o = &r->at[completion];
    o->n = n;
    o->finished = c->finished[i];
    o->stop = (enum plumb_stop)c->stop[i];
    if (!o->old) /* for an old completion the method's `begin` has set the weights */
        o->weights = r->weights;
    a->reward.scores.scored[completion] = c->scored[i];
    a->reward.scores.reward[completion] = c->reward[i];
    for (int role = 0; role < PLUMB_ROLES; role++)
        a->reference.logp[completion * PLUMB_ROLES + role] = c->logp[role * c->n + i];
    ++*taken;
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_h5_read(f, "ids", PLUMB_H5_I32, c->offsets[i], n, o->ids));
    for (int64_t t = 0; t < n; t++)
        PLUMB_REQUIRE(o->ids[t] >= 0 && o->ids[t] < a->t->model->spec.v, PLUMB_ERR_FORMAT,
                      "completion %d of prompt %lld of the iteration: token %d is not in the "
                      "vocabulary of %lld",
                      c->sample[i], (long long)c->prompt[i], o->ids[t],
                      (long long)a->t->model->spec.v);
    PLUMB_TRY(plumb_h5_read(f, "logp", PLUMB_H5_F32, c->offsets[i], n, o->logp));
    PLUMB_TRY(plumb_h5_read(f, "logp_sampled", PLUMB_H5_F32, c->offsets[i], n, o->logp_sampled));
    plumb_buf_clear(&o->text);
    return o->finished ? plumb_rollout_decode(o, a->data, a->t->tokenizer) : PLUMB_OK;
}

/* Reads the file's array `previous` into the snapshot of the policy's weights at the iteration's
 * start. If the file has no such array, the snapshot is left as it is: a copy of the policy's
 * weights. */
static plumb_status read_weights(struct plumb_align_run *a, const plumb_h5 *f)
{
    plumb_model *m = plumb_references_snapshot(a->reference.set);
    struct plumb_backend *b = a->t->backend;
    if (!m || !plumb_h5_has(f, "previous"))
        return PLUMB_OK;
    if (m->masters)
        return plumb_model_fill(m, read_tensor, (void *)(uintptr_t)f);
    const struct plumb_trained t = plumb_model_trained(m);
    float *stage = malloc(STAGE * sizeof(*stage));
    PLUMB_REQUIRE(stage, PLUMB_ERR_NOMEM, "buffer to read the snapshot of the weights");
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
    const struct plumb_align_inputs in = plumb_align_inputs_of(a);
    plumb_h5 *f = NULL;
    struct columns c = {0};
    int64_t n = 0, iteration = 0;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(open_answers(&f, dir, rank));
    PLUMB_TRY_GOTO(st, plumb_h5_get_attr_i64(f, "iteration", &iteration), done);
    PLUMB_TRY_GOTO(st, plumb_h5_get_attr_i64(f, "world_size", world), done);
    PLUMB_TRY_GOTO(st, plumb_h5_get_attr_u64(f, "weights", &a->rollout.rollouts.weights), done);
    if (iteration != a->t->state.iteration + 1)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done,
                        "%s: found answers of iteration %lld, expected iteration %lld, which "
                        "trainer_state.h5 has not finished",
                        dir, (long long)iteration, (long long)a->t->state.iteration + 1);
    PLUMB_TRY_GOTO(st, plumb_h5_read(f, "sums", PLUMB_H5_F64, 0, SUMS, &a->update.sums), done);
    if (in.add->resume)
        PLUMB_TRY_GOTO(st, in.add->resume(&in, f, dir), done);
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
    const struct plumb_rollouts *r = &a->rollout.rollouts;
    const int64_t wanted = plumb_rollouts_n(r);
    int64_t taken = 0, world = 1, finished = 0, tokens = 0;
    for (int64_t rank = 0; rank < world; rank++)
        PLUMB_TRY(read_file(a, dir, rank, &taken, &world));
    PLUMB_REQUIRE(taken == wanted, PLUMB_ERR_FORMAT,
                  "%s: found %lld of this rank's %lld completions", dir, (long long)taken,
                  (long long)wanted);
    const plumb_model *snapshot = plumb_references_snapshot(a->reference.set);
    PLUMB_REQUIRE(!snapshot || snapshot->fingerprint == r->weights, PLUMB_ERR_FORMAT,
                  "%s: the iteration began with weights %016" PRIx64
                  ", but the weights saved for its start are %016" PRIx64,
                  dir, r->weights, snapshot ? snapshot->fingerprint : 0);
    a->rollout.weights = r->weights;
    if (plumb_comm_rank(a->t->comm) != 0) /* the saved mismatch covers all ranks, and metrics add
                                           * the ranks' values: keep it on rank 0 only */
        a->update.sums.mismatch = (struct plumb_mismatch){0};
    for (int64_t i = 0; i < wanted; i++) {
        finished += r->at[i].finished;
        tokens += r->at[i].n;
    }
    plumb_log(PLUMB_LOG_INFO,
              "iteration %lld goes on: %lld of %lld completions finished, %lld tokens kept, %lld "
              "steps taken%s",
              (long long)a->t->state.iteration + 1, (long long)finished, (long long)wanted,
              (long long)tokens, (long long)a->update.sums.taken,
              plumb_comm_size(a->t->comm) > 1 ? " (this rank's share)" : "");
    a->update.mismatch = a->update.sums.mismatch;
    return PLUMB_OK;
}
