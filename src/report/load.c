/* load.c - writes and reads load.jsonl.
 * Layer 4. Includes report/load.h, base/, io/. */
#include "report/load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "io/file.h"
#include "io/json.h"

static const char *const names[PLUMB_LOAD_COUNT] = {
#define X(id, name) name,
    PLUMB_LOAD_LIST(X)
#undef X
};

struct plumb_load_spread plumb_load_spread(const struct plumb_load_line *line,
                                           enum plumb_load_value value)
{
    struct plumb_load_spread s = {.most = line->value[value]};
    for (int64_t rank = 0; rank < line->ranks; rank++) {
        const double x = line->value[rank * PLUMB_LOAD_COUNT + value];
        s.mean += x / (double)line->ranks;
        if (x > s.most) {
            s.most = x;
            s.who = rank;
        }
    }
    return s;
}

static plumb_status put_line(struct plumb_buf *b, const struct plumb_load_line *line)
{
    PLUMB_TRY(plumb_buf_addf(b, "{\"step\": %lld, \"iteration\": %lld", (long long)line->step,
                             (long long)line->iteration));
    for (int v = 0; v < PLUMB_LOAD_COUNT; v++) {
        PLUMB_TRY(plumb_buf_addf(b, ", \"%s\": [", names[v]));
        for (int64_t rank = 0; rank < line->ranks; rank++)
            PLUMB_TRY(plumb_buf_addf(b, v < PLUMB_LOAD_PHASES ? "%s%.4f" : "%s%.0f",
                                     rank ? ", " : "", line->value[rank * PLUMB_LOAD_COUNT + v]));
        PLUMB_TRY(plumb_buf_add_text(b, "]"));
    }
    for (int64_t prompt = 0; line->made_by && prompt < line->prompts; prompt++)
        PLUMB_TRY(plumb_buf_addf(b, "%s%d", prompt ? ", " : ", \"rollout/made_by\": [",
                                 line->made_by[prompt]));
    if (line->made_by && line->prompts > 0)
        PLUMB_TRY(plumb_buf_add_text(b, "]"));
    return plumb_buf_add_text(b, "}");
}

plumb_status plumb_load_write(const char *dir, const struct plumb_load_line *line)
{
    char path[4096];
    struct plumb_buf text = {0};
    FILE *f = NULL;
    plumb_status st;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, PLUMB_LOAD_FILE));
    PLUMB_TRY_GOTO(st, put_line(&text, line), done);
    f = fopen(path, "a");
    if (!f)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, done, "%s: cannot write: %s", path, strerror(errno));
    st = plumb_file_append_line(f, path, plumb_buf_text(&text));
done:
    if (f)
        fclose(f);
    plumb_buf_fini(&text);
    return st;
}

static plumb_status read_line(struct plumb_load_line *out, const plumb_json *v, const char *where)
{
    const int64_t ranks = plumb_json_count(plumb_json_get(v, names[0]));
    PLUMB_TRY(plumb_json_want_int(v, "step", &out->step, NULL, where));
    PLUMB_TRY(plumb_json_want_int(v, "iteration", &out->iteration, NULL, where));
    out->value = calloc((size_t)ranks * PLUMB_LOAD_COUNT + 1, sizeof(*out->value));
    PLUMB_REQUIRE(out->value, PLUMB_ERR_NOMEM, "%s: values of %lld ranks", where, (long long)ranks);
    for (int i = 0; i < PLUMB_LOAD_COUNT; i++) {
        const plumb_json *list = plumb_json_get(v, names[i]);
        PLUMB_REQUIRE(ranks > 0 && plumb_json_count(list) == ranks, PLUMB_ERR_FORMAT,
                      "%s: field \"%s\": found %lld values, expected one for each rank, as many as "
                      "\"%s\" has (%lld)",
                      where, names[i], (long long)plumb_json_count(list), names[0],
                      (long long)ranks);
        for (int64_t rank = 0; rank < ranks; rank++)
            out->value[rank * PLUMB_LOAD_COUNT + i] = plumb_json_real(plumb_json_at(list, rank), 0);
    }
    out->ranks = ranks;
    return PLUMB_OK;
}

plumb_status plumb_load_newest(struct plumb_load_line *out, const char *dir)
{
    char path[4096];
    struct plumb_buf whole = {0};
    plumb_json *v = NULL;
    plumb_status st = PLUMB_OK;
    *out = (struct plumb_load_line){0};
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, PLUMB_LOAD_FILE));
    if (!plumb_file_exists(path))
        return PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_file_read(&whole, path), done);
    const char *text = plumb_buf_text(&whole);
    /* text after the last line end is an incomplete line */
    const char *end = memrchr(text, '\n', (size_t)whole.len);
    if (!end)
        goto done;
    const char *before = memrchr(text, '\n', (size_t)(end - text));
    const char *line = before ? before + 1 : text;
    PLUMB_TRY_GOTO(st, plumb_json_parse(&v, line, end - line, path), done);
    st = read_line(out, v, path);
done:
    if (st != PLUMB_OK) {
        free(out->value);
        *out = (struct plumb_load_line){0};
    }
    plumb_json_free(&v);
    plumb_buf_fini(&whole);
    return st;
}
