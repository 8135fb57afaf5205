/* prometheus.c - writes the newest metrics of a run as a Prometheus text file.
 * Layer 4. Includes report/prometheus.h, base/, io/.
 *
 * Source of the format: Prometheus, "Exposition formats", text format version 0.0.4. */
#include "report/prometheus.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"

/* Appends the value of a label; backslash, quote and line break are escaped. */
static plumb_status put_label(struct plumb_buf *out, const char *name, const char *value)
{
    PLUMB_TRY(plumb_buf_addf(out, "%s=\"", name));
    for (const char *c = value; *c; c++) {
        if (*c == '\n')
            PLUMB_TRY(plumb_buf_add_text(out, "\\n"));
        else
            PLUMB_TRY(plumb_buf_addf(out, *c == '\\' || *c == '"' ? "\\%c" : "%c", *c));
    }
    return plumb_buf_add_text(out, "\"");
}

static plumb_status put_gauge(struct plumb_buf *out, const struct plumb_prometheus *p,
                              const char *name, const char *meaning, double value)
{
    PLUMB_TRY(plumb_buf_addf(out, "# HELP plumb_%s %s\n# TYPE plumb_%s gauge\nplumb_%s{", name,
                             meaning, name, name));
    PLUMB_TRY(put_label(out, "command", p->command));
    PLUMB_TRY(plumb_buf_add_text(out, ","));
    PLUMB_TRY(put_label(out, "run", p->run));
    if (isnan(value))
        return plumb_buf_add_text(out, "} NaN\n");
    if (isinf(value))
        return plumb_buf_add_text(out, value > 0 ? "} +Inf\n" : "} -Inf\n");
    return plumb_buf_addf(out, "} %.17g\n", value);
}

/* Writes the name of a metric without the prefix: "time/rollout" becomes "time_rollout_seconds". */
static void name_of(char *out, size_t size, const struct plumb_metric_info *m)
{
    static const struct {
        const char *unit, *suffix;
    } units[] = {{"s", "_seconds"}, {"nats", "_nats"}, {"bytes/rank", ""}, {"tokens", ""}};
    size_t n = 0;
    for (const char *c = m->name; *c && n + 1 < size; c++)
        out[n++] = isalnum((unsigned char)*c) ? *c : '_';
    out[n] = '\0';
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strcmp(m->unit, units[i].unit) == 0)
            snprintf(out + n, size - n, "%s", units[i].suffix);
}

plumb_status plumb_prometheus_put(struct plumb_buf *out, const struct plumb_prometheus *p,
                                  const struct plumb_metrics_row *row, bool running, double wall_s)
{
    const struct {
        const char *name, *meaning;
        double value;
        bool known;
    } own[] = {
        {"running",
         "1 while the run goes on, 0 after its end; a run that was killed leaves 1: compare "
         "plumb_last_update_timestamp_seconds with the time",
         running, true},
        {"ranks", "number of ranks", p->world_size, true},
        {"last_update_timestamp_seconds",
         "time of the last write of this file; a run writes it at its start, after each line of "
         "metrics and at its end",
         wall_s, true},
        {"step", "optimizer steps so far", (double)row->step, true},
        {"planned_steps", "optimizer steps of the whole run", (double)p->planned_steps,
         p->planned_steps > 0},
        {"iteration", "iterations so far", (double)row->iteration, p->planned_iterations > 0},
        {"planned_iterations", "iterations of the whole run", (double)p->planned_iterations,
         p->planned_iterations > 0},
    };
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (own[i].known)
            PLUMB_TRY(put_gauge(out, p, own[i].name, own[i].meaning, own[i].value));
    for (int i = 0; i < PLUMB_METRIC_COUNT; i++) {
        const struct plumb_metric_info *m = plumb_metric_info((enum plumb_metric)i);
        char name[96];
        if (!row->set[i])
            continue;
        name_of(name, sizeof(name), m);
        PLUMB_TRY(put_gauge(out, p, name, m->meaning, row->value[i]));
    }
    return PLUMB_OK;
}

plumb_status plumb_prometheus_write(const struct plumb_prometheus *p,
                                    const struct plumb_metrics_row *row, bool running,
                                    double wall_s)
{
    struct plumb_buf text = {0};
    plumb_status st = plumb_prometheus_put(&text, p, row, running, wall_s);
    if (st == PLUMB_OK)
        st = plumb_file_write_atomic(p->path, plumb_buf_text(&text), text.len);
    plumb_buf_fini(&text);
    return st;
}
