/* table.c - builds tables of text and writes them.
 * Layer 4. Includes report/table.h, base/. */
#include "report/table.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

plumb_status plumb_table_add(struct plumb_table *t, const char *fmt, ...)
{
    if (t->n == t->cap) {
        const int64_t cap = t->cap ? 2 * t->cap : 64;
        char **cell = realloc(t->cell, (size_t)cap * sizeof(*cell));
        PLUMB_REQUIRE(cell, PLUMB_ERR_NOMEM, "table of %lld cells", (long long)cap);
        t->cell = cell;
        t->cap = cap;
    }
    va_list args;
    va_start(args, fmt);
    const int n = vasprintf(&t->cell[t->n], fmt, args);
    va_end(args);
    PLUMB_REQUIRE(n >= 0, PLUMB_ERR_NOMEM, "cell of a table");
    t->n++;
    return PLUMB_OK;
}

plumb_status plumb_table_add_real(struct plumb_table *t, double x, int decimals, const char *unit)
{
    return isfinite(x) ? plumb_table_add(t, "%.*f%s", decimals, x, unit) : plumb_table_add(t, "-");
}

static bool is_empty(const struct plumb_table *t, int64_t col)
{
    for (int64_t i = t->cols + col; i < t->n; i += t->cols)
        if (*t->cell[i] && strcmp(t->cell[i], "-") != 0)
            return false;
    return true;
}

void plumb_table_prune(struct plumb_table *t)
{
    for (int64_t c = t->cols - 1; c > 0; c--) {
        if (!is_empty(t, c))
            continue;
        int64_t kept = 0;
        for (int64_t i = 0; i < t->n; i++)
            if (i % t->cols == c)
                free(t->cell[i]);
            else
                t->cell[kept++] = t->cell[i];
        t->n = kept;
        t->cols--;
    }
}

/* Returns the number of characters of UTF-8 text. A character counts as one terminal column. */
static int columns_of(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

plumb_status plumb_table_console(struct plumb_buf *out, const struct plumb_table *t)
{
    for (int64_t i = 0; i < t->n; i++) {
        const int64_t c = i % t->cols;
        int width = 0;
        for (int64_t j = c; j < t->n; j += t->cols)
            width = columns_of(t->cell[j]) > width ? columns_of(t->cell[j]) : width;
        const int pad = width - columns_of(t->cell[i]);
        const bool last = c == t->cols - 1;
        PLUMB_TRY(c ? plumb_buf_addf(out, "  %*s%s%s", pad, "", t->cell[i], last ? "\n" : "")
                    : plumb_buf_addf(out, "%s%*s%s", t->cell[i], pad, "", last ? "\n" : ""));
    }
    return PLUMB_OK;
}

plumb_status plumb_table_markdown(struct plumb_buf *out, const struct plumb_table *t)
{
    for (int64_t i = 0; i < t->n; i++) {
        PLUMB_TRY(plumb_buf_add_text(out, "| "));
        for (const char *s = t->cell[i]; *s; s++)
            PLUMB_TRY(*s == '|' ? plumb_buf_add_text(out, "\\|") : plumb_buf_add(out, s, 1));
        PLUMB_TRY(plumb_buf_add_text(out, (i + 1) % t->cols ? " " : " |\n"));
        if (i + 1 == t->cols) {
            for (int64_t c = 0; c < t->cols; c++)
                PLUMB_TRY(plumb_buf_add_text(out, c ? "|--:" : "|---"));
            PLUMB_TRY(plumb_buf_add_text(out, "|\n"));
        }
    }
    return PLUMB_OK;
}

struct plumb_report_table plumb_table_report(const struct plumb_table *t)
{
    return (struct plumb_report_table){
        .title = t->title,
        .note = t->note,
        .n_rows = t->n / t->cols - 1,
        .n_cols = t->cols,
        .best_row = t->best_row,
        .shape = t->shape,
        .folded = t->folded,
        .head = (const char *const *)t->cell,
        .cell = (const char *const *)t->cell + t->cols,
    };
}

void plumb_table_fini(struct plumb_table *t)
{
    for (int64_t i = 0; i < t->n; i++)
        free(t->cell[i]);
    free(t->cell);
    *t = (struct plumb_table){0};
}
