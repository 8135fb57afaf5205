/* top.c - describes a run, whether it is running or has ended, from the files in its folder.
 * Layer 6. Includes app/top.h, base/, io/, report/, train/lock.h. */
#include "app/top.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "io/json.h"
#include "report/load.h"
#include "report/metrics.h"
#include "train/lock.h"

enum {
    LINES = 10,        /* number of lines of metrics over which times are averaged */
    BAR = 30,          /* width of the progress bar in characters */
    MOST_RANKS = 1024, /* largest number of ranks in the statistics; higher ranks are ignored */
    /* number of bytes at the end of train.log that are searched for a warning */
    TAIL_BYTES = 1 << 16,
};

struct run {
    const char *dir;
    struct plumb_buf *out;
    plumb_json *root;
    const plumb_json *session; /* newest session in run.json */
    struct plumb_metrics_row *row;
    int64_t n;                   /* number of lines of metrics */
    struct plumb_load_line load; /* newest line of load.jsonl; ranks = 0 if there is none */
    int64_t step;                /* number of optimizer steps that the files report */
    int64_t world_size, total_steps, total_iterations;
    bool running;
    const char *result; /* result of the newest session; NULL if it has none */
    char who[512];
    double beat_s;
    enum plumb_lock_state lock;
};

static plumb_status put(struct run *r, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Appends a row: its name and its text. */
static plumb_status put(struct run *r, const char *name, const char *fmt, ...)
{
    char text[1200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return plumb_buf_addf(r->out, "  %-11s %s\n", name, text);
}

/* Writes a duration: "12 s", "3:05 min", "2:14:07 h", "4 d 02:00 h". */
static const char *duration(char out[40], double seconds)
{
    const long long s = (long long)fmax(seconds, 0);
    if (s < 60)
        snprintf(out, 40, "%lld s", s);
    else if (s < 3600)
        snprintf(out, 40, "%lld:%02lld min", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, 40, "%lld:%02lld:%02lld h", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, 40, "%lld d %02lld:%02lld h", s / 86400, s / 3600 % 24, s / 60 % 60);
    return out;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* Returns the name of the newest checkpoint of the session, or NULL. */
static const char *saved_of(const struct run *r)
{
    const plumb_json *saved = plumb_json_get(r->session, "weights"), *v;
    const char *name;
    const int64_t n = plumb_json_count(saved);
    return n > 0 && plumb_json_member_at(saved, n - 1, &name, &v) == PLUMB_OK ? name : NULL;
}

/* Returns the newest step that the session, its last checkpoint or the last line of metrics names.
 * A line is written every train.log_every steps only, so a checkpoint may be newer. */
static int64_t step_of(const struct run *r)
{
    const char *saved = saved_of(r);
    long long step = 0;
    if (!saved || sscanf(saved, "checkpoint-%lld", &step) != 1)
        step = plumb_json_int(plumb_json_get(r->session, "resumed_step"), 0);
    return plumb_max_i64(step, r->n > 0 ? r->row[r->n - 1].step : 0);
}

static plumb_status read_run(struct run *r)
{
    char path[4096];
    PLUMB_TRY(plumb_path_join(path, sizeof(path), r->dir, "run.json"));
    PLUMB_TRY(plumb_json_read_file(&r->root, path));
    const plumb_json *all = plumb_json_get(r->root, "sessions");
    r->session = plumb_json_at(all, plumb_json_count(all) - 1);
    r->world_size = plumb_json_int(plumb_json_get(r->session, "world_size"), 1);
    r->total_steps = plumb_json_int(plumb_json_get(r->session, "total_steps"), 0);
    r->total_iterations = plumb_json_int(plumb_json_get(r->session, "total_iterations"), 0);
    r->result = plumb_json_string(plumb_json_get(r->session, "result"), NULL);
    r->lock = plumb_lock_look(r->who, sizeof(r->who), &r->beat_s, r->dir);
    r->running = r->lock == PLUMB_LOCK_RUNS;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), r->dir, "metrics.jsonl"));
    if (plumb_file_exists(path))
        PLUMB_TRY(plumb_metrics_read(&r->row, &r->n, path));
    r->step = step_of(r);
    return plumb_load_newest(&r->load, r->dir);
}

static void close_run(struct run *r)
{
    plumb_json_free(&r->root);
    free(r->row);
    free(r->load.value);
}

/* Returns the seconds between metrics line i and the line before it, computed from the number of
 * tokens and the tokens per second; 0 if line i has no tokens per second. */
static double seconds_of(const struct run *r, int64_t i)
{
    const struct plumb_metrics_row *row = &r->row[i];
    const double speed = row->value[PLUMB_METRIC_TOKENS_PER_SECOND];
    const double before = i > 0 ? r->row[i - 1].value[PLUMB_METRIC_NUM_TOKENS] : 0;
    return row->set[PLUMB_METRIC_TOKENS_PER_SECOND] && speed > 0
               ? (row->value[PLUMB_METRIC_NUM_TOKENS] - before) / speed
               : 0;
}

/* Returns the index of the first of the newest LINES lines of metrics. */
static int64_t first_of(const struct run *r)
{
    return plumb_max_i64(r->n - LINES, 0);
}

static double age_of(const char *dir, const char *file)
{
    char path[4096];
    struct stat s;
    if (plumb_path_join(path, sizeof(path), dir, file) != PLUMB_OK || stat(path, &s) != 0)
        return -1;
    return difftime(time(NULL), s.st_mtime);
}

static time_t start_of(const plumb_json *session)
{
    struct tm utc = {0};
    const char *text = plumb_json_string(plumb_json_get(session, "start"), "");
    return strptime(text, "%Y-%m-%dT%H:%M:%SZ", &utc) ? timegm(&utc) : 0;
}

/* ---- rows ----------------------------------------------------------------------------------- */

static const char *state_of(const struct run *r)
{
    if (r->running)
        return "running";
    if (r->lock == PLUMB_LOCK_GONE)
        return "killed";
    if (r->lock == PLUMB_LOCK_SILENT)
        return "killed, or its host cannot write here";
    return !r->result ? "killed" : strcmp(r->result, "ok") == 0 ? "finished" : "ended early";
}

/* Returns the seconds that the newest session took, or takes so far; 0 if they are unknown. */
static double session_seconds(const struct run *r)
{
    const time_t start = start_of(r->session);
    const double ended = plumb_json_real(plumb_json_get(r->session, "seconds"), -1);
    return ended >= 0 ? ended : start ? difftime(time(NULL), start) : 0;
}

static plumb_status put_state(struct run *r)
{
    char since[40], beat[40];
    const plumb_json *all = plumb_json_get(r->root, "sessions");
    if (r->running)
        PLUMB_TRY(put(r, "state", "running, last heartbeat %s ago: %s", duration(beat, r->beat_s),
                      r->who));
    else
        PLUMB_TRY(put(r, "state", "%s%s%.900s", state_of(r),
                      r->result && strcmp(r->result, "ok") != 0 ? ": " : "",
                      r->result && strcmp(r->result, "ok") != 0 ? r->result : ""));
    return put(r, "time", "%s in session %lld, which began at step %lld",
               duration(since, session_seconds(r)), (long long)plumb_json_count(all),
               (long long)plumb_json_int(plumb_json_get(r->session, "resumed_step"), 0));
}

/* Lists the hosts with their numbers of ranks. */
static plumb_status put_ranks(struct run *r)
{
    const plumb_json *hosts = plumb_json_get(r->session, "hosts");
    char text[600] = "";
    int64_t at = 0, different = 0;
    for (int64_t i = 0; i < plumb_json_count(hosts) && at < (int64_t)sizeof(text) - 80;) {
        const char *host = plumb_json_string(plumb_json_at(hosts, i), "?");
        int64_t n = 1;
        while (i + n < plumb_json_count(hosts) &&
               strcmp(plumb_json_string(plumb_json_at(hosts, i + n), "?"), host) == 0)
            n++;
        at += snprintf(text + at, sizeof(text) - (size_t)at, "%s%.60s (%lld)", i ? ", " : ": ",
                       host, (long long)n);
        i += n;
        different++;
        if (different == 8 && i < plumb_json_count(hosts)) {
            snprintf(text + at, sizeof(text) - (size_t)at, ", ...");
            break;
        }
    }
    return put(r, "ranks", "%lld (%s)%s", (long long)r->world_size,
               plumb_json_string(plumb_json_get(r->session, "communicator"), "?"), text);
}

static plumb_status put_progress(struct run *r)
{
    char bar[BAR + 1], left[40], counts[160], age[40];
    const struct plumb_metrics_row *last = r->n > 0 ? &r->row[r->n - 1] : NULL;
    double seconds = 0;
    int64_t steps = 0;
    for (int64_t i = first_of(r); i < r->n; i++) {
        seconds += seconds_of(r, i);
        steps += last->step > 0 ? r->row[i].step - (i > 0 ? r->row[i - 1].step : 0) : 0;
    }
    const double share = r->total_steps > 0 ? fmin((double)r->step / (double)r->total_steps, 1) : 0;
    for (int i = 0; i < BAR; i++)
        bar[i] = i < (int)(share * BAR) ? '#' : '.';
    bar[BAR] = '\0';
    int at = snprintf(counts, sizeof(counts), "step %lld", (long long)r->step);
    if (r->total_steps > 0)
        at +=
            snprintf(counts + at, sizeof(counts) - (size_t)at, "/%lld", (long long)r->total_steps);
    if (r->total_iterations > 0)
        snprintf(counts + at, sizeof(counts) - (size_t)at, ", iteration %lld/%lld",
                 (long long)(last ? last->iteration : 0), (long long)r->total_iterations);
    PLUMB_TRY(r->total_steps > 0 ? put(r, "progress", "[%s] %3.0f %%  %s", bar, 100 * share, counts)
                                 : put(r, "progress", "%s", counts));
    if (r->running && steps > 0 && r->total_steps > r->step)
        PLUMB_TRY(put(r, "left", "about %s, at %.2f s a step",
                      duration(left, (double)(r->total_steps - r->step) * seconds / steps),
                      seconds / (double)steps));
    else if (steps > 0)
        PLUMB_TRY(put(r, "speed", "%.3g s a step in the last %lld line%s", seconds / (double)steps,
                      (long long)(r->n - first_of(r)), plumb_plural(r->n - first_of(r))));
    return last ? put(r, "last line", "%s ago", duration(age, age_of(r->dir, "metrics.jsonl")))
                : put(r, "last line", "none yet: metrics come every train.log_every steps");
}

/* Appends the share that each phase has of the time of the newest LINES lines of metrics. */
static plumb_status put_phases(struct run *r)
{
    static const struct {
        enum plumb_metric id;
        const char *name;
    } phase[] = {
        {PLUMB_METRIC_TIME_ROLLOUT, "rollout"},     {PLUMB_METRIC_TIME_REWARD, "reward"},
        {PLUMB_METRIC_TIME_REFERENCE, "reference"}, {PLUMB_METRIC_TIME_TRAIN, "train"},
        {PLUMB_METRIC_TIME_SAVE, "rollout files"},  {PLUMB_METRIC_TIME_EVAL, "evaluation"}};
    enum { PHASES = sizeof(phase) / sizeof(phase[0]) };
    double seconds = 0, busy = 0, sum[PHASES] = {0}, exchange = 0, wait = 0, known = 0;
    char text[300] = "";
    int at = 0;
    for (int64_t i = first_of(r); i < r->n; i++) {
        const struct plumb_metrics_row *row = &r->row[i];
        seconds += seconds_of(r, i);
        busy += row->set[PLUMB_METRIC_TIME_ITERATION] ? row->value[PLUMB_METRIC_TIME_ITERATION]
                                                      : seconds_of(r, i);
        for (int k = 0; k < PHASES; k++)
            sum[k] += row->set[phase[k].id] ? row->value[phase[k].id] : 0;
        exchange += row->value[PLUMB_METRIC_TIME_EXCHANGE];
        wait += row->value[PLUMB_METRIC_TIME_WAIT];
    }
    if (seconds <= 0 || busy <= 0)
        return PLUMB_OK;
    for (int k = 0; k < PHASES; k++) {
        known += sum[k];
        if (sum[k] > 0)
            at += snprintf(text + at, sizeof(text) - (size_t)at, "%s %.1f %%, ", phase[k].name,
                           100 * sum[k] / busy);
    }
    PLUMB_TRY(put(r, "phases", "%s%s %.1f %%", text, at ? "other" : "steps",
                  100 * fmax(1 - known / busy, 0)));
    return put(r, "rank 0", "exchanges %.1f %%, waits %.1f %% of the time",
               100 * exchange / seconds, 100 * wait / seconds);
}

/* Names the rank for which rank 0 has waited longest in total in the newest LINES lines of
 * metrics. */
static plumb_status put_slowest(struct run *r)
{
    double seconds[MOST_RANKS] = {0};
    int64_t who = -1;
    char text[40];
    for (int64_t i = first_of(r); i < r->n; i++) {
        const int64_t rank = (int64_t)r->row[i].value[PLUMB_METRIC_LATE_RANK];
        if (!r->row[i].set[PLUMB_METRIC_LATE_RANK] || rank < 0 || rank >= MOST_RANKS)
            continue;
        seconds[rank] += r->row[i].value[PLUMB_METRIC_TIME_LATE];
        who = who < 0 || seconds[rank] > seconds[who] ? rank : who;
    }
    if (who < 0)
        return PLUMB_OK;
    const plumb_json *host = plumb_json_at(plumb_json_get(r->session, "hosts"), who);
    return put(r, "slowest", "rank %lld on %s: rank 0 waited %s for it in the last %lld line%s",
               (long long)who, plumb_json_string(host, "?"), duration(text, seconds[who]),
               (long long)(r->n - first_of(r)), plumb_plural(r->n - first_of(r)));
}

/* Shows the share of each phase of the newest iteration in which the ranks were idle: the mean, and
 * the largest share with its rank. */
static plumb_status put_idle(struct run *r)
{
    static const char *const phase[PLUMB_LOAD_PHASES] = {"rollout", "reward", "reference", "train"};
    char text[400] = "";
    int at = 0;
    for (int i = 0; i < PLUMB_LOAD_PHASES && r->load.ranks > 0; i++) {
        const struct plumb_load_spread s = plumb_load_spread(&r->load, (enum plumb_load_value)i);
        at += snprintf(text + at, sizeof(text) - (size_t)at, "%s%s %.1f %% (rank %lld: %.1f %%)",
                       i ? ", " : "", phase[i], 100 * s.mean, (long long)s.who, 100 * s.most);
    }
    return r->load.ranks > 0 ? put(r, "idle", "%s of the phase", text) : PLUMB_OK;
}

/* Names the rank that sampled the most tokens in the newest iteration. If all ranks are equally
 * fast, the others waited for this rank. */
static plumb_status put_most_work(struct run *r)
{
    if (r->load.ranks == 0)
        return PLUMB_OK;
    const struct plumb_load_spread tokens = plumb_load_spread(&r->load, PLUMB_LOAD_TOKENS);
    const struct plumb_load_spread steps = plumb_load_spread(&r->load, PLUMB_LOAD_STEPS);
    const plumb_json *host = plumb_json_at(plumb_json_get(r->session, "hosts"), tokens.who);
    if (tokens.mean <= 0)
        return PLUMB_OK;
    return put(r, "most work",
               "rank %lld on %s generated %.0f tokens in iteration %lld, %.2f x the mean of %lld "
               "ranks; the most decode steps are %.0f, %.2f x the mean",
               (long long)tokens.who, plumb_json_string(host, "?"), tokens.most,
               (long long)r->load.iteration, tokens.most / tokens.mean, (long long)r->load.ranks,
               steps.most, steps.mean > 0 ? steps.most / steps.mean : 1);
}

static plumb_status put_saved(struct run *r)
{
    const char *name = saved_of(r);
    const double spent = plumb_json_real(plumb_json_get(r->session, "save_seconds"), 0);
    const double all = session_seconds(r);
    if (!name)
        return put(r, "saved", "nothing in this session");
    return put(r, "saved", "%s; saving took %.1f %% of the time", name,
               all > 0 ? fmin(100 * spent / all, 100) : 0);
}

/* Shows the newest warning at the end of train.log. */
static plumb_status put_warning(struct run *r)
{
    char path[4096], tail[TAIL_BYTES + 1];
    PLUMB_TRY(plumb_path_join(path, sizeof(path), r->dir, "train.log"));
    FILE *f = fopen(path, "rb");
    if (!f)
        return PLUMB_OK;
    if (fseek(f, 0, SEEK_END) == 0 && ftell(f) > TAIL_BYTES)
        fseek(f, -TAIL_BYTES, SEEK_END);
    else
        rewind(f);
    tail[fread(tail, 1, TAIL_BYTES, f)] = '\0';
    fclose(f);
    const char *found = NULL;
    for (const char *at = tail; (at = strstr(at, "warning: ")); at++)
        if (at == tail || at[-1] == '\n')
            found = at + strlen("warning: ");
    return found ? put(r, "warning", "%.*s", (int)plumb_min_i64((int64_t)strcspn(found, "\n"), 300),
                       found)
                 : PLUMB_OK;
}

static plumb_status put_metrics(struct run *r)
{
    struct plumb_buf text = {0};
    plumb_status st = plumb_metrics_console(&text, &r->row[r->n - 1], 0, 0);
    if (st == PLUMB_OK)
        st = put(r, "metrics", "%s", plumb_buf_text(&text));
    plumb_buf_fini(&text);
    return st;
}

static plumb_status put_page(struct run *r)
{
    PLUMB_TRY(plumb_buf_addf(r->out, "%s: plumb %s\n", r->dir,
                             plumb_json_string(plumb_json_get(r->root, "command"), "?")));
    PLUMB_TRY(put_state(r));
    PLUMB_TRY(put_ranks(r));
    if (r->n == 0 && r->step == 0)
        return put(r, "progress", "no line of metrics yet");
    PLUMB_TRY(put_progress(r));
    if (r->n > 0) {
        PLUMB_TRY(put_phases(r));
        PLUMB_TRY(put_idle(r));
        PLUMB_TRY(put_slowest(r));
        PLUMB_TRY(put_most_work(r));
        PLUMB_TRY(put_metrics(r));
    }
    PLUMB_TRY(put_saved(r));
    return put_warning(r);
}

/* Appends one line about run r, whose folder is called `name`. */
static plumb_status put_line(struct run *r, const char *name)
{
    char total[32] = "";
    if (r->total_steps > 0)
        snprintf(total, sizeof(total), "/%lld", (long long)r->total_steps);
    return plumb_buf_addf(r->out, "  %-20s %-8s %-12s step %lld%s\n", name,
                          plumb_json_string(plumb_json_get(r->root, "command"), "?"), state_of(r),
                          (long long)r->step, total);
}

/* Describes the runs in the folders below dir. */
static plumb_status put_below(struct plumb_buf *out, bool *running, const char *dir)
{
    struct plumb_names names = {0};
    int64_t found = 0;
    plumb_status st = plumb_dir_list(&names, dir);
    PLUMB_TRY(st);
    for (int64_t i = 0; i < names.n && st == PLUMB_OK; i++) {
        char folder[4096], path[4096];
        struct run r = {.dir = folder, .out = out};
        if (plumb_path_join(folder, sizeof(folder), dir, names.name[i]) != PLUMB_OK ||
            plumb_path_join(path, sizeof(path), folder, "run.json") != PLUMB_OK ||
            !plumb_file_exists(path))
            continue;
        if (found++ == 0)
            st = plumb_buf_addf(out, "%s: a folder of runs; plumb top %s/NAME shows more\n", dir,
                                dir);
        if (st == PLUMB_OK)
            st = read_run(&r);
        if (st == PLUMB_OK)
            st = put_line(&r, names.name[i]);
        *running |= r.running;
        close_run(&r);
    }
    if (st == PLUMB_OK && found == 0)
        st = plumb_fail_at(PLUMB_ERR_IO, __FILE__, __LINE__,
                           "%s: holds no run: there is no run.json in it or in a folder below it; "
                           "expected the output_dir of a run",
                           dir);
    plumb_names_fini(&names);
    return st;
}

plumb_status plumb_top_put(struct plumb_buf *out, bool *running, const char *dir)
{
    char path[4096];
    struct run r = {.dir = dir, .out = out};
    *running = false;
    PLUMB_REQUIRE(plumb_dir_exists(dir), PLUMB_ERR_IO,
                  "%s: there is no such folder; expected the output_dir of a run", dir);
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, "run.json"));
    if (!plumb_file_exists(path))
        return put_below(out, running, dir);
    plumb_status st = read_run(&r);
    if (st == PLUMB_OK)
        st = put_page(&r);
    *running = r.running;
    close_run(&r);
    return st;
}
