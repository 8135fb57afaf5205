/* checkpoint_dir.c - names, order, links and removal of checkpoint folders; reads the state in
 * them. Layer 5. Includes train/checkpoint_dir.h, train/state.h, io/file.h. */
#include "train/checkpoint_dir.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "train/state.h"

#define PREFIX "checkpoint-"
#define PAUSE  "-pause-"

/* Reads a number of decimal digits; returns the text after it, or NULL if `text` does not begin
 * with a digit or the number does not fit int64_t. */
static const char *read_count(int64_t *out, const char *text)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return NULL;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return errno ? NULL : end;
}

bool plumb_checkpoint_name_read(struct plumb_checkpoint_name *out, const char *text)
{
    *out = (struct plumb_checkpoint_name){0};
    if (strncmp(text, PREFIX, strlen(PREFIX)) != 0)
        return false;
    const char *at = read_count(&out->step, text + strlen(PREFIX));
    if (!at || !*at)
        return at != NULL;
    if (strncmp(at, PAUSE, strlen(PAUSE)) != 0)
        return false;
    at = read_count(&out->pause, at + strlen(PAUSE));
    return at && !*at && out->pause > 0;
}

int plumb_checkpoint_name_compare(struct plumb_checkpoint_name a, struct plumb_checkpoint_name b)
{
    if (a.step != b.step)
        return a.step > b.step ? 1 : -1;
    return (a.pause > b.pause) - (a.pause < b.pause);
}

void plumb_checkpoint_name_write(char out[64], struct plumb_checkpoint_name name)
{
    if (name.pause)
        snprintf(out, 64, PREFIX "%lld" PAUSE "%lld", (long long)name.step, (long long)name.pause);
    else
        snprintf(out, 64, PREFIX "%lld", (long long)name.step);
}

plumb_status plumb_checkpoint_path(char out[PLUMB_CHECKPOINT_PATH], const char *output_dir,
                                   struct plumb_checkpoint_name name, const char *suffix)
{
    char text[64], whole[80];
    plumb_checkpoint_name_write(text, name);
    snprintf(whole, sizeof(whole), "%s%s", text, suffix);
    return plumb_path_join(out, PLUMB_CHECKPOINT_PATH, output_dir, whole);
}

static int compare(const void *a, const void *b)
{
    const struct plumb_checkpoint_name *x = a, *y = b;
    return plumb_checkpoint_name_compare(*x, *y);
}

plumb_status plumb_checkpoint_list(struct plumb_checkpoint_name **out, int64_t *n,
                                   const char *output_dir)
{
    struct plumb_names names = {0};
    *out = NULL;
    *n = 0;
    if (!plumb_dir_exists(output_dir))
        return PLUMB_OK;
    PLUMB_TRY(plumb_dir_list(&names, output_dir));
    struct plumb_checkpoint_name *list = calloc((size_t)names.n + 1, sizeof(*list));
    for (int64_t i = 0; i < names.n && list; i++)
        *n += plumb_checkpoint_name_read(&list[*n], names.name[i]);
    plumb_names_fini(&names);
    PLUMB_REQUIRE(list, PLUMB_ERR_NOMEM, "list of checkpoints");
    qsort(list, (size_t)*n, sizeof(*list), compare);
    *out = list;
    return PLUMB_OK;
}

plumb_status plumb_checkpoint_remove_stale(const char *output_dir)
{
    struct plumb_names names = {0};
    char path[PLUMB_CHECKPOINT_PATH];
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_dir_list(&names, output_dir));
    for (int64_t i = 0; i < names.n; i++) {
        const size_t len = strlen(names.name[i]);
        if (strncmp(names.name[i], PREFIX, strlen(PREFIX)) != 0 || len < 4 ||
            strcmp(names.name[i] + len - 4, ".tmp") != 0)
            continue;
        PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof(path), output_dir, names.name[i]), done);
        PLUMB_TRY_GOTO(st, plumb_dir_remove(path), done);
    }
done:
    plumb_names_fini(&names);
    return st;
}

/* Creates the new link under another name and renames it to the name of the old link, so that at
 * any time either the old or the new link exists. */
plumb_status plumb_checkpoint_link(const char *output_dir, const char *link,
                                   struct plumb_checkpoint_name name)
{
    char path[PLUMB_CHECKPOINT_PATH], fresh[PLUMB_CHECKPOINT_PATH], target[64], beside[64];
    plumb_checkpoint_name_write(target, name);
    snprintf(beside, sizeof(beside), "%s.tmp", link);
    PLUMB_TRY(plumb_path_join(path, sizeof(path), output_dir, link));
    PLUMB_TRY(plumb_path_join(fresh, sizeof(fresh), output_dir, beside));
    PLUMB_REQUIRE(!unlink(fresh) || errno == ENOENT, PLUMB_ERR_IO, "%s: %s", fresh,
                  strerror(errno));
    PLUMB_REQUIRE(!symlink(target, fresh), PLUMB_ERR_IO, "%s: %s", fresh, strerror(errno));
    PLUMB_REQUIRE(!rename(fresh, path), PLUMB_ERR_IO, "%s: %s", path, strerror(errno));
    return plumb_dir_fsync(output_dir);
}

/* Renames the checkpoint folder and then removes it, so that no incomplete folder with the name of
 * a checkpoint remains if the process is killed. */
static plumb_status remove_checkpoint(const char *output_dir, struct plumb_checkpoint_name name)
{
    char from[PLUMB_CHECKPOINT_PATH], to[PLUMB_CHECKPOINT_PATH];
    PLUMB_TRY(plumb_checkpoint_path(from, output_dir, name, ""));
    PLUMB_TRY(plumb_checkpoint_path(to, output_dir, name, ".tmp"));
    PLUMB_REQUIRE(!rename(from, to), PLUMB_ERR_IO, "%s: %s", from, strerror(errno));
    return plumb_dir_remove(to);
}

plumb_status plumb_checkpoint_open_state(plumb_h5 **out, struct plumb_train_state *state,
                                         const char *dir)
{
    char path[PLUMB_CHECKPOINT_PATH];
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, PLUMB_CHECKPOINT_STATE));
    PLUMB_TRY(plumb_h5_open(out, path));
    const plumb_status st = plumb_state_read(state, *out);
    if (st != PLUMB_OK)
        plumb_h5_close(out);
    return st;
}

plumb_status plumb_checkpoint_read_state(struct plumb_train_state *state, const char *dir)
{
    plumb_h5 *h5 = NULL;
    PLUMB_TRY(plumb_checkpoint_open_state(&h5, state, dir));
    plumb_h5_close(&h5);
    return PLUMB_OK;
}

plumb_status plumb_checkpoint_read_config(struct plumb_buf *out, const char *dir)
{
    plumb_h5 *h5 = NULL;
    struct plumb_train_state state;
    PLUMB_TRY(plumb_checkpoint_open_state(&h5, &state, dir));
    const plumb_status st = plumb_state_read_config(out, h5);
    plumb_h5_close(&h5);
    return st;
}

plumb_status plumb_checkpoint_read_gemm_classes(struct plumb_buf *out, const char *dir)
{
    plumb_h5 *h5 = NULL;
    struct plumb_train_state state;
    PLUMB_TRY(plumb_checkpoint_open_state(&h5, &state, dir));
    const plumb_status st = plumb_state_read_gemm_classes(out, h5);
    plumb_h5_close(&h5);
    return st;
}

/* Sets keep[i] to true for the options->keep_best best complete checkpoints, and *best to the index
 * of the best one, or to -1 if no checkpoint has the metric. Of equally good checkpoints, the
 * earlier one is better. */
static plumb_status mark_best(bool *keep, int64_t *best,
                              const struct plumb_checkpoint_options *options,
                              const struct plumb_checkpoint_name *name, int64_t n)
{
    double *value = calloc((size_t)n + 1, sizeof(*value));
    char path[PLUMB_CHECKPOINT_PATH];
    plumb_status st = PLUMB_OK;
    PLUMB_REQUIRE(value, PLUMB_ERR_NOMEM, "metrics of %lld checkpoints", (long long)n);
    *best = -1;
    for (int64_t i = 0; i < n; i++) {
        struct plumb_train_state state = {0};
        value[i] = NAN;
        if (name[i].pause)
            continue;
        PLUMB_TRY_GOTO(st, plumb_checkpoint_path(path, options->output_dir, name[i], ""), done);
        if (plumb_checkpoint_read_state(&state, path) == PLUMB_OK)
            value[i] = plumb_state_get(&state, options->best_value, NAN);
        if (options->best_is_least)
            value[i] = -value[i];
    }
    for (int64_t k = 0; k < options->keep_best; k++) {
        int64_t top = -1;
        for (int64_t i = 0; i < n; i++)
            if (!isnan(value[i]) && (top < 0 || value[i] > value[top]))
                top = i;
        if (top < 0)
            break;
        keep[top] = true;
        value[top] = NAN;
        *best = *best < 0 ? top : *best;
    }
done:
    free(value);
    return st;
}

plumb_status plumb_checkpoint_prune(const struct plumb_checkpoint_options *options,
                                    struct plumb_checkpoint_name newest)
{
    struct plumb_checkpoint_name *name = NULL;
    bool *keep = NULL;
    int64_t n = 0, best = -1, complete = 0;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_checkpoint_list(&name, &n, options->output_dir));
    if (!(keep = calloc((size_t)n + 1, sizeof(*keep))))
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "list of checkpoints");
    if (options->keep_best > 0)
        PLUMB_TRY_GOTO(st, mark_best(keep, &best, options, name, n), done);
    if (best >= 0)
        PLUMB_TRY_GOTO(st, plumb_checkpoint_link(options->output_dir, "best", name[best]), done);
    const bool resumable = !options->weights_only || options->last;
    bool later = false; /* a newer pause was found */
    /* The loop goes from the newest to the oldest, because keep_last counts from the newest. */
    for (int64_t i = n - 1; i >= 0; i--) {
        if (name[i].pause) {
            keep[i] = name[i].step > newest.step || (!resumable && !later);
            later = true;
        } else {
            keep[i] |= options->keep_last <= 0 || complete < options->keep_last;
            keep[i] |= options->keep_every > 0 && name[i].step % options->keep_every == 0;
            complete++;
        }
        keep[i] |= plumb_checkpoint_name_compare(name[i], newest) == 0;
    }
    for (int64_t i = 0; i < n; i++)
        if (!keep[i])
            PLUMB_TRY_GOTO(st, remove_checkpoint(options->output_dir, name[i]), done);
done:
    free(name);
    free(keep);
    return st;
}
