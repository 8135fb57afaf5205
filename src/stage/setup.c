/* setup.c - opens everything an alignment run needs, and counts its memory.
 * Layer 5. Includes stage/align.h, base/, io/. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "stage/align.h"
#include "train/plan.h"
#include "train/schedule.h"

static plumb_status check_text(const char *option, const char *path, const struct plumb_method *m)
{
    PLUMB_REQUIRE(path && *path, PLUMB_ERR_CONFIG,
                  "%s: %s needs a text file of principles; configs/principles has some", option,
                  m->name);
    PLUMB_REQUIRE(plumb_file_exists(path), PLUMB_ERR_IO, "%s: there is no file %s", option, path);
    return PLUMB_OK;
}

static plumb_status read_method(struct plumb_align_run *a, const struct plumb_config *cfg, bool dry)
{
    PLUMB_TRY(plumb_method_of(&a->method, &a->param, cfg));
    a->add = plumb_method_adds(a->method);
    a->reference.needed = plumb_method_needs_reference(a->method, &a->param);
    PLUMB_REQUIRE(!a->method->principled || cfg->generate.group_size % 2 == 0, PLUMB_ERR_CONFIG,
                  "generate.group_size: %s answers half of each group under the principles: "
                  "expected an even number, found %lld",
                  a->method->name, (long long)cfg->generate.group_size);
    PLUMB_TRY(plumb_method_check(a->method, &a->param, cfg->generate.group_size));
    PLUMB_REQUIRE(
        cfg->train.generated_tokens == 0 ||
            (cfg->train.lr_schedule == (int)PLUMB_LR_CONSTANT && cfg->train.warmup_ratio == 0),
        PLUMB_ERR_CONFIG,
        "train.generated_tokens: how many steps it takes is not known before, and "
        "train.lr_schedule and train.warmup_ratio need that: expected constant and 0");
    if (dry && !*cfg->data.prompts)
        return PLUMB_OK; /* `plumb plan` without prompts needs no principles */
    if (a->method->guides & PLUMB_GUIDE_PRINCIPLES)
        PLUMB_TRY(check_text("method.principles", cfg->method.principles, a->method));
    if (a->method->guides & PLUMB_GUIDE_CONTRARY)
        PLUMB_TRY(check_text("method.contrary", cfg->method.contrary, a->method));
    return PLUMB_OK;
}

static plumb_status open_prompts(struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    if (a->data)
        return PLUMB_OK; /* the memory plan has already read it */
    if (a->t->backend->dry && !*cfg->data.prompts)
        return plumb_plan_prompts(&a->data, cfg, &a->t->model->spec);
    const bool guided = a->method->guides & PLUMB_GUIDE_PRINCIPLES;
    const bool contrast = a->method->guides & PLUMB_GUIDE_CONTRARY;
    struct plumb_buf principle = {0}, contrary = {0};
    plumb_status st = PLUMB_OK;
    if (guided)
        st = plumb_file_read_text(&principle, cfg->method.principles, "a text of principles");
    if (st == PLUMB_OK && contrast)
        st = plumb_file_read_text(&contrary, cfg->method.contrary, "a text of principles");
    struct plumb_data_options options = plumb_data_options_of(cfg, a->t, PLUMB_DATA_PROMPTS);
    options.whole = true;
    options.principle = guided ? plumb_buf_text(&principle) : NULL;
    options.contrary = contrast ? plumb_buf_text(&contrary) : NULL;
    options.principle_template = cfg->method.principle_template;
    options.principle_in_system = cfg->method.principle_role == PLUMB_PRINCIPLE_SYSTEM;
    options.max_prompt_tokens = /* leave space for at least one completion token */
        plumb_at_most(options.max_prompt_tokens, options.max_tokens - 1);
    if (st == PLUMB_OK)
        st = plumb_dataset_open(&a->data, cfg->data.prompts, &options);
    plumb_buf_fini(&principle);
    plumb_buf_fini(&contrary);
    return st;
}

static plumb_status create_buffers(struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    struct plumb_backend *b = a->t->backend;
    const int64_t group = cfg->generate.group_size;
    const int64_t max_seq = a->part.split.micro_batch * (group + a->add->extra_sequences);
    const int64_t longest = plumb_dataset_longest(a->data);
    int64_t longest_any = longest;
    if (a->held.data)
        longest_any = plumb_max_i64(longest_any, plumb_dataset_longest(a->held.data));
    for (int64_t i = 0; i < a->data->n; i++) {
        const struct plumb_record *rec = &a->data->record[i];
        longest_any = plumb_max_i64(longest_any, rec->principled.n);
        longest_any = plumb_max_i64(longest_any, rec->contrary.n);
    }
    const int64_t max_pos = plumb_at_most(cfg->data.max_tokens, a->t->model->spec.max_pos);
    const int64_t whole = plumb_min_i64(longest + cfg->generate.max_new_tokens, max_pos);
    const int64_t whole_any = plumb_min_i64(longest_any + cfg->generate.max_new_tokens, max_pos);
    /* the longest answer after its principled prompt must also fit into the micro-batch */
    PLUMB_TRY(plumb_micro_init(&a->update.micro, PLUMB_MICRO_LOGP,
                               plumb_max_i64(max_seq * whole, whole_any), max_seq));
    a->t->micro = &a->update.micro;
    a->update.micro.objective = a->method->objective;
    a->update.micro.param = a->param;
    a->update.micro.reference = a->reference.needed;
    a->update.completion = calloc((size_t)max_seq, sizeof(*a->update.completion));
    a->decision.row =
        calloc((size_t)(a->part.per_iteration * group) * ROW_VALUES, sizeof(*a->decision.row));
    PLUMB_REQUIRE(a->update.completion && a->decision.row, PLUMB_ERR_NOMEM,
                  "micro-batch of %lld sequences", (long long)max_seq);
    PLUMB_TRY(plumb_rollouts_init(&a->answers, plumb_max_i64(a->part.most_local, 1), group,
                                  cfg->generate.max_new_tokens));
    int64_t bytes = plumb_rollouts_bytes(&a->answers);
    if (a->add->open_rollouts)
        PLUMB_TRY(a->add->open_rollouts(a, &bytes));
    PLUMB_TRY(plumb_scoreboard_create(&a->decision.board, a->part.per_iteration, group));
    plumb_memory_enter(b, "rollouts", PLUMB_PHASE_ALWAYS);
    PLUMB_TRY(plumb_memory_beside(b, "answers", bytes));
    plumb_memory_enter(b, "generation", PLUMB_PHASE_ROLLOUT);
    return plumb_generator_create(&a->generator, a->t->model, cfg->generate.slots, whole_any,
                                  a->t->tokenizer);
}

static plumb_status open_rewards(struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    const int64_t held = a->held.data ? plumb_dataset_longest(a->held.data) : 0;
    const struct plumb_rewards_need need = {
        .longest =
            plumb_max_i64(plumb_dataset_longest(a->data), held) + cfg->generate.max_new_tokens,
        .items = plumb_max_i64(a->part.most_local * cfg->generate.group_size, a->held.n_local)};
    return plumb_rewards_create(&a->rewards, cfg, a->t->backend, &need);
}

/* Opens the reference models. The KL to the start is also computed if another role already needs
 * the start weights. */
static plumb_status open_references(struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    const bool init = strcmp(cfg->method.reference, "init") == 0;
    const int64_t answers = plumb_max_i64(a->part.most_local, 1) * cfg->generate.group_size;
    for (int role = 0; role < PLUMB_ROLES; role++)
        a->reference.role[role] = -1;
    /* Room for one cached log-prob per completion and role, and for two more: DLMA computes the
     * log-prob of each completion after two prompts, with the principles and with their contrary.
     */
    PLUMB_TRY(plumb_references_create(&a->reference.set, a->t->model, cfg->model,
                                      (PLUMB_ROLES + 2) * answers));
    if (a->reference.needed)
        PLUMB_TRY(plumb_references_open(a->reference.set, &a->reference.role[PLUMB_ROLE_LOSS],
                                        cfg->method.reference, "method.reference"));
    if (a->add->open_references)
        PLUMB_TRY(a->add->open_references(a));
    if (cfg->train.kl_to_start || (a->reference.needed && init))
        PLUMB_TRY(plumb_references_open(a->reference.set, &a->reference.role[PLUMB_ROLE_START],
                                        "init", "train.kl_to_start"));
    return PLUMB_OK;
}

plumb_status plumb_align_keep_reference(struct plumb_align_run *a)
{
    int *loss = &a->reference.role[PLUMB_ROLE_LOSS];
    if (plumb_references_frozen(a->reference.set, *loss))
        return PLUMB_OK;
    if (a->t->cfg->train.iterations == 1)
        return plumb_references_open(a->reference.set, loss, "init", "method.reference");
    return plumb_references_hold(a->reference.set, *loss);
}

static plumb_status open_parts(struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    PLUMB_TRY(open_prompts(a));
    PLUMB_TRY(plumb_align_open_partition(a));
    PLUMB_TRY(plumb_align_open_eval(a));
    PLUMB_TRY(create_buffers(a));
    plumb_memory_enter(a->t->backend, "reward model", PLUMB_PHASE_ALWAYS);
    if (a->held.data || (!a->add->score && (plumb_rewards_configured(cfg) ||
                                            (a->method->reward && !a->t->backend->dry))))
        PLUMB_TRY(open_rewards(a));
    plumb_memory_enter(a->t->backend, "reference models", PLUMB_PHASE_ALWAYS);
    PLUMB_TRY(open_references(a));
    return a->add->open ? a->add->open(a) : PLUMB_OK;
}

plumb_status plumb_align_check(const struct plumb_config *cfg)
{
    struct plumb_align_run a = {0};
    PLUMB_TRY(read_method(&a, cfg, false));
    PLUMB_REQUIRE(*cfg->data.prompts, PLUMB_ERR_CONFIG,
                  "data.prompts: is not set; name a JSONL file of prompts");
    PLUMB_REQUIRE(!a.method->reward || a.add->score || plumb_rewards_configured(cfg),
                  PLUMB_ERR_CONFIG, "reward: nothing is configured, but %s needs scores",
                  a.method->name);
    return PLUMB_OK;
}

plumb_status plumb_align_setup(struct plumb_align_run *a, const struct plumb_trainer_source *s)
{
    const struct plumb_config *cfg = s->cfg;
    PLUMB_TRY(plumb_comm_agree(s->comm, read_method(a, cfg, s->backend->dry)));
    PLUMB_TRY(plumb_trainer_open(&a->t, s));
    const struct plumb_memory_scope outer =
        plumb_memory_enter(s->backend, "other", PLUMB_PHASE_ALWAYS);
    const plumb_status st = open_parts(a);
    plumb_memory_leave(s->backend, outer);
    PLUMB_TRY(plumb_comm_agree(s->comm, st));
    const struct plumb_pass_limit limit =
        plumb_pack_limit(&a->update.micro.pack, true, cfg->train.recompute, cfg->train.head_rows);
    plumb_say_small(a->t, a->part.per_iteration, "prompts in an iteration");
    const int64_t total = cfg->train.iterations * cfg->train.epochs * a->part.steps;
    PLUMB_TRY(
        plumb_trainer_prepare(a->t, &limit, total, plumb_split_micro_batches(&a->part.split, 0)));
    if (s->backend->dry)
        return PLUMB_OK;
    a->in_progress = a->t->resumed_from[0] && plumb_align_paused_in(a->t->resumed_from);
    a->decision.threshold = plumb_threshold_begin(&a->param);
    a->decision.threshold.tau =
        plumb_state_get(&a->t->state, "threshold.tau", a->decision.threshold.tau);
    a->decision.threshold.iteration = (int64_t)plumb_state_get(
        &a->t->state, "threshold.iteration", (double)a->decision.threshold.iteration);
    plumb_log(PLUMB_LOG_INFO,
              "%s: %s; %lld iterations of %lld prompts x %lld completions, %lld steps each",
              a->method->name, a->method->summary, (long long)cfg->train.iterations,
              (long long)a->part.per_iteration, (long long)cfg->generate.group_size,
              (long long)(cfg->train.epochs * a->part.steps));
    if (cfg->train.generated_tokens > 0)
        plumb_log(PLUMB_LOG_INFO, "or until %lld tokens are generated, whichever comes first",
                  (long long)cfg->train.generated_tokens);
    return PLUMB_OK;
}

void plumb_align_release(struct plumb_align_run *a)
{
    if (a->own)
        a->add->close(a);
    plumb_generator_destroy(&a->generator);
    plumb_scoreboard_destroy(&a->decision.board);
    plumb_rollouts_fini(&a->answers);
    plumb_micro_fini(&a->update.micro);
    plumb_rewards_destroy(&a->rewards);
    plumb_references_destroy(&a->reference.set);
    plumb_dataset_close(&a->data);
    free(a->part.record);
    free(a->part.local_prompt);
    free(a->part.local_record);
    free(a->part.step_first);
    free(a->update.prompt_list);
    free(a->update.completion);
    free(a->decision.row);
    plumb_align_close_eval(a);
}
