/* method_param.c - reads the method and its parameters from the configuration.
 * Layer 5. Includes stage/commands.h, align/. */
#include "stage/commands.h"
#include "stage/method.h"

#include <stdio.h>
#include <string.h>

#define COPY(X, type, c_type, name, ...) .name = (c_type)cfg->method.name,

static struct plumb_align_param param_of(const struct plumb_config *cfg)
{
    return (struct plumb_align_param){PLUMB_METHOD_LIST(COPY, PLUMB_PARAM_NONE, )};
}

plumb_status plumb_method_of(const struct plumb_method **method, struct plumb_align_param *param,
                             const struct plumb_config *cfg)
{
    PLUMB_TRY(plumb_method_find(method, cfg->method.name));
    *param = param_of(cfg);
    if ((*method)->fix)
        (*method)->fix(param);
    return PLUMB_OK;
}

/* If the method's function `fix` changes method.threshold or method.reward_norm, writes the new
 * value into the configuration, so that config.effective.yaml shows it. */
static plumb_status show_fixed(struct plumb_config *c, const struct plumb_method *m)
{
    struct plumb_align_param p = param_of(c);
    char why[128];
    const enum plumb_threshold_kind threshold = p.threshold;
    const enum plumb_reward_norm norm = p.reward_norm;
    m->fix(&p);
    snprintf(why, sizeof(why), "method %s decides it", m->name);
    if (p.threshold != threshold)
        PLUMB_TRY(
            plumb_config_decide(c, "method.threshold", plumb_threshold_names[p.threshold], why));
    if (p.reward_norm != norm)
        PLUMB_TRY(plumb_config_decide(c, "method.reward_norm",
                                      plumb_reward_norm_names[p.reward_norm], why));
    return PLUMB_OK; /* the method reads none of the other values that its fix sets */
}

/* If the method computes its own rewards and data.eval is not set, warns for each configured reward
 * source that it is not used. */
static plumb_status note_reward(struct plumb_config *c, const struct plumb_method *m)
{
    static const char *const source[] = {"reward.model", "reward.command", "reward.functions"};
    char why[128];
    snprintf(why, sizeof(why), "is not used: method %s judges by itself", m->name);
    for (int i = 0; plumb_method_scores(m) && !*c->data.eval && i < 3; i++)
        PLUMB_TRY(plumb_config_warn(c, source[i], why));
    return PLUMB_OK;
}

/* If the user sets train.micro_batch_tokens but not train.micro_batch_size, the size becomes 0:
 * only the tokens limit a micro-batch. Fails if nothing limits it. */
static plumb_status settle_micro_batch(struct plumb_config *c)
{
    const char *const size = "train.micro_batch_size";
    const enum plumb_given given = plumb_config_given(c, size);
    if (c->train.micro_batch_tokens > 0 && given == PLUMB_GIVEN_NO)
        PLUMB_TRY(plumb_config_decide(c, size, "0", ""));
    PLUMB_REQUIRE(c->train.micro_batch_tokens > 0 || c->train.micro_batch_size > 0,
                  PLUMB_ERR_CONFIG,
                  "%s: 0 means no limit, and train.micro_batch_tokens is not set either: expected "
                  "a number above 0 in one of them",
                  size);
    return PLUMB_OK;
}

plumb_status plumb_train_settle(struct plumb_config *c, const char *command)
{
    const struct plumb_method *m;
    struct plumb_align_param p;
    const char *option;
    const bool align = strstr(command, "align") != NULL;
    /* If the user sets checkpoint.interval but not checkpoint.max_share, max_share becomes 1. Then
     * the interval is kept, however long the saves take. */
    if (plumb_config_given(c, "checkpoint.interval") &&
        !plumb_config_given(c, "checkpoint.max_share"))
        PLUMB_TRY(plumb_config_decide(c, "checkpoint.max_share", "1", ""));
    PLUMB_TRY(settle_micro_batch(c));
    if (!align && !strstr(command, "prefer"))
        return plumb_config_note_needless(c, command);
    PLUMB_TRY(plumb_method_of(&m, &p, c));
    if (m->fix)
        PLUMB_TRY(show_fixed(c, m));
    for (int i = 0; (option = plumb_method_option(i)); i++) {
        char path[64], why[128];
        snprintf(path, sizeof(path), "method.%s", option);
        snprintf(why, sizeof(why), "is not read by method %s%s", m->name,
                 plumb_method_compares_tau(m) ? " with the other options as they are" : "");
        if (!plumb_method_reads(m, &p, option))
            PLUMB_TRY(plumb_config_unread(c, path, why));
    }
    if (align)
        PLUMB_TRY(note_reward(c, m));
    return plumb_config_note_needless(c, command);
}
