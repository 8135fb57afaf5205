/* lines.c - shares lines among ranks and puts the answers back in order.
 * Layer 6. Includes app/lines.h, io/, base/. */
#include "app/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"

plumb_status plumb_lines_read(struct plumb_app *app, struct plumb_buf *text, const char *path)
{
    plumb_comm *comm = app->comm;
    const int rank = plumb_comm_rank(comm);
    plumb_status st = PLUMB_OK;
    if (rank == 0)
        st = plumb_file_read(text, path);
    PLUMB_TRY(plumb_comm_agree(comm, st));
    int64_t len = text->len;
    PLUMB_TRY(plumb_comm_broadcast(comm, &len, sizeof(len), 0));
    char *copy = NULL;
    if (rank != 0 && len > 0) {
        copy = malloc((size_t)len);
        if (!copy)
            st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "%s: %lld bytes", path,
                               (long long)len);
    }
    st = plumb_comm_agree(comm, st);
    if (st == PLUMB_OK && len > 0)
        st = plumb_comm_broadcast(comm, rank == 0 ? text->data : copy, len, 0);
    if (st == PLUMB_OK && rank != 0)
        st = plumb_buf_add(text, copy, len);
    free(copy);
    return st;
}

/* A pipe or a device is written as results come; renaming over it would replace it. */
static bool is_stream(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode);
}

static const char *name_of(const struct plumb_lines_out *o)
{
    return o->file == stdout ? "standard output" : o->path;
}

plumb_status plumb_lines_open(struct plumb_app *app, struct plumb_lines_out *o, const char *path)
{
    *o = (struct plumb_lines_out){.path = path};
    plumb_status st = PLUMB_OK;
    if (plumb_comm_rank(app->comm) == 0) {
        if (strcmp(path, "-") == 0) {
            o->file = stdout;
        } else if (plumb_dir_exists(path)) {
            st =
                plumb_fail_at(PLUMB_ERR_EXISTS, __FILE__, __LINE__, "output: %s is a folder", path);
        } else if (is_stream(path)) {
            if (!(o->file = fopen(path, "w")))
                st = plumb_fail_at(PLUMB_ERR_IO, __FILE__, __LINE__, "%s: cannot write: %s", path,
                                   strerror(errno));
        } else if (snprintf(o->tmp, sizeof(o->tmp), "%s.tmp", path) >= (int)sizeof(o->tmp)) {
            st = plumb_fail_at(PLUMB_ERR_ARG, __FILE__, __LINE__, "output: path is too long");
        } else if (!(o->file = fopen(o->tmp, "w"))) {
            st = plumb_fail_at(PLUMB_ERR_IO, __FILE__, __LINE__, "%s: cannot write: %s", o->tmp,
                               strerror(errno));
        }
    }
    return plumb_comm_agree(app->comm, st);
}

plumb_status plumb_lines_gather(struct plumb_app *app, struct plumb_lines_out *o,
                                struct plumb_buf *local)
{
    const int world = plumb_comm_size(app->comm);
    int64_t *count = calloc((size_t)world, sizeof(*count));
    double total = (double)local->len;
    char *all = NULL;
    plumb_status st = PLUMB_OK;
    if (!count)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "output of %d ranks", world);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(app->comm, st), done);
    PLUMB_TRY_GOTO(st, plumb_comm_allreduce_f64(app->comm, &total, 1, PLUMB_SUM), done);
    all = malloc((size_t)total + 1);
    if (!all)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "output of %.0f bytes", total);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(app->comm, st), done);
    PLUMB_TRY_GOTO(st,
                   plumb_comm_allgather(app->comm, all, (int64_t)total, count,
                                        plumb_buf_text(local), local->len),
                   done);
    if (o->file && (fwrite(all, 1, (size_t)total, o->file) != (size_t)total || fflush(o->file)))
        st = plumb_fail_at(PLUMB_ERR_IO, __FILE__, __LINE__, "%s: write failed: %s", name_of(o),
                           strerror(errno));
    st = plumb_comm_agree(app->comm, st);
    plumb_buf_clear(local);
done:
    free(all);
    free(count);
    return st;
}

plumb_status plumb_lines_commit(struct plumb_app *app, struct plumb_lines_out *o)
{
    plumb_status st = PLUMB_OK;
    if (o->file && o->file != stdout) {
        const bool whole = *o->tmp; /* a stream cannot be synced and is in its place */
        const bool bad = fflush(o->file) != 0 || (whole && fsync(fileno(o->file)) != 0);
        if ((fclose(o->file) != 0) | bad || (whole && rename(o->tmp, o->path) != 0))
            st = plumb_fail_at(PLUMB_ERR_IO, __FILE__, __LINE__, "%s: write failed: %s", o->path,
                               strerror(errno));
        if (st != PLUMB_OK && whole)
            unlink(o->tmp);
        o->file = NULL;
    }
    return plumb_comm_agree(app->comm, st);
}

void plumb_lines_discard(struct plumb_lines_out *o)
{
    if (o->file && o->file != stdout) {
        fclose(o->file);
        if (*o->tmp)
            unlink(o->tmp);
    }
    o->file = NULL;
}

plumb_status plumb_lines_run(struct plumb_app *app, const char *what, int64_t n, int64_t per_rank,
                             plumb_lines_fn *fn, void *arg)
{
    const int64_t world = plumb_comm_size(app->comm), rank = plumb_comm_rank(app->comm);
    struct plumb_lines_out out;
    struct plumb_buf local = {0};
    struct plumb_progress progress;
    plumb_status st = plumb_lines_open(app, &out, app->cfg->output);
    plumb_progress_start(&progress, what, "lines", n);
    for (int64_t begin = 0; begin < n && st == PLUMB_OK;) {
        const int64_t chunk = plumb_min_i64(n - begin, per_rank * world);
        const int64_t mine = begin + chunk * rank / world;
        const int64_t next = begin + chunk * (rank + 1) / world;
        st = mine < next ? fn(arg, mine, next, &local) : PLUMB_OK;
        st = plumb_comm_agree(app->comm, st);
        if (st == PLUMB_OK)
            st = plumb_lines_gather(app, &out, &local);
        begin += chunk;
        plumb_progress_at(&progress, begin, NULL);
    }
    plumb_progress_end(&progress);
    if (st == PLUMB_OK)
        st = plumb_lines_commit(app, &out);
    plumb_lines_discard(&out);
    plumb_buf_fini(&local);
    return st;
}
