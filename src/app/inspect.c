/* inspect.c - prints the output lines and builds paths for the describers (app/inspect.h).
 * Layer 6. Includes app/inspect.h, io/, base/. */
#include "app/inspect.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"

void plumb_inspect_head(const struct plumb_inspect *w, const char *fmt, ...)
{
    va_list args;
    printf("%s: ", w->path);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
}

void plumb_inspect_row(const char *name, const char *fmt, ...)
{
    va_list args;
    printf("  %-11s ", name);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
}

plumb_status plumb_inspect_folder_of(char out[4096], const char *path)
{
    PLUMB_REQUIRE(strlen(path) < 4096, PLUMB_ERR_ARG, "%.200s...: the path is too long", path);
    snprintf(out, 4096, "%s", path);
    if (plumb_dir_exists(path))
        return PLUMB_OK;
    char *slash = strrchr(out, '/');
    if (slash)
        slash[slash == out] = '\0';
    else
        snprintf(out, 4096, ".");
    return PLUMB_OK;
}

bool plumb_inspect_has(const struct plumb_inspect *w, char *out, const char *file)
{
    return plumb_path_join(out, 4096, w->path, file) == PLUMB_OK &&
           (plumb_file_exists(out) || plumb_dir_exists(out));
}

plumb_status plumb_inspect_names(struct plumb_buf *out, char *const *name, int64_t n)
{
    enum { MOST = 8 };
    for (int64_t i = 0; i < plumb_min_i64(n, MOST); i++)
        PLUMB_TRY(plumb_buf_addf(out, "%s%s", i ? ", " : "", name[i]));
    return n > MOST ? plumb_buf_addf(out, " and %lld more", (long long)(n - MOST)) : PLUMB_OK;
}

void plumb_inspect_span_add(struct plumb_inspect_span *s, int64_t x)
{
    s->least = s->n ? plumb_min_i64(s->least, x) : x;
    s->most = s->n ? plumb_max_i64(s->most, x) : x;
    s->sum += x;
    s->n++;
}

plumb_status plumb_inspect_span_put(struct plumb_buf *out, const struct plumb_inspect_span *s)
{
    return plumb_buf_addf(out, "%lld to %lld, mean %.1f", (long long)s->least, (long long)s->most,
                          s->n ? (double)s->sum / (double)s->n : 0.0);
}
