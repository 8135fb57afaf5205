/* plan.c - counts the memory that a command needs, reserves it, and runs the command.
 * Layer 5. Includes train/plan.h, base/. */
#include "train/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "data/length.h"
#include "train/exchange.h"
#include "train/gemm_cache.h"

static void swap(struct plumb_dataset **a, struct plumb_dataset **b)
{
    struct plumb_dataset *const was = *a;
    *a = *b;
    *b = was;
}

plumb_status plumb_plan_make(struct plumb_backend **out, struct plumb_dataset **data,
                             struct plumb_cost *cost, const struct plumb_job *j,
                             const struct plumb_trainer_source *s)
{
    struct plumb_trainer_source dry = *s;
    *out = NULL;
    void *run = calloc(1, (size_t)j->size);
    plumb_status st = run ? PLUMB_OK : PLUMB_ERR_NOMEM;
    if (!run)
        st = plumb_fail_at(st, __FILE__, __LINE__, "memory plan of the command %s", j->name);
    if (st == PLUMB_OK)
        st = plumb_backend_dry_create(&dry.backend, s->backend);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(s->comm, st), done);
    if (data)
        swap(data, j->data(run));
    st = j->setup(run, &dry);
    if (cost && st == PLUMB_OK) {
        *cost = (struct plumb_cost){0};
        j->cost(run, cost);
    }
    if (data)
        swap(data, j->data(run));
    j->release(run, st);
    if (st == PLUMB_OK)
        *out = dry.backend;
    else
        plumb_backend_destroy(&dry.backend);
done:
    free(run);
    return st;
}

/* Makes the plan for s->cfg->frozen, the place of the frozen models. Sets *excess to the bytes that
 * the plan needs minus budget, the maximum over the ranks, or to INFINITY if the command does not
 * support this place. Appends the outcome to *why unless why is NULL. Collective. */
static plumb_status try_frozen(double *excess, struct plumb_buf *why, int64_t budget,
                               struct plumb_dataset **data, const struct plumb_job *j,
                               const struct plumb_trainer_source *s)
{
    struct plumb_backend *plan = NULL;
    char name[64];
    snprintf(name, sizeof(name), "%s%s", plumb_frozen_name(s->cfg->frozen),
             s->cfg->train.shard == PLUMB_SHARD_GRADIENTS ? " with train.shard: gradients" : "");
    const plumb_status st = plumb_plan_make(&plan, data, NULL, j, s);
    *excess = INFINITY;
    if (st == PLUMB_ERR_UNSUPPORTED && s->cfg->frozen != PLUMB_FROZEN_RESIDENT)
        return why ? plumb_buf_addf(why, "frozen: %s is not possible: %s\n", name,
                                    plumb_trail_message())
                   : PLUMB_OK;
    PLUMB_TRY(st);
    const int64_t need = plumb_plan_bytes(plan);
    plumb_backend_destroy(&plan);
    *excess = (double)(need - budget);
    PLUMB_TRY(plumb_comm_allreduce_f64(s->comm, excess, 1, PLUMB_MAX));
    return why ? plumb_buf_addf(why, "frozen: %s needs %.3f MB: %s\n", name, 1e-6 * (double)need,
                                *excess > 0 ? "does not fit" : "fits")
               : PLUMB_OK;
}

/* The best result of try_frozen so far. best: the enum plumb_frozen_mode with the smallest excess.
 * least: this excess in bytes; the plan fits if it is <= 0. */
struct choice {
    int best;
    double least;
};

/* Tries the places of the frozen models until one fits. Collective. */
static plumb_status try_places(struct choice *c, struct plumb_config *cfg, struct plumb_buf *why,
                               int64_t budget, struct plumb_dataset **data,
                               const struct plumb_job *j, const struct plumb_trainer_source *s)
{
    for (int mode = PLUMB_FROZEN_RESIDENT; mode <= PLUMB_FROZEN_OFFLOAD && c->least > 0; mode++) {
        double excess;
        if (mode == PLUMB_FROZEN_SHARDED && plumb_comm_size(s->comm) == 1)
            continue;
        cfg->frozen = mode;
        PLUMB_TRY(try_frozen(&excess, why, budget, data, j, s));
        c->best = excess < c->least ? mode : c->best;
        c->least = fmin(c->least, excess);
    }
    return PLUMB_OK;
}

plumb_status plumb_plan_choose(struct plumb_config *cfg, struct plumb_buf *why, int64_t budget,
                               struct plumb_dataset **data, const struct plumb_job *j,
                               const struct plumb_trainer_source *s)
{
    const int shard = cfg->train.shard;
    struct choice c = {.best = PLUMB_FROZEN_RESIDENT, .least = INFINITY};
    plumb_status st = PLUMB_OK;
    if (cfg->frozen != PLUMB_FROZEN_AUTO)
        return PLUMB_OK;
    /* With train.shard: auto, this function tries every place with train.shard: optimizer and, if
     * none fits, every place with train.shard: gradients. choose_shard later tries the two values
     * in the same order. */
    if (shard == PLUMB_SHARD_AUTO)
        cfg->train.shard = PLUMB_SHARD_OPTIMIZER;
    st = try_places(&c, cfg, why, budget, data, j, s);
    if (shard == PLUMB_SHARD_AUTO && st == PLUMB_OK && c.least > 0) {
        cfg->train.shard = PLUMB_SHARD_GRADIENTS;
        st = try_places(&c, cfg, why, budget, data, j, s);
    }
    cfg->frozen = st == PLUMB_OK ? c.best : PLUMB_FROZEN_AUTO;
    cfg->train.shard = shard;
    return st;
}

int64_t plumb_plan_bytes(const struct plumb_backend *plan)
{
    int64_t beside = 0;
    for (int64_t i = 0; plan->place == PLUMB_HOST && i < plan->memory.rows; i++)
        beside += plan->memory.row[i].beside ? plan->memory.row[i].bytes : 0;
    return plan->memory.most + beside + plan->margin;
}

/* A value of plan.memory without a unit and below this number of bytes is an error, because the
 * user has probably forgotten the unit. */
#define LEAST_BARE 1e7

plumb_status plumb_plan_parse(int64_t *bytes, const char *text)
{
    static const struct {
        const char *name;
        double size;
    } unit[] = {{"", 1},         {"B", 1},        {"kB", 1e3},    {"KB", 1e3},
                {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},   {"KiB", 1024},
                {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
    char *end;
    const double number = strtod(text, &end);
    const bool good = end > text && isfinite(number) && number > 0;
    end += strspn(end, " ");
    PLUMB_REQUIRE(!good || *end || number >= LEAST_BARE, PLUMB_ERR_CONFIG,
                  "plan.memory: found '%s', which is %.0f bytes: a number without a unit counts "
                  "bytes; write %.15gGB or %.15gMB",
                  text, number, number, number);
    for (size_t i = 0; good && i < sizeof(unit) / sizeof(unit[0]); i++)
        if (strcmp(end, unit[i].name) == 0 && number * unit[i].size < 0x1p62) {
            *bytes = (int64_t)(number * unit[i].size);
            return PLUMB_OK;
        }
    PLUMB_FAIL(PLUMB_ERR_CONFIG, "plan.memory: found '%s', expected a size such as 80GB or 4096MiB",
               text);
}

plumb_status plumb_plan_budget(int64_t *bytes, const struct plumb_trainer_source *s)
{
    if (*s->cfg->plan.memory)
        return plumb_plan_parse(bytes, s->cfg->plan.memory);
    PLUMB_TRY(s->backend->available(s->backend, bytes));
    if (s->backend->place == PLUMB_HOST) /* all ranks of a host share the host memory */
        *bytes /= plumb_comm_local_size(s->comm);
    return PLUMB_OK;
}

/* Returns advice for a plan that does not fit: the options that reduce the memory of its largest
 * phase. */
static const char *advice(const struct plumb_backend *plan, const struct plumb_config *cfg)
{
    const int64_t *held = plan->memory.held;
    if (held[PLUMB_PHASE_ROLLOUT] > held[PLUMB_PHASE_TRAIN])
        return "lower generate.slots or generate.max_new_tokens";
    if (held[PLUMB_PHASE_TRAIN] > 0 && cfg->train.micro_batch_tokens > 0)
        return "lower train.micro_batch_tokens, set train.recompute=true";
    if (held[PLUMB_PHASE_TRAIN] > 0)
        return "lower train.micro_batch_size, set train.recompute=true";
    return "lower train.micro_batch_size or generate.slots, set train.recompute=true";
}

static plumb_status check_budget(const struct plumb_backend *plan,
                                 const struct plumb_trainer_source *s)
{
    int64_t have = 0;
    const int64_t need = plumb_plan_bytes(plan);
    PLUMB_TRY(plumb_plan_budget(&have, s));
    if (need <= have) {
        plumb_log(PLUMB_LOG_INFO,
                  "memory per rank: %.1f MB planned (%.1f MB always, the larger of %.1f MB in "
                  "rollouts and %.1f MB in training; %.1f MB stay free), %.1f MB %s",
                  1e-6 * (double)need, 1e-6 * (double)plan->memory.held[PLUMB_PHASE_ALWAYS],
                  1e-6 * (double)plan->memory.held[PLUMB_PHASE_ROLLOUT],
                  1e-6 * (double)plan->memory.held[PLUMB_PHASE_TRAIN], 1e-6 * (double)plan->margin,
                  1e-6 * (double)have, *s->cfg->plan.memory ? "allowed" : "free");
        return PLUMB_OK;
    }
    struct plumb_buf table = {0};
    if (plumb_plan_table(&table, plan) == PLUMB_OK)
        plumb_log(PLUMB_LOG_ERROR, "memory of rank %d:\n%s", plumb_comm_rank(s->comm),
                  plumb_buf_text(&table));
    plumb_buf_fini(&table);
    PLUMB_FAIL(PLUMB_ERR_NOMEM,
               "this rank would need %.3f GB of memory, but %s %.3f GB: %s, or add ranks on other "
               "devices; 'plumb plan %s ...' shows the table and what fits",
               1e-9 * (double)need,
               *s->cfg->plan.memory ? "plan.memory allows" : "its share of the free memory is",
               1e-9 * (double)have, advice(plan, s->cfg), s->command);
}

void plumb_plan_note_length(const struct plumb_dataset *data, const struct plumb_job *j,
                            const struct plumb_config *cfg)
{
    const int64_t answer = strcmp(j->name, "align") == 0 ? cfg->generate.max_new_tokens : 0;
    if (data)
        plumb_length_note(cfg, plumb_length_longest(data) + answer);
}

/* Returns the free device memory in bytes. Returns 0 if it is unknown, and on a CPU, because other
 * processes use the memory of the host, too. */
static int64_t free_now(struct plumb_backend *b)
{
    int64_t bytes = 0;
    if (b->place == PLUMB_HOST || b->available(b, &bytes) != PLUMB_OK)
        return 0;
    return bytes;
}

/* Logs how much device memory was taken, in addition to plumb's own allocations, since `before`
 * bytes were free. Logs a warning if this is more than the margin of the plan. Does nothing on a
 * CPU. */
static void compare_free(struct plumb_backend *b, int64_t before)
{
    const int64_t gone = before - free_now(b) - b->memory.outside;
    if (b->place == PLUMB_DEVICE)
        plumb_log(gone <= b->margin ? PLUMB_LOG_DEBUG : PLUMB_LOG_WARN,
                  "memory of the GPU: %lld bytes taken by the driver since the plan, margin %lld",
                  (long long)gone, (long long)b->margin);
}

/* Runs the GEMM library and NCCL once. They allocate device memory at their first use, so this must
 * happen before the free memory is measured. Collective. */
static plumb_status warm(const struct plumb_trainer_source *s)
{
    const plumb_status st = s->backend->warm ? s->backend->warm(s->backend) : PLUMB_OK;
    PLUMB_TRY(plumb_comm_agree(s->comm, st));
    return plumb_exchange_warm(s->comm, s->backend);
}

/* Warns if the run has allocated more or less memory than planned, or any memory outside of the
 * plan, or if the number of allocations differs from `calls`, the number after setup (-1: not
 * checked). Each of these differences is a bug of plumb; the run continues. */
static void compare(const struct plumb_backend *b, int64_t planned, int64_t calls, const char *when)
{
    const struct plumb_memory *m = &b->memory;
    const bool kept = m->most == planned && m->outside == 0 && (calls < 0 || m->calls == calls);
    plumb_log(kept ? PLUMB_LOG_DEBUG : PLUMB_LOG_WARN,
              "memory %s: %lld bytes planned, %lld taken, %lld beside the plan, %lld allocations",
              when, (long long)planned, (long long)m->most, (long long)m->outside,
              (long long)m->calls);
}

/* If cfg->train.shard is auto, replaces it by `optimizer`, which sends fewer bytes, if the plan
 * with `optimizer` fits on every rank, and by `gradients` otherwise. The result is the same on
 * every rank. Collective. */
static plumb_status choose_shard(struct plumb_config *cfg, struct plumb_dataset **data,
                                 const struct plumb_job *j, const struct plumb_trainer_source *s)
{
    struct plumb_backend *plan = NULL;
    int64_t have = 0;
    if (cfg->train.shard != PLUMB_SHARD_AUTO)
        return PLUMB_OK;
    cfg->train.shard = PLUMB_SHARD_OPTIMIZER;
    PLUMB_TRY(plumb_plan_make(&plan, data, NULL, j, s));
    const int64_t need = plumb_plan_bytes(plan);
    plumb_backend_destroy(&plan);
    PLUMB_TRY(plumb_comm_agree(s->comm, plumb_plan_budget(&have, s)));
    double over = need > have;
    PLUMB_TRY(plumb_comm_allreduce_f64(s->comm, &over, 1, PLUMB_MAX));
    if (over > 0)
        cfg->train.shard = PLUMB_SHARD_GRADIENTS;
    plumb_log(PLUMB_LOG_INFO,
              "train.shard: auto takes %s: with optimizer this rank needs %.1f MB, %.1f MB %s",
              over > 0 ? "gradients" : "optimizer", 1e-6 * (double)need, 1e-6 * (double)have,
              *cfg->plan.memory ? "are allowed" : "are free");
    return PLUMB_OK;
}

/* If cfg->frozen is auto, replaces it by the place that plumb_plan_choose selects, and logs the
 * choice on rank 0 unless it is resident. Collective. */
static plumb_status choose_frozen(struct plumb_config *cfg, struct plumb_dataset **data,
                                  const struct plumb_job *j, const struct plumb_trainer_source *s)
{
    struct plumb_buf why = {0};
    int64_t have = 0;
    const bool open = cfg->frozen == PLUMB_FROZEN_AUTO;
    plumb_status st = plumb_comm_agree(s->comm, plumb_plan_budget(&have, s));
    if (st == PLUMB_OK)
        st = plumb_plan_choose(cfg, &why, have, data, j, s);
    if (st == PLUMB_OK && open && cfg->frozen != PLUMB_FROZEN_RESIDENT &&
        plumb_comm_rank(s->comm) == 0)
        plumb_log(PLUMB_LOG_INFO, "frozen models are %s:\n%s", plumb_frozen_name(cfg->frozen),
                  plumb_buf_text(&why));
    plumb_buf_fini(&why);
    return st;
}

static plumb_status reserve(int64_t *planned, struct plumb_dataset **data,
                            const struct plumb_job *j, const struct plumb_trainer_source *s)
{
    struct plumb_backend *plan = NULL;
    PLUMB_TRY(plumb_plan_make(&plan, data, NULL, j, s));
    *planned = plan->memory.most;
    plumb_plan_note_length(*data, j, s->cfg);
    plumb_status st = check_budget(plan, s);
    if (st == PLUMB_OK)
        st = plumb_memory_reserve(s->backend, *planned);
    plumb_backend_destroy(&plan);
    return plumb_comm_agree(s->comm, st);
}

plumb_status plumb_job_run(const struct plumb_job *j, const struct plumb_trainer_source *given)
{
    struct plumb_config cfg = *given->cfg; /* a copy in which the values `auto` are replaced */
    struct plumb_trainer_source source = *given, *const s = &source;
    struct plumb_dataset *data = NULL;
    int64_t planned = 0;
    source.cfg = &cfg;
    PLUMB_TRY(j->check(s->cfg));
    plumb_status st = plumb_gemm_cache_tune(s);
    if (st == PLUMB_OK)
        st = warm(s);
    if (st == PLUMB_OK)
        st = choose_frozen(&cfg, &data, j, s);
    if (st == PLUMB_OK)
        st = choose_shard(&cfg, &data, j, s);
    if (st == PLUMB_OK)
        st = reserve(&planned, &data, j, s);
    void *run = st == PLUMB_OK ? calloc(1, (size_t)j->size) : NULL;
    if (st == PLUMB_OK && !run)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "state of the command %s", j->name);
    if (run) {
        const int64_t left = free_now(s->backend);
        swap(&data, j->data(run));
        st = j->setup(run, s);
        const int64_t calls = s->backend->memory.calls;
        if (st == PLUMB_OK) {
            compare(s->backend, planned, -1, "at the start");
            st = j->work(run);
            compare(s->backend, planned, calls, "at the end");
            compare_free(s->backend, left);
        }
        j->release(run, st);
    }
    plumb_dataset_close(&data);
    plumb_memory_unreserve(s->backend);
    free(run);
    return st;
}

/* ---- stand-ins for data files --------------------------------------------------------------- */

static int64_t or_most(int64_t option, int64_t most)
{
    return option > 0 ? plumb_min_i64(option, most) : most;
}

/* Returns the largest length, in tokens, of a sequence if a micro-batch has `sequences` sequences
 * of equal length. */
static int64_t longest_of(const struct plumb_config *cfg, const struct plumb_spec *spec,
                          int64_t sequences)
{
    const int64_t most = or_most(cfg->data.max_tokens, spec->max_pos);
    return plumb_at_most(cfg->train.micro_batch_tokens / sequences, most);
}

plumb_status plumb_plan_prompts(struct plumb_dataset **out, const struct plumb_config *cfg,
                                const struct plumb_spec *spec, int64_t sequences)
{
    const int64_t n = cfg->train.prompts_per_iteration > 0 ? cfg->train.prompts_per_iteration
                                                           : cfg->train.global_batch_size;
    const int64_t room =
        plumb_max_i64(1, longest_of(cfg, spec, sequences) - cfg->generate.max_new_tokens);
    return plumb_dataset_blank(out, n, or_most(cfg->data.max_prompt_tokens, room), 0);
}

plumb_status plumb_plan_records(struct plumb_dataset **out, const struct plumb_config *cfg,
                                const struct plumb_spec *spec, int completions)
{
    const int64_t all = longest_of(cfg, spec, completions);
    return plumb_dataset_blank(out, cfg->train.global_batch_size, 1, plumb_max_i64(1, all - 1));
}
