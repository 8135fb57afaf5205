/* test_option.c - checks the table of options: names, defaults, ranges, and choices, which must
 * correspond to an enum.
 * Test. Includes load.h, config/, align/, train/schedule.h. */
#include "config/option.h"

#include <stdbool.h>

#include "align/param.h"
#include "base/log.h"
#include "load.h"
#include "train/schedule.h"

/* Checks that no two options of a command have the same name without the section, except for
 * top-level options and the options listed here. */
static void test_names(void)
{
    const struct plumb_option *o, *p;
    const struct plumb_command *k;
    for (int c = 0; (k = plumb_command_at(c)); c++)
        for (int i = 0; (o = plumb_option_at(i)); i++)
            for (int j = i + 1; (p = plumb_option_at(j)); j++)
                CHECKF(strcmp(o->name, p->name) || !plumb_option_used(o, k->name) ||
                           !plumb_option_used(p, k->name) ||
                           /* a top-level option: its name is its whole path */
                           !strchr(o->path, '.') || !strcmp(o->path, "comm.timeout") ||
                           !strcmp(o->path, "eval.samples") || !strcmp(o->path, "method.alpha"),
                       "%s: %s", k->name, o->path);
}

static void test_table(void)
{
    const struct plumb_option *o, *p;
    int count = 0;
    /* loads the default value of every option */
    struct plumb_config *c = load("align", NULL, NULL, 0);
    for (int i = 0; (o = plumb_option_at(i)); i++, count++) {
        CHECKF(*o->name && *o->help && *o->commands, "%s", o->path);
        for (const char *l = o->commands; *l; l++) {
            bool known = false;
            const struct plumb_command *k;
            for (int j = 0; (k = plumb_command_at(j)); j++)
                known = known || (k->letter == *l && k->letter != 'h');
            CHECKF(known && !strchr(l + 1, *l), "%s: %c", o->path, *l);
        }
        CHECKF(!plumb_section_help(o->name) || !strcmp(o->section, "data") ||
                   !strcmp(o->section, "reward"),
               "%s is also a section", o->path);
        if (o->type == PLUMB_TYPE_REAL || o->type == PLUMB_TYPE_INT)
            CHECKF(*o->range == '[' || *o->range == '(', "%s", o->path);
        if (o->type == PLUMB_TYPE_CHOICE || o->type == PLUMB_TYPE_WORD)
            CHECKF(strchr(o->range, '|'), "%s", o->path);
        for (int j = i + 1; (p = plumb_option_at(j)); j++)
            CHECKF(strcmp(o->path, p->path), "%s", o->path);
    }
    test_names();
    CHECK(count > 80);
    CHECK(c->comm.timeout == 60 && c->comm.max_wait == 1800);
    CHECK(c->generate.max_new_tokens == 128 && c->seed == 1);
    CHECK(c->train.learning_rate == 1e-5 && c->checkpoint.shard_bytes == 5000000000);
    CHECK(c->log_level == PLUMB_LOG_INFO && !strcmp(c->device, "auto"));
    CHECK(!strcmp(c->output, "-") && !*c->model && !*c->tokenizer);
    CHECK(c->reward.functions.n == 0 && c->generate.stop.n == 0);
    plumb_config_free(&c);
    plumb_config_free(&c);
}

/* Checks that two functions that read the same lines of align/param_list.h give the same defaults:
 * one for a method's options, one for its parameters. */
static void check_align_defaults(void)
{
    const struct plumb_align_param p = plumb_align_param_default();
    struct plumb_config *c = load("align", NULL, NULL, 0);
#define CHECK_DEFAULT(X, type, c_type, name, ...)                                                  \
    CHECKF((c_type)c->method.name == p.name, "method.%s", #name);
    PLUMB_METHOD_LIST(CHECK_DEFAULT, PLUMB_PARAM_NONE, )
#undef CHECK_DEFAULT
    CHECK(p.tau == 0.2 && p.noise_window == 200 && p.length_normalize && p.rho == -0.5);
    CHECK(p.rank_loss == PLUMB_RANK_HINGE && p.threshold == PLUMB_THRESHOLD_DECAY);
    plumb_config_free(&c);
}

/* Checks that the choices of an option are the names of the values of its enum, in the same
 * order. */
static void test_choices(void)
{
    char text[64];
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof(text), "lr_schedule=%s",
                 plumb_schedule_name((enum plumb_schedule_kind)i));
        char *const override[] = {text};
        struct plumb_config *c = load("sft", NULL, override, 1);
        CHECK(c->train.lr_schedule == i);
        plumb_config_free(&c);
    }
    static const struct {
        const char *path;
        const char *const *names;
    } same[] = {{"rank_loss", plumb_rank_loss_names},
                {"weighted_loss", plumb_weighted_loss_names},
                {"reward_norm", plumb_reward_norm_names},
                {"threshold", plumb_threshold_names},
                {"reverse", plumb_reverse_names}};
    for (size_t k = 0; k < sizeof(same) / sizeof(*same); k++) {
        char range[128] = "";
        for (int i = 0; same[k].names[i]; i++)
            snprintf(range + strlen(range), sizeof(range) - strlen(range), "%s%s", i ? "|" : "",
                     same[k].names[i]);
        CHECKF(!strcmp(plumb_option_find("method", same[k].path)->range, range), "%s: %s",
               same[k].path, range);
    }
    check_align_defaults();
    char init[] = "init=random", level[] = "log_level=debug";
    char *const override[] = {init, level};
    struct plumb_config *c = load("sft", NULL, override, 2);
    CHECK(c->train.init == PLUMB_INIT_RANDOM && c->log_level == PLUMB_LOG_DEBUG);
    plumb_config_free(&c);
}

int main(void)
{
    load_begin();
    test_table();
    test_choices();
    load_end();
    return 0;
}
