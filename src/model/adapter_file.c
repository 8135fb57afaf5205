/* adapter_file.c - reads and writes the two files of an adapter folder, in PEFT's format.
 * Layer 4. Includes base/, io/, model/adapter_file.h, model/lora.h. */
#include "model/adapter_file.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/file.h"
#include "io/json.h"
#include "model/lora.h"

/* A metadata key of the weights file. Its value is the fingerprint of the base weights with which
 * the adapter was trained. */
#define BASE_KEY "plumb_base_fingerprint"

#define SCORE_NAME "base_model.model.score.weight"

/* ---- reading adapter_config.json ---------------------------------------------------------- */

bool plumb_adapter_in(const char *dir)
{
    char path[PATH_MAX];
    return plumb_path_join(path, sizeof path, dir, PLUMB_ADAPTER_CONFIG) == PLUMB_OK &&
           plumb_file_exists(path);
}

static plumb_status read_root(plumb_json **root, char path[PATH_MAX], const char *dir)
{
    PLUMB_TRY(plumb_path_join(path, PATH_MAX, dir, PLUMB_ADAPTER_CONFIG));
    PLUMB_TRY(plumb_json_read_file(root, path));
    if (plumb_json_type_of(*root) == PLUMB_JSON_OBJECT)
        return PLUMB_OK;
    plumb_json_free(root);
    PLUMB_FAIL(PLUMB_ERR_FORMAT, "%s: expected a JSON object", path);
}

plumb_status plumb_adapter_base(char *out, int64_t size, const char *dir)
{
    char path[PATH_MAX];
    plumb_json *root = NULL;
    plumb_status st = PLUMB_OK;
    if (!plumb_adapter_in(dir)) {
        PLUMB_REQUIRE((int64_t)strlen(dir) < size, PLUMB_ERR_ARG,
                      "%s: the path has %lld bytes, expected less than %lld", dir,
                      (long long)strlen(dir), (long long)size);
        snprintf(out, (size_t)size, "%s", dir);
        return PLUMB_OK;
    }
    PLUMB_TRY(read_root(&root, path, dir));
    const char *base = plumb_json_string(plumb_json_get(root, "base_model_name_or_path"), "");
    if ((int64_t)strlen(base) >= size || !plumb_dir_exists(base))
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_CONFIG, done,
                        "%s: base_model_name_or_path is '%s', which is no folder here; name the "
                        "base model's folder with model=BASE and this adapter with "
                        "lora.adapter=%s",
                        path, base, dir);
    if (plumb_adapter_in(base))
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_CONFIG, done,
                        "%s: base_model_name_or_path is '%s', an adapter folder again; merge that "
                        "one first (plumb merge)",
                        path, base);
    snprintf(out, (size_t)size, "%s", base);
done:
    plumb_json_free(&root);
    return st;
}

/* Returns true for a value that switches a feature off: null, false, "", {} or []. */
static bool is_off(const plumb_json *v)
{
    switch (plumb_json_type_of(v)) {
    case PLUMB_JSON_NULL:
        return true;
    case PLUMB_JSON_BOOL:
        return !plumb_json_bool(v, true);
    case PLUMB_JSON_STRING:
        return plumb_json_string_len(v) == 0;
    case PLUMB_JSON_ARRAY:
    case PLUMB_JSON_OBJECT:
        return plumb_json_count(v) == 0;
    default:
        return false;
    }
}

/* Returns true for a field that this file reads, and for a field that describes how the adapter was
 * made but does not change what it computes. Every other field must have a value that switches the
 * feature off (is_off). */
static bool is_known(const char *key)
{
    static const char *const known[] = {
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "eva_config",
        "fan_in_fan_out",
        "inference_mode",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "modules_to_save",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "revision",
        "target_modules",
        "task_type",
        "use_rslora",
        "init_lora_weights",
        "use_dora",
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(key, known[i]))
            return true;
    return false;
}

/* Fails if init_lora_weights names an initialisation that may change the base weights (PiSSA,
 * OLoRA, CorDA, LoftQ, LoRA-GA) or freeze a part of the adapter (MiCA), that is, any text except
 * those in `harmless`. */
static plumb_status check_init(const plumb_json *root, const char *path)
{
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
    const plumb_json *v = plumb_json_get(root, "init_lora_weights");
    if (plumb_json_type_of(v) != PLUMB_JSON_STRING)
        return PLUMB_OK;
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        if (!strcmp(plumb_json_string(v, ""), harmless[i]))
            return PLUMB_OK;
    PLUMB_FAIL(PLUMB_ERR_UNSUPPORTED,
               "%s: init_lora_weights is '%s', expected true, false, gaussian, eva or orthogonal: "
               "others change the base weights or the training; convert the adapter to a plain "
               "LoRA adapter with peft first",
               path, plumb_json_string(v, ""));
}

static plumb_status check_fields(const plumb_json *root, const char *path)
{
    const char *kind = plumb_json_string(plumb_json_get(root, "peft_type"), "LORA");
    PLUMB_REQUIRE(!strcmp(kind, "LORA"), PLUMB_ERR_UNSUPPORTED,
                  "%s: peft_type is '%s', expected LORA", path, kind);
    const char *bias = plumb_json_string(plumb_json_get(root, "bias"), "none");
    PLUMB_REQUIRE(!strcmp(bias, "none"), PLUMB_ERR_UNSUPPORTED,
                  "%s: bias is '%s', expected none: plumb does not train biases beside an adapter",
                  path, bias);
    PLUMB_REQUIRE(is_off(plumb_json_get(root, "use_dora")), PLUMB_ERR_UNSUPPORTED,
                  "%s: use_dora is true; plumb reads plain LoRA adapters, not DoRA", path);
    for (int64_t i = 0; i < plumb_json_count(root); i++) {
        const char *key;
        const plumb_json *value;
        PLUMB_TRY(plumb_json_member_at(root, i, &key, &value));
        PLUMB_REQUIRE(is_known(key) || is_off(value), PLUMB_ERR_UNSUPPORTED,
                      "%s: %s is set, which plumb does not support", path, key);
    }
    return check_init(root, path);
}

/* Sets *score to true if modules_to_save contains "score". PEFT writes "classifier" and "score" for
 * a sequence classifier. Fails for any other module, and if task_type contradicts *score. */
static plumb_status read_saved(bool *score, const plumb_json *root, const char *path)
{
    const plumb_json *list = plumb_json_get(root, "modules_to_save");
    *score = false;
    for (int64_t i = 0; i < plumb_json_count(list); i++) {
        const char *name = plumb_json_string(plumb_json_at(list, i), "(no text)");
        PLUMB_REQUIRE(!strcmp(name, "score") || !strcmp(name, "classifier"), PLUMB_ERR_UNSUPPORTED,
                      "%s: modules_to_save has '%s'; plumb supports only the score of a sequence "
                      "classifier",
                      path, name);
        *score |= !strcmp(name, "score");
    }
    const char *task = plumb_json_string(plumb_json_get(root, "task_type"), "");
    PLUMB_REQUIRE(!*task || !strcmp(task, "CAUSAL_LM") || !strcmp(task, "SEQ_CLS"),
                  PLUMB_ERR_UNSUPPORTED, "%s: task_type is '%s', expected CAUSAL_LM or SEQ_CLS",
                  path, task);
    PLUMB_REQUIRE(*score == !strcmp(task, "SEQ_CLS"), PLUMB_ERR_UNSUPPORTED,
                  "%s: task_type is '%s', but modules_to_save %s; expected the score of a SEQ_CLS "
                  "adapter, and no other",
                  path, task, *score ? "has the score" : "lacks the score");
    return PLUMB_OK;
}

static plumb_status read_targets(struct plumb_lora *lora, const plumb_json *root, const char *path)
{
    const plumb_json *v = plumb_json_get(root, "target_modules");
    const char *one = plumb_json_string(v, NULL);
    const int64_t n = one ? 1 : plumb_json_count(v);
    char where[PATH_MAX + 32];
    PLUMB_REQUIRE(n > 0, PLUMB_ERR_FORMAT, "%s: target_modules is missing or empty", path);
    const char **name = calloc((size_t)n, sizeof *name);
    PLUMB_REQUIRE(name, PLUMB_ERR_NOMEM, "%s: %lld target_modules", path, (long long)n);
    for (int64_t i = 0; i < n; i++)
        name[i] = one ? one : plumb_json_string(plumb_json_at(v, i), "(no text)");
    snprintf(where, sizeof where, "%s: target_modules", path);
    const plumb_status st = plumb_lora_set_targets(lora, name, n, where);
    free(name);
    return st;
}

static plumb_status read_config(struct plumb_lora *lora, bool *classifier, const plumb_json *root,
                                const char *path)
{
    const bool no = false;
    const double none = 0;
    double dropout = 0;
    PLUMB_TRY(check_fields(root, path));
    PLUMB_TRY(plumb_json_want_int(root, "r", &lora->r, NULL, path));
    PLUMB_TRY(plumb_json_want_real(root, "lora_alpha", &lora->alpha, NULL, path));
    PLUMB_TRY(plumb_json_want_bool(root, "use_rslora", &lora->rslora, &no, path));
    PLUMB_TRY(plumb_json_want_bool(root, "fan_in_fan_out", &lora->turned, &no, path));
    PLUMB_TRY(plumb_json_want_real(root, "lora_dropout", &dropout, &none, path));
    PLUMB_REQUIRE(lora->r >= 1 && lora->r <= PLUMB_LORA_MAX_RANK, PLUMB_ERR_UNSUPPORTED,
                  "%s: r is %lld, expected 1 to %d", path, (long long)lora->r, PLUMB_LORA_MAX_RANK);
    PLUMB_REQUIRE(lora->alpha > 0 && isfinite(lora->alpha), PLUMB_ERR_UNSUPPORTED,
                  "%s: lora_alpha is %g, expected a number above 0", path, lora->alpha);
    if (dropout > 0)
        plumb_log_once(PLUMB_LOG_WARN, "%s: lora_dropout is %g; plumb trains without dropout", path,
                       dropout);
    PLUMB_TRY(read_saved(classifier, root, path));
    return read_targets(lora, root, path);
}

plumb_status plumb_adapter_read_config(struct plumb_lora *lora, bool *classifier, const char *dir)
{
    char path[PATH_MAX];
    plumb_json *root = NULL;
    PLUMB_TRY(read_root(&root, path, dir));
    const plumb_status st = read_config(lora, classifier, root, path);
    plumb_json_free(&root);
    return st;
}

/* ---- reading adapter_model.safetensors ------------------------------------------------------ */

static plumb_status open_file(plumb_st **out, const char *dir)
{
    char path[PATH_MAX];
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, PLUMB_ADAPTER_FILE));
    PLUMB_REQUIRE(plumb_file_exists(path), PLUMB_ERR_IO,
                  "%s: there is no such file; plumb reads adapters in safetensors files only",
                  path);
    return plumb_st_open(out, path);
}

/* Sets *labels to the number of score rows in the adapter's file. */
static plumb_status read_labels(int64_t *labels, const char *dir)
{
    plumb_st *st = NULL;
    PLUMB_TRY(open_file(&st, dir));
    const struct plumb_st_entry *e = plumb_st_find(st, SCORE_NAME);
    *labels = e && e->rank == 2 ? e->dim[0] : 0;
    plumb_st_close(&st);
    PLUMB_REQUIRE(*labels > 0, PLUMB_ERR_FORMAT,
                  "%s/" PLUMB_ADAPTER_FILE ": tensor " SCORE_NAME " is missing, or is no matrix",
                  dir);
    return PLUMB_OK;
}

/* Fails if the file says that the adapter was trained on other base weights. */
static plumb_status check_base(const plumb_model *m, const plumb_st *st, const char *dir)
{
    const char *text = plumb_st_metadata(st, BASE_KEY);
    char mine[20];
    snprintf(mine, sizeof mine, "%016" PRIx64, m->base_fingerprint);
    if (!text)
        plumb_log_once(PLUMB_LOG_INFO,
                       "%s: the adapter does not say which base weights it was trained on (peft "
                       "does not store them), so whether %s fits is not checked",
                       dir, m->dir);
    PLUMB_REQUIRE(!text || !strcmp(text, mine), PLUMB_ERR_FORMAT,
                  "%s: this adapter was trained on base weights %s, but %s has weights %s", dir,
                  text, m->dir, mine);
    return PLUMB_OK;
}

static plumb_status check_entry(const struct plumb_adapter *a, const struct plumb_st_entry *e)
{
    for (int64_t i = 0; i < a->n_param; i++) {
        const struct plumb_param *p = &a->param[i];
        if (strcmp(p->file, e->name) != 0)
            continue;
        PLUMB_REQUIRE(
            e->rank == 2 && e->dim[0] == p->file_rows && e->dim[1] == p->dim[1], PLUMB_ERR_SHAPE,
            "%s: tensor %s has %lld dimensions (%lld, %lld ...), expected (%lld, %lld) for "
            "this base model; the adapter belongs to another one",
            e->file, e->name, (long long)e->rank, (long long)e->dim[0], (long long)e->dim[1],
            (long long)p->file_rows, (long long)p->dim[1]);
        return PLUMB_OK;
    }
    PLUMB_FAIL(PLUMB_ERR_FORMAT,
               "%s: tensor %s does not belong to the adapter that " PLUMB_ADAPTER_CONFIG
               " describes",
               e->file, e->name);
}

/* Reads the tensors of file st to w (count,), the adapter's weights on the host. Fails if the file
 * lacks a tensor, has a tensor that the adapter does not have, has a tensor of another shape, or
 * has a value that is not finite. */
static plumb_status read_tensors(float *w, const struct plumb_adapter *a, const plumb_st *st,
                                 const char *dir)
{
    for (int64_t i = 0; i < plumb_st_count(st); i++)
        PLUMB_TRY(check_entry(a, plumb_st_at(st, i)));
    for (int64_t i = 0; i < a->n_param; i++) {
        const struct plumb_param *p = &a->param[i];
        const struct plumb_st_entry *e = plumb_st_find(st, p->file);
        PLUMB_REQUIRE(e, PLUMB_ERR_FORMAT, "%s/" PLUMB_ADAPTER_FILE ": tensor %s is missing", dir,
                      p->file);
        PLUMB_TRY(plumb_param_take(w + p->offset, e, p));
        for (int64_t k = 0; k < p->count; k++)
            PLUMB_REQUIRE(isfinite(w[p->offset + k]), PLUMB_ERR_NUMERIC,
                          "%s: tensor %s: value %lld is %g, expected a finite number", e->file,
                          e->name, (long long)k, (double)w[p->offset + k]);
    }
    return PLUMB_OK;
}

plumb_status plumb_adapter_read_weights(plumb_model *m, const char *dir)
{
    const struct plumb_adapter *a = m->adapter;
    const int64_t bytes = a->count * (int64_t)sizeof(float);
    plumb_st *st = NULL;
    plumb_status r = PLUMB_OK;
    PLUMB_TRY(open_file(&st, dir));
    float *w = calloc((size_t)a->count, sizeof *w);
    if (!w)
        PLUMB_FAIL_GOTO(r, PLUMB_ERR_NOMEM, done, "an adapter of %lld bytes", (long long)bytes);
    PLUMB_TRY_GOTO(r, check_base(m, st, dir), done);
    PLUMB_TRY_GOTO(r, read_tensors(w, a, st, dir), done);
    r = m->backend->to_device(m->backend, a->weights.w, w, bytes);
done:
    free(w);
    plumb_st_close(&st);
    return r;
}

plumb_status plumb_adapter_describe(struct plumb_lora *lora, int64_t *labels, const char *dir)
{
    bool classifier = false;
    *labels = 0;
    PLUMB_TRY(plumb_adapter_read_config(lora, &classifier, dir));
    return classifier ? read_labels(labels, dir) : PLUMB_OK;
}

/* ---- writing -------------------------------------------------------------------------------- */

static plumb_status write_weights(const plumb_model *m, const char *dir)
{
    const struct plumb_adapter *a = m->adapter;
    const int64_t bytes = a->count * (int64_t)sizeof(float);
    char path[PATH_MAX], base[20];
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, PLUMB_ADAPTER_FILE));
    snprintf(base, sizeof base, "%016" PRIx64, m->base_fingerprint);
    const char *const metadata[] = {"format", "pt", BASE_KEY, base, NULL};
    struct plumb_file_tensors t = {0};
    float *w = malloc((size_t)bytes);
    if (!w)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "an adapter of %lld bytes", (long long)bytes);
    PLUMB_TRY_GOTO(st, m->backend->to_host(m->backend, w, a->weights.w, bytes), done);
    PLUMB_TRY_GOTO(st, plumb_file_tensors_make(&t, a->param, a->n_param, w), done);
    st = plumb_st_write(path, t.entry, t.n, metadata);
done:
    plumb_file_tensors_fini(&t);
    free(w);
    return st;
}

static plumb_status put_config(struct plumb_buf *b, const plumb_model *m)
{
    const struct plumb_lora *lora = &m->adapter->lora;
    const bool classifier = m->spec.labels > 0;
    /* the stored path is absolute, because PEFT and plumb_adapter_base may open it from any working
     * directory */
    char whole[PATH_MAX];
    const char *base = realpath(m->dir, whole) ? whole : m->dir;
    PLUMB_TRY(plumb_buf_add_text(b, "{\n  \"base_model_name_or_path\": "));
    PLUMB_TRY(plumb_json_put_string(b, base, (int64_t)strlen(base)));
    PLUMB_TRY(plumb_buf_add_text(b, ",\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": "));
    PLUMB_TRY(plumb_buf_add_text(b, m->spec.block.files == PLUMB_FILES_GPT2 ? "true" : "false"));
    PLUMB_TRY(plumb_buf_add_text(b, ",\n"
                                    "  \"inference_mode\": true,\n"
                                    "  \"init_lora_weights\": true,\n  \"lora_alpha\": "));
    PLUMB_TRY(plumb_json_put_real(b, lora->alpha));
    PLUMB_TRY(plumb_buf_addf(b,
                             ",\n  \"lora_dropout\": 0.0,\n  \"modules_to_save\": %s,\n"
                             "  \"peft_type\": \"LORA\",\n  \"r\": %lld,\n"
                             "  \"target_modules\": [",
                             classifier ? "[\"score\"]" : "null", (long long)lora->r));
    PLUMB_TRY(plumb_lora_put_modules(b, lora, m->spec.block.files));
    return plumb_buf_addf(b, "],\n  \"task_type\": \"%s\",\n  \"use_rslora\": %s\n}\n",
                          classifier ? "SEQ_CLS" : "CAUSAL_LM", lora->rslora ? "true" : "false");
}

plumb_status plumb_adapter_save(const plumb_model *m, const char *dir)
{
    char path[PATH_MAX];
    struct plumb_buf text = {0};
    PLUMB_TRY(write_weights(m, dir));
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, PLUMB_ADAPTER_CONFIG));
    plumb_status st = put_config(&text, m);
    if (st == PLUMB_OK)
        st = plumb_file_write_atomic(path, text.data, text.len);
    plumb_buf_fini(&text);
    return st;
}
