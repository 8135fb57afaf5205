/* start.c - finds the base and the adapter of a command's model.
 * Layer 5. Includes train/start.h, io/. */
#include "train/start.h"

#include <stdio.h>
#include <string.h>

#include "io/file.h"

static plumb_status copy(char out[4096], const char *path)
{
    PLUMB_REQUIRE(strlen(path) < 4096, PLUMB_ERR_CONFIG, "%.200s...: the path is too long", path);
    snprintf(out, 4096, "%s", path);
    return PLUMB_OK;
}

static bool is_given(const struct plumb_config *cfg, const char *path)
{
    return plumb_config_given(cfg, path) != PLUMB_GIVEN_NO;
}

/* Sets out->words, the folder of tokenizer.json: the option `tokenizer` if the user has set it;
 * else the adapter's folder if there is one and it has the file; else the model's. A model that is
 * an adapter folder without the file stands for its base. */
static plumb_status find_words(struct plumb_start *out, const struct plumb_config *cfg)
{
    char path[4200];
    if (*cfg->tokenizer && is_given(cfg, "tokenizer") &&
        (strcmp(cfg->tokenizer, cfg->model) != 0 || !plumb_adapter_in(cfg->model)))
        return copy(out->words, cfg->tokenizer);
    PLUMB_TRY(plumb_path_join(path, sizeof(path), out->run, "tokenizer.json"));
    return copy(out->words, plumb_file_exists(path) ? out->run : out->base);
}

/* Fails if an option of a new adapter was given without lora.r: all weights would be trained.
 * With an explicit lora.r=0 such an option is only warned about (config/given.c). */
static plumb_status check_rank(const struct plumb_config *cfg)
{
    static const char *const option[] = {"lora.alpha", "lora.targets", "lora.rslora"};
    for (size_t i = 0; i < sizeof(option) / sizeof(option[0]); i++)
        PLUMB_REQUIRE(!is_given(cfg, option[i]), PLUMB_ERR_CONFIG,
                      "%s: is set, but lora.r is not, so all weights would be trained; set lora.r "
                      "(8, for example), or lora.r=0 to train all weights",
                      option[i]);
    return PLUMB_OK;
}

plumb_status plumb_start_of(struct plumb_start *out, const struct plumb_config *cfg)
{
    const bool adapter = plumb_adapter_in(cfg->model), given = *cfg->lora.adapter;
    *out = (struct plumb_start){0};
    PLUMB_REQUIRE(!adapter || !given, PLUMB_ERR_CONFIG,
                  "lora.adapter: is %s, but model: %s is an adapter folder, too; name the base "
                  "model with model, or leave lora.adapter out",
                  cfg->lora.adapter, cfg->model);
    if (!given && !adapter && !is_given(cfg, "lora.r"))
        PLUMB_TRY(check_rank(cfg));
    if (given) {
        PLUMB_TRY(plumb_dir_check_input(cfg->lora.adapter, "lora.adapter"));
        PLUMB_REQUIRE(plumb_adapter_in(cfg->lora.adapter), PLUMB_ERR_CONFIG,
                      "lora.adapter: %s has no " PLUMB_ADAPTER_CONFIG
                      "; expected the folder of an adapter",
                      cfg->lora.adapter);
        PLUMB_TRY(copy(out->adapter, cfg->lora.adapter));
    } else if (adapter) {
        PLUMB_TRY(copy(out->adapter, cfg->model));
    }
    PLUMB_TRY(plumb_adapter_base(out->base, sizeof(out->base), cfg->model));
    PLUMB_TRY(copy(out->run, *out->adapter ? out->adapter : out->base));
    return find_words(out, cfg);
}

const char *plumb_start_init(const struct plumb_config *cfg)
{
    return *cfg->lora.adapter ? cfg->lora.adapter : cfg->model;
}

static plumb_status lora_of(struct plumb_lora *out, const struct plumb_config *cfg)
{
    const struct plumb_texts *t = &cfg->lora.targets;
    *out =
        (struct plumb_lora){.r = cfg->lora.r, .alpha = cfg->lora.alpha, .rslora = cfg->lora.rslora};
    for (int64_t i = 0; i < t->n; i++)
        PLUMB_REQUIRE(
            strncmp(t->item[i], "model.layers.", 13) != 0 &&
                strncmp(t->item[i], "transformer.h.", 14) != 0 &&
                strncmp(t->item[i], "gpt_neox.layers.", 16) != 0,
            PLUMB_ERR_CONFIG,
            "lora.targets: '%s' names one layer; plumb adapts a projection in all layers: "
            "expected %s",
            t->item[i], strrchr(t->item[i], '.') + 1);
    return plumb_lora_set_targets(out, t->item, t->n, "lora.targets");
}

/* Returns true if m's adapter has the targets of *want. */
static bool same_targets(const plumb_model *m, const struct plumb_lora *want)
{
    const enum plumb_file_layout files = m->spec.block.files;
    bool same = true;
    for (int id = 0; id < PLUMB_N_PROJECTION; id++)
        same &= plumb_lora_is_target(want, files, (enum plumb_projection)id) ==
                plumb_lora_is_target(plumb_adapter_lora(m), files, (enum plumb_projection)id);
    return same;
}

/* Fails if an option of the section lora was given and m's adapter, read from dir, has another
 * value. */
static plumb_status check_same(const plumb_model *m, const char *dir,
                               const struct plumb_config *cfg)
{
    const struct plumb_lora *has = plumb_adapter_lora(m);
    struct plumb_lora want;
    PLUMB_TRY(lora_of(&want, cfg));
    PLUMB_REQUIRE(cfg->lora.r == 0 || want.r == has->r, PLUMB_ERR_CONFIG,
                  "lora.r: is %lld, but the adapter in %s has rank %lld; leave it out, or merge "
                  "the adapter and begin a new one",
                  (long long)want.r, dir, (long long)has->r);
    PLUMB_REQUIRE(!is_given(cfg, "lora.alpha") || want.alpha == has->alpha, PLUMB_ERR_CONFIG,
                  "lora.alpha: is %g, but the adapter in %s has %g; leave it out", want.alpha, dir,
                  has->alpha);
    PLUMB_REQUIRE(!is_given(cfg, "lora.rslora") || want.rslora == has->rslora, PLUMB_ERR_CONFIG,
                  "lora.rslora: is %s, but the adapter in %s has %s; leave it out",
                  want.rslora ? "true" : "false", dir, has->rslora ? "true" : "false");
    PLUMB_REQUIRE(!is_given(cfg, "lora.targets") || same_targets(m, &want), PLUMB_ERR_CONFIG,
                  "lora.targets: are not those of the adapter in %s; leave them out", dir);
    return PLUMB_OK;
}

plumb_status plumb_start_adapter(plumb_model *m, const struct plumb_start *start,
                                 const struct plumb_config *cfg)
{
    struct plumb_lora lora;
    if (*start->adapter) {
        PLUMB_TRY(plumb_adapter_open(m, start->adapter));
        return check_same(m, start->adapter, cfg);
    }
    if (cfg->lora.r == 0)
        return PLUMB_OK;
    PLUMB_TRY(lora_of(&lora, cfg));
    return plumb_adapter_create(m, &lora, cfg->seed);
}
