/* plan_search.c - makes the plan of a command for every rank, and tries other values of its
 * options. Layer 6. Includes app/plan.h, base/, data/, stage/. */
#include <stdio.h>

#include "app/plan.h"
#include "base/num.h"
#include "data/length.h"
#include "stage/commands.h"

static struct plumb_trainer_source source_of(const struct plumb_plan *p, plumb_comm *comm)
{
    return (struct plumb_trainer_source){.comm = comm,
                                         .backend = p->app->backend,
                                         .cfg = &p->cfg,
                                         .command = p->job->name,
                                         .ahead = p->stage != NULL,
                                         .classifier = p->job == &plumb_job_reward};
}

/* Returns true if no data file is planned with. The plan then assumes records as long as the
 * options allow. */
static bool assumes_data(const struct plumb_plan *p)
{
    return !*p->cfg.data.prompts && !*p->cfg.data.train;
}

static plumb_status make_rank(struct plumb_backend **out, struct plumb_cost *cost,
                              struct plumb_plan *p, int rank)
{
    plumb_comm *comm = NULL;
    PLUMB_TRY(plumb_comm_pretend_create(&comm, rank, p->world));
    /* The length of assumed records depends on train.micro_batch_tokens, which the search may have
     * changed: close the records, so that plumb_plan_make makes new ones. */
    if (p->cfg.train.micro_batch_tokens > 0 && assumes_data(p))
        plumb_dataset_close(&p->data);
    const struct plumb_trainer_source s = source_of(p, comm);
    const plumb_status st = plumb_plan_make(out, &p->data, cost, p->job, &s);
    plumb_comm_destroy(&comm);
    return st;
}

/* Makes the plan of each rank with the configured train.shard. Sets *out to the plan that needs the
 * most memory, *which to its rank and *cost to its work. Stops after the first plan that needs more
 * than `enough` bytes. */
static plumb_status make_given(struct plumb_backend **out, int *which, struct plumb_cost *cost,
                               struct plumb_plan *p, int64_t enough)
{
    *out = NULL;
    for (int r = 0; r < p->world && (!*out || plumb_plan_bytes(*out) <= enough); r++) {
        struct plumb_backend *plan = NULL;
        struct plumb_cost work;
        const plumb_status st = make_rank(&plan, &work, p, r);
        if (st != PLUMB_OK) {
            plumb_backend_destroy(out);
            return st;
        }
        if (!*out || plumb_plan_bytes(plan) > plumb_plan_bytes(*out)) {
            plumb_backend_destroy(out);
            *out = plan;
            *which = r;
            if (cost)
                *cost = work;
        } else {
            plumb_backend_destroy(&plan);
        }
    }
    return PLUMB_OK;
}

plumb_status plumb_plan_choose_frozen(struct plumb_plan *p)
{
    plumb_comm *comm = NULL;
    PLUMB_TRY(plumb_comm_pretend_create(&comm, 0, p->world));
    const struct plumb_trainer_source s = source_of(p, comm);
    const plumb_status st = plumb_plan_choose(&p->cfg, &p->frozen, p->budget, &p->data, p->job, &s);
    plumb_comm_destroy(&comm);
    return st;
}

plumb_status plumb_plan_of(struct plumb_backend **out, int *which, struct plumb_cost *cost,
                           struct plumb_plan *p)
{
    const int shard = p->cfg.train.shard;
    plumb_status st = PLUMB_OK;
    if (shard != PLUMB_SHARD_AUTO)
        return make_given(out, which, cost, p, INT64_MAX);
    p->cfg.train.shard = PLUMB_SHARD_OPTIMIZER; /* for auto, decide as plumb_job_run does */
    st = make_given(out, which, cost, p, p->budget);
    if (st == PLUMB_OK && plumb_plan_bytes(*out) > p->budget) {
        plumb_backend_destroy(out);
        p->cfg.train.shard = PLUMB_SHARD_GRADIENTS;
        st = make_given(out, which, cost, p, INT64_MAX);
    }
    p->shard = p->cfg.train.shard;
    p->cfg.train.shard = shard;
    return st;
}

/* Sets *bytes to what rank p->rank needs with the current configuration. */
static plumb_status bytes_of_rank(int64_t *bytes, struct plumb_plan *p)
{
    struct plumb_backend *plan = NULL;
    struct plumb_cost work;
    const plumb_status st = make_rank(&plan, &work, p, p->rank);
    if (st == PLUMB_OK)
        *bytes = plumb_plan_bytes(plan);
    plumb_backend_destroy(&plan);
    return st;
}

/* Sets *out to true if the plans of `ranks` ranks fit with the current configuration. Begins with
 * rank p->rank, which needs the most memory with the configuration of the user, and stops after the
 * first one that does not fit. */
static plumb_status ranks_fit(bool *out, struct plumb_plan *p, int ranks)
{
    plumb_status st = PLUMB_OK;
    *out = true;
    for (int i = 0; i < ranks && *out && st == PLUMB_OK; i++) {
        struct plumb_backend *plan = NULL;
        struct plumb_cost work;
        st = make_rank(&plan, &work, p, (p->rank + i) % p->world);
        if (st == PLUMB_OK)
            *out = plumb_plan_bytes(plan) <= p->budget;
        plumb_backend_destroy(&plan);
    }
    return st;
}

/* Sets *out to true if the plans of `ranks` ranks fit (ranks_fit) with this value of *option. With
 * train.shard: auto, they fit if they do with one of its two choices. */
static plumb_status fits(bool *out, struct plumb_plan *p, int ranks, int64_t *option, int64_t value)
{
    const int64_t was = *option;
    const int shard = p->cfg.train.shard;
    *option = value;
    if (shard == PLUMB_SHARD_AUTO)
        p->cfg.train.shard = PLUMB_SHARD_OPTIMIZER;
    plumb_status st = ranks_fit(out, p, ranks);
    if (st == PLUMB_OK && !*out && shard == PLUMB_SHARD_AUTO) {
        p->cfg.train.shard = PLUMB_SHARD_GRADIENTS;
        st = ranks_fit(out, p, ranks);
    }
    p->cfg.train.shard = shard;
    *option = was;
    return st;
}

/* Sets *out to the largest value in [low, high] that fits on `ranks` ranks, by bisection. Requires
 * that all values below one that fits also fit. Sets it to low - 1 if low does not fit. */
static plumb_status bisect(int64_t *out, struct plumb_plan *p, int ranks, int64_t *option,
                           int64_t low, int64_t high)
{
    bool good;
    *out = low - 1;
    while (*out < high) {
        const int64_t middle = *out < low ? low : *out + (high - *out + 1) / 2;
        PLUMB_TRY(fits(&good, p, ranks, option, middle));
        if (good)
            *out = middle;
        else
            high = middle - 1;
    }
    return PLUMB_OK;
}

/* Finds the largest value in [low, high] that fits on every rank. The plans of the ranks differ
 * little, so the bisection makes the plans of one rank only, and then the result is checked with
 * the plans of all ranks. *out is unchanged if low does not fit. */
static plumb_status largest_in(int64_t *out, struct plumb_plan *p, int64_t *option, int64_t low,
                               int64_t high)
{
    int64_t most;
    bool good = false;
    PLUMB_TRY(bisect(&most, p, 1, option, low, high));
    if (most >= low)
        PLUMB_TRY(fits(&good, p, p->world, option, most));
    if (most >= low && !good)
        PLUMB_TRY(bisect(&most, p, p->world, option, low, most - 1));
    if (most >= low)
        *out = most;
    return PLUMB_OK;
}

/* Finds the largest train.micro_batch_size that fits. A larger micro-batch needs larger
 * activations, but a step then has fewer micro-batches, which may need fewer gradient buffers. So
 * the memory does not always grow with the size. The number of gradient buffers depends on the
 * largest number of micro-batches of a rank. It is constant within ranges of this number that end
 * at 1, 2, 4 .. (with train.shard=gradients at 1, 3, 7 ..), so each range is searched separately.
 */
static plumb_status largest_micro_batch(struct plumb_plan *p)
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

/* Finds the largest train.micro_batch_tokens that fits and is not below the configured value. A
 * smaller limit could refuse long records, so it is not tried. The search ends at the number of
 * tokens of a whole step: with this limit a step is one micro-batch, so a larger limit has no
 * effect. A larger limit needs more memory for activations, but may need fewer gradient buffers. So
 * a value above one that does not fit may fit; the search may miss such a value. */
static plumb_status largest_tokens(struct plumb_plan *p)
{
    const struct plumb_config *c = &p->cfg;
    const bool align = p->job == &plumb_job_align;
    const int64_t given = c->train.micro_batch_tokens, most = 1000000000; /* the option's limit */
    int64_t high = plumb_length_longest(p->data) + (align ? c->generate.max_new_tokens : 0);
    p->micro_batch_tokens = 0;
    /* tokens of the longest sequence, times the largest number of sequences of a prompt or record,
     * times the prompts or records of a step */
    if (assumes_data(p) || !plumb_mul(&high, high, align ? c->generate.group_size + 1 : 2) ||
        !plumb_mul(&high, high, c->train.global_batch_size))
        high = most;
    high = plumb_min_i64(plumb_max_i64(high, given), most);
    return largest_in(&p->micro_batch_tokens, p, &p->cfg.train.micro_batch_tokens, given, high);
}

plumb_status plumb_plan_search(struct plumb_plan *p)
{
    p->micro_batch = p->micro_batch_tokens = -1;
    PLUMB_TRY(p->cfg.train.micro_batch_tokens > 0 ? largest_tokens(p) : largest_micro_batch(p));
    p->slots = -1;
    if (p->job != &plumb_job_align)
        return PLUMB_OK;
    p->slots = 0;
    return largest_in(&p->slots, p, &p->cfg.generate.slots, 1, 65536);
}

/* ---- advice ---------------------------------------------------------------------------------- */

/* A change of one option with which the run may need less memory. */
struct change {
    char text[64]; /* the option with its new value, as on the command line */
    int64_t *number;
    bool *flag;
    int *choice;
    int64_t value; /* the new value of *number, *flag or *choice */
};

/* Fills the changes that are possible for the job and this configuration. Returns their number. */
static int list_changes(struct change *out, struct plumb_plan *p)
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
        {"train.micro_batch_tokens", &c->train.micro_batch_tokens, NULL,
         c->train.micro_batch_tokens / 2, true},
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

/* Sets *less to `need` minus the bytes that rank p->rank needs with the current configuration.
 * `need` are the bytes that this rank, which needs the most memory, needs with the configuration of
 * the user. Sets *good to true if every rank fits with the current configuration. The plans of the
 * other ranks need nearly the same memory, so they are made only if that of p->rank fits. */
static plumb_status gain_of(int64_t *less, bool *good, struct plumb_plan *p, int64_t need)
{
    const int shard = p->cfg.train.shard;
    int64_t bytes = 0;
    if (shard == PLUMB_SHARD_AUTO)
        p->cfg.train.shard = PLUMB_SHARD_OPTIMIZER;
    plumb_status st = bytes_of_rank(&bytes, p);
    if (st == PLUMB_OK && shard == PLUMB_SHARD_AUTO && bytes > p->budget) {
        p->cfg.train.shard = PLUMB_SHARD_GRADIENTS;
        st = bytes_of_rank(&bytes, p);
    }
    *less = need - bytes;
    *good = false;
    if (st == PLUMB_OK && bytes <= p->budget)
        st = ranks_fit(good, p, p->world);
    p->cfg.train.shard = shard;
    return st;
}

/* Tries each possible change of one option, and prints by how much it alone lowers the memory. Does
 * not print changes that do not lower it, or with which the run could not be set up. */
void plumb_plan_advise(struct plumb_plan *p)
{
    struct change list[16];
    const int n = list_changes(list, p);
    const int64_t need = plumb_plan_bytes(p->best);
    for (int i = 0; i < n; i++) {
        const struct plumb_config was = p->cfg;
        int64_t less;
        bool good;
        if (list[i].number)
            *list[i].number = list[i].value;
        else if (list[i].choice)
            *list[i].choice = (int)list[i].value;
        else
            *list[i].flag = list[i].value != 0;
        if (gain_of(&less, &good, p, need) == PLUMB_OK && less > 0)
            printf("%s alone needs %.3f MB less%s\n", list[i].text, 1e-6 * (double)less,
                   good ? " and fits" : "");
        p->cfg = was;
    }
    printf("more ranks (plan.world_size) divide the optimizer's moments%s\n",
           p->job == &plumb_job_align ? ", and the prompts" : "");
}
