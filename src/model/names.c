/* names.c - the names that parameters have in checkpoint files.
 * Layer 4. Includes model/net.h. */
#include <string.h>

#include "model/net.h"

const char *plumb_file_stem(enum plumb_file_layout files)
{
    return files == PLUMB_FILES_GPT2   ? "transformer."
           : files == PLUMB_FILES_NEOX ? "gpt_neox."
                                       : "model.";
}

const char *plumb_file_part(enum plumb_file_layout files, const char *name)
{
    static const struct {
        const char *own, *gpt2, *neox;
    } list[] = {
        {"embed_tokens", "wte", "embed_in"},
        {"embed_positions", "wpe", ""},
        {"norm", "ln_f", "final_layer_norm"},
        {"input_layernorm", "ln_1", "input_layernorm"},
        {"post_attention_layernorm", "ln_2", "post_attention_layernorm"},
        {"self_attn.q_proj", "attn.c_attn", "attention.query_key_value"},
        {"self_attn.k_proj", "attn.c_attn", "attention.query_key_value"},
        {"self_attn.v_proj", "attn.c_attn", "attention.query_key_value"},
        {"self_attn.o_proj", "attn.c_proj", "attention.dense"},
        {"mlp.up_proj", "mlp.c_fc", "mlp.dense_h_to_4h"},
        {"mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h"},
        {"lm_head", "lm_head", "embed_out"},
    };
    if (files == PLUMB_FILES_STARCODER2)
        return !strcmp(name, "mlp.up_proj")     ? "mlp.c_fc"
               : !strcmp(name, "mlp.down_proj") ? "mlp.c_proj"
                                                : name;
    if (files == PLUMB_FILES_GLM4)
        return !strcmp(name, "post_attention_layernorm")     ? "post_self_attn_layernorm"
               : !strcmp(name, "pre_feedforward_layernorm")  ? "post_attention_layernorm"
               : !strcmp(name, "post_feedforward_layernorm") ? "post_mlp_layernorm"
                                                             : name;
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
        if (!strcmp(list[i].own, name))
            return files == PLUMB_FILES_GPT2   ? list[i].gpt2
                   : files == PLUMB_FILES_NEOX ? list[i].neox
                                               : name;
    return name;
}

/* Returns the second name under which a checkpoint may store tensor `file`; NULL if there is
 * none. */
static const char *other_name(const char *file)
{
    for (int f = PLUMB_FILES_LLAMA; f <= PLUMB_FILES_GLM4; f++) {
        const char *stem = plumb_file_stem((enum plumb_file_layout)f);
        if (!strncmp(file, stem, strlen(stem)))
            return file + strlen(stem);
    }
    return strcmp(file, "embed_out.weight") ? NULL : "lm_head.weight";
}

bool plumb_file_has_name(const char *file, const char *name)
{
    const char *other = other_name(file);
    return !strcmp(file, name) || (other && !strcmp(other, name));
}

const struct plumb_st_entry *plumb_find_tensor(const plumb_st *files, const char *file)
{
    const struct plumb_st_entry *e = plumb_st_find(files, file);
    const char *other = other_name(file);
    return e || !other ? e : plumb_st_find(files, other);
}

const char *plumb_embed_file(const struct plumb_spec *s)
{
    return s->block.files == PLUMB_FILES_GPT2   ? "transformer.wte.weight"
           : s->block.files == PLUMB_FILES_NEOX ? "gpt_neox.embed_in.weight"
                                                : PLUMB_EMBED_NAME;
}

const char *plumb_head_file(const struct plumb_spec *s)
{
    return s->block.files == PLUMB_FILES_NEOX ? "embed_out.weight" : "lm_head.weight";
}
