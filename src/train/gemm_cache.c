/* gemm_cache.c - reads, measures, writes and shares the GEMM algorithm cache.
 * Layer 5. Includes train/gemm_cache.h, base/, io/. */
#include "train/gemm_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"

/* Sets out to the path of the cache file; "" if pins=none or if neither XDG_CACHE_HOME nor HOME is
 * set. Sets dir to the folder to create for the file; "" if the user named the file. */
static plumb_status path_of(char out[4096], char dir[4096], const struct plumb_config *cfg)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    out[0] = dir[0] = '\0';
    if (strcmp(cfg->pins, "none") == 0)
        return PLUMB_OK;
    if (*cfg->pins) {
        PLUMB_REQUIRE(strlen(cfg->pins) < 4096, PLUMB_ERR_CONFIG,
                      "pins: the path has %zu bytes, expected at most 4095", strlen(cfg->pins));
        strcpy(out, cfg->pins);
        return PLUMB_OK;
    }
    if (cache && *cache)
        PLUMB_TRY(plumb_path_join(dir, 4096, cache, "plumb"));
    else if (home && *home)
        PLUMB_TRY(plumb_path_join(dir, 4096, home, ".cache/plumb"));
    return *dir ? plumb_path_join(out, 4096, dir, "pins.txt") : PLUMB_OK;
}

/* Sends rank 0's cache text to every rank, which reads it into its backend. Collective. */
static plumb_status share(plumb_comm *comm, struct plumb_backend *b, struct plumb_buf *text)
{
    int64_t len = text->len;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_comm_broadcast(comm, &len, sizeof(len), 0));
    if (len == 0)
        return PLUMB_OK;
    char *all = calloc(1, (size_t)len + 1);
    if (!all)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "GEMM algorithm cache: %lld bytes",
                           (long long)len);
    if (all && plumb_comm_rank(comm) == 0)
        memcpy(all, text->data, (size_t)len);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), done);
    PLUMB_TRY_GOTO(st, plumb_comm_broadcast(comm, all, len, 0), done);
    if (plumb_comm_rank(comm) > 0) /* fails on a rank with another kind of GPU */
        st = b->gemm_cache_read(b, all);
    st = plumb_comm_agree(comm, st);
done:
    free(all);
    return st;
}

plumb_status plumb_gemm_cache_read(plumb_comm *comm, struct plumb_backend *b,
                                   const struct plumb_config *cfg)
{
    struct plumb_buf text = {0};
    char path[4096], dir[4096];
    plumb_status st = PLUMB_OK;
    if (!b->gemm_cache_read)
        return PLUMB_OK;
    if (plumb_comm_rank(comm) == 0)
        st = path_of(path, dir, cfg);
    PLUMB_TRY(plumb_comm_agree(comm, st));
    if (plumb_comm_rank(comm) == 0 && *path && plumb_file_exists(path))
        if (plumb_file_read_text(&text, path, "a text file") != PLUMB_OK ||
            b->gemm_cache_read(b, plumb_buf_text(&text)) != PLUMB_OK) {
            plumb_log(PLUMB_LOG_WARN, "%s is not used: %s", path, plumb_trail_message());
            plumb_buf_clear(&text);
        }
    st = share(comm, b, &text);
    plumb_buf_fini(&text);
    return st;
}

/* Measures the linear layers of the model in dir. */
static plumb_status tune_model(struct plumb_backend *b, const char *dir, bool classifier)
{
    struct plumb_spec s;
    PLUMB_TRY(plumb_spec_read(&s, dir));
    const int64_t q = s.h * s.d, kv = s.hk * s.d;
    const int64_t head = s.labels > 0 ? s.labels : classifier ? 1 : s.v;
    const int64_t size[][2] = {{q, s.c}, {kv, s.c}, {s.c, q}, {s.f, s.c}, {s.c, s.f}, {head, s.c}};
    for (size_t i = 0; i < sizeof(size) / sizeof(size[0]); i++)
        PLUMB_TRY(b->gemm_cache_tune(b, size[i][0], size[i][1]));
    return PLUMB_OK;
}

/* On rank 0: measures what is missing, puts the whole cache into text, and writes the file. */
static plumb_status tune(struct plumb_buf *text, const struct plumb_trainer_source *s)
{
    struct plumb_buf before = {0};
    struct plumb_backend *b = s->backend;
    char path[4096], dir[4096];
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st, path_of(path, dir, s->cfg), done);
    PLUMB_TRY_GOTO(st, b->gemm_cache_write(b, &before), done);
    PLUMB_TRY_GOTO(st, tune_model(b, s->cfg->model, s->classifier), done);
    if (*s->cfg->reward.model)
        PLUMB_TRY_GOTO(st, tune_model(b, s->cfg->reward.model, true), done);
    PLUMB_TRY_GOTO(st, b->gemm_cache_write(b, text), done);
    if (!*path || (before.len == text->len && !memcmp(before.data, text->data, (size_t)text->len)))
        goto done;
    if ((*dir && plumb_dir_create(dir) != PLUMB_OK) ||
        plumb_file_write_atomic(path, text->data, text->len) != PLUMB_OK)
        plumb_log(PLUMB_LOG_WARN, "the GEMM algorithm cache is not written: %s",
                  plumb_trail_message());
done:
    plumb_buf_fini(&before);
    return st;
}

plumb_status plumb_gemm_cache_tune(const struct plumb_trainer_source *s)
{
    struct plumb_buf text = {0};
    plumb_status st = PLUMB_OK;
    if (!s->backend->gemm_cache_tune || strcmp(s->cfg->pins, "none") == 0)
        return PLUMB_OK;
    if (plumb_comm_rank(s->comm) == 0)
        st = tune(&text, s);
    st = plumb_comm_agree(s->comm, st);
    if (st == PLUMB_OK)
        st = share(s->comm, s->backend, &text);
    plumb_buf_fini(&text);
    return st;
}
