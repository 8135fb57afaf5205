/* lora_target.c - the modules that an adapter changes, by their names in each layout of files.
 * Layer 4. Includes base/, model/lora_target.h, model/net.h.
 *
 * PEFT adapts modules. If the files have one module for several projections (such as qkv_proj),
 * PEFT has one A and one B for this module: the projections share A, and each has its own rows of
 * B. */
#include "model/lora_target.h"

#include <stdio.h>
#include <string.h>

#include "model/net.h"

enum { LLAMA = 1 << PLUMB_FILES_LLAMA, PHI3 = 1 << PLUMB_FILES_PHI3 };
enum { GPT2 = 1 << PLUMB_FILES_GPT2, NEOX = 1 << PLUMB_FILES_NEOX };
enum { STARCODER2 = 1 << PLUMB_FILES_STARCODER2 };
enum { GLM = 1 << PLUMB_FILES_GLM | 1 << PLUMB_FILES_GLM4 };
#define BIT(id) (1u << (id))
#define QKV     (BIT(PLUMB_Q) | BIT(PLUMB_K) | BIT(PLUMB_V))

/* The modules, in the order in which target_modules lists them. A name without its first part
 * ("q_proj") stands for the module, too; GPT-2's "c_proj" stands for the two modules that end in
 * it. */
static const struct module {
    const char *name;
    unsigned files, projections;
} modules[] = {
    {"self_attn.q_proj", LLAMA | STARCODER2 | GLM, BIT(PLUMB_Q)},
    {"self_attn.k_proj", LLAMA | STARCODER2 | GLM, BIT(PLUMB_K)},
    {"self_attn.v_proj", LLAMA | STARCODER2 | GLM, BIT(PLUMB_V)},
    {"self_attn.qkv_proj", PHI3, QKV},
    {"attn.c_attn", GPT2, QKV},
    {"attention.query_key_value", NEOX, QKV},
    {"self_attn.o_proj", LLAMA | PHI3 | STARCODER2 | GLM, BIT(PLUMB_O)},
    {"attn.c_proj", GPT2, BIT(PLUMB_O)},
    {"attention.dense", NEOX, BIT(PLUMB_O)},
    {"mlp.gate_proj", LLAMA, BIT(PLUMB_GATE)},
    {"mlp.gate_up_proj", PHI3 | GLM, BIT(PLUMB_GATE) | BIT(PLUMB_UP)},
    {"mlp.up_proj", LLAMA, BIT(PLUMB_UP)},
    {"mlp.c_fc", GPT2 | STARCODER2, BIT(PLUMB_UP)},
    {"mlp.dense_h_to_4h", NEOX, BIT(PLUMB_UP)},
    {"mlp.down_proj", LLAMA | PHI3 | GLM, BIT(PLUMB_DOWN)},
    {"mlp.c_proj", GPT2 | STARCODER2, BIT(PLUMB_DOWN)},
    {"mlp.dense_4h_to_h", NEOX, BIT(PLUMB_DOWN)},
};
enum { MODULES = sizeof modules / sizeof *modules };

/* Returns the name without its beginning, for example "model.layers.N.", which peft writes for
 * all-linear. The remaining name stands for the module in all layers. If an adapter has the module
 * in some layers only, its weights file is refused later, because tensors are missing in it. */
static const char *inside_layer(const char *name)
{
    static const char *const stem[] = {"model.layers.", "transformer.h.", "gpt_neox.layers."};
    for (size_t i = 0; i < sizeof stem / sizeof *stem; i++) {
        const size_t n = strlen(stem[i]);
        if (strncmp(name, stem[i], n) != 0)
            continue;
        name += n + strspn(name + n, "0123456789");
        return name + (*name == '.');
    }
    return name;
}

static void add_target(struct plumb_lora *lora, const struct module *m)
{
    for (int id = 0; id < PLUMB_N_PROJECTION; id++)
        if (m->projections & BIT(id))
            lora->target[id] |= m->files;
}

plumb_status plumb_lora_set_targets(struct plumb_lora *lora, const char *const *name, int64_t n,
                                    const char *where)
{
    const bool all = n == 0 || (n == 1 && !strcmp(name[0], "all-linear"));
    lora->files = ~0u;
    for (int id = 0; id < PLUMB_N_PROJECTION; id++)
        lora->target[id] = 0;
    for (int k = 0; k < MODULES && all; k++)
        add_target(lora, &modules[k]);
    for (int64_t i = 0; i < n && !all; i++) {
        const char *part = inside_layer(name[i]);
        unsigned files = 0;
        for (int k = 0; k < MODULES; k++) {
            const struct module *m = &modules[k];
            if (strcmp(part, m->name) != 0 && strcmp(part, strchr(m->name, '.') + 1) != 0)
                continue;
            files |= m->files;
            add_target(lora, m);
        }
        PLUMB_REQUIRE(files, PLUMB_ERR_CONFIG,
                      "%s: '%s' is no target; expected all-linear, or names among q_proj, k_proj, "
                      "v_proj, o_proj, gate_proj, up_proj, down_proj (Phi-3: qkv_proj, "
                      "gate_up_proj; GLM-4: gate_up_proj; GPT-2: c_attn, c_fc, c_proj; GPT-NeoX: "
                      "query_key_value, "
                      "dense, dense_h_to_4h, dense_4h_to_h; StarCoder2: c_fc, c_proj)",
                      where, name[i]);
        lora->files &= files;
    }
    return PLUMB_OK;
}

bool plumb_lora_is_target(const struct plumb_lora *lora, enum plumb_file_layout files,
                          enum plumb_projection id)
{
    return (lora->target[id] & (1u << files)) != 0;
}

enum plumb_file_layout plumb_lora_layout(const struct plumb_lora *lora, const char *tensor)
{
    static const char before[] = "base_model.model.";
    const size_t n = strlen(before);
    for (int f = PLUMB_FILES_LLAMA; f <= PLUMB_FILES_GLM4; f++) {
        const char *stem = plumb_file_stem((enum plumb_file_layout)f);
        if ((lora->files & (1u << f)) && !strncmp(tensor, before, n) &&
            !strncmp(tensor + n, stem, strlen(stem)))
            return (enum plumb_file_layout)f;
    }
    return PLUMB_FILES_LLAMA;
}

/* Appends the names that the target modules have in this layout of files, separated by ", ", each
 * with `quote` before and after it. If two modules have the same last part of the name, the full
 * name is written ("attn.c_proj"). */
static plumb_status put(struct plumb_buf *out, const struct plumb_lora *lora,
                        enum plumb_file_layout files, const char *quote)
{
    const char *between = "";
    for (int k = 0; k < MODULES; k++) {
        const struct module *m = &modules[k];
        bool target = false, same = false;
        for (int id = 0; id < PLUMB_N_PROJECTION; id++)
            target |= plumb_lora_is_target(lora, files, (enum plumb_projection)id) &&
                      (m->projections & BIT(id));
        if (!target || !(m->files & (1u << files)))
            continue;
        const char *last = strchr(m->name, '.') + 1;
        for (int i = 0; i < MODULES; i++)
            same |= i != k && (modules[i].files & (1u << files)) &&
                    !strcmp(strchr(modules[i].name, '.') + 1, last);
        PLUMB_TRY(plumb_buf_addf(out, "%s%s%s%s", between, quote, same ? m->name : last, quote));
        between = ", ";
    }
    return PLUMB_OK;
}

plumb_status plumb_lora_put_targets(struct plumb_buf *out, const struct plumb_lora *lora,
                                    enum plumb_file_layout files)
{
    return put(out, lora, files, "");
}

plumb_status plumb_lora_put_modules(struct plumb_buf *out, const struct plumb_lora *lora,
                                    enum plumb_file_layout files)
{
    return put(out, lora, files, "\"");
}

plumb_status plumb_lora_check_targets(const struct plumb_lora *lora, const plumb_model *m)
{
    const enum plumb_file_layout files = m->spec.block.files;
    struct plumb_lora every = *lora;
    struct plumb_buf names = {0};
    char list[256] = "";
    for (int id = 0; id < PLUMB_N_PROJECTION; id++)
        every.target[id] = ~0u;
    if (plumb_lora_put_targets(&names, &every, files) == PLUMB_OK)
        snprintf(list, sizeof list, "%s", plumb_buf_text(&names));
    plumb_buf_fini(&names);
    PLUMB_REQUIRE(
        lora->files & (1u << files), PLUMB_ERR_CONFIG,
        "lora.targets: %s has no such module as one of them; expected all-linear, or names "
        "among %s",
        m->dir, list);
    PLUMB_REQUIRE(!lora->turned || files == PLUMB_FILES_GPT2, PLUMB_ERR_UNSUPPORTED,
                  "%s: the adapter's fan_in_fan_out is set, which only modules of GPT-2 have",
                  m->dir);
    return PLUMB_OK;
}

/* Returns the first projection of the module that contains projection id in files of this
 * layout. */
static int first_of(enum plumb_file_layout files, int id)
{
    for (int k = 0; k < MODULES; k++)
        for (int first = 0; (modules[k].files & (1u << files)) &&
                            (modules[k].projections & BIT(id)) && first <= id;
             first++)
            if (modules[k].projections & BIT(first))
                return first;
    return id;
}

enum plumb_projection plumb_lora_shares(const plumb_model *m, enum plumb_projection id)
{
    return (enum plumb_projection)first_of(m->spec.block.files, id);
}
