/* monitor.c - opens, writes and closes the outputs of a run's metrics that the option report.to
 * names.
 * Layer 4. Includes report/, base/, config/, io/. */
#include "report/monitor.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "report/mlperf.h"
#include "report/prometheus.h"
#include "report/tensorboard.h"

enum { TENSORBOARD, PROMETHEUS, MLPERF, OUTPUTS };
static const char *const names[OUTPUTS] = {"tensorboard", "prometheus", "mlperf"};

struct plumb_monitor {
    bool on[OUTPUTS], said[OUTPUTS]; /* said: a failure of this output was logged */
    plumb_tensorboard *events;
    struct plumb_prometheus prometheus;
    struct plumb_mlperf mlperf;
    struct plumb_metrics_row last;
    char path[4096]; /* path of the Prometheus file */
};

/* Sets on[] for the outputs that report.to names. */
static plumb_status read_names(bool on[OUTPUTS], const struct plumb_texts *to)
{
    for (int64_t i = 0; i < to->n; i++) {
        const char *name = to->item[i];
        int k = 0;
        while (k < OUTPUTS && strcmp(names[k], name) != 0)
            k++;
        if (k == OUTPUTS && strcmp(name, "none") == 0 && to->n == 1)
            return PLUMB_OK;
        PLUMB_REQUIRE(k < OUTPUTS, PLUMB_ERR_CONFIG,
                      "report.to: '%.60s' is no output; expected some of tensorboard, prometheus, "
                      "mlperf, or none alone (every run writes metrics.jsonl and report.html)",
                      name);
        on[k] = true;
    }
    return PLUMB_OK;
}

plumb_status plumb_monitor_check(const struct plumb_config *cfg)
{
    bool on[OUTPUTS] = {false};
    const char *path = cfg->report.prometheus_file;
    PLUMB_TRY(read_names(on, &cfg->report.to));
    PLUMB_REQUIRE(!*path || on[PROMETHEUS], PLUMB_ERR_CONFIG,
                  "report.prometheus_file: is set, but report.to does not name prometheus");
    return *path ? plumb_file_check_output(path, "report.prometheus_file") : PLUMB_OK;
}

/* Reads the lines that metrics.jsonl of the run has so far; none if the file does not exist. */
static plumb_status read_rows(struct plumb_metrics_row **row, int64_t *n, const char *dir)
{
    char path[4096];
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, "metrics.jsonl"));
    return plumb_file_exists(path) ? plumb_metrics_read(row, n, path) : PLUMB_OK;
}

static plumb_status open_prometheus(plumb_monitor *m, const struct plumb_monitor_start *s)
{
    const struct plumb_config *cfg = s->cfg;
    if (*cfg->report.prometheus_file)
        snprintf(m->path, sizeof(m->path), "%s", cfg->report.prometheus_file);
    else
        PLUMB_TRY(plumb_path_join(m->path, sizeof(m->path), cfg->output_dir, "metrics.prom"));
    m->prometheus = (struct plumb_prometheus){.path = m->path,
                                              .command = s->command,
                                              .run = cfg->output_dir,
                                              .planned_steps = s->planned_steps,
                                              .planned_iterations = s->planned_iterations,
                                              .world_size = s->world_size};
    return plumb_prometheus_write(&m->prometheus, &m->last, true, plumb_wall_now());
}

static plumb_status open_mlperf(plumb_monitor *m, const struct plumb_monitor_start *s)
{
    const struct plumb_config *cfg = s->cfg;
    /* with a limit of tokens, the number of micro-batches of a step depends on the lengths of its
     * records */
    const int64_t micro_batches =
        cfg->train.micro_batch_tokens > 0
            ? s->most_micro_batches
            : plumb_ceil_div(cfg->train.global_batch_size, cfg->train.micro_batch_size);
    const struct plumb_mlperf_start start = {
        .cfg = cfg,
        .command = s->command,
        .steps_done = s->steps_done,
        .planned_steps = s->planned_steps,
        .micro_batches = plumb_ceil_div(micro_batches, s->world_size),
        .max_tokens = s->max_tokens,
        .init_ms = (int64_t)(1000 * (plumb_wall_now() - (plumb_now() - s->began))),
    };
    return plumb_mlperf_open(&m->mlperf, cfg->output_dir, &start);
}

plumb_status plumb_monitor_open(plumb_monitor **out, const struct plumb_monitor_start *start)
{
    const char *dir = start->cfg->output_dir;
    struct plumb_metrics_row *row = NULL;
    int64_t n = 0;
    bool on[OUTPUTS] = {false};
    plumb_status st;
    *out = NULL;
    PLUMB_TRY(read_names(on, &start->cfg->report.to));
    if (!on[TENSORBOARD] && !on[PROMETHEUS] && !on[MLPERF])
        return PLUMB_OK;
    plumb_monitor *m = calloc(1, sizeof(*m));
    PLUMB_REQUIRE(m, PLUMB_ERR_NOMEM, "outputs of report.to");
    memcpy(m->on, on, sizeof(on));
    PLUMB_TRY_GOTO(st, read_rows(&row, &n, dir), fail);
    if (n > 0)
        m->last = row[n - 1];
    m->last.step = start->steps_done;
    m->last.iteration = start->iterations_done;
    if (on[TENSORBOARD])
        PLUMB_TRY_GOTO(st, plumb_tensorboard_open(&m->events, dir, row, n), fail);
    if (on[PROMETHEUS])
        PLUMB_TRY_GOTO(st, open_prometheus(m, start), fail);
    if (on[MLPERF])
        PLUMB_TRY_GOTO(st, open_mlperf(m, start), fail);
    free(row);
    *out = m;
    return PLUMB_OK;
fail:
    free(row);
    plumb_monitor_close(&m, false);
    return st;
}

/* Logs st, a failure of an output, unless a failure of this output was logged before. */
static void note(plumb_monitor *m, int output, plumb_status st)
{
    if (st != PLUMB_OK && !m->said[output])
        plumb_log(
            PLUMB_LOG_WARN,
            "report.to: %s: %s; the run goes on, and tries this output again without a warning",
            names[output], plumb_trail_message());
    m->said[output] |= st != PLUMB_OK;
}

void plumb_monitor_write(plumb_monitor *m, const struct plumb_metrics_row *row)
{
    if (!m)
        return;
    const double now = plumb_wall_now();
    m->last = *row;
    if (m->on[TENSORBOARD])
        note(m, TENSORBOARD, plumb_tensorboard_write(m->events, now, row));
    if (m->on[PROMETHEUS])
        note(m, PROMETHEUS, plumb_prometheus_write(&m->prometheus, row, true, now));
    if (m->on[MLPERF])
        note(m, MLPERF, plumb_mlperf_write(&m->mlperf, row));
}

void plumb_monitor_close(plumb_monitor **monitor, bool success)
{
    plumb_monitor *m = *monitor;
    if (!m)
        return;
    plumb_tensorboard_close(&m->events);
    if (m->prometheus.path)
        note(m, PROMETHEUS,
             plumb_prometheus_write(&m->prometheus, &m->last, false, plumb_wall_now()));
    plumb_mlperf_close(&m->mlperf, success);
    free(m);
    *monitor = NULL;
}
