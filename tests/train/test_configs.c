/* test_configs.c - checks every YAML file in configs/quickstart and configs/8b: it is a valid
 * configuration of its command, and its method exists and accepts its settings.
 * Test. Includes harness.h, align/, config/, io/, train/. */
#include "align/method.h"
#include "config/config.h"
#include "config/stages.h"
#include "harness.h"
#include "io/file.h"
#include "stage/commands.h"
#include "train/loops.h"

static const char *command_of(const char *name)
{
    static const char *const other[][2] = {
        {"sft.yaml", "sft"}, {"reward.yaml", "reward"}, {"eval.yaml", "eval"}};
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
        if (strcmp(name, other[i][0]) == 0)
            return other[i][1];
    return strncmp(name, "prefer", 6) == 0 ? "prefer" : "align";
}

static void check_align(const struct plumb_config *cfg, const char *path, const char *name)
{
    const struct plumb_method *m;
    struct plumb_align_param param;
    CHECK_OK(plumb_method_of(&m, &param, cfg));
    const plumb_status st = plumb_method_check(m, &param, cfg->generate.group_size);
    CHECKF(st == PLUMB_OK, "%s: %s", path, plumb_trail_message());
    CHECKF(!m->principled || *cfg->method.principles, "%s: no principles", path);
    CHECKF(*cfg->data.prompts && *cfg->model && *cfg->output_dir, "%s: incomplete", path);
    /* The file name is METHOD.yaml or METHOD_lora.yaml. The only exception is quickstart's psle,
     * which is align.yaml. */
    const size_t n = strlen(cfg->method.name);
    CHECKF(!strcmp(name, "align.yaml") || (!strncmp(name, cfg->method.name, n) &&
                                           (!strcmp(name + n, ".yaml") ||
                                            (!strcmp(name + n, "_lora.yaml") && cfg->lora.r > 0))),
           "%s is of method %s", path, cfg->method.name);
    CHECKF(cfg->train.global_batch_size % cfg->train.micro_batch_size == 0, "%s: batches", path);
}

/* Checks that the configurations in configs/8b are for GPUs. */
static void check_device(const struct plumb_config *cfg, const char *path)
{
    if (strstr(path, "configs/8b/"))
        CHECKF(!strcmp(cfg->device, "cuda") && cfg->dtype == 1 /* bfloat16 */, "%s: device: %s",
               path, cfg->device);
}

static void check_stages(const char *path)
{
    struct plumb_stages *s;
    const plumb_status st = plumb_stages_load(&s, path, NULL, 0);
    CHECKF(st == PLUMB_OK, "%s: %s", path, plumb_trail_message());
    CHECK(s->n > 1);
    for (int64_t i = 0; i < s->n; i++) {
        const struct plumb_config *cfg = s->item[i].cfg;
        const bool align = strcmp(s->item[i].command, "align") == 0;
        const struct plumb_method *m;
        check_device(cfg, path);
        struct plumb_align_param param;
        CHECK_OK(plumb_method_of(&m, &param, cfg));
        CHECK_OK(plumb_method_check(m, &param, align ? cfg->generate.group_size : 2));
        CHECKF(*cfg->model && *(align ? cfg->data.prompts : cfg->data.train), "%s: stage %s", path,
               s->item[i].name);
    }
    plumb_stages_free(&s);
}

static int check_folder(const char *root, const char *folder)
{
    char dir[2048], path[4096];
    struct plumb_names names = {0};
    int seen = 0;
    snprintf(dir, sizeof(dir), "%s/%s", root, folder);
    CHECK_OK(plumb_dir_list(&names, dir));
    for (int64_t i = 0; i < names.n; i++) {
        const char *name = names.name[i], *dot = strrchr(name, '.');
        struct plumb_config *cfg = NULL;
        struct plumb_buf text = {0};
        if (!dot || strcmp(dot, ".yaml") != 0)
            continue;
        CHECK_OK(plumb_path_join(path, sizeof(path), dir, name));
        CHECK_OK(plumb_file_read(&text, path));
        if (strstr(plumb_buf_text(&text), "\nstages:")) {
            check_stages(path);
        } else {
            const char *command = command_of(name);
            const plumb_status st = plumb_config_load(&cfg, command, path, NULL, 0);
            CHECKF(st == PLUMB_OK, "%s: %s", path, plumb_trail_message());
            check_device(cfg, path);
            if (!strcmp(command, "align"))
                check_align(cfg, path, name);
            seen++;
        }
        plumb_config_free(&cfg);
        plumb_buf_fini(&text);
    }
    plumb_names_fini(&names);
    return seen;
}

int main(void)
{
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    CHECK(root);
    CHECK(check_folder(root, "configs/quickstart") >= 15);
    CHECK(check_folder(root, "configs/8b") >= 20);
    CHECK(check_folder(root, "configs/smollm2") >= 3);
    return 0;
}
