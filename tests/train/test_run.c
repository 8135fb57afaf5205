/* test_run.c - checks run.json over several sessions of a run, and the file config.effective.yaml.
 * Test. Includes harness.h, io/, train/. */
#include "train/run.h"

#include <pthread.h>
#include <unistd.h>

#include "harness.h"
#include "io/file.h"
#include "io/json.h"

static char dir[] = "/tmp/plumb_run_XXXXXX";
static char out[64], run_path[96], config_path[96];

struct session {
    int64_t resumed_step;
    const char *result; /* result of the session; NULL: it was killed */
};

struct rank {
    plumb_comm *comm;
    const struct session *session;
};

static void *rank_main(void *arg)
{
    struct rank *r = arg;
    char *argv[] = {"plumb", "align", "a \"quoted\" name.yaml"};
    const struct plumb_run_info info = {.command = "align",
                                        .argc = 3,
                                        .argv = argv,
                                        .seed = UINT64_MAX,
                                        .config_hash = 0xABC,
                                        .start_fingerprint = 0x123456789ABCDEF0ull,
                                        .resumed_step = r->session->resumed_step,
                                        .config_yaml = "seed: 1\n"};
    plumb_run *run = NULL;
    CHECK_OK(plumb_run_begin(&run, out, r->comm, &info));
    for (int64_t step = 2; step <= r->session->resumed_step; step += 10) {
        char name[64];
        snprintf(name, sizeof(name), "checkpoint-%lld", (long long)step);
        CHECK_OK(plumb_run_saved(run, name, (uint64_t)step, 0.25 * (double)step));
    }
    if (r->session->result || plumb_comm_rank(r->comm) > 0) {
        CHECK_OK(plumb_run_end(&run, r->session->result ? r->session->result : "ok"));
        CHECK(run == NULL);
    } else {
        /* Simulates a kill: plumb_run_end only frees the memory, and the file is then restored to
         * its present contents. */
        struct plumb_buf b = {0};
        CHECK_OK(plumb_file_read(&b, run_path));
        CHECK_OK(plumb_run_end(&run, "ok"));
        CHECK_OK(plumb_file_write_atomic(run_path, b.data, b.len));
        plumb_buf_fini(&b);
    }
    plumb_comm_destroy(&r->comm);
    return NULL;
}

static void session(int world_size, int64_t resumed_step, const char *result)
{
    const struct session s = {resumed_step, result};
    plumb_comm *comm[4];
    pthread_t thread[4];
    struct rank rank[4];
    CHECK_OK(plumb_comm_thread_create(comm, world_size));
    for (int r = 0; r < world_size; r++) {
        rank[r] = (struct rank){comm[r], &s};
        CHECK(!pthread_create(&thread[r], NULL, rank_main, &rank[r]));
    }
    for (int r = 0; r < world_size; r++)
        CHECK(!pthread_join(thread[r], NULL));
}

static const char *text(const plumb_json *v, const char *key)
{
    return plumb_json_string(plumb_json_get(v, key), "");
}

int main(void)
{
    CHECK(mkdtemp(dir));
    snprintf(out, sizeof(out), "%s/deep/out", dir);
    snprintf(run_path, sizeof(run_path), "%s/run.json", out);
    snprintf(config_path, sizeof(config_path), "%s/config.effective.yaml", out);
    session(2, 0, NULL);
    session(1, 12, "rank 0: learning_rate \"x\"\nis bad");
    session(4, 12, "ok");

    plumb_json *v = NULL;
    CHECK_OK(plumb_json_read_file(&v, run_path));
    CHECK(!strcmp(text(v, "plumb_version"), PLUMB_VERSION) && !strcmp(text(v, "command"), "align"));
    CHECK(!strcmp(text(v, "config_hash"), "0000000000000abc") &&
          !strcmp(text(v, "start_fingerprint"), "123456789abcdef0") && text(v, "compiler")[0]);
    CHECK(!strcmp(text(v, "seed"), "18446744073709551615"));
    const plumb_json *sessions = plumb_json_get(v, "sessions");
    CHECK(plumb_json_count(sessions) == 3);
    static const struct {
        int64_t world_size, resumed_step;
        const char *result;
    } want[] = {{2, 0, ""}, {1, 12, "rank 0: learning_rate \"x\"\nis bad"}, {4, 12, "ok"}};
    for (int i = 0; i < 3; i++) {
        const plumb_json *s = plumb_json_at(sessions, i);
        CHECK(plumb_json_int(plumb_json_get(s, "world_size"), 0) == want[i].world_size);
        CHECK(plumb_json_count(plumb_json_get(s, "hosts")) == want[i].world_size);
        CHECK(plumb_json_int(plumb_json_get(s, "resumed_step"), -1) == want[i].resumed_step);
        CHECK(!strcmp(text(s, "result"), want[i].result));
        const plumb_json *saved = plumb_json_get(s, "weights");
        CHECK(plumb_json_count(saved) == (want[i].resumed_step > 0 ? 2 : 0));
        CHECK(plumb_json_real(plumb_json_get(s, "save_seconds"), -1) ==
              (want[i].resumed_step > 0 ? 3 : 0));
        if (want[i].resumed_step > 0)
            CHECK(!strcmp(text(saved, "checkpoint-12"), "000000000000000c"));
        CHECK(strlen(text(s, "start")) == 20 && text(s, "start")[19] == 'Z');
        CHECK((strlen(text(s, "end")) == 20) == (i > 0));
        CHECK(!strcmp(text(s, "communicator"), "thread"));
        const plumb_json *line = plumb_json_get(s, "command_line");
        CHECK(plumb_json_count(line) == 3 &&
              !strcmp(plumb_json_string(plumb_json_at(line, 2), ""), "a \"quoted\" name.yaml"));
        char host[256] = "";
        CHECK(!gethostname(host, sizeof(host) - 1));
        CHECK(!strcmp(plumb_json_string(plumb_json_at(plumb_json_get(s, "hosts"), 0), ""), host));
    }
    plumb_json_free(&v);

    /* plumb_run_failed_start is true only if the last session has failed and has left neither
     * metrics nor a checkpoint. */
    char metrics[96];
    snprintf(metrics, sizeof(metrics), "%s/metrics.jsonl", out);
    CHECK(!plumb_run_failed_start(out) && !plumb_run_failed_start("/nonexistent"));
    session(2, 0, NULL);
    CHECK(!plumb_run_failed_start(out));
    session(2, 0, "no score");
    CHECK(plumb_run_failed_start(out));
    CHECK_OK(plumb_file_write_atomic(metrics, "", 0));
    CHECK(plumb_run_failed_start(out));
    CHECK_OK(plumb_file_write_atomic(metrics, "{}\n", 3));
    CHECK(!plumb_run_failed_start(out));
    CHECK(!unlink(metrics));
    snprintf(metrics, sizeof(metrics), "%s/checkpoint-1", out);
    CHECK_OK(plumb_dir_create(metrics));
    CHECK(!plumb_run_failed_start(out));

    struct plumb_buf b = {0};
    CHECK_OK(plumb_file_read(&b, config_path));
    CHECK(!strcmp(plumb_buf_text(&b), "seed: 1\n"));
    plumb_buf_fini(&b);
    CHECK_OK(plumb_run_end(NULL, "ok"));
    CHECK_OK(plumb_dir_remove(dir));
    return 0;
}
