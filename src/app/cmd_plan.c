/* cmd_plan.c - prints the memory that a training command or each stage of a file needs, the largest
 * micro-batch and number of slots that fit, and an estimate of its time. Layer 6. May include
 * everything. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/plan.h"
#include "base/log.h"
#include "io/file.h"
#include "stage/commands.h"

/* ---- assumptions for missing files ----------------------------------------------------------- */

/* Clears the option of the data file and records why. The plan then assumes as many records as the
 * options require, each as long as the options and the model allow. */
static plumb_status leave_out_data(struct plumb_plan *p, const char *what, const char *path,
                                   const char *why)
{
    p->cfg.data.prompts = p->cfg.data.train = "";
    return plumb_buf_addf(&p->assumed, "%s: %s%s%s\n", what, path, *path ? " " : "", why);
}

/* Checks which files exist. If the data file, the tokenizer or the file of method.principles or
 * method.contrary is missing, the plan uses assumptions (leave_out_data). A model folder must
 * exist, because its config.json decides most of the memory. */
static plumb_status assume(struct plumb_plan *p)
{
    const struct plumb_config *cfg = &p->cfg;
    const bool align = p->job == &plumb_job_align;
    const char *data = align ? cfg->data.prompts : cfg->data.train;
    const char *what = align ? "data.prompts" : "data.train";
    const char *words = *cfg->tokenizer ? cfg->tokenizer : cfg->model;
    char path[4096];
    PLUMB_TRY(plumb_path_join(path, sizeof(path), words, "tokenizer.json"));
    if (*cfg->data.eval && !plumb_file_exists(cfg->data.eval)) {
        PLUMB_TRY(
            plumb_buf_addf(&p->assumed, "data.eval: %s is not there; left out\n", cfg->data.eval));
        p->cfg.data.eval = "";
    }
    if (!*data)
        return leave_out_data(p, what, "", "is not set");
    if (!plumb_file_exists(data))
        return leave_out_data(p, what, data, "is not there");
    if (!plumb_file_exists(path))
        return leave_out_data(
            p, "tokenizer", path,
            "is not there, so the records of the data are not read and have no length");
    const char *text[] = {cfg->method.principles, cfg->method.contrary};
    static const char *const option[] = {"method.principles", "method.contrary"};
    for (int i = 0; i < 2 && align; i++)
        if (*text[i] && !plumb_file_exists(text[i]))
            return leave_out_data(p, option[i], text[i], "is not there");
    return PLUMB_OK;
}

/* Adds a line with the record sizes that were assumed for missing data. */
static plumb_status note_sizes(struct plumb_plan *p)
{
    if (*p->cfg.data.prompts || *p->cfg.data.train || !p->data || p->data->n == 0)
        return PLUMB_OK;
    const struct plumb_record *r = &p->data->record[0];
    const long long prompt = r->prompt.n, answer = r->completion[0].n;
    PLUMB_TRY(plumb_buf_addf(&p->assumed, "%lld records of %lld tokens", (long long)p->data->n,
                             prompt + answer));
    return plumb_buf_add_text(
        &p->assumed, p->job == &plumb_job_align
                         ? " each, as long as a prompt may be (data.max_prompt_tokens, "
                           "data.max_tokens, generate.max_new_tokens, the model's context)\n"
                         : " each, as long as a record may be (data.max_tokens, the model's "
                           "context)\n");
}

static void print_lines(const char *before, const struct plumb_buf *text)
{
    const char *line = plumb_buf_text(text);
    for (; *line; line += strcspn(line, "\n") + 1)
        printf("%s%.*s\n", before, (int)strcspn(line, "\n"), line);
}

/* ---- output -----------------------------------------------------------------------------------
 */

static bool has_frozen(const struct plumb_plan *p)
{
    const struct plumb_memory *m = &p->best->memory;
    bool found = false;
    for (int64_t i = 0; i < m->rows; i++)
        found |= (strcmp(m->row[i].owner, "reference models") == 0 && !m->row[i].beside) ||
                 strcmp(m->row[i].owner, "reward model") == 0;
    return found;
}

static void print(const struct plumb_plan *p, const char *table)
{
    const struct plumb_backend *b = p->best;
    const int64_t need = plumb_plan_bytes(b);
    printf("memory of rank %d of %d%s, %s on %s\n%s", p->rank, p->world,
           p->world > 1 ? ", which needs most" : "", p->job->name, b->name, table);
    print_lines("assumed: ", &p->assumed);
    if (has_frozen(p)) /* without frozen models, `frozen` has no effect */
        print_lines("", &p->frozen);
    if (need != b->memory.most)
        printf("  %-25s %14.3f MB\n", b->margin ? "with the margin" : "with the host's",
               1e-6 * (double)need);
    printf("%s %.3f MB: it %s\n", *p->cfg.plan.memory ? "allowed are" : "free are",
           1e-6 * (double)p->budget, need <= p->budget ? "fits" : "does not fit");
    if (p->micro_batch > 0)
        printf("the largest train.micro_batch_size that fits is %lld (global_batch_size is %lld)\n",
               (long long)p->micro_batch, (long long)p->cfg.train.global_batch_size);
    else if (p->micro_batch == 0)
        printf("no train.micro_batch_size fits\n");
    if (p->micro_batch_tokens > 0)
        printf("the largest train.micro_batch_tokens that fits is %lld\n",
               (long long)p->micro_batch_tokens);
    else if (p->micro_batch_tokens == 0)
        printf("train.micro_batch_tokens of %lld or more does not fit\n",
               (long long)p->cfg.train.micro_batch_tokens);
    if (p->slots > 0)
        printf("the largest generate.slots that fits is %lld\n", (long long)p->slots);
    else if (p->slots == 0)
        printf("no generate.slots fits\n");
}

/* Fails if the plan does not fit. Called after the table is printed, so that the user sees the
 * table and a script sees the exit code. */
static plumb_status check_fit(const struct plumb_plan *p)
{
    const int64_t need = plumb_plan_bytes(p->best);
    PLUMB_REQUIRE(need <= p->budget, PLUMB_ERR_NOMEM,
                  "%s does not fit: rank %d needs %.3f MB, and %s %.3f MB", p->job->name, p->rank,
                  1e-6 * (double)need, *p->cfg.plan.memory ? "plan.memory allows" : "free are",
                  1e-6 * (double)p->budget);
    return PLUMB_OK;
}

/* Prints the plan and appends it to *json. */
static plumb_status show(struct plumb_plan *p, struct plumb_buf *json)
{
    struct plumb_buf table = {0};
    plumb_status st = plumb_plan_table(&table, p->best);
    if (st == PLUMB_OK)
        print(p, plumb_buf_text(&table));
    plumb_buf_fini(&table);
    PLUMB_TRY(st);
    if (plumb_plan_bytes(p->best) > p->budget)
        plumb_plan_advise(p);
    plumb_plan_print_time(p);
    return plumb_plan_put(json, p);
}

/* ---- the command ------------------------------------------------------------------------------
 */

/* Makes one plan and prints it. Then fails with PLUMB_ERR_NOMEM if the plan does not fit. */
static plumb_status plan_one(struct plumb_plan *p, struct plumb_buf *json)
{
    const struct plumb_trainer_source s = {
        .comm = p->app->comm, .backend = p->app->backend, .cfg = &p->cfg};
    p->world =
        p->cfg.plan.world_size > 0 ? (int)p->cfg.plan.world_size : plumb_comm_size(p->app->comm);
    PLUMB_TRY(plumb_plan_budget(&p->budget, &s));
    if (!*p->cfg.plan.memory && p->world > plumb_comm_size(p->app->comm))
        PLUMB_TRY(plumb_buf_add_text(
            &p->assumed, "plan.memory: is not set; a rank may take what is free on this machine, "
                         "as if it were alone there\n"));
    PLUMB_TRY(assume(p));
    PLUMB_TRY(plumb_plan_choose_frozen(p));
    PLUMB_TRY(plumb_plan_of(&p->best, &p->rank, &p->cost, p));
    if (p->cfg.train.shard == PLUMB_SHARD_AUTO)
        PLUMB_TRY(plumb_buf_addf(&p->assumed, "train.shard: auto takes %s\n",
                                 p->shard == PLUMB_SHARD_GRADIENTS ? "gradients" : "optimizer"));
    PLUMB_TRY(note_sizes(p));
    plumb_plan_note_length(p->data, p->job, &p->cfg);
    PLUMB_TRY(plumb_plan_search(p));
    PLUMB_TRY(show(p, json));
    return check_fit(p);
}

static void close_plan(struct plumb_plan *p)
{
    plumb_backend_destroy(&p->best);
    plumb_buf_fini(&p->assumed);
    plumb_buf_fini(&p->frozen);
    plumb_dataset_close(&p->data);
}

/* Plans every stage that trains. If a plan does not fit, returns PLUMB_ERR_NOMEM after all plans
 * are printed. */
static plumb_status plan_stages(struct plumb_app *app, struct plumb_buf *json)
{
    struct plumb_stages *s = app->stages;
    plumb_status worst = PLUMB_OK;
    char first[1024] = ""; /* the message of the first stage that does not fit */
    double hours = 0, gpu_hours = 0, seconds;
    int64_t counted = 0;
    PLUMB_TRY(plumb_buf_add_text(json, "["));
    for (int64_t i = 0; i < s->n; i++) {
        const struct plumb_stage *one = &s->item[i];
        struct plumb_plan p = {.app = app, .job = plumb_job_find(one->command), .stage = one->name};
        printf("%sstage %lld of %lld, %s:\n", i ? "\n" : "", (long long)i + 1, (long long)s->n,
               one->name);
        if (!p.job) {
            printf("%s is not planned: it takes what the models and their answers need\n",
                   one->command);
            continue;
        }
        if (json->len > 1)
            PLUMB_TRY(plumb_buf_add_text(json, ",\n "));
        plumb_status st = plumb_plan_stage(&p, s, i);
        if (st == PLUMB_OK)
            st = plan_one(&p, json);
        if (p.best && plumb_plan_seconds(&seconds, &p)) {
            hours += seconds / 3600;
            gpu_hours += seconds / 3600 * p.world;
            counted++;
        }
        close_plan(&p);
        PLUMB_REQUIRE(st == PLUMB_OK || st == PLUMB_ERR_NOMEM, st, "stage %s: %s", one->name,
                      plumb_trail_message());
        if (st != PLUMB_OK && worst == PLUMB_OK)
            snprintf(first, sizeof(first), "stage %s: %s", one->name, plumb_trail_message());
        worst = worst ? worst : st;
    }
    PLUMB_TRY(plumb_buf_add_text(json, "]"));
    if (counted > 0)
        printf("\n%lld of %lld stages, estimated, not measured: %.3g hours, %.3g GPU-hours\n",
               (long long)counted, (long long)s->n, hours, gpu_hours);
    PLUMB_REQUIRE(worst == PLUMB_OK, worst, "%s", first);
    return PLUMB_OK;
}

static plumb_status run(struct plumb_app *app)
{
    struct plumb_buf json = {0};
    struct plumb_plan p = {.app = app, .job = plumb_job_find(app->planned), .cfg = *app->cfg};
    plumb_status st = app->stages ? plan_stages(app, &json) : plan_one(&p, &json);
    close_plan(&p);
    if ((st == PLUMB_OK || st == PLUMB_ERR_NOMEM) && strcmp(app->cfg->output, "-") != 0) {
        const plumb_status add = plumb_buf_add_text(&json, "\n");
        const plumb_status put =
            add ? add : plumb_file_write_atomic(app->cfg->output, json.data, json.len);
        st = put == PLUMB_OK ? st : put;
    }
    plumb_buf_fini(&json);
    return st;
}

plumb_status plumb_cmd_plan(struct plumb_app *app)
{
    const plumb_status st = plumb_comm_rank(app->comm) == 0 ? run(app) : PLUMB_OK;
    return plumb_comm_agree(app->comm, st);
}
