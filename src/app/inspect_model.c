/* inspect_model.c - describes a model folder, its weights and its configuration.
 * Layer 6. Includes inspect.h, io/, model/, text/, train/checkpoint.h. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "app/inspect.h"
#include "base/num.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "model/adapter.h"
#include "model/spec.h"
#include "train/checkpoint.h"

static const char *const rope[PLUMB_N_ROPE_TYPE] = {
    [PLUMB_ROPE_PLAIN] = "",
    [PLUMB_ROPE_LINEAR] = ", linearly scaled",
    [PLUMB_ROPE_LLAMA3] = ", scaled as in Llama 3",
    [PLUMB_ROPE_YARN] = ", scaled as in YaRN",
    [PLUMB_ROPE_LONGROPE] = ", scaled as in LongRoPE",
};

/* ---- weights -------------------------------------------------------------------------------- */

static const char *dtype_of(const struct plumb_st_entry *e)
{
    return e->other ? e->other : plumb_dtype_name(e->dtype);
}

/* Appends the dtype, such as "float32", if all tensors have the same, or else each dtype with its
 * number of parameters. *count and *bytes become the total numbers of parameters and bytes. */
static plumb_status put_dtypes(struct plumb_buf *out, const plumb_st *st, int64_t *count,
                               int64_t *bytes)
{
    *count = *bytes = 0;
    for (int64_t i = 0; i < plumb_st_count(st); i++) {
        *count += plumb_st_at(st, i)->count;
        *bytes += plumb_st_at(st, i)->bytes;
    }
    for (int64_t i = 0; i < plumb_st_count(st); i++) {
        const char *name = dtype_of(plumb_st_at(st, i));
        int64_t mine = 0;
        bool seen = false;
        for (int64_t k = 0; k < plumb_st_count(st); k++) {
            const bool same = !strcmp(name, dtype_of(plumb_st_at(st, k)));
            seen = seen || (same && k < i);
            mine += same ? plumb_st_at(st, k)->count : 0;
        }
        if (!seen && mine == *count)
            PLUMB_TRY(plumb_buf_add_text(out, name));
        else if (!seen)
            PLUMB_TRY(plumb_buf_addf(out, "%s%s %.3f M", out->len ? ", " : "", name,
                                     1e-6 * (double)mine));
    }
    return PLUMB_OK;
}

static void print_tensors(const plumb_st *st)
{
    enum { SHOWN = 12 };
    for (int64_t i = 0; i < plumb_min_i64(plumb_st_count(st), SHOWN); i++) {
        const struct plumb_st_entry *e = plumb_st_at(st, i);
        char shape[256] = "";
        for (int k = 0; k < e->rank; k++)
            snprintf(shape + strlen(shape), sizeof(shape) - strlen(shape), "%s%lld", k ? ", " : "",
                     (long long)e->dim[k]);
        plumb_inspect_row(i ? "" : "tensors", "%s (%s) %s", e->name, shape, dtype_of(e));
    }
    if (plumb_st_count(st) > SHOWN)
        plumb_inspect_row("", "and %lld more", (long long)(plumb_st_count(st) - SHOWN));
}

plumb_status plumb_inspect_safetensors(const struct plumb_inspect *w)
{
    plumb_st *st = NULL;
    struct plumb_buf dtypes = {0};
    int64_t count, bytes;
    PLUMB_TRY(plumb_st_open(&st, w->path));
    const plumb_status result = put_dtypes(&dtypes, st, &count, &bytes);
    if (result == PLUMB_OK) {
        plumb_inspect_head(w, "a safetensors file, %.3f M values in %lld tensors, %.1f MB",
                           1e-6 * (double)count, (long long)plumb_st_count(st),
                           1e-6 * (double)bytes);
        plumb_inspect_row("dtype", "%s", plumb_buf_text(&dtypes));
        print_tensors(st);
    }
    plumb_buf_fini(&dtypes);
    plumb_st_close(&st);
    return result;
}

/* Prints the number of files in `map`, the weight map of the index, how many of them exist, and the
 * name of the first missing one. */
static plumb_status print_shards(const struct plumb_inspect *w, const plumb_json *map)
{
    int64_t shards = 0, missing = 0;
    char dir[4096], path[4096], first[300] = "";
    PLUMB_TRY(plumb_inspect_folder_of(dir, w->path));
    const char *before = "";
    for (int64_t i = 0; i < plumb_json_count(map); i++) {
        const char *key;
        const plumb_json *v;
        PLUMB_TRY(plumb_json_member_at(map, i, &key, &v));
        const char *file = plumb_json_string(v, "");
        bool seen = !strcmp(before, file);
        for (int64_t k = 0; k < i && !seen; k++) {
            const plumb_json *other;
            PLUMB_TRY(plumb_json_member_at(map, k, &key, &other));
            seen = !strcmp(plumb_json_string(other, ""), file);
        }
        before = file;
        if (seen)
            continue;
        shards++;
        PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, file));
        if (!plumb_file_exists(path) && missing++ == 0)
            snprintf(first, sizeof(first), "%.290s", file);
    }
    plumb_inspect_row("files", "%lld, %lld of them there%s%s", (long long)shards,
                      (long long)(shards - missing),
                      missing ? "; the first that is missing is " : "", first);
    return PLUMB_OK;
}

plumb_status plumb_inspect_index(const struct plumb_inspect *w)
{
    plumb_json *root = NULL;
    PLUMB_TRY(plumb_json_read_file(&root, w->path));
    const plumb_json *map = plumb_json_get(root, "weight_map");
    const plumb_json *size = plumb_json_get(plumb_json_get(root, "metadata"), "total_size");
    plumb_inspect_head(w, "the index of a model in several safetensors files, %lld tensors",
                       (long long)plumb_json_count(map));
    if (size)
        plumb_inspect_row("size", "%.1f MB by its metadata", 1e-6 * plumb_json_real(size, 0));
    const plumb_status st = print_shards(w, map);
    plumb_json_free(&root);
    return st;
}

/* ---- configuration -------------------------------------------------------------------------- */

static int64_t count_windows(const struct plumb_spec *s)
{
    int64_t n = 0;
    for (int64_t l = 0; l < s->l; l++)
        n += s->windowed[l];
    return n;
}

static void print_rotation(const struct plumb_spec *s, int i)
{
    const struct plumb_rope *o = &s->rope[i];
    char part[80] = "", layers[64] = "";
    int64_t n = 0;
    for (int64_t l = 0; l < s->l; l++)
        n += s->rotation[l] == i;
    if (o->columns < s->d)
        snprintf(part, sizeof(part), ", %lld of %lld columns of a head", (long long)o->columns,
                 (long long)s->d);
    if (n < s->l)
        snprintf(layers, sizeof(layers), ", in %lld of %lld layers", (long long)n, (long long)s->l);
    plumb_inspect_row(i ? "" : "rotation", "base %g%s%s%s", o->theta, rope[o->type], part, layers);
}

static void print_shape(const struct plumb_spec *s)
{
    plumb_inspect_row("shape",
                      "%lld layers, hidden %lld, feed-forward %lld, %lld heads (%lld kv) of %lld, "
                      "vocabulary %lld%s",
                      (long long)s->l, (long long)s->c, (long long)s->f, (long long)s->h,
                      (long long)s->hk, (long long)s->d, (long long)s->v,
                      s->tied ? ", tied head" : "");
    char window[96] = "";
    const int64_t windowed = count_windows(s);
    if (windowed == s->l)
        snprintf(window, sizeof(window), ", attention window %lld", (long long)s->window);
    else if (windowed > 0)
        snprintf(window, sizeof(window), ", attention window %lld in %lld of %lld layers",
                 (long long)s->window, (long long)windowed, (long long)s->l);
    plumb_inspect_row("context", "%lld tokens%s", (long long)s->max_pos, window);
    for (int i = 0; i < s->n_rope; i++)
        print_rotation(s, i);
}

/* Appends a comma and `text`, one phrase of the description of the decoder block, if `wanted` is
 * true. */
static plumb_status put_part(struct plumb_buf *out, bool wanted, const char *text)
{
    return wanted ? plumb_buf_addf(out, ", %s", text) : PLUMB_OK;
}

static plumb_status put_factor(struct plumb_buf *out, const char *what, float factor, float usual)
{
    return factor != usual ? plumb_buf_addf(out, ", %s %g", what, (double)factor) : PLUMB_OK;
}

/* Prints how the decoder block differs from Llama's. */
static plumb_status print_block(const struct plumb_spec *s)
{
    static const char *const act[] = {[PLUMB_ACT_SILU] = "silu",
                                      [PLUMB_ACT_GELU] = "gelu",
                                      [PLUMB_ACT_GELU_TANH] = "gelu (tanh)"};
    const struct plumb_block *k = &s->block;
    struct plumb_buf out = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&out, act[k->activation]), done);
    PLUMB_TRY_GOTO(st, put_part(&out, !k->norm[PLUMB_NORM_ATTENTION], "no norms before"), done);
    PLUMB_TRY_GOTO(
        st, put_part(&out, k->norm[PLUMB_NORM_ATTENTION_OUT], "norms after attention and MLP"),
        done);
    PLUMB_TRY_GOTO(st, put_part(&out, k->qk_norm == PLUMB_QK_NORM_HEAD, "qk norm of each head"),
                   done);
    PLUMB_TRY_GOTO(st, put_part(&out, k->qk_norm == PLUMB_QK_NORM_ROW, "qk norm of all heads"),
                   done);
    PLUMB_TRY_GOTO(st, put_part(&out, k->bias[PLUMB_Q], "biases of q, k, v"), done);
    PLUMB_TRY_GOTO(st, put_part(&out, k->bias[PLUMB_GATE], "biases of the MLP"), done);
    PLUMB_TRY_GOTO(st, put_part(&out, k->files != PLUMB_FILES_LLAMA, "fused matrices in files"),
                   done);
    PLUMB_TRY_GOTO(st, put_factor(&out, "soft cap of scores", k->attention_cap, 0), done);
    PLUMB_TRY_GOTO(st, put_factor(&out, "soft cap of logits", s->head_cap, 0), done);
    PLUMB_TRY_GOTO(
        st, put_factor(&out, "scores times", k->attention_scale, 1.0f / sqrtf((float)s->d)), done);
    PLUMB_TRY_GOTO(st, put_factor(&out, "embedding times", s->embed_scale, 1), done);
    PLUMB_TRY_GOTO(st, put_factor(&out, "residuals times", k->residual_scale, 1), done);
    PLUMB_TRY_GOTO(st, put_factor(&out, "logits times", s->head_scale, 1), done);
    plumb_inspect_row("block", "%s", plumb_buf_text(&out));
done:
    plumb_buf_fini(&out);
    return st;
}

/* Appends a token such as "2 </s>". Without a tokenizer, only the id is appended. */
static plumb_status put_token(struct plumb_buf *out, const plumb_tokenizer *t, int32_t id)
{
    PLUMB_TRY(plumb_buf_addf(out, "%s%d", out->len ? ", " : "", (int)id));
    if (!t || id >= plumb_tokenizer_vocab(t))
        return PLUMB_OK;
    PLUMB_TRY(plumb_buf_add_text(out, " "));
    return plumb_tokenizer_decode(t, out, &id, 1, false);
}

/* Prints the BOS and EOS tokens. */
static plumb_status print_ends(const struct plumb_spec *s, const plumb_tokenizer *t)
{
    struct plumb_buf ends = {0}, begin = {0};
    plumb_status st = PLUMB_OK;
    for (int i = 0; i < s->n_eos; i++)
        PLUMB_TRY_GOTO(st, put_token(&ends, t, s->eos[i]), done);
    if (s->bos >= 0)
        PLUMB_TRY_GOTO(st, put_token(&begin, t, s->bos), done);
    plumb_inspect_row("end tokens", "%s", ends.len ? plumb_buf_text(&ends) : "none");
    plumb_inspect_row("begin", "%s", begin.len ? plumb_buf_text(&begin) : "none");
done:
    plumb_buf_fini(&ends);
    plumb_buf_fini(&begin);
    return st;
}

static void print_model_head(const struct plumb_inspect *w, const struct plumb_spec *s)
{
    plumb_inspect_head(w, "%s%s, %s", plumb_spec_type(s),
                       s->labels > 0 ? " sequence classifier" : "", plumb_spec_architecture(s));
    if (s->labels > 0)
        plumb_inspect_row("scores", "%lld", (long long)s->labels);
}

plumb_status plumb_inspect_config_json(const struct plumb_inspect *w)
{
    struct plumb_spec s;
    char dir[4096];
    PLUMB_TRY(plumb_inspect_folder_of(dir, w->path));
    PLUMB_TRY(plumb_spec_read(&s, dir));
    print_model_head(w, &s);
    print_shape(&s);
    PLUMB_TRY(print_block(&s));
    return print_ends(&s, NULL);
}

/* Prints the settings in generation_config.json, except the ids of tokens. plumb does not use them
 * for sampling; it uses the options generate.*. */
static plumb_status print_generation(const char *path)
{
    plumb_json *root = NULL;
    struct plumb_buf list = {0};
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_json_read_file(&root, path), done);
    for (int64_t i = 0; i < plumb_json_count(root); i++) {
        const char *key;
        const plumb_json *v;
        PLUMB_TRY_GOTO(st, plumb_json_member_at(root, i, &key, &v), done);
        if (strstr(key, "token_id") || key[0] == '_' || !strcmp(key, "transformers_version"))
            continue;
        PLUMB_TRY_GOTO(st, plumb_buf_addf(&list, "%s%s ", list.len ? ", " : "", key), done);
        PLUMB_TRY_GOTO(st, plumb_json_put_node(&list, v), done);
    }
    if (list.len)
        plumb_inspect_row("generation",
                          "%s (generation_config.json; plumb samples as generate.* "
                          "says, not as this)",
                          plumb_buf_text(&list));
done:
    plumb_buf_fini(&list);
    plumb_json_free(&root);
    return st;
}

plumb_status plumb_inspect_generation_config(const struct plumb_inspect *w)
{
    plumb_json *root = NULL;
    plumb_status st;
    PLUMB_TRY(plumb_json_read_file(&root, w->path));
    plumb_inspect_head(w, "a model's settings of generation");
    const char *const key[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    struct plumb_buf text = {0};
    for (int i = 0; i < 3; i++) {
        plumb_buf_clear(&text);
        PLUMB_TRY_GOTO(st, plumb_json_put_node(&text, plumb_json_member(root, key[i])), done);
        plumb_inspect_row(key[i], "%s", plumb_buf_text(&text));
    }
    st = print_generation(w->path);
done:
    plumb_buf_fini(&text);
    plumb_json_free(&root);
    return st;
}

/* ---- folder --------------------------------------------------------------------------------- */

static plumb_status print_weights(const struct plumb_inspect *w)
{
    char path[4096];
    if (!plumb_inspect_has(w, path, "model.safetensors") &&
        !plumb_inspect_has(w, path, "model.safetensors.index.json")) {
        plumb_inspect_row("weights", "none: no model.safetensors; training may begin from random "
                                     "ones (train.init=random)");
        return PLUMB_OK;
    }
    plumb_st *st = NULL;
    struct plumb_buf dtypes = {0};
    int64_t count, bytes;
    PLUMB_TRY(plumb_st_open_dir(&st, w->path));
    const plumb_status result = put_dtypes(&dtypes, st, &count, &bytes);
    if (result == PLUMB_OK)
        plumb_inspect_row("weights", "%.3f M parameters in %lld tensors, %.1f MB, %s",
                          1e-6 * (double)count, (long long)plumb_st_count(st), 1e-6 * (double)bytes,
                          plumb_buf_text(&dtypes));
    plumb_buf_fini(&dtypes);
    plumb_st_close(&st);
    return result;
}

static plumb_status print_checkpoint(const struct plumb_inspect *w)
{
    char path[4096];
    const struct plumb_inspect state = {.path = path, .words = w->words};
    PLUMB_TRY(plumb_checkpoint_verify(w->path));
    PLUMB_TRY(plumb_path_join(path, sizeof(path), w->path, "trainer_state.h5"));
    PLUMB_TRY(plumb_inspect_state(&state));
    plumb_inspect_row("files", "all match hashes.json");
    if (plumb_inspect_has(w, path, "answers.rank-0.h5"))
        plumb_inspect_row("paused", "in the middle of an iteration, whose completions are in "
                                    "answers.rank-*.h5");
    return PLUMB_OK;
}

plumb_status plumb_inspect_model_folder(const struct plumb_inspect *w)
{
    struct plumb_spec s;
    char path[4096];
    plumb_tokenizer *t = NULL;
    plumb_status st;
    PLUMB_TRY(plumb_spec_read(&s, w->path));
    print_model_head(w, &s);
    PLUMB_TRY(print_weights(w));
    print_shape(&s);
    PLUMB_TRY(print_block(&s));
    if (plumb_inspect_has(w, path, "tokenizer.json"))
        PLUMB_TRY(plumb_tokenizer_open(&t, w->path));
    PLUMB_TRY_GOTO(st, print_ends(&s, t), done);
    if (t)
        PLUMB_TRY_GOTO(st, plumb_inspect_tokenizer_rows(w->path), done);
    else
        plumb_inspect_row("tokenizer", "none: no tokenizer.json");
    if (plumb_inspect_has(w, path, "generation_config.json"))
        PLUMB_TRY_GOTO(st, print_generation(path), done);
    if (plumb_inspect_has(w, path, "trainer_state.h5"))
        st = print_checkpoint(w);
done:
    plumb_tokenizer_close(&t);
    return st;
}

plumb_status plumb_inspect_adapter(const struct plumb_inspect *w)
{
    struct plumb_lora lora;
    int64_t labels = 0;
    char path[4096];
    struct plumb_buf targets = {0};
    plumb_st *st = NULL;
    plumb_status r = PLUMB_OK;
    PLUMB_TRY(plumb_adapter_describe(&lora, &labels, w->path));
    PLUMB_TRY(plumb_path_join(path, sizeof(path), w->path, PLUMB_ADAPTER_FILE));
    PLUMB_TRY(plumb_st_open(&st, path));
    plumb_inspect_head(w, "a LoRA adapter of a %s",
                       labels > 0 ? "sequence classifier" : "causal language model");
    const char *tensor = plumb_st_count(st) > 0 ? plumb_st_at(st, 0)->name : "";
    const enum plumb_file_layout files = plumb_lora_layout(&lora, tensor);
    PLUMB_TRY_GOTO(r, plumb_lora_put_targets(&targets, &lora, files), done);
    plumb_inspect_row("rank", "%lld, alpha %g%s", (long long)lora.r, lora.alpha,
                      lora.rslora ? ", rslora" : "");
    plumb_inspect_row("targets", "%s", plumb_buf_text(&targets));
    plumb_inspect_row("tensors", "%lld%s", (long long)plumb_st_count(st),
                      labels > 0 ? ", with the score" : "");
    const bool has_base = plumb_adapter_base(path, sizeof(path), w->path) == PLUMB_OK;
    plumb_inspect_row("base", "%s", has_base ? path : plumb_trail_message());
    if (plumb_inspect_has(w, path, "trainer_state.h5"))
        r = print_checkpoint(w);
done:
    plumb_buf_fini(&targets);
    plumb_st_close(&st);
    return r;
}
