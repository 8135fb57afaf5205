/* test_checkpoint_dir.c - checks which checkpoints are kept, which one is the newest, and where the
 * links `latest` and `best` point. Test. Includes checkpoint_run.h, train/. */
#include "train/checkpoint_dir.h"

#include "checkpoint_run.h"

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

/* Checks the folders of two killed runs. One was killed after it had renamed a checkpoint, but
 * before it had changed `latest`. The other was killed while it removed an old checkpoint. */
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
    /* `latest` must never point to a checkpoint of another run. */
    join(other, top, "tidy-other");
    CHECK_OK(plumb_dir_create(other));
    CHECK_OK(plumb_checkpoint_tidy(other, one));
    join(path, other, "latest");
    CHECK(access(path, F_OK) != 0);
}

/* Checks pauses. keep_last does not count them. A run resumes from the newest pause, unless there
 * is a later checkpoint. A pause is removed when there is a later pause or checkpoint. A damaged
 * pause is not used. */
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
    fake_world(2, run_rank, &run); /* a second pause at the same step */
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

    /* If rank 1 fails to write its own file, the save fails on every rank and changes nothing. */
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
    fake_world(1, run_rank, &run); /* the number of the damaged pause is not used again */
    folders_are(dir, "2 3-pause-2 ");
    join(path, dir, "checkpoint-3-pause-2");
    run.resume = path;
    run.pause = false;
    fake_world(1, run_rank, &run); /* a checkpoint at the same step as the pause */
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
            run.pause = step == 5; /* a pause never becomes the best checkpoint */
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

/* Checks checkpoints without optimizer moments. The newest folder with moments is kept, because a
 * run resumes from it. This folder is removed with the last checkpoint of the run. */
static void test_weights_only(void)
{
    char dir[4096], from[4096];
    join(dir, top, "light");
    struct run run = {.options = {.output_dir = dir}, .until = 2, .pause = true};
    fake_world(2, run_rank, &run);
    join(from, dir, "checkpoint-2-pause-1");
    run.resume = from;
    run.pause = false;
    run.options.weights_only = true;
    /* in the second round, a resumed run writes the same checkpoint again */
    for (int again = 0; again < 2; again++) {
        run.until = 3;
        fake_world(2, run_rank, &run);
        folders_are(dir, "2-pause-1 3 ");
        latest_is(dir, "checkpoint-3");
        found(dir, "auto", "checkpoint-2-pause-1");
    }
    run.until = 4;
    run.options.last = true;
    fake_world(1, run_rank, &run);
    folders_are(dir, "3 4 ");
    char named[4096];
    bool light = false;
    not_found(dir, "auto", PLUMB_ERR_FORMAT, "holds weights alone");
    join(named, dir, "checkpoint-3");
    not_found(dir, named, PLUMB_ERR_FORMAT, "checkpoint.optimizer");
    CHECK_OK(plumb_checkpoint_weights_only(&light, named));
    CHECK(light);
}

int main(void)
{
    CHECK(mkdtemp(top));
    test_prune();
    test_tidy();
    test_pause();
    test_keep_best();
    test_weights_only();
    CHECK_OK(plumb_dir_remove(top));
    return 0;
}
