/* checkpoint.c - saving, finding and loading checkpoints.
 * Layer 5. Includes base/, io/, model/, comm/, train/. */
#include "train/checkpoint.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "io/hdf5.h"
#include "train/checkpoint_dir.h"
#include "train/inputs.h"
#include "train/manifest.h"

#define DEFAULT_SHARD_BYTES 5000000000ll
/* prefix of the names of the float32 weights in the state file */
#define MASTER "master/"
/* seconds between two attempts of a save; less if checkpoint.retry < 50 */
#define RETRY_SECONDS 5.0

/* Names of the moments in the state file, as in torch. */
static const char *const moment_name[] = {"exp_avg", "exp_avg_sq"};

/* ---- saving ------------------------------------------------------------------------------ */

struct save {
    const struct plumb_checkpoint_options *options;
    const struct plumb_train_state *state;
    const struct plumb_card *card;
    const plumb_model *model;
    /* the trained tensors: those of which the optimizer has moments */
    struct plumb_trained trained;
    const plumb_optim *optim;
    struct plumb_checkpoint_pause *pause; /* NULL for a complete checkpoint */
    struct plumb_checkpoint_name name;
    bool writes; /* true on rank 0, which writes the files */
    char final_dir[PLUMB_CHECKPOINT_PATH], work_dir[PLUMB_CHECKPOINT_PATH];
    plumb_h5 *h5;
};

/* Sets s->name. A complete, intact checkpoint with moments is never overwritten: a later save at
 * the same step becomes a pause (checkpoint-STEP-pause-N). The number of a pause is larger than
 * that of any existing pause folder of the step, even a damaged one. */
static plumb_status choose_name(struct save *s)
{
    struct plumb_checkpoint_name *list = NULL;
    int64_t n = 0, last = 0;
    char path[PLUMB_CHECKPOINT_PATH];
    s->name = (struct plumb_checkpoint_name){.step = s->state->step};
    PLUMB_TRY(plumb_checkpoint_path(path, s->options->output_dir, s->name, ""));
    if (!s->pause && (!plumb_dir_exists(path) || plumb_checkpoint_verify(path)))
        return PLUMB_OK;
    bool light = false; /* the folder has no moments, so it may be overwritten */
    if (!s->pause && plumb_checkpoint_weights_only(&light, path) == PLUMB_OK && light)
        return PLUMB_OK;
    PLUMB_TRY(plumb_checkpoint_list(&list, &n, s->options->output_dir));
    for (int64_t i = 0; i < n; i++)
        if (list[i].step == s->name.step)
            last = list[i].pause;
    free(list);
    s->name.pause = last + 1;
    return PLUMB_OK;
}

static plumb_status write_master(void *arg, const struct plumb_param *p, float *w)
{
    char name[160];
    snprintf(name, sizeof(name), MASTER "%s", p->name);
    return plumb_h5_put(arg, name, PLUMB_H5_F32, p->count, w);
}

static plumb_status read_master(void *arg, const struct plumb_param *p, float *w)
{
    char name[160];
    int64_t n = 0;
    snprintf(name, sizeof(name), MASTER "%s", p->name);
    PLUMB_TRY(plumb_h5_count(arg, name, &n));
    PLUMB_REQUIRE(n == p->count, PLUMB_ERR_FORMAT,
                  "%s: %s has %lld values, but the model's tensor has %lld", plumb_h5_path(arg),
                  name, (long long)n, (long long)p->count);
    return plumb_h5_read(arg, name, PLUMB_H5_F32, 0, n, w);
}

/* Writes the state of the run to the state file. If the weights files are rounded, also writes the
 * fingerprint of the rounded weights and, unless options->weights_only, the float32 weights. */
static plumb_status write_state(struct save *s)
{
    struct plumb_train_state state = *s->state;
    const bool rounded = s->model->saved_as != PLUMB_F32;
    if (rounded)
        PLUMB_TRY(plumb_model_saved_hash(s->model, &state.stored_fingerprint));
    PLUMB_TRY(plumb_state_write(s->h5, &state));
    return rounded && !s->options->weights_only ? plumb_model_each(s->model, write_master, s->h5)
                                                : PLUMB_OK;
}

static plumb_status begin_save(struct save *s)
{
    char path[PLUMB_CHECKPOINT_PATH];
    const char *dir = s->options->output_dir;
    const int64_t shard_bytes = s->options->shard_bytes;
    PLUMB_TRY(plumb_checkpoint_remove_stale(dir));
    PLUMB_TRY(plumb_checkpoint_check_space(s->options, s->model, s->pause ? s->pause->bytes : 0,
                                           strrchr(s->final_dir, '/') + 1));
    PLUMB_TRY(plumb_dir_create(s->work_dir));
    PLUMB_TRY(plumb_model_save(s->model, s->work_dir,
                               shard_bytes > 0 ? shard_bytes : DEFAULT_SHARD_BYTES));
    PLUMB_TRY(plumb_model_write_longest(s->model, s->work_dir));
    if (s->options->encoding)
        PLUMB_TRY(plumb_encoding_write(s->work_dir, s->options->encoding, s->options->tokenizer));
    if (s->options->chat)
        PLUMB_TRY(plumb_chat_write(s->work_dir, s->options->chat));
    PLUMB_TRY(plumb_path_join(path, sizeof(path), s->work_dir, "README.md"));
    PLUMB_TRY(plumb_card_write(path, s->card, s->state->step, s->state->iteration,
                               s->model->spec.labels > 0));
    PLUMB_TRY(plumb_path_join(path, sizeof(path), s->work_dir, PLUMB_CHECKPOINT_STATE));
    PLUMB_TRY(plumb_h5_create(&s->h5, path));
    PLUMB_TRY(
        plumb_h5_put_attr_i64(s->h5, "n_param", s->options->weights_only ? 0 : s->trained.n_param));
    return write_state(s);
}

/* Copies this rank's part of one moment in bucket k to its place in out, the whole bucket in device
 * memory. moment: this rank's shard of the moment, in host memory if the moments are offloaded,
 * else in device memory. */
static plumb_status place_run(const plumb_optim *o, int64_t k, float *out, const float *moment)
{
    struct plumb_backend *b = o->backend;
    const struct plumb_shard_run *r = &o->shards.run[k];
    const int64_t bytes = (r->end - r->begin) * (int64_t)sizeof(float);
    float *to = out + (r->begin - o->shards.border[k]);
    return o->offload ? b->to_device(b, to, moment + r->at, bytes)
                      : b->copy(b, to, moment + r->at, bytes);
}

static void array_name(char out[160], int moment, const struct plumb_param *p)
{
    snprintf(out, 160, "%s/%s", moment_name[moment], p->name);
}

/* Writes elements [begin, end) of a moment's vector to the array `name` of the state file. These
 * elements belong to parameter p. data: their values in device memory. */
static plumb_status write_part(const struct save *s, const char *name, const struct plumb_param *p,
                               int64_t begin, int64_t end, const float *data)
{
    struct plumb_backend *b = s->optim->backend;
    float *stage = s->optim->stage;
    const int64_t piece = stage ? PLUMB_OPTIM_STAGE : plumb_max_i64(end - begin, 1);
    for (int64_t at = begin; at < end; at += piece) {
        const int64_t n = plumb_min_i64(piece, end - at);
        const float *from = data + (at - begin);
        if (stage)
            PLUMB_TRY(b->to_host(b, stage, from, n * (int64_t)sizeof(float)));
        PLUMB_TRY(
            plumb_h5_write(s->h5, name, PLUMB_H5_F32, at - p->offset, n, stage ? stage : from));
    }
    return PLUMB_OK;
}

/* Writes bucket k of one moment (0: first, 1: second). The file has one array for each moment of
 * each parameter. The array is created when the bucket with the first element of the parameter is
 * written. whole: the bucket in device memory, gathered from all ranks. */
static plumb_status write_bucket(const struct save *s, int moment, int64_t k, const float *whole)
{
    const int64_t *border = s->optim->shards.border + k;
    char name[160];
    for (int64_t i = 0; i < s->trained.n_param; i++) {
        const struct plumb_param *p = &s->trained.param[i];
        const int64_t begin = plumb_max_i64(p->offset, border[0]);
        const int64_t end = plumb_min_i64(p->offset + p->count, border[1]);
        if (begin >= end)
            continue;
        array_name(name, moment, p);
        if (begin == p->offset)
            PLUMB_TRY(plumb_h5_reserve(s->h5, name, PLUMB_H5_F32, p->count));
        PLUMB_TRY(write_part(s, name, p, begin, end, whole + (begin - border[0])));
    }
    return PLUMB_OK;
}

/* Returns true if a resumed run depends on the file `name` of the checkpoint. */
static bool decides(const char *name)
{
    return strcmp(name, PLUMB_CHECKPOINT_STATE) == 0 || plumb_inputs_decides(name);
}

static plumb_status publish(struct save *s)
{
    PLUMB_TRY(plumb_h5_commit(&s->h5));
    PLUMB_TRY(plumb_manifest_write(s->work_dir));
    PLUMB_TRY(plumb_manifest_verify(s->work_dir, decides));
    /* An existing folder of this name is damaged or has no moments; otherwise choose_name would
     * have chosen the name of a pause. */
    PLUMB_TRY(plumb_dir_remove(s->final_dir));
    PLUMB_TRY(plumb_dir_publish(s->work_dir, s->final_dir));
    return plumb_checkpoint_link(s->options->output_dir, "latest", s->name);
}

static plumb_status begin_name(struct save *s)
{
    PLUMB_TRY(plumb_dir_create(s->options->output_dir));
    return choose_name(s);
}

static plumb_status set_paths(struct save *s)
{
    PLUMB_TRY(plumb_checkpoint_path(s->final_dir, s->options->output_dir, s->name, ""));
    return plumb_checkpoint_path(s->work_dir, s->options->output_dir, s->name, ".tmp");
}

/* Gathers one moment (0: first, 1: second) bucket by bucket; rank 0 writes it. *st: on entry the
 * status of this rank so far; on return the status of this rank after the last write, on which the
 * ranks have not agreed yet. Collective. */
static plumb_status save_moment(struct save *s, plumb_comm *comm, int moment, float *const *scratch,
                                plumb_status *st)
{
    const plumb_optim *o = s->optim;
    for (int64_t k = 0; k < o->shards.buckets; k++) {
        const int64_t n = o->shards.border[k + 1] - o->shards.border[k];
        if (!*st)
            *st = place_run(o, k, scratch[k], moment ? o->v : o->m);
        PLUMB_TRY(plumb_comm_agree(comm, *st));
        PLUMB_TRY(plumb_comm_allgather_shards(comm, scratch[k], n, o->backend->place));
        if (s->writes)
            *st = write_bucket(s, moment, k, scratch[k]);
    }
    return PLUMB_OK;
}

/* Writes the whole checkpoint. Collective: the ranks agree before each collective and at the end.
 */
static plumb_status save_all(struct save *s, plumb_comm *comm, float *const *scratch)
{
    PLUMB_TRY(plumb_comm_agree(comm, s->writes ? begin_name(s) : PLUMB_OK));
    PLUMB_TRY(plumb_comm_broadcast(comm, &s->name, sizeof(s->name), 0));
    PLUMB_TRY(set_paths(s));
    /* rank 0 reads masters that are divided among the ranks one bucket at a time */
    plumb_status st = plumb_masters_finish(s->model, s->writes ? begin_save(s) : PLUMB_OK);
    if (s->pause && s->pause->write) {
        PLUMB_TRY(plumb_comm_agree(comm, st)); /* all ranks wait until the folder exists */
        st = s->pause->write(s->pause->arg, s->work_dir);
    }
    for (int moment = 0; moment < 2 && !s->options->weights_only; moment++)
        PLUMB_TRY(save_moment(s, comm, moment, scratch, &st));
    if (s->writes && !st)
        st = publish(s);
    return plumb_comm_agree(comm, st);
}

static plumb_status save_once(struct save *s, plumb_comm *comm, float *const *scratch)
{
    const plumb_status st = save_all(s, comm, scratch);
    if (s->writes && !st && plumb_checkpoint_prune(s->options, s->name))
        plumb_log(PLUMB_LOG_WARN, "an old checkpoint stays: %s", plumb_trail_message());
    if (s->writes && st) {
        char message[1024];
        snprintf(message, sizeof(message), "%s", plumb_trail_message());
        plumb_h5_close(&s->h5);
        if (s->work_dir[0] && plumb_dir_remove(s->work_dir))
            plumb_log(PLUMB_LOG_WARN, "%s stays: %s", s->work_dir, plumb_trail_message());
        return plumb_fail_at(st, __FILE__, __LINE__, "%s", message);
    }
    return st;
}

static void sleep_for(double seconds)
{
    const struct timespec t = {.tv_sec = (time_t)seconds,
                               .tv_nsec = (long)(1e9 * (seconds - floor(seconds)))};
    nanosleep(&t, NULL); /* a signal may end the sleep early, which is fine */
}

/* Sets *again to true if a failed save shall be retried. This is so if the save failed on every
 * rank with a write error or because another rank failed, and in_time is true on rank 0 (the time
 * checkpoint.retry is not over yet). The result is the same on every rank. Collective. */
static plumb_status may_retry(bool *again, plumb_status st, bool in_time, plumb_comm *comm)
{
    double vote[] = {st == PLUMB_ERR_IO, st != PLUMB_ERR_IO && st != PLUMB_ERR_PEER,
                     plumb_comm_rank(comm) == 0 && in_time};
    PLUMB_TRY(plumb_comm_allreduce_f64(comm, vote, 3, PLUMB_MAX));
    *again = vote[0] > 0 && vote[1] == 0 && vote[2] > 0;
    return PLUMB_OK;
}

plumb_status plumb_checkpoint_save(char name[64], const struct plumb_checkpoint_options *options,
                                   struct plumb_checkpoint_pause *pause,
                                   const struct plumb_train_state *state,
                                   const struct plumb_card *card, const plumb_model *m,
                                   const plumb_optim *o, plumb_comm *comm, float *const *scratch)
{
    struct save s = {.options = options,
                     .pause = pause,
                     .state = state,
                     .card = card,
                     .model = m,
                     .trained = plumb_model_trained(m),
                     .optim = o,
                     .writes = plumb_comm_rank(comm) == 0};
    PLUMB_REQUIRE(o->count == s.trained.count && o->step == state->step, PLUMB_ERR_ARG,
                  "checkpoint of step %lld: the optimizer is at step %lld with %lld floats, the "
                  "model trains %lld",
                  (long long)state->step, (long long)o->step, (long long)o->count,
                  (long long)s.trained.count);
    const double until = plumb_now() + options->retry;
    const double wait = fmin(RETRY_SECONDS, options->retry / 10);
    for (;;) {
        bool again = false;
        plumb_comm_phase(comm, "save checkpoint");
        const plumb_status st = save_once(&s, comm, scratch);
        if (st != PLUMB_OK && st != PLUMB_ERR_COMM && options->retry > 0)
            PLUMB_TRY(may_retry(&again, st, plumb_now() + wait < until, comm));
        plumb_checkpoint_name_write(name, s.name);
        if (!again)
            return st;
        if (s.writes)
            plumb_log(PLUMB_LOG_ERROR, "%s; the save is tried again for %.0f more seconds",
                      plumb_trail_message(), until - plumb_now());
        sleep_for(wait);
    }
}

/* ---- finding and loading ----------------------------------------------------------------- */

plumb_status plumb_checkpoint_verify(const char *dir)
{
    char path[PLUMB_CHECKPOINT_PATH];
    PLUMB_REQUIRE(plumb_dir_exists(dir), PLUMB_ERR_IO, "%s: no such folder", dir);
    PLUMB_TRY(plumb_manifest_verify(dir, decides));
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, PLUMB_CHECKPOINT_STATE));
    PLUMB_REQUIRE(plumb_file_exists(path), PLUMB_ERR_FORMAT,
                  "%s: missing, so nothing can be resumed from this folder", path);
    return PLUMB_OK;
}

static plumb_status find_newest(char out[PLUMB_CHECKPOINT_PATH], const char *output_dir)
{
    struct plumb_checkpoint_name *list = NULL;
    int64_t n = 0;
    char first[1024] = "";
    plumb_status st = PLUMB_OK;
    out[0] = '\0';
    PLUMB_TRY(plumb_checkpoint_list(&list, &n, output_dir));
    for (int64_t i = n - 1; i >= 0; i--) {
        PLUMB_TRY_GOTO(st, plumb_checkpoint_path(out, output_dir, list[i], ""), done);
        bool light = false;
        if (!plumb_checkpoint_verify(out) && (plumb_checkpoint_weights_only(&light, out) || !light))
            goto done;
        if (light) {
            plumb_log(PLUMB_LOG_INFO, "%s: holds weights alone, looking for an earlier one", out);
            if (!first[0])
                snprintf(first, sizeof(first), "%.900s holds weights alone (checkpoint.optimizer)",
                         out);
            continue;
        }
        if (!first[0])
            snprintf(first, sizeof(first), "%s", plumb_trail_message());
        plumb_log(PLUMB_LOG_WARN, "checkpoint passed over: %s", plumb_trail_message());
    }
    if (n)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done,
                        "%s: a run can resume from none of its %lld checkpoints (the newest: %s); "
                        "set resume=never and another output_dir to begin again",
                        output_dir, (long long)n, first);
done:
    free(list);
    return st;
}

plumb_status plumb_checkpoint_weights_only(bool *out, const char *dir)
{
    char path[PLUMB_CHECKPOINT_PATH];
    plumb_h5 *h5 = NULL;
    int64_t n = 0;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, PLUMB_CHECKPOINT_STATE));
    PLUMB_TRY(plumb_h5_open(&h5, path));
    const plumb_status st = plumb_h5_get_attr_i64(h5, "n_param", &n);
    plumb_h5_close(&h5);
    *out = n == 0;
    return st;
}

static plumb_status refuse_weights_only(const char *dir)
{
    bool light = false;
    PLUMB_TRY(plumb_checkpoint_weights_only(&light, dir));
    PLUMB_REQUIRE(!light, PLUMB_ERR_FORMAT,
                  "%s: holds weights without the optimizer's moments (checkpoint.optimizer), so "
                  "nothing can be resumed from it; begin a new run with model=%s",
                  dir, dir);
    return PLUMB_OK;
}

/* Returns true if dir is a checkpoint folder in output_dir, and then sets *mine to the name of that
 * folder. */
static bool is_of(const char *output_dir, const char *dir, struct plumb_checkpoint_name *mine)
{
    char here[PATH_MAX], there[PATH_MAX];
    if (!realpath(output_dir, here) || !realpath(dir, there))
        return false;
    char *name = strrchr(there, '/');
    *name++ = '\0';
    return strcmp(here, there) == 0 && plumb_checkpoint_name_read(mine, name);
}

/* Fails if output_dir has checkpoints of later steps than dir: a run that resumes from dir would
 * have to overwrite them. */
static plumb_status check_later(const char *output_dir, const char *dir)
{
    struct plumb_checkpoint_name mine, last, *list = NULL;
    int64_t n = 0;
    if (!is_of(output_dir, dir, &mine))
        return PLUMB_OK;
    PLUMB_TRY(plumb_checkpoint_list(&list, &n, output_dir));
    last = n ? list[n - 1] : mine;
    free(list);
    char later[64];
    plumb_checkpoint_name_write(later, last);
    PLUMB_REQUIRE(plumb_checkpoint_name_compare(last, mine) <= 0, PLUMB_ERR_EXISTS,
                  "resume from %s: %s has %s already; move the later checkpoints away or give "
                  "another output_dir",
                  dir, output_dir, later);
    return PLUMB_OK;
}

plumb_status plumb_checkpoint_tidy(const char *output_dir, const char *dir)
{
    struct plumb_checkpoint_name mine;
    PLUMB_TRY(plumb_checkpoint_remove_stale(output_dir));
    return is_of(output_dir, dir, &mine) ? plumb_checkpoint_link(output_dir, "latest", mine)
                                         : PLUMB_OK;
}

static plumb_status find_on_rank_0(char out[PLUMB_CHECKPOINT_PATH], const char *output_dir,
                                   const char *resume)
{
    out[0] = '\0';
    if (!strcmp(resume, "never"))
        return PLUMB_OK;
    if (!strcmp(resume, "auto"))
        return find_newest(out, output_dir);
    PLUMB_REQUIRE(strlen(resume) < PLUMB_CHECKPOINT_PATH, PLUMB_ERR_ARG,
                  "resume: the path has %zu bytes, expected fewer than %d", strlen(resume),
                  (int)PLUMB_CHECKPOINT_PATH);
    PLUMB_REQUIRE(plumb_dir_exists(resume), PLUMB_ERR_CONFIG,
                  "resume: found '%s', expected never, auto (the newest checkpoint of output_dir) "
                  "or the folder of a checkpoint; there is no folder of that name",
                  resume);
    PLUMB_TRY(plumb_checkpoint_verify(resume));
    PLUMB_TRY(refuse_weights_only(resume));
    PLUMB_TRY(check_later(output_dir, resume));
    snprintf(out, PLUMB_CHECKPOINT_PATH, "%s", resume);
    return PLUMB_OK;
}

plumb_status plumb_checkpoint_find(char *out_dir, int64_t size, const char *output_dir,
                                   const char *resume, plumb_comm *comm)
{
    char found[PLUMB_CHECKPOINT_PATH] = "";
    plumb_status st = PLUMB_OK;
    if (plumb_comm_rank(comm) == 0)
        st = find_on_rank_0(found, output_dir, resume);
    PLUMB_TRY(plumb_comm_agree(comm, st));
    PLUMB_TRY(plumb_comm_broadcast(comm, found, sizeof(found), 0));
    PLUMB_REQUIRE((int64_t)strlen(found) < size, PLUMB_ERR_ARG,
                  "folder of the checkpoint to resume: its path has %zu bytes, expected fewer than "
                  "%lld",
                  strlen(found), (long long)size);
    snprintf(out_dir, (size_t)size, "%s", found);
    return PLUMB_OK;
}

/* Reads this rank's part of one moment (0: first, 1: second) of parameter p to its place in
 * shard. */
static plumb_status read_part(const plumb_h5 *h5, const char *dir, const plumb_optim *o, int moment,
                              const struct plumb_param *p, float *shard)
{
    struct plumb_backend *b = o->backend;
    char name[160];
    int64_t n = 0;
    array_name(name, moment, p);
    PLUMB_TRY(plumb_h5_count(h5, name, &n));
    PLUMB_REQUIRE(n == p->count, PLUMB_ERR_FORMAT,
                  "%s/" PLUMB_CHECKPOINT_STATE
                  ": %s has %lld values, but the model's tensor has %lld",
                  dir, name, (long long)n, (long long)p->count);
    float *stage = o->offload ? NULL : o->stage;
    for (int64_t k = 0; k < o->shards.buckets; k++) {
        const struct plumb_shard_run r =
            plumb_shards_cut(&o->shards, k, p->offset, p->offset + p->count);
        const int64_t piece = stage ? PLUMB_OPTIM_STAGE : plumb_max_i64(r.end - r.begin, 1);
        for (int64_t at = r.begin; at < r.end; at += piece) {
            const int64_t part = plumb_min_i64(piece, r.end - at);
            float *to = shard + r.at + (at - r.begin);
            PLUMB_TRY(
                plumb_h5_read(h5, name, PLUMB_H5_F32, at - p->offset, part, stage ? stage : to));
            if (stage)
                PLUMB_TRY(b->to_device(b, to, stage, part * (int64_t)sizeof(float)));
        }
    }
    return PLUMB_OK;
}

static plumb_status load_here(const char *dir, struct plumb_train_state *state,
                              const struct plumb_trained *t, plumb_optim *o)
{
    plumb_h5 *h5 = NULL;
    int64_t n_param = 0;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_checkpoint_open_state(&h5, state, dir));
    PLUMB_TRY_GOTO(st, plumb_h5_get_attr_i64(h5, "n_param", &n_param), done);
    if (n_param != t->n_param)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done,
                        "%s/" PLUMB_CHECKPOINT_STATE
                        ": moments of %lld tensors, but the model trains %lld",
                        dir, (long long)n_param, (long long)t->n_param);
    for (int64_t i = 0; i < t->n_param; i++) {
        PLUMB_TRY_GOTO(st, read_part(h5, dir, o, 0, &t->param[i], o->m), done);
        PLUMB_TRY_GOTO(st, read_part(h5, dir, o, 1, &t->param[i], o->v), done);
    }
    o->step = state->step;
done:
    plumb_h5_close(&h5);
    return st;
}

plumb_status plumb_checkpoint_load_masters(const char *dir, plumb_model *m)
{
    char path[PLUMB_CHECKPOINT_PATH], first[160];
    plumb_h5 *h5 = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, PLUMB_CHECKPOINT_STATE));
    PLUMB_TRY(plumb_h5_open(&h5, path));
    snprintf(first, sizeof(first), MASTER "%s", m->param[0].name);
    if (plumb_h5_has(h5, first))
        st = plumb_model_fill(m, read_master, h5);
    plumb_h5_close(&h5);
    return st;
}

plumb_status plumb_checkpoint_load(const char *dir, struct plumb_train_state *state,
                                   const plumb_model *m, plumb_optim *o, plumb_comm *comm)
{
    const struct plumb_trained trained = plumb_model_trained(m);
    PLUMB_REQUIRE(o->count == trained.count, PLUMB_ERR_SHAPE,
                  "the optimizer is for %lld weights, the model trains %lld", (long long)o->count,
                  (long long)trained.count);
    return plumb_comm_agree(comm, load_here(dir, state, &trained, o));
}
