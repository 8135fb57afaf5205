/* gemm_cache.c - reads, measures, writes and shares the GEMM algorithm cache.
 * Layer 5. Includes train/gemm_cache.h, base/, io/. */
#include "train/gemm_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "train/checkpoint.h"
#include "train/start.h"

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
                      "pins: the path of the GEMM cache has %zu bytes, expected at most 4095",
                      strlen(cfg->pins));
        strcpy(out, cfg->pins);
        return PLUMB_OK;
    }
    if (cache && *cache)
        PLUMB_TRY(plumb_path_join(dir, 4096, cache, "plumb"));
    else if (home && *home)
        PLUMB_TRY(plumb_path_join(dir, 4096, home, ".cache/plumb"));
    return *dir ? plumb_path_join(out, 4096, dir, "pins.txt") : PLUMB_OK;
}

/* Sends rank 0's cache text to every other rank; each of these ranks reads the text into its
 * backend. An empty text is not sent. Collective. */
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
    if (plumb_comm_rank(comm) > 0) /* fails on a rank whose GPU model differs from that of rank 0 */
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

/* Selects algorithms for the products of the linear layers of the model in dir. rank: the LoRA rank
 * of an adapter; algorithms are also selected for the adapter's products; 0 without an adapter. If
 * dir is an adapter folder, the model is the base that the folder names, and the rank of that
 * adapter replaces `rank`. classifier: the model gets a score head of one output. trained:
 * algorithms are also selected for the products of backward passes. how: 0 or
 * PLUMB_GEMM_UNMEASURED. */
static plumb_status tune_model(struct plumb_backend *b, const char *dir, bool classifier,
                               int64_t rank, bool trained, unsigned how)
{
    struct plumb_spec s;
    struct plumb_lora lora;
    char base[4096];
    int64_t adapter_labels = 0;
    PLUMB_TRY(plumb_adapter_base(base, sizeof(base), dir));
    if (plumb_adapter_in(dir)) {
        PLUMB_TRY(plumb_adapter_describe(&lora, &adapter_labels, dir));
        rank = lora.r;
        classifier |= adapter_labels > 0;
    }
    PLUMB_TRY(plumb_spec_read(&s, base));
    const int64_t q = s.h * s.d, kv = s.hk * s.d, labels = s.labels > 0 ? s.labels : classifier;
    const struct plumb_joined joined = plumb_joined_of(b, &s);
    const bool *bias = s.block.bias;
    const unsigned passes = trained ? PLUMB_GEMM_BACKWARD_X | PLUMB_GEMM_BACKWARD_W : 0;
    const struct {
        int64_t out, in;
        bool bias, target;      /* target: a LoRA adapter can have matrices for this product */
        bool forward, backward; /* which products the run computes: forward, backward */
    } size[] = {{q, s.c, bias[PLUMB_Q], true, !joined.qkv, true},
                {kv, s.c, bias[PLUMB_K], true, !joined.qkv, true},
                {kv, s.c, bias[PLUMB_V], true, !joined.qkv, true},
                {q + 2 * kv, s.c, false, false, joined.qkv, false},
                {s.c, q, bias[PLUMB_O], true, true, true},
                {s.f, s.c, bias[PLUMB_GATE], true, !joined.gate_up, !joined.gate_up},
                {s.f, s.c, bias[PLUMB_UP], true, !joined.gate_up, !joined.gate_up},
                {2 * s.f, s.c, false, false, joined.gate_up, joined.gate_up},
                {s.c, s.f, bias[PLUMB_DOWN], true, true, true}};
    for (size_t i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
        const unsigned forward = size[i].bias ? PLUMB_GEMM_BIAS : PLUMB_GEMM_FORWARD;
        const unsigned uses = (size[i].forward ? forward : 0) | (size[i].backward ? passes : 0);
        if (uses)
            PLUMB_TRY(b->gemm_cache_tune(b, size[i].out, size[i].in, how | uses));
        if (rank == 0 || !size[i].target)
            continue;
        PLUMB_TRY(b->gemm_cache_tune(b, rank, size[i].in, how | passes | PLUMB_GEMM_FORWARD));
        PLUMB_TRY(b->gemm_cache_tune(b, size[i].out, rank, how | passes | PLUMB_GEMM_FORWARD));
    }
    return b->gemm_cache_tune(b, labels ? labels : s.v, s.c,
                              how | passes | (labels ? PLUMB_GEMM_FORWARD : PLUMB_GEMM_HEAD));
}

/* Selects algorithms for every product that the run uses. */
static plumb_status tune_all(const struct plumb_trainer_source *s, unsigned how)
{
    const struct plumb_config *cfg = s->cfg;
    PLUMB_TRY(tune_model(s->backend, cfg->model, s->classifier, cfg->lora.r, true, how));
    if (*cfg->lora.adapter) {
        struct plumb_lora lora;
        int64_t labels = 0;
        PLUMB_TRY(plumb_adapter_describe(&lora, &labels, cfg->lora.adapter));
        PLUMB_TRY(tune_model(s->backend, cfg->model, labels > 0, lora.r, true, how));
    }
    if (*cfg->reward.model)
        PLUMB_TRY(tune_model(s->backend, cfg->reward.model, true, 0, false, how));
    return PLUMB_OK;
}

/* Warns about each product whose class is not that of the checkpoint. wanted: the checkpoint's text
 * of gemm_classes, a line "PRODUCT: CLASS" for each product. */
static plumb_status compare_classes(const char *wanted, struct plumb_backend *b)
{
    struct plumb_buf now = {0};
    plumb_status st = b->gemm_classes(b, &now);
    for (const char *at = plumb_buf_text(&now); st == PLUMB_OK && *at;) {
        const char *end = strchrnul(at, '\n'), *mark = strstr(at, ": ");
        char name[160];
        snprintf(name, sizeof(name), "%.*s", (int)(mark + 2 - at), at);
        const char *then = strstr(wanted, name);
        if (then && strncmp(then, at, (size_t)(end - at)) != 0)
            plumb_log(PLUMB_LOG_WARN,
                      "resume: no algorithm of this GPU gives the bits of the checkpoint for the "
                      "product '%.*s' (class %.*s, now %.*s): results may differ from those of the "
                      "uninterrupted run in rounding",
                      (int)(mark - at), at, 16, then + strlen(name), 16, mark + 2);
        at = *end ? end + 1 : end;
    }
    plumb_buf_fini(&now);
    return st;
}

/* On rank 0: measures the products that are missing in the cache and appends the whole cache to
 * text. Writes the cache file if the cache has changed and there is a path for the file; if writing
 * fails, logs a warning. wanted: the classes of the checkpoint that the run resumes; "" if there
 * are none. */
static plumb_status tune(struct plumb_buf *text, const struct plumb_trainer_source *s,
                         const char *wanted)
{
    struct plumb_buf before = {0};
    struct plumb_backend *b = s->backend;
    char path[4096], dir[4096];
    plumb_status st = PLUMB_OK;
    b->gemm_want(b, wanted);
    PLUMB_TRY_GOTO(st, path_of(path, dir, s->cfg), done);
    PLUMB_TRY_GOTO(st, b->gemm_cache_write(b, &before), done);
    PLUMB_TRY_GOTO(st, tune_all(s, 0), done);
    PLUMB_TRY_GOTO(st, compare_classes(wanted, b), done);
    PLUMB_TRY_GOTO(st, b->gemm_cache_write(b, text), done);
    if (!*path || (before.len == text->len && !memcmp(before.data, text->data, (size_t)text->len)))
        goto done;
    if ((*dir && plumb_dir_create(dir) != PLUMB_OK) ||
        plumb_file_write_atomic(path, text->data, text->len) != PLUMB_OK)
        plumb_log(PLUMB_LOG_WARN, "the GEMM algorithm cache is not written: %s",
                  plumb_trail_message());
done:
    b->gemm_want(b, NULL);
    plumb_buf_fini(&before);
    return st;
}

/* On rank 0, appends the classes of GEMM algorithms from the checkpoint that the run will resume.
 * Appends nothing for a fresh start, or if the run that wrote the checkpoint was on a CPU.
 * Collective. */
static plumb_status read_wanted(struct plumb_buf *wanted, const struct plumb_trainer_source *s)
{
    char dir[4096];
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_checkpoint_find(dir, sizeof(dir), s->cfg->output_dir, s->cfg->resume, s->comm));
    if (plumb_comm_rank(s->comm) == 0 && *dir)
        st = plumb_checkpoint_read_gemm_classes(wanted, dir);
    return plumb_comm_agree(s->comm, st);
}

plumb_status plumb_gemm_cache_tune(const struct plumb_trainer_source *s)
{
    struct plumb_buf text = {0}, wanted = {0};
    if (!s->backend->gemm_cache_tune)
        return PLUMB_OK;
    if (strcmp(s->cfg->pins, "none") == 0)
        return plumb_comm_agree(s->comm, tune_all(s, PLUMB_GEMM_UNMEASURED));
    plumb_status st = read_wanted(&wanted, s);
    if (st == PLUMB_OK) {
        if (plumb_comm_rank(s->comm) == 0)
            st = tune(&text, s, plumb_buf_text(&wanted));
        st = plumb_comm_agree(s->comm, st);
    }
    if (st == PLUMB_OK)
        st = share(s->comm, s->backend, &text);
    plumb_buf_fini(&wanted);
    plumb_buf_fini(&text);
    return st;
}
