/* metrics.c - writes and reads metrics.jsonl, and writes the console line.
 * Layer 4. Includes base/, io/. */
#include "report/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/json.h"
#include "report/load.h"

struct plumb_metrics {
    FILE *file; /* the open metrics.jsonl; NULL on ranks > 0, which write nothing */
    char path[4096];
    struct plumb_buf line;
};

static const struct plumb_metric_info info_table[PLUMB_METRIC_COUNT] = {
#define X(id, name, unit, console, meaning) {name, unit, console, meaning},
    PLUMB_METRIC_LIST(X)
#undef X
};

const struct plumb_metric_info *plumb_metric_info(enum plumb_metric id)
{
    return &info_table[id];
}

bool plumb_metric_of_machine(enum plumb_metric id)
{
    const char *unit = info_table[id].unit;
    return strcmp(unit, "s") == 0 || strstr(unit, "/s") != NULL || strstr(unit, "/rank") != NULL;
}

/* Called for every parsed line of a metrics file. If a run is killed while it writes, the last line
 * may be incomplete: such a line is ignored, but any other broken line is an error. */
typedef plumb_status line_fn(void *arg, const plumb_json *v, const char *line, int64_t len,
                             const char *where);

static plumb_status one_line(const char *path, const char *line, int64_t len, int64_t line_no,
                             bool last, line_fn *fn, void *arg)
{
    char where[4200];
    snprintf(where, sizeof(where), "%s:%lld", path, (long long)line_no);
    plumb_json *v = NULL;
    plumb_status st = plumb_json_parse(&v, line, len, where);
    if (st && last)
        return PLUMB_OK;
    PLUMB_TRY(st);
    st = fn(arg, v, line, len, where);
    plumb_json_free(&v);
    return st;
}

static plumb_status each_line(const char *path, int64_t *bytes, line_fn *fn, void *arg)
{
    struct plumb_buf whole = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_file_read(&whole, path), done);
    const char *at = plumb_buf_text(&whole), *end = at + whole.len;
    for (int64_t line_no = 1; at < end; line_no++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const int64_t len = (stop ? stop : end) - at;
        const bool last = !stop || stop + 1 == end;
        if (len)
            PLUMB_TRY_GOTO(st, one_line(path, at, len, line_no, last, fn, arg), done);
        at += len + 1;
    }
    *bytes = whole.len;
done:
    plumb_buf_fini(&whole);
    return st;
}

/* The lines of an existing file that a resumed run keeps: `text` has the lines up to step `steps`
 * and iteration `iterations`. */
struct kept {
    int64_t steps, iterations;
    struct plumb_buf text;
};

static plumb_status keep_line(void *arg, const plumb_json *v, const char *line, int64_t len,
                              const char *where)
{
    struct kept *k = arg;
    int64_t step = 0, iteration = 0;
    const int64_t none = 0;
    PLUMB_TRY(plumb_json_want_int(v, "step", &step, NULL, where));
    PLUMB_TRY(plumb_json_want_int(v, "iteration", &iteration, &none, where));
    if (step > k->steps || iteration > k->iterations)
        return PLUMB_OK;
    PLUMB_TRY(plumb_buf_add(&k->text, line, len));
    return plumb_buf_add_text(&k->text, "\n");
}

static plumb_status truncate_to(const char *path, int64_t steps, int64_t iterations)
{
    struct kept k = {.steps = steps, .iterations = iterations};
    int64_t bytes = 0;
    plumb_status st = each_line(path, &bytes, keep_line, &k);
    if (!st && k.text.len != bytes)
        st = plumb_file_write_atomic(path, plumb_buf_text(&k.text), k.text.len);
    plumb_buf_fini(&k.text);
    return st;
}

struct rows {
    struct plumb_metrics_row *row;
    int64_t n, cap;
};

static plumb_status add_row(void *arg, const plumb_json *v, const char *line, int64_t len,
                            const char *where)
{
    struct rows *r = arg;
    (void)line;
    (void)len;
    if (r->n == r->cap) {
        const int64_t cap = r->cap ? 2 * r->cap : 64;
        struct plumb_metrics_row *row = realloc(r->row, (size_t)cap * sizeof(*row));
        PLUMB_REQUIRE(row, PLUMB_ERR_NOMEM, "%s: %lld rows", where, (long long)cap);
        r->row = row;
        r->cap = cap;
    }
    struct plumb_metrics_row *row = &r->row[r->n];
    *row = (struct plumb_metrics_row){0};
    const int64_t none = 0;
    PLUMB_TRY(plumb_json_want_int(v, "step", &row->step, NULL, where));
    PLUMB_TRY(plumb_json_want_int(v, "iteration", &row->iteration, &none, where));
    row->weights = strtoull(plumb_json_string(plumb_json_get(v, "weights"), "0"), NULL, 16);
    for (int i = 0; i < PLUMB_METRIC_COUNT; i++) {
        const plumb_json *x = plumb_json_member(v, info_table[i].name);
        if (x)
            plumb_metrics_set(row, (enum plumb_metric)i, plumb_json_real(x, NAN));
    }
    r->n++;
    return PLUMB_OK;
}

plumb_status plumb_metrics_read(struct plumb_metrics_row **out, int64_t *n, const char *path)
{
    struct rows r = {0};
    int64_t bytes = 0;
    const plumb_status st = each_line(path, &bytes, add_row, &r);
    if (st) {
        free(r.row);
        return st;
    }
    *out = r.row;
    *n = r.n;
    return PLUMB_OK;
}

/* In a new run, removes load.jsonl. In a resumed run, removes its lines after step `steps` or
 * iteration `iterations`, which the run writes again. */
static plumb_status begin_load(const char *dir, bool resume, int64_t steps, int64_t iterations)
{
    char path[4096];
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, PLUMB_LOAD_FILE));
    if (!plumb_file_exists(path))
        return PLUMB_OK;
    if (resume)
        return truncate_to(path, steps, iterations);
    PLUMB_REQUIRE(unlink(path) == 0, PLUMB_ERR_IO, "%s: cannot remove: %s", path, strerror(errno));
    return PLUMB_OK;
}

plumb_status plumb_metrics_open(plumb_metrics **out, const char *dir, int rank, int64_t steps_done,
                                int64_t iterations_done)
{
    plumb_status st = PLUMB_OK;
    plumb_metrics *m = calloc(1, sizeof(*m));
    PLUMB_REQUIRE(m, PLUMB_ERR_NOMEM, "writer of metrics.jsonl");
    if (rank == 0) {
        PLUMB_TRY_GOTO(st, plumb_path_join(m->path, sizeof(m->path), dir, "metrics.jsonl"), fail);
        const bool resume = (steps_done > 0 || iterations_done > 0) && plumb_file_exists(m->path);
        if (resume)
            PLUMB_TRY_GOTO(st, truncate_to(m->path, steps_done, iterations_done), fail);
        PLUMB_TRY_GOTO(st, begin_load(dir, resume, steps_done, iterations_done), fail);
        m->file = fopen(m->path, resume ? "a" : "w");
        if (!m->file)
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail, "%s: %s", m->path, strerror(errno));
    }
    *out = m;
    return PLUMB_OK;
fail:
    plumb_metrics_close(&m);
    return st;
}

void plumb_metrics_close(plumb_metrics **m)
{
    if (!m || !*m)
        return;
    if ((*m)->file)
        fclose((*m)->file);
    plumb_buf_fini(&(*m)->line);
    free(*m);
    *m = NULL;
}

plumb_status plumb_metrics_write(plumb_metrics *m, const struct plumb_metrics_row *row)
{
    if (!m->file)
        return PLUMB_OK;
    struct plumb_buf *b = &m->line;
    plumb_buf_clear(b);
    PLUMB_TRY(plumb_buf_addf(b, "{\"step\": %lld, \"iteration\": %lld", (long long)row->step,
                             (long long)row->iteration));
    if (row->weights)
        PLUMB_TRY(plumb_buf_addf(b, ", \"weights\": \"%016" PRIx64 "\"", row->weights));
    for (int i = 0; i < PLUMB_METRIC_COUNT; i++) {
        if (!row->set[i])
            continue;
        PLUMB_TRY(plumb_buf_addf(b, ", \"%s\": ", info_table[i].name));
        PLUMB_TRY(plumb_json_put_real(b, row->value[i]));
    }
    PLUMB_TRY(plumb_buf_add_text(b, "}"));
    return plumb_file_append_line(m->file, m->path, plumb_buf_text(b));
}

/* Writes x in up to eight columns (nine for some negative x). Large and small numbers get an
 * exponent; NaN becomes "missing". PLUMB_METRIC_SHARE_RANK, the share of prompts in the ranking
 * branch, is written as a percentage. */
static void short_number(char *out, size_t size, enum plumb_metric id, double x)
{
    if (!isfinite(x))
        snprintf(out, size, "%s", isnan(x) ? "missing" : x > 0 ? "inf" : "-inf");
    else if (id == PLUMB_METRIC_SHARE_RANK)
        snprintf(out, size, "%.1f", 100.0 * x);
    else if (id == PLUMB_METRIC_LEARNING_RATE)
        snprintf(out, size, "%.2e", x);
    else if (fabs(x) >= 1e5 || (x != 0 && fabs(x) < 1e-3))
        snprintf(out, size, "%.1e", x);
    else if (fabs(x) >= 100)
        snprintf(out, size, "%.0f", x);
    else
        snprintf(out, size, "%.4f", x);
}

static int digits(int64_t n)
{
    char text[32];
    return snprintf(text, sizeof(text), "%lld", (long long)n);
}

static plumb_status put_count(struct plumb_buf *out, const char *name, int64_t at, int64_t total)
{
    if (total <= 0)
        return plumb_buf_addf(out, "%s %lld", name, (long long)at);
    return plumb_buf_addf(out, "%s %*lld/%lld", name, digits(total), (long long)at,
                          (long long)total);
}

plumb_status plumb_metrics_console(struct plumb_buf *out, const struct plumb_metrics_row *row,
                                   int64_t total_steps, int64_t total_iterations)
{
    PLUMB_TRY(put_count(out, "step", row->step, total_steps));
    if (row->iteration > 0 || total_iterations > 0) {
        PLUMB_TRY(plumb_buf_add_text(out, "  "));
        PLUMB_TRY(put_count(out, "it", row->iteration, total_iterations));
    }
    for (int i = 0; i < PLUMB_METRIC_COUNT; i++) {
        if (!row->set[i] || !info_table[i].console)
            continue;
        char text[32];
        short_number(text, sizeof(text), (enum plumb_metric)i, row->value[i]);
        PLUMB_TRY(plumb_buf_addf(out, "  %s %8s", info_table[i].console, text));
    }
    if (row->weights)
        PLUMB_TRY(plumb_buf_addf(out, "  weights %08" PRIx64, row->weights >> 32));
    return PLUMB_OK;
}
