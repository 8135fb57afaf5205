/* test_checkpoint.c - checks saving, loading on another number of ranks, damaged folders and a full
 * disk. Test. Includes harness.h, io/, train/. */
#include "train/checkpoint.h"

#include <sys/mount.h>
#include <sys/statvfs.h>

#include "checkpoint_run.h"

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

    /* The same run on another number of ranks writes the same files, byte for byte. */
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

    /* The run is resumed on 1, 2 and 4 ranks, and once more with weights as if in device memory. It
     * must end with the weights of the uninterrupted run. */
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
    not_found(one, "/nonexistent", PLUMB_ERR_CONFIG, "/nonexistent");

    /* Folders that are no checkpoints: one that a killed save has left, and one with another
     * name. */
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

    /* The next save replaces the damaged folder, and removes the folder that a killed save has
     * left. */
    struct run rest = {.options = {.output_dir = one}, .resume = older, .until = 6};
    fake_world(2, run_rank, &rest);
    CHECK_OK(plumb_checkpoint_verify(newest));
    folders_are(one, "3 6 x ");

    /* A complete checkpoint is never overwritten. A second save at the same step is written as a
     * pause. */
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
    not_found(one, "auto", PLUMB_ERR_FORMAT, "none of its 2 checkpoints");
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

/* Checks that the optimizer moments of another model are refused. */
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
                             : "5 tensors, but the model trains 4");
        CHECK(o->step == 0);
        plumb_optim_destroy(&o);
        fake_model_free(m);
    }
}

static void test_wrong_model(void)
{
    char dir[4096], from[4096];
    join(dir, top, "wrong");
    join(from, dir, "checkpoint-1");
    struct run run = {.options = {.output_dir = dir}, .until = 1};
    fake_world(1, run_rank, &run);
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

/* Writes a file that is so large that at most `room` bytes of the file system stay free. */
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

/* Checks saves on a full file system of 1.5 MiB. The fake tokenizer file fills it. */
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
    /* begin_save finds room for weights and moments. The number of free pages that are left after
     * the weights and the tokenizer file decides which write fails: that of the tokenizer file
     * itself, of the model card, of the file with the moments (at its beginning, in the middle or
     * at its end), or of hashes.json. */
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
    /* The save is repeated for checkpoint.retry seconds. During this time, a thread frees space. */
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
    /* bytes per weight: 4 for the float32 weight and two moments; or 2 for the bfloat16 weight, the
     * float32 weight and two moments */
    plumb_model *m = fake_model(fake_decoder, FAKE_DECODER);
    char need[64];
    run.says = need;
    for (int rounded = 0; rounded < 2; rounded++) {
        snprintf(need, sizeof(need), "it needs about %.1f MB (weights and moments)",
                 ((double)m->count * (rounded ? 14 : 12) + (1 << 18)) / 1e6);
        run.rounded = rounded;
        fake_world(2, run_rank, &run);
    }
    fake_model_free(m);
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
    test_failed_save();
    test_wrong_model();
    test_full_disk();
    CHECK_OK(plumb_dir_remove(top));
    return 0;
}
