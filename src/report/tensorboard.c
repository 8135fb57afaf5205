/* tensorboard.c - writes the metrics of a run as TensorBoard events.
 * Layer 4. Includes report/tensorboard.h, base/, io/.
 *
 * The fields of TensorFlow's event.proto and summary.proto that are written, with their numbers:
 *
 *     Event    1: double wall_time   2: int64 step   3: string file_version   5: Summary
 *     Summary  1: repeated Value         Value  1: string tag   2: float simple_value */
#include "report/tensorboard.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "io/file.h"
#include "io/tfrecord.h"

#define FOLDER  "tensorboard"
#define PREFIX  "events.out.tfevents."
#define VERSION "brain.Event:2"

/* Wire types of protocol buffers. */
enum { VARINT = 0, EIGHT_BYTES = 1, LENGTH = 2, FOUR_BYTES = 5 };

struct plumb_tensorboard {
    FILE *file;
    char path[4096];
    struct plumb_buf record;
};

/* ---- protocol buffers ----------------------------------------------------------------------- */

static plumb_status put_varint(struct plumb_buf *out, uint64_t x)
{
    unsigned char bytes[10];
    int n = 0;
    do {
        bytes[n] = (unsigned char)(x & 0x7f);
        x >>= 7;
        bytes[n++] |= x ? 0x80 : 0;
    } while (x);
    return plumb_buf_add(out, bytes, n);
}

static plumb_status put_key(struct plumb_buf *out, int field, int type)
{
    return put_varint(out, (uint64_t)(field << 3 | type));
}

/* Writes the bits of a number, little endian. */
static plumb_status put_bits(struct plumb_buf *out, uint64_t bits, int bytes)
{
    unsigned char le[8];
    for (int i = 0; i < bytes; i++)
        le[i] = (unsigned char)(bits >> 8 * i);
    return plumb_buf_add(out, le, bytes);
}

static plumb_status put_bytes(struct plumb_buf *out, int field, const void *bytes, int64_t n)
{
    PLUMB_TRY(put_key(out, field, LENGTH));
    PLUMB_TRY(put_varint(out, (uint64_t)n));
    return plumb_buf_add(out, bytes, n);
}

static plumb_status put_wall_time(struct plumb_buf *out, double wall_s)
{
    uint64_t bits;
    memcpy(&bits, &wall_s, sizeof(bits));
    PLUMB_TRY(put_key(out, 1, EIGHT_BYTES));
    return put_bits(out, bits, 8);
}

static plumb_status put_value(struct plumb_buf *out, const char *tag, double value)
{
    const float x = (float)value;
    const int64_t n = (int64_t)strlen(tag);
    uint32_t bits;
    struct plumb_buf one = {0};
    plumb_status st = put_bytes(&one, 1, tag, n);
    memcpy(&bits, &x, sizeof(bits));
    if (st == PLUMB_OK)
        st = put_key(&one, 2, FOUR_BYTES);
    if (st == PLUMB_OK)
        st = put_bits(&one, bits, 4);
    if (st == PLUMB_OK)
        st = put_bytes(out, 1, plumb_buf_text(&one), one.len);
    plumb_buf_fini(&one);
    return st;
}

plumb_status plumb_tensorboard_put_version(struct plumb_buf *out, double wall_s)
{
    struct plumb_buf event = {0};
    plumb_status st = put_wall_time(&event, wall_s);
    if (st == PLUMB_OK)
        st = put_bytes(&event, 3, VERSION, (int64_t)strlen(VERSION));
    if (st == PLUMB_OK)
        st = plumb_tfrecord_put(out, plumb_buf_text(&event), event.len);
    plumb_buf_fini(&event);
    return st;
}

plumb_status plumb_tensorboard_put(struct plumb_buf *out, double wall_s,
                                   const struct plumb_metrics_row *row)
{
    struct plumb_buf event = {0}, summary = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, put_wall_time(&event, wall_s), done);
    if (row->step > 0) { /* a proto3 writer omits fields that are 0 */
        PLUMB_TRY_GOTO(st, put_key(&event, 2, VARINT), done);
        PLUMB_TRY_GOTO(st, put_varint(&event, (uint64_t)row->step), done);
    }
    for (int i = 0; i < PLUMB_METRIC_COUNT; i++)
        if (row->set[i])
            PLUMB_TRY_GOTO(
                st,
                put_value(&summary, plumb_metric_info((enum plumb_metric)i)->name, row->value[i]),
                done);
    PLUMB_TRY_GOTO(st, put_bytes(&event, 5, plumb_buf_text(&summary), summary.len), done);
    st = plumb_tfrecord_put(out, plumb_buf_text(&event), event.len);
done:
    plumb_buf_fini(&event);
    plumb_buf_fini(&summary);
    return st;
}

/* ---- the file ------------------------------------------------------------------------------- */

/* Returns the step of an event that plumb_tensorboard_put has written, or -1 for another event. */
static int64_t step_of(const char *event, int64_t n)
{
    uint64_t step = 0;
    if (n < 10 || event[0] != (1 << 3 | EIGHT_BYTES))
        return -1;
    if (event[9] == (5 << 3 | LENGTH))
        return 0;
    if (event[9] != (2 << 3 | VARINT))
        return -1;
    for (int64_t i = 10; i < n && i < 20; i++) {
        step |= (uint64_t)(event[i] & 0x7f) << 7 * (i - 10);
        if (!(event[i] & 0x80))
            return (int64_t)step;
    }
    return -1;
}

/* Copies events from the beginning of the file at path to out, as long as their steps equal those
 * of the lines row[*kept], row[*kept + 1] ... of the n lines of metrics. Adds the number of the
 * copied events to *kept. Skips an event that only states the version of the format. */
static plumb_status keep_events(struct plumb_buf *out, int64_t *kept, const char *path,
                                const struct plumb_metrics_row *row, int64_t n)
{
    struct plumb_buf old = {0};
    const char *event;
    int64_t bytes, at = 0;
    plumb_status st = plumb_file_read(&old, path);
    while (st == PLUMB_OK && *kept < n) {
        const int64_t begin = at;
        PLUMB_TRY_GOTO(
            st, plumb_tfrecord_next(&event, &bytes, plumb_buf_text(&old), old.len, &at, path),
            done);
        if (!event)
            break;
        if (step_of(event, bytes) < 0)
            continue; /* an event with the version; the new file already has one */
        if (step_of(event, bytes) != row[*kept].step)
            break;
        PLUMB_TRY_GOTO(st, plumb_buf_add(out, plumb_buf_text(&old) + begin, at - begin), done);
        ++*kept;
    }
done:
    plumb_buf_fini(&old);
    return st;
}

/* Writes one event file with one event for each of the lines row (n,). Copies the events that exist
 * in the event files in dir, in the order of the file names, and creates the missing ones. Replaces
 * the first event file, or creates one, and removes the others. Sets t->path. */
static plumb_status rewrite(struct plumb_tensorboard *t, const char *dir,
                            const struct plumb_metrics_row *row, int64_t n)
{
    struct plumb_names names = {0};
    struct plumb_buf text = {0};
    char path[4096], host[256] = "host";
    int64_t kept = 0;
    const double now = plumb_wall_now();
    plumb_status st = plumb_dir_list(&names, dir);
    t->path[0] = '\0';
    PLUMB_TRY_GOTO(st, st, done);
    PLUMB_TRY_GOTO(st, plumb_tensorboard_put_version(&text, now), done);
    for (int64_t i = 0; i < names.n; i++) {
        if (strncmp(names.name[i], PREFIX, strlen(PREFIX)) != 0)
            continue;
        PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof(path), dir, names.name[i]), done);
        if (keep_events(&text, &kept, path, row, n) != PLUMB_OK)
            plumb_log(PLUMB_LOG_WARN,
                      "report.to: tensorboard: %s; the missing events are written again from "
                      "metrics.jsonl",
                      plumb_trail_message());
        if (!t->path[0])
            memcpy(t->path, path, sizeof(path));
    }
    for (; kept < n; kept++)
        PLUMB_TRY_GOTO(st, plumb_tensorboard_put(&text, now, &row[kept]), done);
    gethostname(host, sizeof(host) - 1);
    if (!t->path[0]) {
        char name[320];
        snprintf(name, sizeof(name), PREFIX "%.0f.%s", now, host);
        PLUMB_TRY_GOTO(st, plumb_path_join(t->path, sizeof(t->path), dir, name), done);
    }
    PLUMB_TRY_GOTO(st, plumb_file_write_atomic(t->path, plumb_buf_text(&text), text.len), done);
    for (int64_t i = 0; i < names.n; i++)
        if (strncmp(names.name[i], PREFIX, strlen(PREFIX)) == 0 &&
            plumb_path_join(path, sizeof(path), dir, names.name[i]) == PLUMB_OK &&
            strcmp(path, t->path) != 0)
            remove(path);
done:
    plumb_names_fini(&names);
    plumb_buf_fini(&text);
    return st;
}

plumb_status plumb_tensorboard_open(plumb_tensorboard **out, const char *dir,
                                    const struct plumb_metrics_row *row, int64_t n)
{
    char folder[4096];
    plumb_status st;
    struct plumb_tensorboard *t = calloc(1, sizeof(*t));
    PLUMB_REQUIRE(t, PLUMB_ERR_NOMEM, "TensorBoard events");
    PLUMB_TRY_GOTO(st, plumb_path_join(folder, sizeof(folder), dir, FOLDER), fail);
    PLUMB_TRY_GOTO(st, plumb_dir_create(folder), fail);
    PLUMB_TRY_GOTO(st, rewrite(t, folder, row, n), fail);
    t->file = fopen(t->path, "ab");
    if (!t->file)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail, "%s: %s", t->path, strerror(errno));
    *out = t;
    return PLUMB_OK;
fail:
    plumb_tensorboard_close(&t);
    return st;
}

plumb_status plumb_tensorboard_write(plumb_tensorboard *t, double wall_s,
                                     const struct plumb_metrics_row *row)
{
    struct plumb_buf *b = &t->record;
    plumb_buf_clear(b);
    PLUMB_TRY(plumb_tensorboard_put(b, wall_s, row));
    PLUMB_REQUIRE(fwrite(b->data, 1, (size_t)b->len, t->file) == (size_t)b->len &&
                      fflush(t->file) == 0,
                  PLUMB_ERR_IO, "%s: cannot write: %s", t->path, strerror(errno));
    return PLUMB_OK;
}

void plumb_tensorboard_close(plumb_tensorboard **t)
{
    if (!t || !*t)
        return;
    if ((*t)->file)
        fclose((*t)->file);
    plumb_buf_fini(&(*t)->record);
    free(*t);
    *t = NULL;
}
