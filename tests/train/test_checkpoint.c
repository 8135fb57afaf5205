/* test_checkpoint.c - save, load on another world size, damage, kills, a full disk.
 * Test. Includes harness.h, io/, train/. */
#include "train/checkpoint.h"

#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fake_world.h"
#include "io/json.h"
#include "train/checkpoint_dir.h"
#include "train/exchange.h"

static char top[] = "/tmp/plumb_checkpoint_XXXXXX";

/* What the fake save writes besides the weights; a size below 0 makes it fail. */
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

static struct plumb_optim_options optim_options(void)
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

/* ---- a run: begin or resume, some steps, save ---- */

struct run {
    struct plumb_checkpoint_options options;
    bool pause;         /* what is saved is one, with a file of every rank's */
    const char *resume; /* folder, or NULL: from the start */
    int64_t until;      /* train to this step */
    int64_t save_at;    /* save after this step too; 0 = at `until` only */
    double metric;      /* kept in the state; 0: none */
    bool device;        /* as if memory were a device's */
    plumb_status expect;
    const char *says; /* of the failure */
    float *w;         /* (count,) of rank 0 at the end; NULL: not wanted */
};

static void read_weights(plumb_model *m, const char *dir)
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

static struct plumb_train_state state_at(int64_t step)
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

/* Rank that fails to write its own file of a pause; -1: none. */
static int bad_rank = -1;

static plumb_status write_own(void *arg, const char *dir)
{
    const int rank = plumb_comm_rank(arg);
    char name[32], path[4096];
    PLUMB_REQUIRE(rank != bad_rank, PLUMB_ERR_IO, "own.rank-%d: gone", rank);
    snprintf(name, sizeof(name), "own.rank-%d", rank);
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, name));
    return plumb_file_write_atomic(path, name, (int64_t)strlen(name));
}

static void save_here(struct run *run, plumb_model *m, plumb_optim *o, plumb_comm *comm,
                      float *scratch)
{
    struct plumb_train_state s = state_at(o->step);
    char name[64];
    struct plumb_checkpoint_pause pause = {.write = write_own, .arg = comm, .bytes = 100};
    if (run->metric != 0)
        CHECK_OK(plumb_state_set(&s, "metric.x", run->metric));
    const plumb_status st = plumb_checkpoint_save(name, &run->options, run->pause ? &pause : NULL,
                                                  &s, &card, m, o, comm, scratch);
    CHECK(st || !strncmp(name, "checkpoint-", 11));
    CHECK(!run->pause || st || strstr(name, "-pause-"));
    CHECKF(st == run->expect || (run->expect && st == PLUMB_ERR_PEER), "got %d: %s", (int)st,
           plumb_trail());
    if (run->expect)
        CHECKF(strstr(plumb_trail_message(), run->says), "%s", plumb_trail_message());
}

static void run_rank(plumb_comm *comm, void *arg)
{
    struct run *run = arg;
    plumb_model *m = fake_model(fake_decoder, FAKE_DECODER);
    const size_t bytes = (size_t)m->count * sizeof(float);
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
        s.n_values = 2; /* without the metric */
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

static void join(char out[4096], const char *a, const char *b)
{
    CHECK_OK(plumb_path_join(out, 4096, a, b));
}

static void read_text(struct plumb_buf *out, const char *dir, const char *name)
{
    char path[4096];
    join(path, dir, name);
    plumb_buf_clear(out);
    CHECK_OK(plumb_file_read(out, path));
}

static void latest_is(const char *dir, const char *name)
{
    char path[4096], target[256] = "";
    join(path, dir, "latest");
    CHECKF(readlink(path, target, sizeof(target) - 1) > 0 && !strcmp(target, name),
           "latest is '%s', expected '%s'", target, name);
}

static void folders_are(const char *dir, const char *expected)
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

/* ---- tests ---- */

static void test_round_trip(void)
{
    char one[4096], two[4096], from[4096], other[4096];
    struct plumb_buf a = {0}, b = {0};
    plumb_model *m = fake_model(fake_decoder, FAKE_DECODER);
    const size_t bytes = (size_t)m->count * sizeof(float);
    float *whole = malloc(bytes), *again = malloc(bytes);
    CHECK(whole && again);
    join(one, top, "one");
    join(two, top, "two");

    struct run straight = {.options = {.output_dir = one}, .until = 6, .save_at = 3, .w = whole};
    fake_world(1, run_rank, &straight);
    struct run on_two = {.options = {.output_dir = two}, .until = 3};
    fake_world(2, run_rank, &on_two);
    folders_are(one, "3 6 ");
    latest_is(one, "checkpoint-6");
    latest_is(two, "checkpoint-3");

    /* The same run on another world size leaves the same files, byte for byte. */
    join(from, two, "checkpoint-3");
    join(other, one, "checkpoint-3");
    static const char *const file[] = {"hashes.json", "model.safetensors", "trainer_state.h5",
                                       "README.md"};
    for (int i = 0; i < 4; i++) {
        read_text(&a, from, file[i]);
        read_text(&b, other, file[i]);
        CHECKF(a.len > 0 && a.len == b.len && !memcmp(a.data, b.data, (size_t)a.len), "%s",
               file[i]);
    }
    read_text(&a, from, "README.md");
    CHECKF(!strncmp(a.data, "---\nlibrary_name: transformers\n", 31) &&
               strstr(a.data, "base_model: \"org/base\"\n") && strstr(a.data, "psle, step 3") &&
               strstr(a.data, "| tau\\|x | 0.2 &lt;b>  |") && !strstr(a.data, "datasets:"),
           "%s", a.data);

    /* Resumed on any world size, through host or device memory, it ends where it had ended. */
    static const int sizes[] = {1, 2, 4, 2};
    for (int i = 0; i < 4; i++) {
        struct run rest = {.resume = from, .until = 6, .w = again, .device = i == 3};
        fake_world(sizes[i], run_rank, &rest);
        CHECKF(!memcmp(whole, again, bytes), "resumed on %d ranks", sizes[i]);
    }
    struct run device = {
        .options = {.output_dir = two}, .resume = from, .until = 6, .device = true};
    fake_world(2, run_rank, &device);
    join(from, two, "checkpoint-6");
    join(other, one, "checkpoint-6");
    read_text(&a, from, "hashes.json");
    read_text(&b, other, "hashes.json");
    CHECK(!strcmp(a.data, b.data));
    plumb_buf_fini(&a);
    plumb_buf_fini(&b);
    fake_model_free(m);
    free(whole);
    free(again);
}

static void flip_byte(const char *dir, const char *name, int64_t at)
{
    char path[4096];
    struct plumb_buf b = {0};
    join(path, dir, name);
    CHECK_OK(plumb_file_read(&b, path));
    b.data[at < 0 ? b.len + at : at] ^= 1;
    CHECK_OK(plumb_file_write_atomic(path, b.data, b.len));
    plumb_buf_fini(&b);
}

static void found(const char *output_dir, const char *resume, const char *expected)
{
    char dir[4096] = "x";
    plumb_comm *comm = NULL;
    CHECK_OK(plumb_comm_single_create(&comm));
    CHECK_OK(plumb_checkpoint_find(dir, sizeof(dir), output_dir, resume, comm));
    CHECKF(strstr(dir, expected) && (expected[0] || !dir[0]), "found '%s', expected '%s'", dir,
           expected);
    plumb_comm_destroy(&comm);
}

static void not_found(const char *output_dir, const char *resume, plumb_status code,
                      const char *says)
{
    char dir[4096];
    plumb_comm *comm = NULL;
    CHECK_OK(plumb_comm_single_create(&comm));
    CHECK_FAILS(plumb_checkpoint_find(dir, sizeof(dir), output_dir, resume, comm), code, says);
    plumb_comm_destroy(&comm);
}

static void test_find_and_damage(void)
{
    char one[4096], newest[4096], older[4096], path[4096];
    struct plumb_train_state s;
    join(one, top, "one");
    join(newest, one, "checkpoint-6");
    join(older, one, "checkpoint-3");
    CHECK_OK(plumb_checkpoint_read_state(&s, older));
    CHECK(s.step == 3 && plumb_state_get(&s, "tau", 0) == 0.2 * 3.0 &&
          plumb_state_get(&s, "mu", 7) == 7);

    found("/nonexistent", "auto", "");
    found(one, "never", "");
    found(one, "auto", "checkpoint-6");
    found(one, newest, "checkpoint-6");
    found("/elsewhere", older, "checkpoint-3");
    not_found(one, older, PLUMB_ERR_EXISTS, "checkpoint-6");
    not_found(one, "/nonexistent", PLUMB_ERR_IO, "/nonexistent");

    /* Folders that are no checkpoints: a kill while saving, other names. */
    join(path, one, "checkpoint-9.tmp");
    CHECK_OK(plumb_dir_create(path));
    join(path, one, "checkpoint-x");
    CHECK_OK(plumb_dir_create(path));
    found(one, "auto", "checkpoint-6");

    static const char *const file[] = {"model.safetensors", "trainer_state.h5", "tokenizer.json",
                                       "hashes.json"};
    for (int i = 0; i < 4; i++) {
        const int64_t at = i == 3 ? -30 : i == 2 ? 0 : 1000;
        flip_byte(newest, file[i], at);
        CHECK(plumb_checkpoint_verify(newest) == PLUMB_ERR_FORMAT);
        CHECKF(strstr(plumb_trail_message(), i == 3 ? "checkpoint-6" : file[i]), "%s",
               plumb_trail_message());
        found(one, "auto", "checkpoint-3");
        not_found(one, newest, PLUMB_ERR_FORMAT, "checkpoint-6");
        flip_byte(newest, file[i], at);
        CHECK_OK(plumb_checkpoint_verify(newest));
    }
    join(path, newest, "trainer_state.h5");
    CHECK(!truncate(path, 1000));
    CHECK_FAILS(plumb_checkpoint_verify(newest), PLUMB_ERR_FORMAT, "1000 bytes");
    CHECK_FAILS(plumb_checkpoint_read_state(&s, newest), PLUMB_ERR_FORMAT, "trainer_state.h5");
    CHECK(!unlink(path));
    CHECK_FAILS(plumb_checkpoint_verify(newest), PLUMB_ERR_FORMAT, "missing");
    found(one, "auto", "checkpoint-3");

    /* Saved again, the damaged folder is replaced and the stale one is gone. */
    struct run rest = {.options = {.output_dir = one}, .resume = older, .until = 6};
    fake_world(2, run_rank, &rest);
    CHECK_OK(plumb_checkpoint_verify(newest));
    folders_are(one, "3 6 x ");

    /* A complete one is never written over: what follows at its step is a pause. */
    struct plumb_buf before = {0}, after = {0};
    read_text(&before, newest, "hashes.json");
    fake_world(2, run_rank, &rest);
    read_text(&after, newest, "hashes.json");
    CHECK(!strcmp(before.data, after.data));
    plumb_buf_fini(&before);
    plumb_buf_fini(&after);
    CHECK_OK(plumb_checkpoint_verify(newest));
    folders_are(one, "3 6 6-pause-1 x ");
    latest_is(one, "checkpoint-6-pause-1");
    found(one, "auto", "checkpoint-6-pause-1");
    not_found(one, newest, PLUMB_ERR_EXISTS, "checkpoint-6-pause-1");
    join(path, one, "checkpoint-6-pause-1");
    CHECK_OK(plumb_dir_remove(path));

    join(path, newest, "hashes.json");
    CHECK(!unlink(path));
    join(path, older, "model.safetensors");
    CHECK(!unlink(path));
    not_found(one, "auto", PLUMB_ERR_FORMAT, "none of 2 checkpoints");
}

static void test_prune(void)
{
    char dir[4096], from[4096];
    join(dir, top, "prune");
    struct run run = {.options = {.output_dir = dir, .keep_last = 2, .keep_every = 4}, .until = 1};
    for (int64_t step = 1; step <= 7; step++) {
        run.until = step;
        fake_world(1, run_rank, &run);
        char name[64];
        snprintf(name, sizeof(name), "checkpoint-%lld", (long long)step);
        join(from, dir, name);
        run.resume = from;
    }
    folders_are(dir, "4 6 7 ");
    latest_is(dir, "checkpoint-7");
    found(dir, "auto", "checkpoint-7");
}

/* Killed between the rename of a checkpoint and that of latest, and while an old one went. */
static void test_tidy(void)
{
    char dir[4096], one[4096], two[4096], path[4096], other[4096];
    join(dir, top, "tidy");
    join(one, dir, "checkpoint-1");
    join(two, dir, "checkpoint-2");
    struct run run = {.options = {.output_dir = dir}, .until = 1};
    fake_world(1, run_rank, &run);
    run.until = 2;
    run.resume = one;
    fake_world(1, run_rank, &run);
    join(path, dir, "latest");
    CHECK(!unlink(path) && !symlink("checkpoint-1", path));
    join(other, dir, "checkpoint-0.tmp");
    CHECK_OK(plumb_dir_create(other));
    CHECK_OK(plumb_checkpoint_tidy(dir, two));
    latest_is(dir, "checkpoint-2");
    folders_are(dir, "1 2 ");
    /* a checkpoint of another run is not pointed at */
    join(other, top, "tidy-other");
    CHECK_OK(plumb_dir_create(other));
    CHECK_OK(plumb_checkpoint_tidy(other, one));
    join(path, other, "latest");
    CHECK(access(path, F_OK) != 0);
}

/* Pauses count nowhere, the newest one goes before older checkpoints and goes when a later one is
 * there, and a damaged one is passed over. */
static void test_pause(void)
{
    static const char *const other[] = {"checkpoint-",
                                        "checkpoint-4-pause-",
                                        "checkpoint-4-pause-0",
                                        "checkpoint-4-pause-1.tmp",
                                        "checkpoint-4-pause-1x",
                                        "checkpoint-4x",
                                        "checkpoint-4-pause-99999999999999999999"};
    struct plumb_checkpoint_name name;
    for (size_t i = 0; i < sizeof(other) / sizeof(*other); i++)
        CHECKF(!plumb_checkpoint_name_read(&name, other[i]), "%s is a checkpoint", other[i]);
    CHECK(plumb_checkpoint_name_read(&name, "checkpoint-4-pause-12") && name.step == 4 &&
          name.pause == 12);

    char dir[4096], from[4096], path[4096];
    struct plumb_buf own = {0};
    join(dir, top, "pause");
    struct run run = {.options = {.output_dir = dir, .keep_last = 1}, .until = 2};
    fake_world(2, run_rank, &run);
    join(from, dir, "checkpoint-2");
    run.resume = from;
    run.pause = true;
    fake_world(4, run_rank, &run);
    folders_are(dir, "2 2-pause-1 ");
    fake_world(2, run_rank, &run); /* again at once */
    folders_are(dir, "2 2-pause-2 ");
    run.until = 3;
    fake_world(2, run_rank, &run);
    folders_are(dir, "2 3-pause-1 ");
    latest_is(dir, "checkpoint-3-pause-1");
    found(dir, "auto", "checkpoint-3-pause-1");
    join(path, dir, "checkpoint-3-pause-1");
    CHECK_OK(plumb_checkpoint_verify(path));
    read_text(&own, path, "own.rank-1");
    CHECK(!strcmp(own.data, "own.rank-1"));

    /* Another rank's failure is everybody's and changes nothing. */
    bad_rank = 1;
    run.expect = PLUMB_ERR_IO;
    run.says = "own.rank-1: gone";
    fake_world(2, run_rank, &run);
    bad_rank = -1;
    run.expect = PLUMB_OK;
    folders_are(dir, "2 3-pause-1 ");
    latest_is(dir, "checkpoint-3-pause-1");

    flip_byte(path, "own.rank-1", 0);
    found(dir, "auto", "checkpoint-2");
    fake_world(1, run_rank, &run); /* the damaged one keeps its number */
    folders_are(dir, "2 3-pause-2 ");
    join(path, dir, "checkpoint-3-pause-2");
    run.resume = path;
    run.pause = false;
    fake_world(1, run_rank, &run); /* complete at the same step */
    folders_are(dir, "3 ");
    latest_is(dir, "checkpoint-3");
    plumb_buf_fini(&own);
}

static void test_keep_best(void)
{
    static const double value[] = {3, 5, NAN, 1, 5, 2, 2.5};
    char dir[4096], from[4096], name[64];
    for (int least = 0; least < 2; least++) {
        join(dir, top, least ? "least" : "best");
        struct run run = {.options = {.output_dir = dir,
                                      .keep_last = 1,
                                      .keep_best = 2,
                                      .best_value = "metric.x",
                                      .best_is_least = least}};
        for (int64_t step = 1; step <= 7; step++) {
            run.until = step;
            run.metric = value[step - 1];
            run.pause = step == 5; /* its value does not count */
            fake_world(1, run_rank, &run);
            snprintf(name, sizeof(name), "checkpoint-%lld%s", (long long)step,
                     run.pause ? "-pause-1" : "");
            join(from, dir, name);
            run.resume = from;
            char best[4096], target[256] = "";
            join(best, dir, "best");
            CHECK(readlink(best, target, sizeof(target) - 1) > 0);
            const char *expected = !least ? (step < 2 ? "1" : "2") : step < 4 ? "1" : "4";
            CHECKF(!strcmp(target + 11, expected), "best is %s after %lld", target,
                   (long long)step);
        }
        folders_are(dir, least ? "4 6 7 " : "1 2 7 ");
        latest_is(dir, "checkpoint-7");
    }
}

static void test_failed_save(void)
{
    char dir[4096];
    join(dir, top, "failed");
    struct run run = {.options = {.output_dir = dir}, .until = 1};
    fake_world(2, run_rank, &run);
    ballast_bytes = -1;
    run.until = 2;
    run.expect = PLUMB_ERR_IO;
    run.says = "tokenizer.json: gone";
    fake_world(2, run_rank, &run);
    ballast_bytes = 16;
    folders_are(dir, "1 ");
    latest_is(dir, "checkpoint-1");
}

/* Moments of another model. */
static void wrong_model(plumb_comm *comm, void *arg)
{
    struct fake_tensor tensor[FAKE_DECODER];
    memcpy(tensor, fake_decoder, sizeof(tensor));
    const struct plumb_optim_options opt = optim_options();
    struct plumb_train_state s;
    plumb_optim *o = NULL;
    for (int i = 0; i < 3; i++) {
        tensor[3].name = i == 1 ? "model.layers.0.mlp.up_proj.weight" : fake_decoder[3].name;
        tensor[3].rows = i == 0 ? 51 : 50;
        plumb_model *m = fake_model(tensor, i == 2 ? FAKE_DECODER - 1 : FAKE_DECODER);
        CHECK_OK(plumb_optim_create(&o, m, comm, &opt));
        CHECK_FAILS(plumb_checkpoint_load(arg, &s, m, o, comm), PLUMB_ERR_FORMAT,
                    i == 0   ? "gate_proj"
                    : i == 1 ? "up_proj"
                             : "5 tensors, but the model has 4");
        CHECK(o->step == 0);
        plumb_optim_destroy(&o);
        fake_model_free(m);
    }
}

static void test_wrong_model(void)
{
    char dir[4096], from[4096];
    join(dir, top, "prune");
    join(from, dir, "checkpoint-7");
    fake_world(1, wrong_model, from);
}

static void test_state(void)
{
    struct plumb_train_state s = {0};
    char name[32];
    for (int i = 0; i < PLUMB_STATE_VALUES; i++) {
        snprintf(name, sizeof(name), "v%d", i);
        CHECK_OK(plumb_state_set(&s, name, i));
    }
    CHECK_OK(plumb_state_set(&s, "v3", -3));
    CHECK(s.n_values == PLUMB_STATE_VALUES && plumb_state_get(&s, "v3", 0) == -3);
    CHECK_FAILS(plumb_state_set(&s, "one more", 0), PLUMB_ERR_ARG, "one more");
    CHECK_FAILS(plumb_state_set(&s, "", 0), PLUMB_ERR_ARG, "''");
    CHECK_FAILS(plumb_state_set(&s, "a\nb", 0), PLUMB_ERR_ARG, "one line");
    CHECK_FAILS(plumb_state_set(&s, "a name of more than thirty-one letters", 0), PLUMB_ERR_ARG,
                "more than");
}

struct filler {
    char path[4096];
};

/* A file that leaves less than `room` bytes free. */
static void fill(const char *dir, const char *path, int64_t room)
{
    struct statvfs fs;
    CHECK(!statvfs(dir, &fs));
    const int64_t n = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize - room;
    char *zero = calloc(1, (size_t)n);
    CHECK(zero && n > 0);
    CHECK_OK(plumb_file_write_atomic(path, zero, n));
    free(zero);
}

static void *make_room(void *arg)
{
    const struct timespec t = {.tv_sec = 1};
    nanosleep(&t, NULL);
    CHECK(!unlink(((struct filler *)arg)->path));
    return NULL;
}

/* A disk of 1.5 MB: one checkpoint of about 0.3 MB fits; a tokenizer file fills it up. */
static void test_full_disk(void)
{
    char dir[4096], out[4096], path[4096];
    join(dir, top, "disk");
    CHECK_OK(plumb_dir_create(dir));
    if (geteuid() != 0 || mount("plumb", dir, "tmpfs", 0, "size=1536k")) {
        printf("a full disk was not tried: no permission to mount a small one\n");
        return;
    }
    join(out, dir, "out");
    struct run run = {.options = {.output_dir = out}, .until = 1};
    fake_world(2, run_rank, &run);
    /* begin_save sees room for weights and moments. What meets the full disk, by the pages that
     * are left behind weights and tokenizer file: that file itself, the model card, the moments'
     * file at its beginning, in its middle and at its end, hashes.json. */
    static const int64_t pages[] = {-1, 0, 4, 24, 43, 44};
    run.until = 2;
    run.expect = PLUMB_ERR_IO;
    run.says = "No space left";
    for (int i = 0; i < 6; i++) {
        struct statvfs fs;
        CHECK(!statvfs(dir, &fs) && fs.f_frsize == 4096);
        ballast_bytes = ((int64_t)fs.f_bavail - 21 - pages[i]) * 4096;
        fake_world(2, run_rank, &run);
        folders_are(out, "1 ");
        latest_is(out, "checkpoint-1");
        found(out, "auto", "checkpoint-1");
    }
    /* Tried again until somebody makes room. */
    struct filler filler = {0};
    pthread_t thread;
    join(filler.path, dir, "filler");
    CHECK_OK(plumb_file_write_atomic(filler.path, "x", 1));
    run.options.retry = 1;
    fake_world(2, run_rank, &run);
    folders_are(out, "1 ");
    run.options.retry = 20;
    run.expect = PLUMB_OK;
    ballast_bytes -= 2 * 4096;
    fill(dir, filler.path, 30 * 4096);
    CHECK(!pthread_create(&thread, NULL, make_room, &filler));
    fake_world(2, run_rank, &run);
    CHECK(!pthread_join(thread, NULL));
    folders_are(out, "1 2 ");
    join(path, out, "checkpoint-2");
    CHECK_OK(plumb_dir_remove(path));
    run.options.retry = 0;
    fake_world(2, run_rank, &run);
    ballast_bytes = 16;
    run.until = 3;
    run.expect = PLUMB_ERR_IO;
    run.says = "no room for checkpoint";
    fake_world(2, run_rank, &run);
    folders_are(out, "1 2 ");
    latest_is(out, "checkpoint-2");
    CHECK(!umount(dir));
}

int main(void)
{
    CHECK(mkdtemp(top));
    test_state();
    test_round_trip();
    test_find_and_damage();
    test_prune();
    test_tidy();
    test_pause();
    test_keep_best();
    test_failed_save();
    test_wrong_model();
    test_full_disk();
    CHECK_OK(plumb_dir_remove(top));
    return 0;
}
