/* cmd_plan.c - prints the memory that a training command needs, and the largest micro-batch and
 * number of slots that fit. Layer 6. May include everything. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "base/num.h"
#include "io/file.h"
#include "io/json.h"
#include "stage/commands.h"
#include "train/plan.h"

struct plan {
    struct plumb_app *app;
    const struct plumb_job *job;
    /* the configuration that is tried now; it borrows the texts and lists that it points to */
    struct plumb_config cfg;
    struct plumb_dataset *data;
    /* one line for each assumption about a missing file or an unset option */
    struct plumb_buf assumed;
    int world, rank; /* rank: the rank that needs the most memory */
    int shard;       /* what train.shard: auto became in the last plan that was made */
    struct plumb_backend *best;
    int64_t budget;
    /* the largest values that fit; 0: none fits, -1: the command has no such option */
    int64_t micro_batch, slots;
};

/* ---- assumptions for missing files ----------------------------------------------------------- */

/* If the data are missing, the plan assumes as many records of such length as the options and the
 * model allow. */
static plumb_status leave_out_data(struct plan *p, const char *what, const char *path,
                                   const char *why)
{
    p->cfg.data.prompts = p->cfg.data.train = "";
    return plumb_buf_addf(&p->assumed, "%s: %s%s%s\n", what, path, *path ? " " : "", why);
}

/* Data, tokenizer and texts may be missing; the plan then makes assumptions. A model folder must
 * exist, because its config.json decides most of the memory. */
static plumb_status assume(struct plan *p)
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
        return leave_out_data(p, "tokenizer", path, "is not there, so no record has a length");
    const char *text[] = {cfg->method.principles, cfg->method.contrary};
    static const char *const option[] = {"method.principles", "method.contrary"};
    for (int i = 0; i < 2 && align; i++)
        if (*text[i] && !plumb_file_exists(text[i]))
            return leave_out_data(p, option[i], text[i], "is not there");
    return PLUMB_OK;
}

/* Adds a line with the record sizes that were assumed for missing data. */
static plumb_status note_sizes(struct plan *p)
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

static void print_assumed(const struct plan *p)
{
    const char *line = plumb_buf_text(&p->assumed);
    for (; *line; line += strcspn(line, "\n") + 1)
        printf("assumed: %.*s\n", (int)strcspn(line, "\n"), line);
}

/* ---- plans ---------------------------------------------------------------------------------- */

static plumb_status make_rank(struct plumb_backend **out, struct plan *p, int rank)
{
    plumb_comm *comm = NULL;
    PLUMB_TRY(plumb_comm_pretend_create(&comm, rank, p->world));
    const struct plumb_trainer_source s = {.comm = comm,
                                           .backend = p->app->backend,
                                           .cfg = &p->cfg,
                                           .command = p->job->name,
                                           .classifier = p->job == &plumb_job_reward};
    const plumb_status st = plumb_plan_make(out, &p->data, p->job, &s);
    plumb_comm_destroy(&comm);
    return st;
}

/* Makes the plan of every rank. Sets *out to the one that needs the most memory, and *which to its
 * rank. */
static plumb_status make_given(struct plumb_backend **out, int *which, struct plan *p)
{
    *out = NULL;
    for (int r = 0; r < p->world; r++) {
        struct plumb_backend *plan = NULL;
        const plumb_status st = make_rank(&plan, p, r);
        if (st != PLUMB_OK) {
            plumb_backend_destroy(out);
            return st;
        }
        if (!*out || plumb_plan_bytes(plan) > plumb_plan_bytes(*out)) {
            plumb_backend_destroy(out);
            *out = plan;
            *which = r;
        } else {
            plumb_backend_destroy(&plan);
        }
    }
    return PLUMB_OK;
}

/* Does the same; train.shard: auto is decided as a run decides it (plumb_job_run). */
static plumb_status make(struct plumb_backend **out, int *which, struct plan *p)
{
    const int shard = p->cfg.train.shard;
    plumb_status st = PLUMB_OK;
    if (shard != PLUMB_SHARD_AUTO)
        return make_given(out, which, p);
    p->cfg.train.shard = PLUMB_SHARD_OPTIMIZER;
    st = make_given(out, which, p);
    if (st == PLUMB_OK && plumb_plan_bytes(*out) > p->budget) {
        plumb_backend_destroy(out);
        p->cfg.train.shard = PLUMB_SHARD_GRADIENTS;
        st = make_given(out, which, p);
    }
    p->shard = p->cfg.train.shard;
    p->cfg.train.shard = shard;
    return st;
}

static plumb_status fits(bool *out, struct plan *p, int64_t *option, int64_t value)
{
    struct plumb_backend *plan;
    int rank;
    const int64_t was = *option;
    *option = value;
    const plumb_status st = make(&plan, &rank, p);
    *option = was;
    PLUMB_TRY(st);
    *out = plumb_plan_bytes(plan) <= p->budget;
    plumb_backend_destroy(&plan);
    return PLUMB_OK;
}

/* Finds the largest value in [low, high] that fits, by bisection: if a value fits, all smaller ones
 * must. *out is unchanged if low does not fit. */
static plumb_status largest_in(int64_t *out, struct plan *p, int64_t *option, int64_t low,
                               int64_t high)
{
    bool good;
    PLUMB_TRY(fits(&good, p, option, low));
    if (!good)
        return PLUMB_OK;
    while (low < high) {
        const int64_t middle = low + (high - low + 1) / 2;
        PLUMB_TRY(fits(&good, p, option, middle));
        if (good)
            low = middle;
        else
            high = middle - 1;
    }
    *out = low;
    return PLUMB_OK;
}

/* Finds the largest micro-batch that fits. A larger one needs larger activations, but there are
 * fewer micro-batches, which may need fewer gradient buffers. So memory need not grow with the
 * size. The number of buffers is constant while the most micro-batches of a rank are in a range
 * that ends at 1, 2, 4 .., with train.shard=gradients at 1, 3, 7 .., so each range is searched
 * separately. */
static plumb_status largest_micro_batch(struct plan *p)
{
    const int64_t global = p->cfg.train.global_batch_size;
    int64_t high = global;
    p->micro_batch = 0;
    for (int64_t each = 1; high >= 1 && p->micro_batch == 0;
         each = plumb_is_pow2(each) && each > 1 ? 2 * each - 1 : each + 1) {
        const int64_t low = plumb_ceil_div(global, each * p->world);
        if (low <= high)
            PLUMB_TRY(largest_in(&p->micro_batch, p, &p->cfg.train.micro_batch_size, low, high));
        high = plumb_min_i64(high, low - 1);
    }
    return PLUMB_OK;
}

static plumb_status search(struct plan *p)
{
    PLUMB_TRY(largest_micro_batch(p));
    p->slots = -1;
    if (p->job != &plumb_job_align)
        return PLUMB_OK;
    p->slots = 0;
    return largest_in(&p->slots, p, &p->cfg.generate.slots, 1, 65536);
}

static void print(const struct plan *p, const char *table)
{
    const struct plumb_backend *b = p->best;
    const int64_t need = plumb_plan_bytes(b);
    printf("memory of rank %d of %d%s, %s on %s\n%s", p->rank, p->world,
           p->world > 1 ? ", which needs most" : "", p->job->name, b->name, table);
    print_assumed(p);
    if (need != b->memory.most)
        printf("  %-25s %14.3f MB\n", b->margin ? "with the margin" : "with the host's",
               1e-6 * (double)need);
    printf("%s %.3f MB: it %s\n", *p->cfg.plan.memory ? "allowed are" : "free are",
           1e-6 * (double)p->budget, need <= p->budget ? "fits" : "does not fit");
    if (p->micro_batch > 0)
        printf("the largest train.micro_batch_size that fits is %lld (global_batch_size is %lld)\n",
               (long long)p->micro_batch, (long long)p->cfg.train.global_batch_size);
    else
        printf("no train.micro_batch_size fits\n");
    if (p->slots > 0)
        printf("the largest generate.slots that fits is %lld\n", (long long)p->slots);
    else if (p->slots == 0)
        printf("no generate.slots fits\n");
}

/* ---- advice ---------------------------------------------------------------------------------- */

/* A change of one option that may need less memory. */
struct change {
    char text[64]; /* the option with its new value, as on the command line */
    int64_t *number;
    bool *flag;
    int *choice;
    int64_t value; /* the new value of *number, *flag or *choice */
};

/* Fills the changes that are possible for the job and this configuration. Returns their number. */
static int list_changes(struct change *out, struct plan *p)
{
    struct plumb_config *c = &p->cfg;
    const bool align = p->job == &plumb_job_align, cuda = p->app->backend->place != PLUMB_HOST;
    const struct {
        const char *name;
        int64_t *number;
        bool *flag;
        int64_t value;
        bool possible;
    } all[] = {
        {"train.micro_batch_size", &c->train.micro_batch_size, NULL, 1, true},
        {"train.recompute", NULL, &c->train.recompute, true, true},
        {"train.head_rows", &c->train.head_rows, NULL, 64, true},
        {"train.kl_to_start", NULL, &c->train.kl_to_start, false, align},
        {"train.offload_moments", NULL, &c->train.offload_moments, true, cuda},
        {"generate.slots", &c->generate.slots, NULL, c->generate.slots / 4, align},
        {"generate.max_new_tokens", &c->generate.max_new_tokens, NULL,
         c->generate.max_new_tokens / 2, align},
    };
    int n = 0;
    if (p->world > 1 && c->train.shard == PLUMB_SHARD_OPTIMIZER)
        out[n++] = (struct change){.text = "train.shard=gradients",
                                   .choice = &c->train.shard,
                                   .value = PLUMB_SHARD_GRADIENTS};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        const bool lower = all[i].number && all[i].value >= 1 && all[i].value < *all[i].number;
        const bool turns = all[i].flag && *all[i].flag != (all[i].value != 0);
        if (!all[i].possible || (!lower && !turns))
            continue;
        out[n] =
            (struct change){.number = all[i].number, .flag = all[i].flag, .value = all[i].value};
        if (lower)
            snprintf(out[n].text, sizeof(out[n].text), "%s=%lld", all[i].name,
                     (long long)all[i].value);
        else
            snprintf(out[n].text, sizeof(out[n].text), "%s=%s", all[i].name,
                     all[i].value ? "true" : "false");
        n++;
    }
    return n;
}

/* Prints by how much each change of one option lowers the need, if it does. A change with which the
 * run could not be set up is left out. */
static void advise(struct plan *p)
{
    struct change list[16];
    const int n = list_changes(list, p);
    const int64_t need = plumb_plan_bytes(p->best);
    for (int i = 0; i < n; i++) {
        const struct plumb_config was = p->cfg;
        struct plumb_backend *plan = NULL;
        int rank;
        if (list[i].number)
            *list[i].number = list[i].value;
        else if (list[i].choice)
            *list[i].choice = (int)list[i].value;
        else
            *list[i].flag = list[i].value != 0;
        if (make(&plan, &rank, p) == PLUMB_OK && plumb_plan_bytes(plan) < need)
            printf("%s alone needs %.3f MB less%s\n", list[i].text,
                   1e-6 * (double)(need - plumb_plan_bytes(plan)),
                   plumb_plan_bytes(plan) <= p->budget ? " and fits" : "");
        plumb_backend_destroy(&plan);
        p->cfg = was;
    }
    printf("more ranks (plan.world_size) divide the optimizer's moments%s\n",
           p->job == &plumb_job_align ? ", and the prompts" : "");
}

static plumb_status put_json(struct plumb_buf *out, const struct plan *p)
{
    const struct plumb_memory *m = &p->best->memory;
    PLUMB_TRY(plumb_buf_addf(
        out,
        "{\"command\": \"%s\", \"device\": \"%s\", \"world_size\": %d, \"rank\": %d, "
        "\"bytes\": %lld, \"bytes_with_host\": %lld, \"margin\": %lld, \"budget\": %lld, \"fits\": "
        "%s",
        p->job->name, p->best->name, p->world, p->rank, (long long)m->most,
        (long long)plumb_plan_bytes(p->best), (long long)p->best->margin, (long long)p->budget,
        plumb_plan_bytes(p->best) <= p->budget ? "true" : "false"));
    PLUMB_TRY(
        plumb_buf_addf(out, ", \"largest_micro_batch_size\": %lld", (long long)p->micro_batch));
    if (p->slots >= 0)
        PLUMB_TRY(plumb_buf_addf(out, ", \"largest_slots\": %lld", (long long)p->slots));
    PLUMB_TRY(plumb_buf_add_text(out, ", \"assumed\": ["));
    const char *line = plumb_buf_text(&p->assumed);
    for (int i = 0; *line; line += strcspn(line, "\n") + 1, i++) {
        PLUMB_TRY(plumb_buf_add_text(out, i ? ", " : ""));
        PLUMB_TRY(plumb_json_put_string(out, line, (int64_t)strcspn(line, "\n")));
    }
    PLUMB_TRY(plumb_buf_add_text(out, "], \"phases\": {"));
    for (int i = 0; i < PLUMB_PHASES; i++)
        PLUMB_TRY(plumb_buf_addf(out, "%s\"%s\": %lld", i ? ", " : "", plumb_phase_names[i],
                                 (long long)m->held[i]));
    PLUMB_TRY(plumb_buf_add_text(out, "}, \"rows\": ["));
    for (int64_t i = 0; i < m->rows; i++) {
        const struct plumb_memory_row *r = &m->row[i];
        PLUMB_TRY(plumb_buf_add_text(out, i ? ",\n {\"owner\": " : "\n {\"owner\": "));
        PLUMB_TRY(plumb_json_put_string(out, r->owner, (int64_t)strlen(r->owner)));
        PLUMB_TRY(plumb_buf_add_text(out, ", \"what\": "));
        PLUMB_TRY(plumb_json_put_string(out, r->what, (int64_t)strlen(r->what)));
        PLUMB_TRY(plumb_buf_addf(out, ", \"phase\": \"%s\", \"host\": %s, \"bytes\": %lld}",
                                 plumb_phase_names[r->phase], r->beside ? "true" : "false",
                                 (long long)r->bytes));
    }
    return plumb_buf_add_text(out, "]}\n");
}

/* Fails if the plan does not fit. Called after the table is printed, so that a script sees the exit
 * code. */
static plumb_status check_fit(const struct plan *p)
{
    const int64_t need = plumb_plan_bytes(p->best);
    PLUMB_REQUIRE(need <= p->budget, PLUMB_ERR_NOMEM,
                  "%s does not fit: rank %d needs %.3f MB, and %s %.3f MB", p->job->name, p->rank,
                  1e-6 * (double)need, *p->cfg.plan.memory ? "plan.memory allows" : "free are",
                  1e-6 * (double)p->budget);
    return PLUMB_OK;
}

static plumb_status show(struct plan *p)
{
    struct plumb_buf table = {0}, json = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_plan_table(&table, p->best), done);
    print(p, plumb_buf_text(&table));
    if (plumb_plan_bytes(p->best) > p->budget)
        advise(p);
    PLUMB_TRY_GOTO(st, put_json(&json, p), done);
    if (strcmp(p->cfg.output, "-") != 0)
        st = plumb_file_write_atomic(p->cfg.output, json.data, json.len);
done:
    plumb_buf_fini(&table);
    plumb_buf_fini(&json);
    return st;
}

static plumb_status run(struct plan *p)
{
    const struct plumb_trainer_source s = {
        .comm = p->app->comm, .backend = p->app->backend, .cfg = p->app->cfg};
    PLUMB_TRY(plumb_plan_budget(&p->budget, &s));
    if (!*p->cfg.plan.memory && p->world > plumb_comm_size(p->app->comm))
        PLUMB_TRY(plumb_buf_add_text(
            &p->assumed, "plan.memory: is not set; a rank may take what is free on this machine, "
                         "as if it were alone there\n"));
    PLUMB_TRY(assume(p));
    PLUMB_TRY(make(&p->best, &p->rank, p));
    if (p->cfg.train.shard == PLUMB_SHARD_AUTO)
        PLUMB_TRY(plumb_buf_addf(&p->assumed, "train.shard: auto takes %s\n",
                                 p->shard == PLUMB_SHARD_GRADIENTS ? "gradients" : "optimizer"));
    PLUMB_TRY(note_sizes(p));
    plumb_plan_note_length(p->data, p->job, &p->cfg);
    PLUMB_TRY(search(p));
    PLUMB_TRY(show(p));
    return check_fit(p);
}

plumb_status plumb_cmd_plan(struct plumb_app *app)
{
    struct plan p = {.app = app, .job = plumb_job_find(app->planned), .cfg = *app->cfg};
    p.world = p.cfg.plan.world_size > 0 ? (int)p.cfg.plan.world_size : plumb_comm_size(app->comm);
    const plumb_status st = plumb_comm_rank(app->comm) == 0 ? run(&p) : PLUMB_OK;
    plumb_backend_destroy(&p.best);
    plumb_buf_fini(&p.assumed);
    plumb_dataset_close(&p.data);
    return plumb_comm_agree(app->comm, st);
}
