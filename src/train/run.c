/* run.c - writes and reads run.json, and writes config.effective.yaml.
 * Layer 5. Includes base/, io/, comm/, train/lock.h. */
#include "train/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/commit.h"
#include "base/log.h"
#include "io/file.h"
#include "io/json.h"
#include "train/lock.h"

#define HOST_BYTES 256

struct plumb_run {
    int rank;
    char path[4096];
    struct plumb_buf head;    /* run.json up to the session of this process */
    struct plumb_buf session; /* this session's members up to "start" */
    struct plumb_buf saved;   /* members of this session's "weights": the saved checkpoints */
    double started;
    double save_seconds; /* seconds that all saves of this session took */
};

static plumb_status put_time(struct plumb_buf *b)
{
    const time_t now = time(NULL);
    struct tm utc;
    char text[32];
    gmtime_r(&now, &utc);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
    return plumb_json_put_string(b, text, (int64_t)strlen(text));
}

static plumb_status put_member(struct plumb_buf *b, const char *key, const char *text)
{
    PLUMB_TRY(plumb_buf_addf(b, "\"%s\": ", key));
    return plumb_json_put_string(b, text, (int64_t)strlen(text));
}

/* Appends to r->head the JSON members that describe the whole run, such as the seed, and a copy of
 * the sessions in an existing run.json. */
static plumb_status put_head(struct plumb_run *r, const struct plumb_run_info *info)
{
    struct plumb_buf *b = &r->head;
    PLUMB_TRY(plumb_buf_add_text(b, "{\n  "));
    PLUMB_TRY(put_member(b, "plumb_version", PLUMB_VERSION));
    PLUMB_TRY(plumb_buf_add_text(b, ",\n  "));
    PLUMB_TRY(put_member(b, "commit", PLUMB_COMMIT));
    PLUMB_TRY(plumb_buf_add_text(b, ",\n  "));
    PLUMB_TRY(put_member(b, "compiler", __VERSION__));
    PLUMB_TRY(plumb_buf_add_text(b, ",\n  "));
    PLUMB_TRY(put_member(b, "command", info->command));
    /* Some JSON readers accept no number above int64, so such a seed is written as text. */
    const char *quote = info->seed > INT64_MAX ? "\"" : "";
    PLUMB_TRY(plumb_buf_addf(
        b,
        ",\n  \"seed\": %s%llu%s,\n  \"config_hash\": \"%016llx\",\n"
        "  \"start_fingerprint\": \"%016llx\",\n  \"inputs\": %s,%s%s%s\n"
        "  \"sessions\": [",
        quote, (unsigned long long)info->seed, quote, (unsigned long long)info->config_hash,
        (unsigned long long)info->start_fingerprint, info->inputs ? info->inputs : "{}",
        info->chat ? "\n  \"chat\": " : "", info->chat ? info->chat : "", info->chat ? "," : ""));
    if (!plumb_file_exists(r->path))
        return PLUMB_OK;
    plumb_json *old = NULL;
    PLUMB_TRY(plumb_json_read_file(&old, r->path));
    const plumb_json *sessions = plumb_json_get(old, "sessions");
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < plumb_json_count(sessions) && !st; i++) {
        st = plumb_buf_add_text(b, "\n    ");
        if (!st)
            st = plumb_json_put_node(b, plumb_json_at(sessions, i));
        if (!st)
            st = plumb_buf_add_text(b, ",");
    }
    plumb_json_free(&old);
    return st;
}

/* Appends the member `key` with the lines of text as a JSON array of strings. Appends nothing if
 * text is NULL or empty. */
static plumb_status put_lines(struct plumb_buf *b, const char *key, const char *text)
{
    if (!text || !*text)
        return PLUMB_OK;
    PLUMB_TRY(plumb_buf_addf(b, ", \"%s\": [", key));
    for (const char *at = text; *at;) {
        const char *end = strchrnul(at, '\n');
        PLUMB_TRY(plumb_buf_add_text(b, at == text ? "" : ", "));
        PLUMB_TRY(plumb_json_put_string(b, at, end - at));
        at = *end ? end + 1 : end;
    }
    return plumb_buf_add_text(b, "]");
}

/* Returns true for settings of NCCL, UCX, libfabric and Open MPI, except for those that mpirun sets
 * in every rank. */
static bool is_setting(const char *variable)
{
    static const char *const wanted[] = {"NCCL_", "UCX_", "FI_", "OMPI_MCA_"};
    static const char *const mpirun[] = {
        "OMPI_MCA_orte_",        "OMPI_MCA_ess",           "OMPI_MCA_pmix=",
        "OMPI_MCA_initial_wdir", "OMPI_MCA_shmem_RUNTIME", "OMPI_MCA_mpi_oversubscribe",
        "OMPI_MCA_PREFIXES=",    "OMPI_MCA_cpu_type=",     "OMPI_MCA_num_procs="};
    bool found = false;
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        found |= strncmp(variable, wanted[i], strlen(wanted[i])) == 0;
    for (size_t i = 0; i < sizeof(mpirun) / sizeof(mpirun[0]); i++)
        found &= strncmp(variable, mpirun[i], strlen(mpirun[i])) != 0;
    return found && strchr(variable, '=');
}

extern char **environ;

plumb_status plumb_run_settings(struct plumb_buf *out)
{
    const char *before = "";
    PLUMB_TRY(plumb_buf_add_text(out, "{"));
    for (char **at = environ; *at; at++) {
        if (!is_setting(*at))
            continue;
        const char *value = strchr(*at, '=') + 1;
        PLUMB_TRY(plumb_buf_add_text(out, before));
        PLUMB_TRY(plumb_json_put_string(out, *at, value - 1 - *at));
        PLUMB_TRY(plumb_buf_add_text(out, ": "));
        PLUMB_TRY(plumb_json_put_string(out, value, (int64_t)strlen(value)));
        before = ", ";
    }
    return plumb_buf_add_text(out, "}");
}

static plumb_status put_session(struct plumb_run *r, const struct plumb_run_info *info,
                                const char *hosts, int world_size, const char *backend)
{
    struct plumb_buf *b = &r->session;
    PLUMB_TRY(plumb_buf_add_text(b, "{\"command_line\": ["));
    for (int i = 0; i < info->argc; i++) {
        PLUMB_TRY(plumb_buf_add_text(b, i ? ", " : ""));
        PLUMB_TRY(plumb_json_put_string(b, info->argv[i], (int64_t)strlen(info->argv[i])));
    }
    PLUMB_TRY(plumb_buf_addf(b, "], \"world_size\": %d, ", world_size));
    PLUMB_TRY(put_member(b, "communicator", backend));
    PLUMB_TRY(plumb_buf_add_text(b, ", \"hosts\": ["));
    for (int i = 0; i < world_size; i++) {
        const char *host = hosts + (int64_t)i * HOST_BYTES;
        PLUMB_TRY(plumb_buf_add_text(b, i ? ", " : ""));
        PLUMB_TRY(plumb_json_put_string(b, host, (int64_t)strlen(host)));
    }
    PLUMB_TRY(plumb_buf_add_text(b, "]"));
    PLUMB_TRY(put_lines(b, "gemm_classes", info->gemm_classes));
    PLUMB_TRY(plumb_buf_add_text(b, ", \"environment\": "));
    PLUMB_TRY(plumb_run_settings(b));
    PLUMB_TRY(
        plumb_buf_addf(b,
                       ", \"total_steps\": %lld, \"total_iterations\": %lld, \"resumed_step\": "
                       "%lld, \"start\": ",
                       (long long)info->total_steps, (long long)info->total_iterations,
                       (long long)info->resumed_step));
    return put_time(b);
}

/* Writes run.json. result is NULL while the run has not ended. */
static plumb_status write_file(struct plumb_run *r, const char *result)
{
    struct plumb_buf b = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_buf_add(&b, plumb_buf_text(&r->head), r->head.len), done);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&b, "\n    "), done);
    PLUMB_TRY_GOTO(st, plumb_buf_add(&b, plumb_buf_text(&r->session), r->session.len), done);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&b, ", \"weights\": {"), done);
    PLUMB_TRY_GOTO(st, plumb_buf_add(&b, plumb_buf_text(&r->saved), r->saved.len), done);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&b, "}, "), done);
    PLUMB_TRY_GOTO(st, plumb_buf_addf(&b, "\"save_seconds\": %.3f, \"end\": ", r->save_seconds),
                   done);
    if (result) {
        PLUMB_TRY_GOTO(st, put_time(&b), done);
        PLUMB_TRY_GOTO(st, plumb_buf_addf(&b, ", \"seconds\": %.1f, ", plumb_now() - r->started),
                       done);
        PLUMB_TRY_GOTO(st, put_member(&b, "result", result), done);
    } else {
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(&b, "null, \"result\": null"), done);
    }
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&b, "}\n  ]\n}\n"), done);
    PLUMB_TRY_GOTO(st, plumb_file_write_atomic(r->path, plumb_buf_text(&b), b.len), done);
done:
    plumb_buf_fini(&b);
    return st;
}

static plumb_status begin_on_rank_0(struct plumb_run *r, const char *output_dir,
                                    const struct plumb_run_info *info, const char *hosts,
                                    const plumb_comm *comm)
{
    char config[4096];
    PLUMB_TRY(plumb_dir_create(output_dir));
    PLUMB_TRY(plumb_path_join(r->path, sizeof(r->path), output_dir, "run.json"));
    PLUMB_TRY(plumb_path_join(config, sizeof(config), output_dir, "config.effective.yaml"));
    PLUMB_TRY(put_head(r, info));
    PLUMB_TRY(put_session(r, info, hosts, plumb_comm_size(comm), plumb_comm_name(comm)));
    PLUMB_TRY(
        plumb_file_write_atomic(config, info->config_yaml, (int64_t)strlen(info->config_yaml)));
    return write_file(r, NULL);
}

plumb_status plumb_run_begin(plumb_run **out, const char *output_dir, plumb_comm *comm,
                             const struct plumb_run_info *info)
{
    const int n = plumb_comm_size(comm);
    plumb_status st = PLUMB_OK;
    char host[HOST_BYTES] = "";
    struct plumb_run *r = calloc(1, sizeof(*r));
    char *hosts = calloc((size_t)n, HOST_BYTES);
    int64_t *count = calloc((size_t)n, sizeof(*count));
    if (!r || !hosts || !count)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "run record of %d ranks", n);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), fail);
    snprintf(host, sizeof(host), "%s", plumb_comm_host(comm));
    PLUMB_TRY_GOTO(
        st, plumb_comm_allgather(comm, hosts, (int64_t)n * HOST_BYTES, count, host, HOST_BYTES),
        fail);
    r->rank = plumb_comm_rank(comm);
    r->started = plumb_now();
    if (r->rank == 0)
        st = begin_on_rank_0(r, output_dir, info, hosts, comm);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), fail);
    free(hosts);
    free(count);
    *out = r;
    return PLUMB_OK;
fail:
    free(hosts);
    free(count);
    if (r) {
        plumb_buf_fini(&r->head);
        plumb_buf_fini(&r->session);
    }
    free(r);
    return st;
}

plumb_status plumb_run_saved(plumb_run *r, const char *name, uint64_t fingerprint, double seconds)
{
    if (r->rank != 0)
        return PLUMB_OK;
    r->save_seconds = seconds;
    PLUMB_TRY(plumb_buf_addf(&r->saved, "%s\"%s\": \"%016llx\"", r->saved.len ? ", " : "", name,
                             (unsigned long long)fingerprint));
    return write_file(r, NULL);
}

plumb_status plumb_run_end(plumb_run **run, const char *result)
{
    if (!run || !*run)
        return PLUMB_OK;
    struct plumb_run *r = *run;
    const plumb_status st = r->rank == 0 ? write_file(r, result) : PLUMB_OK;
    plumb_buf_fini(&r->saved);
    plumb_buf_fini(&r->head);
    plumb_buf_fini(&r->session);
    free(r);
    *run = NULL;
    return st;
}

/* Returns the result of the last session in run.json, or NULL if the run was killed or still runs.
 */
static const char *last_result(const plumb_json *root)
{
    const plumb_json *sessions = plumb_json_get(root, "sessions");
    const plumb_json *last = plumb_json_at(sessions, plumb_json_count(sessions) - 1);
    return plumb_json_string(plumb_json_get(last, "result"), NULL);
}

static bool has_failed(const char *path)
{
    plumb_json *root = NULL;
    if (plumb_json_read_file(&root, path) != PLUMB_OK)
        return false;
    const char *result = last_result(root);
    const bool failed = result && strcmp(result, "ok") != 0;
    plumb_json_free(&root);
    return failed;
}

static plumb_status read_hash(uint64_t *out, const plumb_json *root, const char *key,
                              const char *path)
{
    const char *text;
    char *end;
    PLUMB_TRY(plumb_json_want_string(root, key, &text, NULL, path));
    *out = strtoull(text, &end, 16);
    PLUMB_REQUIRE(*text && !*end, PLUMB_ERR_FORMAT, "%s: %s is '%s', expected hexadecimal digits",
                  path, key, text);
    return PLUMB_OK;
}

plumb_status plumb_run_past(struct plumb_run_past *out, const char *output_dir)
{
    char path[4096];
    plumb_json *root = NULL;
    plumb_status st = PLUMB_OK;
    *out = (struct plumb_run_past){0};
    PLUMB_TRY(plumb_path_join(path, sizeof(path), output_dir, "run.json"));
    if (!plumb_file_exists(path))
        return PLUMB_OK;
    PLUMB_TRY(plumb_json_read_file(&root, path));
    const char *result = last_result(root);
    out->there = true;
    out->finished = result && strcmp(result, "ok") == 0;
    PLUMB_TRY_GOTO(st, read_hash(&out->config_hash, root, "config_hash", path), done);
    st = read_hash(&out->start_fingerprint, root, "start_fingerprint", path);
done:
    plumb_json_free(&root);
    return st;
}

bool plumb_run_failed_start(const char *output_dir)
{
    static const char *const left[] = {"config.effective.yaml",
                                       "metrics.jsonl",
                                       "metrics.prom",
                                       "mlperf.log",
                                       "rollouts",
                                       "run.json",
                                       "tensorboard",
                                       "train.log"};
    struct plumb_names names = {0};
    struct plumb_buf metrics = {0};
    char path[4096];
    bool failed = plumb_path_join(path, sizeof(path), output_dir, "run.json") == PLUMB_OK &&
                  plumb_file_exists(path) && has_failed(path) &&
                  plumb_dir_list(&names, output_dir) == PLUMB_OK;
    for (int64_t i = 0; i < names.n && failed; i++) {
        bool known = plumb_lock_owns(names.name[i]);
        for (size_t k = 0; k < sizeof(left) / sizeof(left[0]); k++)
            known = known || !strcmp(names.name[i], left[k]);
        failed = known;
    }
    if (failed && plumb_path_join(path, sizeof(path), output_dir, "metrics.jsonl") == PLUMB_OK &&
        plumb_file_exists(path))
        failed = plumb_file_read(&metrics, path) == PLUMB_OK && metrics.len == 0;
    plumb_buf_fini(&metrics);
    plumb_names_fini(&names);
    return failed;
}
