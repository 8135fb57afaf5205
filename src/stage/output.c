/* output.c - writes the rollout files of an iteration, the sample table and report.html.
 * Layer 5. Includes stage/stages.h, base/, data/, io/. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "data/rollout_store.h"
#include "io/file.h"
#include "report/report.h"
#include "report/samples.h"
#include "stage/stages.h"

static plumb_status fill_store(struct plumb_rollout_store *store,
                               const struct plumb_align_inputs *in,
                               const struct plumb_reward_stage *reward,
                               const struct plumb_decision *d, int32_t *ids)
{
    const struct plumb_rollouts *r = &in->rollout->rollouts;
    for (int64_t completion = 0; completion < plumb_rollouts_n(r); completion++) {
        const struct plumb_rollout *o = &r->at[completion];
        const struct plumb_record *rec = &in->data->record[o->record];
        const struct plumb_piece *p = plumb_rollout_prompt(o, in->data);
        const int64_t entry = plumb_rollouts_entry(r, o);
        memcpy(ids, p->ids, (size_t)p->n * sizeof(*ids));
        memcpy(ids + p->n, o->ids, (size_t)o->n * sizeof(*ids));
        const struct plumb_rollout_row one = {
            .global_index = entry,
            .prompt_id = o->record,
            .sample = o->sample,
            .principled = o->principled,
            .stop_reason = (uint8_t)o->stop,
            .branch = (uint8_t)d->board->choice[o->prompt].branch,
            .reward = (float)reward->scores.reward[completion],
            .weight = (float)d->board->weight[entry],
            .tau = d->report.tau,
            .weight_fingerprint = o->weights,
            .ids = ids,
            .n = p->n + o->n,
            .prompt_tokens = p->n,
            .logprob = o->logp,
            .logprob_sampled = o->logp_sampled,
            .record = o->sample == 0 ? rec->json.text : NULL,
            .record_len = o->sample == 0 ? rec->json.len : 0,
        };
        PLUMB_TRY(plumb_rollout_store_add(store, &one));
    }
    return PLUMB_OK;
}

static plumb_status write_rank_file(const struct plumb_align_inputs *in,
                                    const struct plumb_reward_stage *reward,
                                    const struct plumb_decision *d, const char *dir,
                                    const struct plumb_rollout_meta *meta)
{
    const struct plumb_rollouts *r = &in->rollout->rollouts;
    const int64_t n = plumb_rollouts_n(r);
    int64_t tokens = 0, completion_tokens = 0, longest = 0, bytes = 0;
    for (int64_t completion = 0; completion < n; completion++) {
        const struct plumb_rollout *o = &r->at[completion];
        const int64_t whole = plumb_rollout_prompt(o, in->data)->n + o->n;
        tokens += whole;
        completion_tokens += o->n;
        bytes += o->sample == 0 ? in->data->record[o->record].json.len : 0;
        longest = plumb_max_i64(longest, whole);
    }
    struct plumb_rollout_store *store = NULL;
    int32_t *ids = calloc((size_t)longest + 1, sizeof(*ids));
    PLUMB_REQUIRE(ids, PLUMB_ERR_NOMEM, "a rollout of %lld tokens", (long long)longest);
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_rollout_store_create(&store, n, tokens, completion_tokens, bytes),
                   done);
    PLUMB_TRY_GOTO(st, fill_store(store, in, reward, d, ids), done);
    PLUMB_TRY_GOTO(st, plumb_dir_create(dir), done);
    st = plumb_rollout_store_write(store, dir, plumb_comm_rank(in->t->comm), meta);
done:
    plumb_rollout_store_destroy(&store);
    free(ids);
    return st;
}

plumb_status plumb_align_write_rollouts(const struct plumb_align_inputs *in,
                                        const struct plumb_reward_stage *reward,
                                        const struct plumb_decision *d)
{
    const struct plumb_trainer *t = in->t;
    const struct plumb_rollout_meta meta = {.config_hash = t->state.config_hash,
                                            .seed = t->cfg->seed,
                                            .iteration = t->state.iteration + 1,
                                            .world_size = plumb_comm_size(t->comm)};
    char dir[4096];
    plumb_comm_phase(t->comm, "save");
    plumb_status st = plumb_path_join(dir, sizeof(dir), t->cfg->output_dir, "rollouts");
    if (st == PLUMB_OK)
        st = write_rank_file(in, reward, d, dir, &meta);
    PLUMB_TRY(plumb_comm_agree(t->comm, st));
    if (plumb_comm_rank(t->comm) == 0)
        st = plumb_rollout_store_write_master(dir, &meta);
    return plumb_comm_agree(t->comm, st);
}

/* Returns the text of the prompt's last message, or the whole prompt if the data set has not stored
 * that. The whole prompt would be a poor label, because with a chat template all prompts can begin
 * with the same text. */
static const char *asked(const struct plumb_dataset *data, int64_t record)
{
    const struct plumb_record *r = &data->record[record];
    return r->asked ? r->asked : r->prompt.text;
}

/* Prints completions of the first prompts. Rank 0 always owns these prompts, so the printed table
 * does not depend on the number of ranks. */
static plumb_status print_samples(const struct plumb_align_inputs *in,
                                  const struct plumb_reward_stage *reward)
{
    const struct plumb_rollouts *r = &in->rollout->rollouts;
    const int per_prompt = r->principled > 0 ? 2 : 1;
    const int64_t prompts =
        plumb_min_i64(plumb_ceil_div(in->t->cfg->report.samples, per_prompt), r->prompts);
    struct plumb_sample_row *row = calloc((size_t)(prompts * per_prompt) + 1, sizeof(*row));
    PLUMB_REQUIRE(row, PLUMB_ERR_NOMEM, "sample table");
    int64_t n = 0;
    for (int64_t local_prompt = 0; local_prompt < prompts; local_prompt++)
        for (int side = 0; side < per_prompt; side++) {
            const int64_t completion = plumb_rollouts_completion(
                r, local_prompt, side ? r->group_size - r->principled : 0);
            const struct plumb_rollout *o = &r->at[completion];
            row[n++] = (struct plumb_sample_row){
                .prompt = asked(in->data, o->record),
                .completion = plumb_buf_text(&o->text),
                .reward = reward->scores.reward[completion],
                .principled = o->principled,
            };
        }
    struct plumb_buf text = {0};
    plumb_status st = plumb_samples_format(&text, row, n, plumb_samples_width());
    for (char *line = text.data; line && *line && st == PLUMB_OK;) {
        char *end = strchr(line, '\n');
        plumb_log(PLUMB_LOG_INFO, "%.*s", (int)(end ? end - line : (long)strlen(line)), line);
        line = end ? end + 1 : line + strlen(line);
    }
    plumb_buf_fini(&text);
    free(row);
    return st;
}

plumb_status plumb_align_show_samples(const struct plumb_align_inputs *in,
                                      const struct plumb_reward_stage *reward)
{
    plumb_status st = PLUMB_OK;
    if (plumb_comm_rank(in->t->comm) == 0 && in->t->cfg->report.samples > 0)
        st = print_samples(in, reward);
    return plumb_comm_agree(in->t->comm, st);
}

/* ---- report.html -------------------------------------------------------------------------- */

/* Answers to the first prompts of the data set, for report.html: first those of the model that the
 * run started from, then those of the policy. */
struct probes {
    int64_t n;      /* number of prompts; 0 on every rank except rank 0 */
    char **text;    /* (2 n,) answers; NULL if that model was not opened */
    double *reward; /* (2 n,) rewards; NaN if there is none */
};

static plumb_status probes_init(struct probes *p, int64_t n)
{
    p->n = n;
    p->text = calloc(2 * (size_t)n + 1, sizeof(*p->text));
    p->reward = calloc(2 * (size_t)n + 1, sizeof(*p->reward));
    PLUMB_REQUIRE(p->text && p->reward, PLUMB_ERR_NOMEM, "report samples");
    for (int64_t i = 0; i < 2 * n; i++)
        p->reward[i] = NAN;
    return PLUMB_OK;
}

static void probes_fini(struct probes *p)
{
    for (int64_t i = 0; p->text && i < 2 * p->n; i++)
        free(p->text[i]);
    free(p->text);
    free(p->reward);
}

/* Generates the answers of `model` to the first n prompts into *rollouts. The random numbers are
 * the same for every model. of: the reference whose weights `model` has, or NULL if `model` is the
 * policy. */
static plumb_status generate_probes(struct plumb_rollouts *rollouts,
                                    const struct plumb_align_inputs *in, const plumb_model *model,
                                    struct plumb_reference_of *of, int64_t n)
{
    const struct plumb_config *cfg = in->t->cfg;
    int64_t *index = calloc((size_t)n + 1, sizeof(*index));
    PLUMB_REQUIRE(index, PLUMB_ERR_NOMEM, "report samples");
    for (int64_t i = 0; i < n; i++)
        index[i] = i;
    struct plumb_rollout_source src = {
        .data = in->data,
        .tokenizer = in->t->tokenizer,
        .generator = in->rollout->generator,
        .model = model,
        .options = plumb_generate_options_of(cfg, 0),
        .what = "samples for the report",
    };
    src.options.pass = of ? plumb_references_before : NULL;
    src.options.pass_arg = of;
    plumb_status st = plumb_rollouts_init(rollouts, n, 1, cfg->generate.max_new_tokens);
    if (st == PLUMB_OK)
        st = plumb_rollouts_begin(rollouts, &src, index, index, n);
    if (st == PLUMB_OK)
        st = plumb_rollouts_generate(rollouts, &src);
    free(index);
    return st;
}

/* Sets text (n,) to the answers of `model` and reward (n,) to their rewards. If the layers of a
 * model are sharded over the ranks, its passes need all ranks. So every rank calls this function,
 * with n = 0 on every rank except rank 0. Collective. */
static plumb_status answer_probes(const struct plumb_align_inputs *in, plumb_rewards *sources,
                                  const plumb_model *model, struct plumb_reference_of *of,
                                  int64_t n, char **text, double *reward)
{
    struct plumb_rollouts rollouts = {0};
    struct plumb_scores scores = {0};
    plumb_status st = generate_probes(&rollouts, in, model, of, n);
    if (st == PLUMB_OK)
        st = plumb_scores_init(&scores, n);
    if (of) /* called after a failure, too: the other ranks may be waiting for this rank */
        st = plumb_references_end(of->set, of->which, st);
    if (sources && st == PLUMB_OK)
        st = plumb_scores_compute(&scores, &rollouts, in->data, sources, NULL, NULL);
    else if (sources)
        st = plumb_rewards_end(sources, st);
    for (int64_t i = 0; i < n && st == PLUMB_OK; i++) {
        text[i] = strdup(plumb_buf_text(&rollouts.at[i].text));
        reward[i] = scores.reward[i];
    }
    plumb_rollouts_fini(&rollouts);
    plumb_scores_fini(&scores);
    return st;
}

/* Sets p->text and p->reward to the answers of both models and their rewards. If one rank fails,
 * every rank returns the failure. Collective. */
static plumb_status ask(struct probes *p, const struct plumb_align_inputs *in,
                        plumb_rewards *sources)
{
    const int role = in->reference->role[PLUMB_ROLE_START];
    struct plumb_reference_of of = {in->reference->set, role};
    const plumb_model *start = role >= 0 ? plumb_references_frozen(of.set, role) : NULL;
    if (start)
        PLUMB_TRY(plumb_comm_agree(
            in->t->comm, answer_probes(in, sources, start, &of, p->n, p->text, p->reward)));
    return plumb_comm_agree(in->t->comm, answer_probes(in, sources, in->t->model, NULL, p->n,
                                                       p->text + p->n, p->reward + p->n));
}

/* Returns the number of iterations in metrics.jsonl in which, for every prompt, all answers had
 * equal rewards, and writes a sentence about them to note. Returns 0 and sets note to "" if there
 * are none or the file cannot be read. */
static int64_t count_alike(const struct plumb_config *cfg, char *note, size_t size)
{
    char path[4096];
    struct plumb_metrics_row *row = NULL;
    int64_t n = 0, alike = 0;
    *note = '\0';
    if (plumb_path_join(path, sizeof(path), cfg->output_dir, "metrics.jsonl") != PLUMB_OK ||
        plumb_metrics_read(&row, &n, path) != PLUMB_OK)
        return 0;
    for (int64_t i = 0; i < n; i++)
        alike += row[i].set[PLUMB_METRIC_REWARD_ZERO_STD] &&
                 row[i].value[PLUMB_METRIC_REWARD_ZERO_STD] == 1;
    free(row);
    if (alike > 0)
        snprintf(
            note, size,
            "In %lld of %lld iteration%s the answers of every prompt had the same reward: they "
            "taught nothing about which answer is better. train.log names the likely cause.",
            (long long)alike, (long long)n, plumb_plural(n));
    return alike;
}

static plumb_status write_report(const struct plumb_align_context *c,
                                 const struct plumb_align_inputs *in, const struct probes *probes)
{
    const struct plumb_trainer *t = in->t;
    const struct plumb_config *cfg = t->cfg;
    const int64_t n = probes->n;
    char **text = probes->text;
    struct plumb_report_sample *sample = calloc((size_t)n, sizeof(*sample));
    struct plumb_report_answer *answer = calloc(2 * (size_t)n, sizeof(*answer));
    plumb_status st = PLUMB_OK;
    if (!sample || !answer)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "report samples");
    for (int64_t i = 0; i < n; i++) {
        answer[2 * i] = (struct plumb_report_answer){text[i], probes->reward[i]};
        answer[2 * i + 1] = (struct plumb_report_answer){text[n + i], probes->reward[n + i]};
        sample[i] = (struct plumb_report_sample){asked(in->data, i), &answer[2 * i]};
    }
    char last[32];
    snprintf(last, sizeof(last), "iteration %lld", (long long)t->state.iteration);
    const char *const who[] = {"iteration 0", last};
    char ranks[32], prompts[64], rate[32], seed[32], title[128], note[256];
    snprintf(ranks, sizeof(ranks), "%d", plumb_comm_size(t->comm));
    snprintf(prompts, sizeof(prompts), "%lld x %lld completions",
             (long long)in->part->per_iteration, (long long)cfg->generate.group_size);
    snprintf(title, sizeof(title), "%s: %lld iteration%s", c->method->name,
             (long long)t->state.iteration, plumb_plural(t->state.iteration));
    snprintf(rate, sizeof(rate), "%g", cfg->train.learning_rate);
    snprintf(seed, sizeof(seed), "%" PRIu64, cfg->seed);
    const bool principled = plumb_method_principled(c->method, cfg->generate.group_size) > 0;
    if (count_alike(t->cfg, note, sizeof(note)) > 0)
        plumb_log_alike("%s", note);
    const struct plumb_report_field field[] = {
        {"method", c->method->summary},
        {"start", cfg->model},
        {"prompts", cfg->data.prompts},
        {"per iteration", prompts},
        {"principles", principled ? cfg->method.principles : "none"},
        {"learning rate", rate},
        {"seed", seed},
        {"ranks", ranks},
    };
    struct plumb_report report = {
        .title = title,
        .field = field,
        .n_fields = sizeof(field) / sizeof(field[0]),
        .answer_name = who,
        .n_answers = 2,
        .sample = sample,
        .n_samples = n,
        .subtitle = *note ? note : NULL,
    };
    st = plumb_report_run(&report, cfg, t->command);
done:
    free(answer);
    free(sample);
    return st;
}

plumb_status plumb_align_write_report(const struct plumb_align_context *c,
                                      const struct plumb_align_inputs *in,
                                      const struct plumb_reward_stage *reward)
{
    const struct plumb_config *cfg = in->t->cfg;
    const bool writes = plumb_comm_rank(in->t->comm) == 0;
    const int64_t n = plumb_min_i64(plumb_max_i64(cfg->report.samples, 1), in->data->n);
    struct probes probes = {0};
    if (!cfg->report.html)
        return PLUMB_OK;
    plumb_comm_phase(in->t->comm, "report");
    plumb_status st = plumb_comm_agree(in->t->comm, probes_init(&probes, writes ? n : 0));
    if (st == PLUMB_OK)
        st = ask(&probes, in, reward->sources);
    if (st == PLUMB_OK)
        st = plumb_comm_agree(in->t->comm, writes ? write_report(c, in, &probes) : PLUMB_OK);
    probes_fini(&probes);
    return st;
}
