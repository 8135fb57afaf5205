/* test_gap.c - checks, on every rank, the comparison of sampled log-probs with those of the
 * training forward. Unchanged log-probs must be equal. A changed weight or a changed log-prob must
 * be detected and named. Also checks that a rank whose weights differ from those of the other ranks
 * is named. Test. Includes harness.h, train/, model/. */
#include <pthread.h>

#include "harness.h"
#include "stage/stages.h"
#include "train/weights.h"

enum { RANKS = 3, PROMPTS = 3, GROUP = 4, NEW = 12, LONGEST = 24, MICRO = 4 };

struct rank {
    plumb_comm *comm;
    const struct plumb_config *cfg;
    const char *dir;
};

/* The state of one rank in an iteration, before the first update. */
struct bench {
    struct plumb_trainer t;
    struct plumb_partition part;
    struct plumb_rollout_stage rollout;
    struct plumb_work work;
    struct plumb_mismatch mismatch;
    struct plumb_align_inputs in;
    struct plumb_dataset data;
    struct plumb_record record[PROMPTS];
    int32_t ids[PROMPTS][2][LONGEST];
    struct plumb_generate_options options;
};

static plumb_status keep(void *arg, const struct plumb_completion *c)
{
    struct plumb_rollouts *r = arg;
    struct plumb_rollout *o = &r->at[c->request / 2 * GROUP + c->sample];
    o->n = c->n;
    memcpy(o->ids, c->ids, (size_t)c->n * sizeof(*o->ids));
    memcpy(o->logp, c->logp, (size_t)c->n * sizeof(*o->logp));
    return PLUMB_OK;
}

static void sample(struct bench *b, int rank)
{
    struct plumb_request q[2 * PROMPTS];
    plumb_generator *g;
    CHECK_OK(plumb_rollouts_init(&b->rollout.rollouts, PROMPTS, GROUP, NEW));
    b->rollout.rollouts.prompts = PROMPTS;
    b->rollout.rollouts.weights = b->t.model->fingerprint;
    for (int k = 0; k < PROMPTS; k++) {
        for (int side = 0; side < 2; side++) {
            const struct plumb_piece *p = side ? &b->record[k].principled : &b->record[k].prompt;
            q[2 * k + side] = (struct plumb_request){.ids = p->ids,
                                                     .n = p->n,
                                                     .prompt_id = 100 * rank + k,
                                                     .first_sample = 2 * side,
                                                     .n_samples = 2};
        }
        for (int i = 0; i < GROUP; i++) {
            struct plumb_rollout *o = &b->rollout.rollouts.at[k * GROUP + i];
            o->record = k;
            o->sample = i;
            o->principled = i >= GROUP / 2;
        }
    }
    b->options = (struct plumb_generate_options){
        .sample = {.temperature = 0.8f, .top_p = 0.9f}, .max_new_tokens = NEW, .seed = 3};
    CHECK_OK(plumb_generator_create(
        &g, b->t.model, &(struct plumb_generator_need){.slots = 5, .max_tokens = LONGEST + NEW}));
    CHECK_OK(
        plumb_generate(g, b->t.model, q, 2 * PROMPTS, &b->options, keep, &b->rollout.rollouts));
    plumb_generator_destroy(&g);
}

static void open_bench(struct bench *b, const struct rank *r)
{
    const int rank = plumb_comm_rank(r->comm);
    struct rng rng = {(uint64_t)rank + 5};
    *b = (struct bench){0};
    b->t.cfg = r->cfg;
    b->t.comm = r->comm;
    CHECK_OK(plumb_backend_cpu_create(&b->t.backend, 1, 1));
    CHECK_OK(plumb_model_open(&b->t.model, b->t.backend, r->dir));
    for (int k = 0; k < PROMPTS; k++) {
        for (int side = 0; side < 2; side++)
            for (int j = 0; j < LONGEST; j++)
                b->ids[k][side][j] = (int32_t)(rng_u(&rng) * (double)b->t.model->spec.v);
        b->record[k] = (struct plumb_record){
            .line = k + 1,
            .prompt = {.ids = b->ids[k][0], .n = 3 + k},
            .principled = {.ids = b->ids[k][1], .n = LONGEST - k},
        };
    }
    b->data = (struct plumb_dataset){.record = b->record, .n = PROMPTS};
    b->in = (struct plumb_align_inputs){
        .t = &b->t, .data = &b->data, .part = &b->part, .rollout = &b->rollout};
    b->part.split =
        (struct plumb_batch_split){.items = PROMPTS, .global_batch = PROMPTS, .micro_batch = MICRO};
    b->part.most.items = MICRO;
    sample(b, rank);
    /* The memory is sufficient for one long and one short sequence, so a micro-batch takes several
     * passes. */
    CHECK_OK(plumb_micro_init(&b->work.micro, PLUMB_MICRO_LOGP, LONGEST + NEW + 20, 8));
    const struct plumb_pass_limit limit = plumb_pack_limit(&b->work.micro.pack, true, false, 5);
    CHECK_OK(plumb_pass_create(&b->t.pass, b->t.model, &limit));
    b->work.completion_of = calloc(8, sizeof(*b->work.completion_of));
    CHECK(b->work.completion_of);
}

static void close_bench(struct bench *b)
{
    free(b->work.completion_of);
    plumb_rollouts_fini(&b->rollout.rollouts);
    plumb_micro_fini(&b->work.micro);
    plumb_pass_destroy(&b->t.pass);
    plumb_model_destroy(&b->t.model);
    plumb_backend_destroy(&b->t.backend);
}

static plumb_status rescore(struct bench *b)
{
    b->mismatch = (struct plumb_mismatch){0};
    return plumb_comm_agree(b->t.comm, plumb_mismatch_rescore(&b->mismatch, &b->in, &b->work));
}

static struct plumb_metrics_row metrics(struct bench *b)
{
    struct plumb_metrics_row row = {0};
    CHECK_OK(plumb_mismatch_metrics(&b->mismatch, b->t.comm, &row));
    CHECK(row.set[PLUMB_METRIC_LOGPROB_MAX_DIFF] && row.set[PLUMB_METRIC_MISMATCH_KL]);
    return row;
}

/* Checks that unchanged log-probs differ by exactly 0 in every iteration, and that every answer is
 * compared within 9 iterations. */
static void test_exact(struct bench *b)
{
    bool seen[PROMPTS * GROUP] = {0};
    for (b->t.state.iteration = 0; b->t.state.iteration < 9; b->t.state.iteration++) {
        CHECK_OK(rescore(b));
        CHECK(b->mismatch.tokens >= MICRO && b->mismatch.max == 0 && b->mismatch.sum == 0);
        const struct plumb_metrics_row row = metrics(b);
        CHECK(row.value[PLUMB_METRIC_LOGPROB_MAX_DIFF] == 0 &&
              row.value[PLUMB_METRIC_MISMATCH_KL] == 0);
        /* finds out which answers are compared: a changed log-prob of such an answer is an error */
        for (int i = 0; i < PROMPTS * GROUP; i++) {
            float *logp = b->rollout.rollouts.at[i].logp;
            *logp += 1;
            if (plumb_mismatch_rescore(&b->mismatch, &b->in, &b->work) == PLUMB_ERR_NUMERIC)
                seen[i] = true;
            *logp -= 1;
        }
    }
    b->t.state.iteration = 6;
    for (int i = 0; i < PROMPTS * GROUP; i++)
        CHECKF(seen[i], "answer %d is never compared", i);
}

/* Checks that one changed log-prob, stored on rank 1, is detected. */
static void test_logprob(struct bench *b, struct plumb_config *loose)
{
    const int rank = plumb_comm_rank(b->t.comm);
    b->part.most.items = PROMPTS * GROUP; /* makes the comparison include every answer */
    struct plumb_rollout *o = &b->rollout.rollouts.at[2 * GROUP + 3];
    const float was = o->logp[2];
    if (rank == 1)
        o->logp[2] = was - 0.25f;
    if (rank == 1) {
        char both[128];
        snprintf(both, sizeof(both), "the log-prob %.9g when it was sampled and has %.9g",
                 (double)o->logp[2], (double)was);
        CHECK_FAILS(rescore(b), PLUMB_ERR_NUMERIC,
                    "iteration 7, rank 1: token 2 of sample 3 of prompt record 2 (p.jsonl:3)");
        CHECK(strstr(plumb_trail_message(), both));
    } else {
        CHECK_FAILS(rescore(b), PLUMB_ERR_PEER, "token 2 of sample 3");
    }
    const struct plumb_config *strict = b->t.cfg;
    b->t.cfg = loose;
    CHECK_OK(rescore(b));
    double tokens = b->mismatch.tokens;
    CHECK_OK(plumb_comm_allreduce_f64(b->t.comm, &tokens, 1, PLUMB_SUM));
    const struct plumb_metrics_row row = metrics(b);
    CHECK(fabs(row.value[PLUMB_METRIC_LOGPROB_MAX_DIFF] - 0.25) < 1e-6);
    CHECK(fabs(row.value[PLUMB_METRIC_MISMATCH_KL] + 0.25 / tokens) < 1e-6);
    b->t.cfg = strict;
    o->logp[2] = was;
    CHECK_OK(rescore(b));
}

/* Changes a weight on the last rank after sampling. If `fresh`, its fingerprint changes too, as if
 * only this rank had made an update. Otherwise the fingerprint stays, as after a memory error. */
static void test_weight(struct bench *b, bool fresh)
{
    const int rank = plumb_comm_rank(b->t.comm), bad = plumb_comm_size(b->t.comm) - 1;
    const struct plumb_param *p = plumb_model_find(b->t.model, "model.norm.weight");
    uint64_t all = 0;
    CHECK(p);
    CHECK_OK(plumb_weights_agree(&all, b->t.model, b->t.comm));
    CHECK(all == b->t.model->fingerprint && all == b->rollout.rollouts.weights);
    float *w = b->t.model->w + p->offset + 7, was = *w;
    char named[32], token[32];
    snprintf(named, sizeof(named), "rank %d: weights", bad);
    snprintf(token, sizeof(token), "rank %d: token", bad);
    if (rank == bad) {
        *w *= 1.01f;
        if (fresh)
            CHECK_OK(plumb_model_refresh(b->t.model));
        CHECK_FAILS(rescore(b), PLUMB_ERR_NUMERIC, token);
    } else {
        CHECK_FAILS(rescore(b), PLUMB_ERR_PEER, token);
    }
    const plumb_status st = plumb_weights_agree(&all, b->t.model, b->t.comm);
    CHECK(st == (fresh || rank == bad ? PLUMB_ERR_NUMERIC : PLUMB_ERR_PEER));
    CHECKF(strstr(plumb_trail_message(), named), "%s", plumb_trail_message());
    if (rank == bad) {
        *w = was;
        CHECK_OK(plumb_model_refresh(b->t.model));
    }
    CHECK_OK(plumb_weights_agree(&all, b->t.model, b->t.comm));
}

/* Checks that answers that were generated with other weights are refused. */
static void test_answers(struct bench *b)
{
    b->rollout.weights = b->t.model->fingerprint;
    CHECK_OK(plumb_mismatch_own_rollouts(&b->rollout, &b->t, false));
    b->rollout.rollouts.weights++;
    for (int moved = 0; moved < 2; moved++)
        CHECK_FAILS(plumb_mismatch_own_rollouts(&b->rollout, &b->t, moved), PLUMB_ERR_FORMAT,
                    "iteration 7");
    b->rollout.rollouts.weights--;
    /* as after an update, which is allowed only if the run has resumed from a pause */
    b->t.model->fingerprint++;
    CHECK_FAILS(plumb_mismatch_own_rollouts(&b->rollout, &b->t, false), PLUMB_ERR_FORMAT,
                "iteration 7");
    CHECK_OK(plumb_mismatch_own_rollouts(&b->rollout, &b->t, true));
    b->t.model->fingerprint--;
}

static void *rank_main(void *arg)
{
    struct rank *r = arg;
    static _Thread_local struct bench b;
    struct plumb_config loose = *r->cfg;
    loose.train.max_logprob_gap = 0.3;
    open_bench(&b, r);
    test_exact(&b);
    test_logprob(&b, &loose);
    test_answers(&b);
    test_weight(&b, false);
    test_weight(&b, true);
    close_bench(&b);
    plumb_comm_destroy(&r->comm);
    return NULL;
}

int main(void)
{
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    char dir[512], prompts[] = "data.prompts=p.jsonl";
    char *const override[] = {prompts};
    struct plumb_config *cfg;
    plumb_comm *comm[RANKS];
    pthread_t thread[RANKS];
    struct rank rank[RANKS];
    snprintf(dir, sizeof(dir), "%s/tests/fixtures/model/llama_gqa_tied", root ? root : ".");
    CHECK_OK(plumb_config_load(&cfg, "align", NULL, override, 1));
    CHECK(cfg->train.max_logprob_gap == 0);
    for (int n = RANKS; n >= 2; n--) { /* with two ranks, no weights have a majority */
        CHECK_OK(plumb_comm_thread_create(comm, n));
        for (int i = 0; i < n; i++) {
            rank[i] = (struct rank){comm[i], cfg, dir};
            CHECK(!pthread_create(&thread[i], NULL, rank_main, &rank[i]));
        }
        for (int i = 0; i < n; i++)
            CHECK(!pthread_join(thread[i], NULL));
    }
    plumb_config_free(&cfg);
    return 0;
}
