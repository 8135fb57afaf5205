/* open.c - opens a model (trainable or frozen) or an adapter with its base model from a folder, as
 * a language model or as a classifier. Also creates a model with random weights.
 * Layer 4. Includes io/, model/adapter.h, model/net.h. */
#include <string.h>

#include "base/log.h"
#include "io/file.h"
#include "io/json.h"
#include "model/adapter.h"
#include "model/net.h"

static const struct plumb_opening usual = {0};

static bool has_weights(const char *dir)
{
    static const char *const name[] = {"model.safetensors", "model.safetensors.index.json"};
    char path[4096];
    for (int i = 0; i < 2; i++)
        if (plumb_path_join(path, sizeof path, dir, name[i]) == PLUMB_OK && plumb_file_exists(path))
            return true;
    return false;
}

/* Warns if the folder has model.safetensors and also an index that names other files: only
 * model.safetensors is read, but the user may mean the other files. */
static plumb_status note_both(const char *dir)
{
    char path[4096];
    plumb_json *index = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, "model.safetensors"));
    if (!plumb_file_exists(path))
        return PLUMB_OK;
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, "model.safetensors.index.json"));
    if (!plumb_file_exists(path) || plumb_json_read_file(&index, path) != PLUMB_OK)
        return PLUMB_OK; /* the index is not used, so a damaged one does no harm */
    const plumb_json *map = plumb_json_get(index, "weight_map"), *v = NULL;
    const char *key = "", *file = "model.safetensors";
    for (int64_t i = 0; i < plumb_json_count(map) && st == PLUMB_OK; i++) {
        st = plumb_json_member_at(map, i, &key, &v);
        if (st == PLUMB_OK && strcmp(plumb_json_string(v, file), "model.safetensors") != 0) {
            file = plumb_json_string(v, file);
            plumb_log_alike("%s: holds the weights twice, in model.safetensors and in the files of "
                            "model.safetensors.index.json (%.80s, ...): model.safetensors is read, "
                            "as in transformers; remove the ones that are not meant",
                            dir, file);
            break;
        }
    }
    plumb_json_free(&index);
    return st;
}

static plumb_status open_as(plumb_model **out, struct plumb_backend *b, const char *dir,
                            struct plumb_spec *s, const char *fresh, uint64_t seed,
                            const struct plumb_opening *o)
{
    plumb_model *m = NULL;
    plumb_st *files = NULL;
    plumb_status st = PLUMB_OK;
    if (b->dry && !has_weights(dir)) /* a memory plan needs only the sizes in config.json */
        return plumb_model_build(out, b, dir, s, o);
    if (!b->dry)
        PLUMB_TRY(note_both(dir));
    PLUMB_TRY(plumb_st_open_dir(&files, dir));
    PLUMB_TRY_GOTO(st, plumb_tie_resolve(s, files, dir), fail);
    PLUMB_TRY_GOTO(st, plumb_model_build(&m, b, dir, s, o), fail);
    if (b->dry) {
        *out = m;
        m = NULL;
        goto fail;
    }
    if (o->how || o->masters) {
        PLUMB_TRY_GOTO(st, plumb_held_load(m, files, fresh, seed), fail);
    } else {
        PLUMB_TRY_GOTO(st, plumb_params_load(m, files, fresh, seed), fail);
        PLUMB_TRY_GOTO(st, plumb_model_refresh(m), fail);
    }
    *out = m;
    m = NULL;
fail:
    plumb_model_destroy(&m);
    plumb_st_close(&files);
    return st;
}

static plumb_status open_plain(plumb_model **out, struct plumb_backend *b, const char *dir,
                               const struct plumb_opening *o)
{
    struct plumb_spec s;
    PLUMB_TRY(plumb_spec_read(&s, dir));
    return open_as(out, b, dir, &s, NULL, 0, o);
}

static plumb_status open_classifier(plumb_model **out, struct plumb_backend *b, const char *dir,
                                    int64_t labels, uint64_t seed, const struct plumb_opening *o)
{
    struct plumb_spec s;
    PLUMB_REQUIRE(labels >= 1 && labels <= 1 << 16, PLUMB_ERR_ARG,
                  "a classifier with %lld labels, expected 1 to 65536", (long long)labels);
    PLUMB_TRY(plumb_spec_read(&s, dir));
    PLUMB_REQUIRE(s.labels == 0 || s.labels == labels, PLUMB_ERR_SHAPE,
                  "%s: the classifier has %lld labels, expected %lld", dir, (long long)s.labels,
                  (long long)labels);
    PLUMB_TRY(plumb_spec_check_classifier(&s, dir));
    const char *fresh = s.labels ? NULL : "score.weight";
    s.labels = labels;
    s.head_scale = 1.0f; /* the score head of a classifier has no scale and no soft cap */
    s.head_cap = 0.0f;
    PLUMB_TRY(open_as(out, b, dir, &s, fresh, seed, o));
    (*out)->fresh_score = fresh != NULL;
    if (fresh && s.pad >= 0 && plumb_spec_stops_at(&s, s.pad))
        plumb_model_drop_pad(*out);
    return PLUMB_OK;
}

/* Opens the base of an adapter folder as a language model or as a classifier, as the adapter needs,
 * and adds the adapter. labels: the number of scores that the caller requires; 0 if the caller
 * accepts a language model or any number of scores. The score rows of a classifier become weights
 * of the adapter, so the base of a classifier is not opened as a frozen model. */
static plumb_status open_adapted(plumb_model **out, struct plumb_backend *b, const char *dir,
                                 int64_t labels, const struct plumb_frozen *how)
{
    char base[4096];
    struct plumb_lora lora;
    int64_t has = 0;
    plumb_model *m = NULL;
    PLUMB_TRY(plumb_adapter_base(base, sizeof base, dir));
    PLUMB_TRY(plumb_adapter_describe(&lora, &has, dir));
    PLUMB_REQUIRE(labels == 0 || labels == has, PLUMB_ERR_SHAPE,
                  "%s: the adapter has %lld scores, expected %lld; to train a reward model on this "
                  "adapter's model, merge them first (plumb merge)",
                  dir, (long long)has, (long long)labels);
    PLUMB_REQUIRE(has == 0 || !how || how->mode == PLUMB_FROZEN_RESIDENT, PLUMB_ERR_UNSUPPORTED,
                  "frozen: %s is the adapter of a classifier, which can only be resident; set "
                  "frozen=resident, or merge the adapter first (plumb merge)",
                  dir);
    PLUMB_TRY(has > 0 ? open_classifier(&m, b, base, has, 0, &usual)
                      : open_plain(&m, b, base, &(struct plumb_opening){.how = how}));
    const plumb_status st = plumb_adapter_open(m, dir);
    if (st == PLUMB_OK)
        *out = m;
    else
        plumb_model_destroy(&m);
    return st;
}

plumb_status plumb_model_open(plumb_model **out, struct plumb_backend *b, const char *dir)
{
    return plumb_adapter_in(dir) ? open_adapted(out, b, dir, 0, NULL)
                                 : open_plain(out, b, dir, &usual);
}

plumb_status plumb_model_open_classifier(plumb_model **out, struct plumb_backend *b,
                                         const char *dir, int64_t labels, uint64_t seed)
{
    return plumb_adapter_in(dir) ? open_adapted(out, b, dir, labels, NULL)
                                 : open_classifier(out, b, dir, labels, seed, &usual);
}

plumb_status plumb_model_open_frozen(plumb_model **out, struct plumb_backend *b, const char *dir,
                                     int64_t labels, const struct plumb_frozen *how)
{
    const struct plumb_opening o = {.how = how};
    if (plumb_adapter_in(dir))
        return open_adapted(out, b, dir, labels, how);
    return labels > 0 ? open_classifier(out, b, dir, labels, 0, &o) : open_plain(out, b, dir, &o);
}

static plumb_status create(plumb_model **out, struct plumb_backend *b, const char *dir,
                           uint64_t seed, const struct plumb_opening *o)
{
    struct plumb_spec s;
    plumb_model *m = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_spec_read(&s, dir));
    PLUMB_TRY(plumb_model_build(&m, b, dir, &s, o));
    if (b->dry) {
        *out = m;
        return PLUMB_OK;
    }
    if (o->masters) {
        PLUMB_TRY_GOTO(st, plumb_held_load(m, NULL, NULL, seed), fail);
    } else {
        PLUMB_TRY_GOTO(st, plumb_params_draw(m, seed), fail);
        PLUMB_TRY_GOTO(st, plumb_model_refresh(m), fail);
    }
    *out = m;
    return PLUMB_OK;
fail:
    plumb_model_destroy(&m);
    return st;
}

plumb_status plumb_model_create(plumb_model **out, struct plumb_backend *b, const char *dir,
                                uint64_t seed)
{
    return create(out, b, dir, seed, &usual);
}

plumb_status plumb_model_open_divided(plumb_model **out, struct plumb_backend *b, const char *dir,
                                      int64_t labels, bool draw, uint64_t seed,
                                      const struct plumb_model_masters *masters)
{
    const struct plumb_opening o = {.masters = masters};
    PLUMB_REQUIRE(!plumb_adapter_in(dir) && b->dtype == PLUMB_BF16, PLUMB_ERR_UNSUPPORTED,
                  "%s: the ranks share masters of whole models in bfloat16 only", dir);
    if (labels > 0)
        return open_classifier(out, b, dir, labels, seed, &o);
    return draw ? create(out, b, dir, seed, &o) : open_plain(out, b, dir, &o);
}
