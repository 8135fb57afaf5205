/* save.c - writes a model as a Hugging Face checkpoint folder, or its adapter as an adapter folder.
 * Layer 4. Includes base/, io/, model/adapter_file.h, model/net.h. */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "model/adapter_file.h"
#include "model/net.h"

/* Files that are copied byte for byte if they exist. */
static const char *const model_file[] = {"generation_config.json"};
static const char *const tokenizer_file[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
};

#define TEMPLATES "additional_chat_templates"

/* Returns true for the members of config.json that plumb writes itself instead of copying them. */
static bool rewritten(const char *key, bool classifier, bool labels)
{
    static const char *const always[] = {"architectures", "torch_dtype", "dtype",
                                         "tie_word_embeddings"};
    static const char *const label[] = {"num_labels", "id2label", "label2id", "problem_type"};
    bool mine = classifier && !strcmp(key, "pad_token_id");
    for (size_t i = 0; i < 4; i++)
        mine |= !strcmp(key, always[i]) || (labels && !strcmp(key, label[i]));
    return mine;
}

static plumb_status add_labels(struct plumb_buf *out, int64_t n)
{
    PLUMB_TRY(plumb_buf_add_text(out, ",\n  \"id2label\": {"));
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY(plumb_buf_addf(out, "%s\"%lld\": \"LABEL_%lld\"", i ? ", " : "", (long long)i,
                                 (long long)i));
    PLUMB_TRY(plumb_buf_add_text(out, "},\n  \"label2id\": {"));
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY(plumb_buf_addf(out, "%s\"LABEL_%lld\": %lld", i ? ", " : "", (long long)i,
                                 (long long)i));
    return plumb_buf_add_text(out, "}");
}

/* Returns true if the label fields of the source's config.json are copied: m is a language model,
 * or the number of label names equals the model's labels. */
static bool labels_kept(const plumb_model *m, const plumb_json *j)
{
    return m->spec.labels == 0 || plumb_json_count(plumb_json_get(j, "id2label")) == m->spec.labels;
}

static plumb_status write_config(struct plumb_buf *out, const plumb_model *m, const plumb_json *j)
{
    const bool kept = labels_kept(m, j), classifier = m->spec.labels > 0;
    PLUMB_TRY(plumb_buf_addf(out,
                             "{\n  \"architectures\": [\"%s\"],\n  \"torch_dtype\": \"%s\""
                             ",\n  \"tie_word_embeddings\": %s",
                             plumb_spec_architecture(&m->spec), plumb_dtype_name(m->saved_as),
                             m->spec.tied ? "true" : "false"));
    if (classifier && m->spec.pad >= 0)
        PLUMB_TRY(plumb_buf_addf(out, ",\n  \"pad_token_id\": %d", (int)m->spec.pad));
    else if (classifier)
        PLUMB_TRY(plumb_buf_add_text(out, ",\n  \"pad_token_id\": null"));
    if (!kept)
        PLUMB_TRY(add_labels(out, m->spec.labels));
    for (int64_t i = 0; i < plumb_json_count(j); i++) {
        const char *key;
        const plumb_json *value;
        PLUMB_TRY(plumb_json_member_at(j, i, &key, &value));
        if (rewritten(key, classifier, !kept))
            continue;
        PLUMB_TRY(plumb_buf_add_text(out, ",\n  "));
        PLUMB_TRY(plumb_json_put_string(out, key, (int64_t)strlen(key)));
        PLUMB_TRY(plumb_buf_add_text(out, ": "));
        PLUMB_TRY(plumb_json_put_node(out, value));
    }
    return plumb_buf_add_text(out, "\n}\n");
}

static plumb_status save_config(const plumb_model *m, const char *dir)
{
    char from[4096], to[4096];
    struct plumb_buf text = {0};
    plumb_json *j = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_path_join(from, sizeof from, m->dir, "config.json"));
    PLUMB_TRY(plumb_path_join(to, sizeof to, dir, "config.json"));
    PLUMB_TRY(plumb_json_read_file(&j, from));
    PLUMB_TRY_GOTO(st, write_config(&text, m, j), fail);
    PLUMB_TRY_GOTO(st, plumb_file_write_atomic(to, text.data, text.len), fail);
fail:
    plumb_buf_fini(&text);
    plumb_json_free(&j);
    return st;
}

/* The model and the host memory from which the file tensors are made, one at a time. */
struct maker {
    const plumb_model *m;
    float *copy;    /* host memory for one parameter */
    float *built;   /* for a tensor with another layout than its parameter; NULL if there is none */
    uint16_t *half; /* for a tensor in bfloat16; NULL if they are float32 */
};

/* A file tensor. Parameter i holds its first row. */
struct made {
    struct maker *maker;
    int64_t i;
};

static plumb_status join_params(const float **out, const struct made *made)
{
    const struct maker *k = made->maker;
    const plumb_model *m = k->m;
    const float *w;
    for (int64_t i = made->i; i < m->n_param && i < made->i + PLUMB_FILE_NEAR; i++) {
        if (strcmp(m->param[i].file, m->param[made->i].file) != 0)
            continue;
        PLUMB_TRY(plumb_param_read(m, &m->param[i], k->copy, &w));
        plumb_param_give(k->built, w, &m->param[i]);
    }
    *out = k->built;
    return PLUMB_OK;
}

static plumb_status make(void *arg, const struct plumb_st_entry *e, const void **data)
{
    const struct made *made = arg;
    const struct maker *k = made->maker;
    const struct plumb_param *p = &k->m->param[made->i];
    const float *w;
    PLUMB_TRY(plumb_param_is_whole(p) ? plumb_param_read(k->m, p, k->copy, &w)
                                      : join_params(&w, made));
    *data = w;
    if (e->dtype == PLUMB_F32)
        return PLUMB_OK;
    for (int64_t i = 0; i < e->count; i++)
        k->half[i] = plumb_to_bf16(w[i]);
    *data = k->half;
    return PLUMB_OK;
}

static void fill_entry(struct plumb_st_entry *e, struct made *made)
{
    const plumb_model *m = made->maker->m;
    const struct plumb_param *p = &m->param[made->i];
    plumb_param_describe(e, p);
    e->dtype = m->saved_as == PLUMB_BF16 ? PLUMB_BF16 : PLUMB_F32;
    e->fetch = make;
    e->arg = made;
}

static plumb_status maker_init(struct maker *k, const plumb_model *m)
{
    const size_t most = (size_t)plumb_model_largest(m);
    const bool half = m->saved_as == PLUMB_BF16;
    bool joined = false;
    for (int64_t i = 0; i < m->n_param; i++)
        joined = joined || !plumb_param_is_whole(&m->param[i]);
    *k = (struct maker){.m = m, .copy = malloc(most * sizeof(*k->copy))};
    k->built = joined ? malloc(most * sizeof(*k->built)) : NULL;
    k->half = half ? malloc(most * sizeof(*k->half)) : NULL;
    PLUMB_REQUIRE(k->copy && (k->built || !joined) && (k->half || !half), PLUMB_ERR_NOMEM,
                  "a host copy of a tensor of %lld values", (long long)most);
    return PLUMB_OK;
}

static plumb_status save_weights(const plumb_model *m, const char *dir, int64_t shard_bytes)
{
    plumb_status st = PLUMB_OK;
    int64_t n = 0;
    struct maker maker = {0};
    struct plumb_st_entry *e = calloc((size_t)m->n_param, sizeof *e);
    struct made *made = calloc((size_t)m->n_param, sizeof *made);
    if (!e || !made)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "a list of %lld tensors", (long long)m->n_param);
    PLUMB_TRY_GOTO(st, maker_init(&maker, m), done);
    for (int64_t i = 0; i < m->n_param; i++) {
        if (m->param[i].file_row > 0)
            continue;
        made[n] = (struct made){&maker, i};
        fill_entry(&e[n], &made[n]);
        n++;
    }
    st = plumb_st_write_dir(dir, e, n, shard_bytes);
done:
    free(maker.copy);
    free(maker.built);
    free(maker.half);
    free(made);
    free(e);
    return st;
}

static plumb_status copy_files(const char *const *name, size_t n, const char *from_dir,
                               const char *to_dir)
{
    char from[4096], to[4096];
    for (size_t i = 0; i < n; i++) {
        PLUMB_TRY(plumb_path_join(from, sizeof from, from_dir, name[i]));
        PLUMB_TRY(plumb_path_join(to, sizeof to, to_dir, name[i]));
        if (plumb_file_exists(from))
            PLUMB_TRY(plumb_file_copy(from, to));
    }
    return PLUMB_OK;
}

/* Copies the additional chat templates in the folder TEMPLATES, such as tool_use.jinja.
 * transformers finds them by their names. */
static plumb_status copy_templates(const char *from_dir, const char *to_dir)
{
    char from[4096], to[4096];
    struct plumb_names names = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_path_join(from, sizeof from, from_dir, TEMPLATES));
    PLUMB_TRY(plumb_path_join(to, sizeof to, to_dir, TEMPLATES));
    if (!plumb_dir_exists(from))
        return PLUMB_OK;
    PLUMB_TRY(plumb_dir_list(&names, from));
    PLUMB_TRY_GOTO(st, plumb_dir_create(to), done);
    st = copy_files((const char *const *)names.name, (size_t)names.n, from, to);
done:
    plumb_names_fini(&names);
    return st;
}

plumb_status plumb_model_save(const plumb_model *m, const char *dir, int64_t shard_bytes)
{
    if (m->adapter) {
        PLUMB_TRY(plumb_adapter_save(m, dir));
    } else {
        PLUMB_TRY(save_weights(m, dir, shard_bytes));
        PLUMB_TRY(save_config(m, dir));
        PLUMB_TRY(copy_files(model_file, sizeof model_file / sizeof *model_file, m->dir, dir));
    }
    PLUMB_TRY(copy_files(tokenizer_file, sizeof tokenizer_file / sizeof *tokenizer_file,
                         m->tokenizer_dir, dir));
    return copy_templates(m->tokenizer_dir, dir);
}
