/* setup.c - opens everything an alignment run needs, and counts its memory.
 * Layer 5. Includes stage/align_run.h, base/, data/, io/. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "data/length.h"
#include "io/file.h"
#include "stage/align_run.h"
#include "train/loops.h"
#include "train/plan.h"
#include "train/same.h"
#include "train/schedule.h"

static plumb_status check_text(const char *option, const char *path, const struct plumb_method *m)
{
    PLUMB_REQUIRE(path && *path, PLUMB_ERR_CONFIG,
                  "%s: %s needs a text file of principles; configs/principles has some", option,
                  m->name);
    PLUMB_REQUIRE(plumb_file_exists(path), PLUMB_ERR_IO, "%s: there is no file %s", option, path);
    return PLUMB_OK;
}

static plumb_status read_method(struct plumb_align_context *c, const struct plumb_config *cfg,
                                bool dry)
{
    for (int64_t i = 0; i < cfg->generate.stop.n; i++)
        PLUMB_REQUIRE(*cfg->generate.stop.item[i], PLUMB_ERR_CONFIG,
                      "generate.stop: text %lld of the list is an empty text", (long long)i + 1);
    PLUMB_TRY(plumb_method_of(&c->method, &c->param, cfg));
    c->add = plumb_method_adds(c->method);
    PLUMB_TRY(plumb_method_check(c->method, &c->param, cfg->generate.group_size));
    PLUMB_REQUIRE(
        cfg->train.generated_tokens == 0 ||
            (cfg->train.lr_schedule == (int)PLUMB_LR_CONSTANT && cfg->train.warmup_ratio == 0),
        PLUMB_ERR_CONFIG,
        "train.generated_tokens: the number of steps is not known in advance, but a schedule needs "
        "it: expected train.lr_schedule constant and train.warmup_ratio 0");
    if (dry && !*cfg->data.prompts)
        return PLUMB_OK; /* `plumb plan` without prompts does not read the principles */
    if (plumb_method_reads(c->method, &c->param, "principles"))
        PLUMB_TRY(check_text("method.principles", cfg->method.principles, c->method));
    if (plumb_method_reads(c->method, &c->param, "contrary"))
        PLUMB_TRY(check_text("method.contrary", cfg->method.contrary, c->method));
    return PLUMB_OK;
}

static plumb_status open_prompts(struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    const struct plumb_align_context *c = &a->context;
    if (a->data)
        return PLUMB_OK; /* the memory plan has already read the prompts */
    if (a->t->backend->dry && !*cfg->data.prompts)
        return plumb_plan_prompts(&a->data, cfg, &a->t->model->spec,
                                  plumb_method_sequences(c->method, cfg->generate.group_size));
    const bool guided = plumb_method_reads(c->method, &c->param, "principles");
    const bool contrast = plumb_method_reads(c->method, &c->param, "contrary");
    struct plumb_buf principle = {0}, contrary = {0};
    plumb_status st = plumb_file_check_input(cfg->data.prompts, "data.prompts");
    if (st == PLUMB_OK && guided)
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

/* Returns the number of tokens of the longest prompt in data.prompts (plain, with the principles or
 * with the contrary principles) or in data.eval. */
static int64_t longest_of_all(const struct plumb_align_run *a)
{
    int64_t longest = plumb_dataset_longest(a->data);
    if (a->held_out.data)
        longest = plumb_max_i64(longest, plumb_dataset_longest(a->held_out.data));
    for (int64_t record = 0; record < a->data->n; record++) {
        const struct plumb_record *rec = &a->data->record[record];
        longest = plumb_max_i64(longest, plumb_max_i64(rec->principled.n, rec->contrary.n));
    }
    return longest;
}

/* Sets *most_seq and *most_tokens to the largest number of sequences and of tokens in a micro-batch
 * of the update. whole: largest number of tokens of a plain prompt together with a completion. */
static void update_need(int64_t *most_seq, int64_t *most_tokens, const struct plumb_align_run *a,
                        int64_t whole)
{
    const struct plumb_align_context *c = &a->context;
    const int64_t group = c->t->cfg->generate.group_size;
    if (a->part.split.tokens == 0) {
        *most_seq = a->part.most.items * (group + c->add->extra_sequences);
        *most_tokens = *most_seq * whole;
        return;
    }
    /* most_seq is at least group_size, because `preselect` packs a whole group */
    *most_seq = plumb_max_i64(a->part.most.items * plumb_method_sequences(c->method, group), group);
    *most_tokens = a->part.most.tokens;
}

/* Allocates the memory of the micro-batches. This memory suffices for a micro-batch of the update
 * (whole: largest number of tokens of a plain prompt and a completion), and for one sequence of
 * whole_any tokens (largest number of tokens of a completion after a prompt of any kind: plain,
 * principled or contrary). */
static plumb_status open_work(struct plumb_work *w, const struct plumb_align_run *a, int64_t whole,
                              int64_t whole_any)
{
    const struct plumb_align_context *c = &a->context;
    int64_t most_seq, most_tokens;
    update_need(&most_seq, &most_tokens, a, whole);
    PLUMB_TRY(plumb_micro_init(&w->micro, PLUMB_MICRO_LOGP, plumb_max_i64(most_tokens, whole_any),
                               most_seq));
    c->t->micro = &w->micro;
    w->micro.objective = c->method->objective;
    w->micro.param = c->param;
    w->micro.reference = plumb_method_needs_reference(c->method, &c->param);
    w->completion_of = calloc((size_t)most_seq, sizeof(*w->completion_of));
    PLUMB_REQUIRE(w->completion_of, PLUMB_ERR_NOMEM, "micro-batch of %lld sequences",
                  (long long)most_seq);
    return PLUMB_OK;
}

static plumb_status create_buffers(struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    struct plumb_backend *b = a->t->backend;
    const int64_t group = cfg->generate.group_size, longest_any = longest_of_all(a);
    const int64_t most_local = plumb_max_i64(a->part.most_local, 1);
    const int64_t max_pos = plumb_at_most(cfg->data.max_tokens, a->t->model->spec.max_pos);
    const int64_t whole =
        plumb_min_i64(plumb_dataset_longest(a->data) + cfg->generate.max_new_tokens, max_pos);
    const int64_t whole_any = plumb_length_generated(cfg, longest_any, a->t->model->spec.max_pos);
    PLUMB_TRY(open_work(&a->work, a, whole, whole_any));
    PLUMB_TRY(plumb_update_open(&a->update, &a->part));
    PLUMB_TRY(
        plumb_rollouts_init(&a->rollout.rollouts, most_local, group, cfg->generate.max_new_tokens));
    PLUMB_TRY(plumb_scores_init(&a->reward.scores, most_local * group));
    int64_t bytes =
        plumb_rollouts_bytes(&a->rollout.rollouts) + plumb_scores_bytes(&a->reward.scores);
    PLUMB_TRY(plumb_balance_open(&a->rollout.balance, &a->context, &a->part, &bytes));
    if (a->context.add->open_rollouts)
        PLUMB_TRY(a->context.add->open_rollouts(&a->own, &a->context, &a->part, &bytes));
    PLUMB_TRY(plumb_decision_open(&a->decision, &a->part, group));
    plumb_memory_enter(b, "rollouts", PLUMB_PHASE_ALWAYS);
    PLUMB_TRY(plumb_memory_beside(b, "answers", bytes));
    plumb_memory_enter(b, "generation", PLUMB_PHASE_ROLLOUT);
    const struct plumb_generator_need need =
        plumb_generator_need_of(cfg, cfg->generate.slots, whole_any, a->t->tokenizer);
    return plumb_generator_create(&a->rollout.generator, a->t->model, &need);
}

static plumb_status open_rewards(struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    const int64_t held_out = a->held_out.data ? plumb_dataset_longest(a->held_out.data) : 0;
    const struct plumb_rewards_need need = {
        .ahead = a->t->ahead,
        .frozen = &a->t->frozen,
        .longest =
            plumb_max_i64(plumb_dataset_longest(a->data), held_out) + cfg->generate.max_new_tokens,
        .items = plumb_max_i64(a->part.most_local * cfg->generate.group_size, a->held_out.n_local)};
    PLUMB_TRY(plumb_rewards_create(&a->reward.sources, cfg, a->t->backend, &need));
    if (a->t->backend->dry)
        return PLUMB_OK;
    if (a->held_out.data)
        PLUMB_TRY(plumb_rewards_check_records(a->reward.sources, a->held_out.data, cfg->data.eval));
    return plumb_method_scores(a->context.method)
               ? PLUMB_OK
               : plumb_rewards_check_records(a->reward.sources, a->data, cfg->data.prompts);
}

/* Returns true if the run needs the configured reward sources, for the method or for data.eval. */
static bool uses_reward(const struct plumb_align_run *a)
{
    const struct plumb_method *m = a->context.method;
    return a->held_out.data || (!plumb_method_scores(m) && plumb_rewards_configured(a->t->cfg)) ||
           (plumb_method_needs_reward(m) && !a->t->backend->dry);
}

static plumb_status open_data(struct plumb_align_run *a)
{
    PLUMB_TRY(open_prompts(a));
    a->context.data = a->data;
    PLUMB_TRY(plumb_partition_open(&a->part, &a->context));
    return plumb_align_held_out_open(&a->held_out, a->t);
}

/* Fails if a rank has read other prompts than rank 0. A memory plan does not compare them, because
 * `plumb plan` works even if a rank has no file data.eval. Collective. */
static plumb_status check_data(const struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    if (a->t->backend->dry)
        return PLUMB_OK;
    PLUMB_TRY(plumb_same_records(a->t->comm, "data.prompts", cfg->data.prompts, a->data));
    return plumb_same_records(a->t->comm, "data.eval", cfg->data.eval, a->held_out.data);
}

/* Fails if a rank has another reward model or other reference models than rank 0. Collective. */
static plumb_status check_models(const struct plumb_align_run *a)
{
    const plumb_model *m = a->reward.sources ? plumb_rewards_model(a->reward.sources) : NULL;
    if (a->t->backend->dry)
        return PLUMB_OK;
    if (m)
        PLUMB_TRY(plumb_same_model(a->t->comm, "reward.model", m));
    return a->reference.set ? plumb_references_same(a->reference.set, a->t->comm) : PLUMB_OK;
}

static plumb_status open_parts(struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    const struct plumb_align_context *c = &a->context;
    PLUMB_TRY(create_buffers(a));
    plumb_memory_enter(a->t->backend, "reward model", PLUMB_PHASE_ALWAYS);
    if (uses_reward(a))
        PLUMB_TRY(open_rewards(a));
    plumb_memory_enter(a->t->backend, "reference models", PLUMB_PHASE_ALWAYS);
    PLUMB_TRY(plumb_reference_stage_open(
        &a->reference, c, a->own, plumb_max_i64(a->part.most_local, 1) * cfg->generate.group_size));
    return c->add->open ? c->add->open(&a->own, c, &a->part, &a->reference, &a->work) : PLUMB_OK;
}

plumb_status plumb_align_check(const struct plumb_config *cfg)
{
    struct plumb_align_context c = {0};
    PLUMB_TRY(read_method(&c, cfg, false));
    PLUMB_REQUIRE(*cfg->data.prompts, PLUMB_ERR_CONFIG,
                  "data.prompts: is not set; name a JSONL file of prompts");
    PLUMB_REQUIRE(!plumb_method_needs_reward(c.method) || plumb_rewards_configured(cfg),
                  PLUMB_ERR_CONFIG, "reward: nothing is configured, but %s needs scores",
                  c.method->name);
    return PLUMB_OK;
}

plumb_status plumb_align_setup(struct plumb_align_run *a, const struct plumb_trainer_source *s)
{
    const struct plumb_config *cfg = s->cfg;
    PLUMB_TRY(plumb_comm_agree(s->comm, read_method(&a->context, cfg, s->backend->dry)));
    PLUMB_TRY(plumb_trainer_open(&a->t, s));
    a->context.t = a->t;
    const struct plumb_memory_scope outer =
        plumb_memory_enter(s->backend, "other", PLUMB_PHASE_ALWAYS);
    plumb_status st = plumb_comm_agree(s->comm, open_data(a));
    if (st == PLUMB_OK)
        st = check_data(a);
    if (st == PLUMB_OK)
        st = plumb_comm_agree(s->comm, open_parts(a));
    plumb_memory_leave(s->backend, outer);
    PLUMB_TRY(st);
    PLUMB_TRY(check_models(a));
    const struct plumb_pass_limit limit =
        plumb_pack_limit(&a->work.micro.pack, true, cfg->train.recompute, cfg->train.head_rows);
    plumb_say_small(a->t, a->part.per_iteration, "prompts in an iteration");
    const int64_t total = cfg->train.iterations * cfg->train.epochs * a->part.steps;
    PLUMB_TRY(plumb_trainer_prepare(a->t, &limit, total, a->part.most.micro_batches));
    if (s->backend->dry)
        return PLUMB_OK;
    a->in_progress = a->t->resumed_from[0] && plumb_align_paused_in(a->t->resumed_from);
    PLUMB_TRY(plumb_balance_recall(&a->rollout.balance, &a->context, &a->part));
    plumb_decision_restore(&a->decision, &a->t->state, &a->context.param);
    plumb_log(PLUMB_LOG_INFO,
              "%s: %s; %lld iteration%s of %lld prompt%s x %lld completion%s, %lld step%s each",
              a->context.method->name, a->context.method->summary, (long long)cfg->train.iterations,
              plumb_plural(cfg->train.iterations), (long long)a->part.per_iteration,
              plumb_plural(a->part.per_iteration), (long long)cfg->generate.group_size,
              plumb_plural(cfg->generate.group_size),
              (long long)(cfg->train.epochs * a->part.steps),
              plumb_plural(cfg->train.epochs * a->part.steps));
    if (cfg->train.generated_tokens > 0)
        plumb_log(PLUMB_LOG_INFO, "or until %lld tokens are generated, whichever comes first",
                  (long long)cfg->train.generated_tokens);
    return PLUMB_OK;
}

void plumb_align_release(struct plumb_align_run *a)
{
    if (a->own)
        a->context.add->close(a->own);
    plumb_generator_destroy(&a->rollout.generator);
    plumb_rollouts_fini(&a->rollout.rollouts);
    plumb_balance_close(&a->rollout.balance);
    plumb_scores_fini(&a->reward.scores);
    plumb_rewards_destroy(&a->reward.sources);
    plumb_reference_stage_close(&a->reference);
    plumb_decision_close(&a->decision);
    plumb_update_close(&a->update);
    plumb_micro_fini(&a->work.micro);
    free(a->work.completion_of);
    plumb_partition_close(&a->part);
    plumb_align_held_out_close(&a->held_out);
    plumb_dataset_close(&a->data);
}
