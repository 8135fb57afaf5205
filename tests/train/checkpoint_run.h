/* checkpoint_run.h - a training run of a few steps that resumes and saves, on up to 8 ranks, and
 * functions that check the folder that it wrote. Test. Includes fake_world.h and train/. A program
 * includes this file instead of fake_world.h. */
#ifndef PLUMB_TESTS_TRAIN_CHECKPOINT_RUN_H
#define PLUMB_TESTS_TRAIN_CHECKPOINT_RUN_H

#include <unistd.h>

#include "fake_world.h"
#include "train/checkpoint.h"
#include "train/checkpoint_dir.h"
#include "train/exchange.h"

static char top[] = "/tmp/plumb_checkpoint_XXXXXX";

/* Size of the tokenizer.json that the fake plumb_model_save writes together with the weights. If it
 * is below 0, the save fails. */
static int64_t ballast_bytes = 16;

plumb_status plumb_model_save(const plumb_model *m, const char *dir, int64_t shard_bytes)
{
    char path[4096];
    (void)shard_bytes;
    PLUMB_REQUIRE(ballast_bytes >= 0, PLUMB_ERR_IO, "tokenizer.json: gone");
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, "model.safetensors"));
    PLUMB_TRY(plumb_file_write_atomic(path, m->w, m->count * (int64_t)sizeof(float)));
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, "tokenizer.json"));
    char *ballast = calloc(1, (size_t)ballast_bytes + 1);
    CHECK(ballast);
    const plumb_status st = plumb_file_write_atomic(path, ballast, ballast_bytes);
    free(ballast);
    return st;
}

/* Replaces the library's function. The fake model lies in host memory. */
plumb_status plumb_model_each(const plumb_model *m, plumb_param_fn *fn, void *arg)
{
    for (int64_t i = 0; i < m->n_param; i++)
        PLUMB_TRY(fn(arg, &m->param[i], m->w + m->param[i].offset));
    return PLUMB_OK;
}

plumb_status plumb_model_fill(plumb_model *m, plumb_param_fn *fn, void *arg)
{
    PLUMB_TRY(plumb_model_each(m, fn, arg));
    return plumb_model_refresh(m);
}

plumb_status plumb_model_saved_hash(const plumb_model *m, uint64_t *hash)
{
    *hash = m->fingerprint + 1;
    return PLUMB_OK;
}

static inline struct plumb_optim_options optim_options(void)
{
    return (struct plumb_optim_options){.learning_rate = 0.01,
                                        .beta1 = 0.9,
                                        .beta2 = 0.99,
                                        .eps = 1e-8,
                                        .weight_decay = 0.1,
                                        .max_grad_norm = 5,
                                        .schedule = {PLUMB_LR_LINEAR, 20, 0.1, 0}};
}

static const struct plumb_card_field card_field[] = {{"learning_rate", "0.01"},
                                                     {"tau|x", "0.2 <b>\n"}};
static const struct plumb_card card = {.base_model = "org/base",
                                       .method = "psle",
                                       .dataset = "prompts.jsonl",
                                       .parameter = card_field,
                                       .n_parameter = 2,
                                       .metric = card_field,
                                       .n_metric = 1};

/* ---- a run: begins or resumes, trains some steps, saves ---- */

struct run {
    struct plumb_checkpoint_options options;
    bool pause;         /* saves a pause; every rank adds its own file to a pause */
    const char *resume; /* folder of a checkpoint to resume from; NULL: the run begins at step 0 */
    int64_t until;      /* the run trains to this step */
    int64_t save_at;    /* the run also saves after this step; 0: it saves only after `until` */
    double metric;      /* value of the metric "x" in the saved state; 0: the state has no metric */
    bool device;        /* treats host memory as device memory, to test the copies */
    bool rounded;       /* true: checkpoint.dtype is bfloat16 */
    plumb_status expect;
    const char *says; /* part of the expected error message */
    float *w;         /* (count,) receives the weights of rank 0 at the end; NULL: not needed */
};

static inline void read_weights(plumb_model *m, const char *dir)
{
    char path[4096];
    struct plumb_buf b = {0};
    CHECK_OK(plumb_path_join(path, sizeof(path), dir, "model.safetensors"));
    CHECK_OK(plumb_file_read(&b, path));
    CHECK(b.len == m->count * (int64_t)sizeof(float));
    memcpy(m->w, b.data, (size_t)b.len);
    plumb_buf_fini(&b);
    CHECK_OK(plumb_model_refresh(m));
}

static inline struct plumb_train_state state_at(int64_t step)
{
    struct plumb_train_state s = {.step = step,
                                  .iteration = step / 2,
                                  .total_steps = 20,
                                  .prompt_cursor = step * 64,
                                  .num_tokens = step * 1000000007,
                                  .seed = UINT64_MAX,
                                  .config_hash = 0xFEDCBA9876543210ull,
                                  .start_fingerprint = 3};
    CHECK_OK(plumb_state_set(&s, "tau", 0.2 * (double)step));
    CHECK_OK(plumb_state_set(&s, "psle/decay power", -1e-300));
    return s;
}

/* the rank that fails to write its own file of a pause; -1: none does */
static int bad_rank = -1;

static inline plumb_status write_own(void *arg, const char *dir)
{
    const int rank = plumb_comm_rank(arg);
    char name[32], path[4096];
    PLUMB_REQUIRE(rank != bad_rank, PLUMB_ERR_IO, "own.rank-%d: gone", rank);
    snprintf(name, sizeof(name), "own.rank-%d", rank);
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, name));
    return plumb_file_write_atomic(path, name, (int64_t)strlen(name));
}

static inline void save_here(struct run *run, plumb_model *m, plumb_optim *o, plumb_comm *comm,
                             float *scratch)
{
    struct plumb_train_state s = state_at(o->step);
    char name[64];
    struct plumb_checkpoint_pause pause = {.write = write_own, .arg = comm, .bytes = 100};
    if (run->metric != 0)
        CHECK_OK(plumb_state_set(&s, "metric.x", run->metric));
    const plumb_status st = plumb_checkpoint_save(name, &run->options, run->pause ? &pause : NULL,
                                                  &s, &card, m, o, comm, &scratch);
    CHECK(st || !strncmp(name, "checkpoint-", 11));
    CHECK(!run->pause || st || strstr(name, "-pause-"));
    CHECKF(st == run->expect || (run->expect && st == PLUMB_ERR_PEER), "got %d: %s", (int)st,
           plumb_trail());
    if (run->expect)
        CHECKF(strstr(plumb_trail_message(), run->says), "%s", plumb_trail_message());
}

static inline void run_rank(plumb_comm *comm, void *arg)
{
    struct run *run = arg;
    plumb_model *m = fake_model(fake_decoder, FAKE_DECODER);
    const size_t bytes = (size_t)m->count * sizeof(float);
    m->saved_as = run->rounded ? PLUMB_BF16 : PLUMB_F32;
    if (run->device) {
        m->backend->place = PLUMB_DEVICE;
        const struct plumb_comm_device device = plumb_exchange_device(m->backend);
        CHECK_OK(plumb_comm_attach_device(comm, &device));
    }
    const struct plumb_optim_options opt = optim_options();
    struct plumb_optim_result r;
    plumb_optim *o = NULL;
    float *grad = malloc(bytes);
    CHECK(grad);
    CHECK_OK(plumb_optim_create(&o, m, comm, &opt));
    if (run->resume) {
        struct plumb_train_state s;
        read_weights(m, run->resume);
        CHECK_OK(plumb_checkpoint_load(run->resume, &s, m, o, comm));
        const struct plumb_train_state want = state_at(s.step);
        CHECK(o->step == s.step && s.n_values >= 2);
        s.n_values = 2; /* removes the metric before the comparison */
        memset(&s.value[2], 0, sizeof(s.value[2]));
        CHECK(!memcmp(&s, &want, sizeof(s)));
    } else {
        fake_fill(m, m->w, 5, 1);
    }
    while (o->step < run->until) {
        fake_rank_gradient(m, grad, 100 + (uint64_t)o->step, comm);
        CHECK_OK(plumb_optim_step(o, m, comm, grad, &r));
        if (o->step == run->save_at)
            save_here(run, m, o, comm, grad);
    }
    if (run->options.output_dir)
        save_here(run, m, o, comm, grad);
    if (run->w && plumb_comm_rank(comm) == 0)
        memcpy(run->w, m->w, bytes);
    plumb_comm_detach_device(comm);
    m->backend->place = PLUMB_HOST;
    plumb_optim_destroy(&o);
    fake_model_free(m);
    free(grad);
}

static inline void join(char out[4096], const char *a, const char *b)
{
    CHECK_OK(plumb_path_join(out, 4096, a, b));
}

static inline void read_text(struct plumb_buf *out, const char *dir, const char *name)
{
    char path[4096];
    join(path, dir, name);
    plumb_buf_clear(out);
    CHECK_OK(plumb_file_read(out, path));
}

static inline void latest_is(const char *dir, const char *name)
{
    char path[4096], target[256] = "";
    join(path, dir, "latest");
    CHECKF(readlink(path, target, sizeof(target) - 1) > 0 && !strcmp(target, name),
           "latest is '%s', expected '%s'", target, name);
}

static inline void folders_are(const char *dir, const char *expected)
{
    struct plumb_names names = {0};
    char all[1024] = "";
    CHECK_OK(plumb_dir_list(&names, dir));
    for (int64_t i = 0; i < names.n; i++) {
        if (!strncmp(names.name[i], "checkpoint-", 11))
            strncat(strncat(all, names.name[i] + 11, 32), " ", 2);
    }
    plumb_names_fini(&names);
    CHECKF(!strcmp(all, expected), "'%s', expected '%s'", all, expected);
}

static inline void flip_byte(const char *dir, const char *name, int64_t at)
{
    char path[4096];
    struct plumb_buf b = {0};
    join(path, dir, name);
    CHECK_OK(plumb_file_read(&b, path));
    b.data[at < 0 ? b.len + at : at] ^= 1;
    CHECK_OK(plumb_file_write_atomic(path, b.data, b.len));
    plumb_buf_fini(&b);
}

static inline void found(const char *output_dir, const char *resume, const char *expected)
{
    char dir[4096] = "x";
    plumb_comm *comm = NULL;
    CHECK_OK(plumb_comm_single_create(&comm));
    CHECK_OK(plumb_checkpoint_find(dir, sizeof(dir), output_dir, resume, comm));
    CHECKF(strstr(dir, expected) && (expected[0] || !dir[0]), "found '%s', expected '%s'", dir,
           expected);
    plumb_comm_destroy(&comm);
}

static inline void not_found(const char *output_dir, const char *resume, plumb_status code,
                             const char *says)
{
    char dir[4096];
    plumb_comm *comm = NULL;
    CHECK_OK(plumb_comm_single_create(&comm));
    CHECK_FAILS(plumb_checkpoint_find(dir, sizeof(dir), output_dir, resume, comm), code, says);
    plumb_comm_destroy(&comm);
}

#endif
