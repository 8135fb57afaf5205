/* test_rollout_store.c - checks the rollout files of ranks, the master file in global order, and
 * damaged files. */
#include "data/rollout_store.h"

#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness.h"
#include "io/file.h"
#include "io/hdf5.h"

enum { N = 12, MAX_TOKENS = 16 };
static const struct plumb_rollout_meta meta2 = {0xfedcba9876543210ull, 7, 3, 2};

/* Writes the record of rollout g's prompt to out, and returns its length; 0 if the prompt has no
 * record. */
static int64_t record_of(char out[64], int64_t g)
{
    return g / 2 % 3 == 1 ? 0
                          : snprintf(out, 64, "{\"prompt\":\"%lld\"}", (long long)(g / 2 * 111));
}

/* Adds rollout g of the iteration. All its values depend on g only. */
static void add(struct plumb_rollout_store *r, int64_t g)
{
    int32_t ids[MAX_TOKENS];
    float logp[MAX_TOKENS], sampled[MAX_TOKENS];
    char record[64];
    /* n: tokens of prompt and completion; if n == prompt, the completion is empty */
    const int64_t prompt = 1 + g % 4, n = prompt + g % 5;
    for (int64_t i = 0; i < n; i++) {
        ids[i] = (int32_t)(100 * g + i);
        logp[i] = -0.5f * (float)(10 * g + i);
        sampled[i] = 2.0f * logp[i];
    }
    const struct plumb_rollout_row one = {
        .global_index = g,
        .prompt_id = 1000 + g / 2,
        .sample = (int32_t)(g % 2),
        .principled = g % 2,
        .stop_reason = (uint8_t)(g % 3),
        .branch = (uint8_t)(g % 4),
        .reward = g == 5 ? NAN : (float)g / 8,
        .weight = 1.0f / (float)(g + 1),
        .tau = 0.2 * (double)g,
        .weight_fingerprint = 0xffffffffffffff00ull + (uint64_t)g,
        .ids = ids,
        .n = n,
        .prompt_tokens = prompt,
        .logprob = logp,
        .logprob_sampled = sampled,
        .record = g % 2 ? NULL : record,
        .record_len = g % 2 ? 0 : record_of(record, g),
    };
    CHECK_OK(plumb_rollout_store_add(r, &one));
}

/* Writes N rollouts to the files of the ranks (rollout g to rank owner[g]), and then the master
 * file. */
static void write_all(const char *dir, const int *owner, int64_t ranks)
{
    struct plumb_rollout_meta meta = meta2;
    meta.world_size = ranks;
    struct plumb_rollout_store *r;
    CHECK_OK(plumb_rollout_store_create(&r, N, N * MAX_TOKENS, N * MAX_TOKENS, N * 64));
    for (int64_t k = 0; k < ranks; k++) {
        plumb_rollout_store_clear(r);
        for (int64_t g = 0; g < N; g++)
            if (owner[g] == k)
                add(r, g);
        CHECK_OK(plumb_rollout_store_write(r, dir, k, &meta));
    }
    plumb_rollout_store_destroy(&r);
    CHECK_OK(plumb_rollout_store_write_master(dir, &meta));
}

static void check_master(const char *dir, int64_t ranks)
{
    char path[PATH_MAX];
    struct plumb_rollout_store *got, *want;
    CHECK_OK(plumb_rollout_store_path(path, sizeof path, dir, 3, -1));
    CHECK_OK(plumb_rollout_store_read(&got, path));
    CHECK_OK(plumb_rollout_store_create(&want, N, N * MAX_TOKENS, N * MAX_TOKENS, N * 64));
    for (int64_t g = 0; g < N; g++)
        add(want, g);
    CHECK(got->n == N && got->n_tokens == want->n_tokens && got->n_logprobs == want->n_logprobs);
    CHECK(got->meta.config_hash == meta2.config_hash && got->meta.seed == 7 &&
          got->meta.iteration == 3 && got->meta.world_size == ranks);
#define SAME(field, n)                                                                             \
    CHECKF(memcmp(got->field, want->field, (size_t)(n) * sizeof *got->field) == 0, "%lld ranks",   \
           (long long)ranks)
    SAME(global_index, N);
    SAME(prompt_id, N);
    SAME(sample, N);
    SAME(principled, N);
    SAME(stop_reason, N);
    SAME(branch, N);
    SAME(reward, N);
    SAME(weight, N);
    SAME(tau, N);
    SAME(weight_fingerprint, N);
    SAME(offsets, N + 1);
    SAME(completion_start, N);
    SAME(logprob_offsets, N + 1);
    SAME(record_offsets, N + 1);
    CHECK(got->n_bytes == want->n_bytes);
    SAME(records, got->n_bytes);
    for (int64_t g = 0; g < N; g++) {
        char record[64];
        int64_t len;
        const int64_t n = record_of(record, g);
        const char *text = plumb_rollout_store_record(got, g, &len);
        CHECKF(len == n && memcmp(text, record, (size_t)n) == 0, "%lld: %.*s", (long long)g,
               (int)len, text);
    }
    SAME(tokens, got->n_tokens);
    SAME(logprob, got->n_logprobs);
    SAME(logprob_sampled, got->n_logprobs);
    CHECK(isnan(got->reward[5]));
    plumb_rollout_store_destroy(&got);
    plumb_rollout_store_destroy(&want);
}

static void expect(const char *path, plumb_status code, const char *word)
{
    struct plumb_rollout_store *r;
    const plumb_status st = plumb_rollout_store_read(&r, path);
    CHECKF(st == code && strstr(plumb_trail(), word), "%d: %s", st, plumb_trail());
    CHECK(!r);
}

static void test_faults(const char *dir)
{
    char path[PATH_MAX], rank1[PATH_MAX];
    CHECK_OK(plumb_rollout_store_path(path, sizeof path, dir, 3, -1));
    CHECK_OK(plumb_rollout_store_path(rank1, sizeof rank1, dir, 3, 1));
    struct plumb_rollout_meta other = meta2;
    other.config_hash++;
    CHECK(plumb_rollout_store_write_master(dir, &other) == PLUMB_ERR_FORMAT);
    CHECKF(strstr(plumb_trail(), "another run"), "%s", plumb_trail());
    other = meta2;
    other.world_size = 3;
    CHECK(plumb_rollout_store_write_master(dir, &other) != PLUMB_OK);
    /* Both ranks have the same rollout, which is an error. */
    struct plumb_rollout_store *r;
    CHECK_OK(plumb_rollout_store_create(&r, 2, 64, 64, 64));
    add(r, 0);
    CHECK_OK(plumb_rollout_store_write(r, dir, 1, &meta2));
    CHECK(plumb_rollout_store_write_master(dir, &meta2) == PLUMB_ERR_FORMAT);
    CHECKF(strstr(plumb_trail(), "global index"), "%s", plumb_trail());
    /* The earlier master file now refers to a rank file that has changed. */
    expect(path, PLUMB_ERR_FORMAT, "iteration-0003");
    add(r, 1);
    const struct plumb_rollout_row more = {0};
    CHECK(plumb_rollout_store_add(r, &more) == PLUMB_ERR_SHAPE);
    plumb_rollout_store_destroy(&r);
    CHECK(unlink(rank1) == 0);
    expect(path, PLUMB_ERR_IO, "rank-1");
    CHECK(plumb_rollout_store_write_master(dir, &meta2) == PLUMB_ERR_IO);
    CHECK_OK(plumb_file_write_atomic(path, "not HDF5", 8));
    expect(path, PLUMB_ERR_FORMAT, "iteration-0003.h5");
    CHECK(unlink(path) == 0);
    expect(path, PLUMB_ERR_IO, "No such file");
}

/* Checks a disk that is full: a file that cannot be written completely leaves the old file
 * unchanged and no temporary file. */
static void test_full(const char *dir)
{
    char path[PATH_MAX], tmp[PATH_MAX];
    uint64_t before, after;
    struct rlimit keep, small = {16384, 0};
    CHECK_OK(plumb_rollout_store_path(path, sizeof path, dir, 3, 0));
    snprintf(tmp, sizeof tmp, "%.4000s.tmp", path);
    CHECK_OK(plumb_file_hash(&before, path));
    struct plumb_rollout_store *r;
    CHECK_OK(plumb_rollout_store_create(&r, 1, 100000, 1, 0));
    int32_t *ids = calloc(100000, sizeof *ids);
    CHECK(ids);
    const struct plumb_rollout_row one = {.ids = ids, .n = 100000, .prompt_tokens = 100000};
    CHECK_OK(plumb_rollout_store_add(r, &one));
    CHECK(getrlimit(RLIMIT_FSIZE, &keep) == 0);
    small.rlim_max = keep.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    const plumb_status st = plumb_rollout_store_write(r, dir, 0, &meta2);
    CHECK(setrlimit(RLIMIT_FSIZE, &keep) == 0);
    CHECKF(st == PLUMB_ERR_IO && strstr(plumb_trail(), "rank-0"), "%d: %s", st, plumb_trail());
    CHECK_OK(plumb_file_hash(&after, path));
    CHECK(before == after && !plumb_file_exists(tmp));
    free(ids);
    plumb_rollout_store_destroy(&r);
}

static void test_h5dump(const char *dir)
{
    char command[PATH_MAX + 100];
    if (system("command -v h5dump >/dev/null 2>&1") != 0) {
        printf("h5dump is not here: its reading of the files was not tried\n");
        return;
    }
    /* Checks that the master file refers to rank files in its own folder, whatever the working
     * directory is. */
    snprintf(command, sizeof command,
             "cd / && h5dump -d prompt_id %.3000s/iteration-0003.h5 | grep -q '1000, 1000, 1001'",
             dir);
    CHECK(system(command) == 0);
}

/* Writes a file `name`, as a killed run on more ranks may leave one. */
static void leave(const char *dir, const char *name)
{
    char path[PATH_MAX];
    CHECK_OK(plumb_path_join(path, sizeof path, dir, name));
    CHECK_OK(plumb_file_write_atomic(path, "left", 4));
}

static void check_names(const char *dir)
{
    struct plumb_names names;
    CHECK_OK(plumb_dir_list(&names, dir));
    CHECK(names.n == 4 && !strcmp(names.name[0], "iteration-0002.rank-9.h5") &&
          !strcmp(names.name[1], "iteration-0003.h5") &&
          !strcmp(names.name[2], "iteration-0003.rank-0.h5") &&
          !strcmp(names.name[3], "iteration-0003.rank-1.h5"));
    plumb_names_fini(&names);
}

int main(void)
{
    char dir[] = "/tmp/plumb-rollouts-XXXXXX", moved[64];
    static const int one[N] = {0}, blocks[N] = {0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1},
                     runs[N] = {0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2},
                     idle[N] = {2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0};
    CHECK(mkdtemp(dir));
    write_all(dir, one, 1);
    check_master(dir, 1);
    write_all(dir, runs, 3);
    check_master(dir, 3);
    write_all(dir, idle, 4);
    check_master(dir, 4);
    uint64_t h[2];
    char path[PATH_MAX];
    CHECK_OK(plumb_rollout_store_path(path, sizeof path, dir, 3, 1));
    leave(dir, "iteration-0003.rank-6.h5.tmp");
    leave(dir, "iteration-0003.rank-0.h5.tmp");
    leave(dir, "iteration-0002.rank-9.h5"); /* a file of another iteration is not removed */
    for (int k = 0; k < 2; k++) {           /* the same rollouts give the same bytes */
        write_all(dir, blocks, 2);
        CHECK_OK(plumb_file_hash(&h[k], path));
        if (k == 0)
            sleep(1);
    }
    CHECK(h[0] == h[1]);
    check_names(dir);
    snprintf(moved, sizeof moved, "%s.moved", dir);
    CHECK(rename(dir, moved) == 0);
    check_master(moved, 2);
    test_h5dump(moved);
    test_full(moved);
    test_faults(moved);
    CHECK_OK(plumb_dir_remove(moved));
    return 0;
}
