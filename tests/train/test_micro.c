/* test_micro.c - checks micro-batches with every objective: the sums of log-probs, the derivatives
 * by token, and that an error message names the sequence with the NaN.
 * Test. Includes train/micro.h, harness.h. */
#include "train/micro.h"

#include "harness.h"

enum { SEQUENCES = 5, PROMPT = 2 };
static const int64_t record[SEQUENCES] = {40, 40, 40, 7, 7};
static const int32_t sample[SEQUENCES] = {0, 2, 3, 1, 0};
static const int32_t length[SEQUENCES] = {3, 1, 4, 2, 5};

/* Fills *m with 5 sequences of two prompts. The log-probs are the same for every objective. */
static void fill(struct plumb_micro *m, const struct plumb_objective *o)
{
    const bool score = o == &plumb_obj_reward;
    const int32_t ids[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct rng r = {77};
    CHECK_OK(plumb_micro_init(m, score ? PLUMB_MICRO_SCORE : PLUMB_MICRO_LOGP, 64, SEQUENCES));
    m->objective = o, m->scale = 0.25;
    m->reference = (o->needs(&m->param) & PLUMB_NEED_REF) != 0;
    for (int64_t q = 0; q < SEQUENCES; q++) {
        CHECK_OK(plumb_micro_add(m, record[q], sample[q], ids, PROMPT, ids + PROMPT, length[q]));
        CHECK(isnan(m->logp_ref[q])); /* the reference log-prob is NaN until it is set */
        m->logp_ref[q] = -9 * rng_u(&r), m->score[q] = rng_u(&r);
        m->reward[q] = 4 - (double)q; /* the first sequence of each prompt has its highest reward */
        if (q == 2)
            plumb_micro_end_group(m);
    }
    plumb_micro_end_group(m);
    /* nothing was added since the last call, so there is no third group */
    plumb_micro_end_group(m);
    CHECK(m->groups == 2 && m->group[1] == 3 && m->group[2] == 5);
    for (int64_t j = 0; j < m->pack.n_targets; j++)
        m->pack.logp[j] = rng_f(&r, -4, 0);
    plumb_micro_sum(m);
    if (!(o->needs(&m->param) & PLUMB_NEED_GROUP) && o != &plumb_obj_sft) {
        m->pair[m->pairs++] = (struct plumb_pair){0, 2, 0, 1};
        m->pair[m->pairs++] = (struct plumb_pair){3, 4, 0, 1};
    }
    m->weight[1] = o == &plumb_obj_sft || o == &plumb_obj_psle ? 0.5 : 0;
}

static void check_values(const struct plumb_objective *o)
{
    struct plumb_micro m;
    fill(&m, o);
    CHECK_OK(plumb_micro_check(&m));
    CHECK_OK(plumb_micro_loss(&m));
    const bool score = m.kind == PLUMB_MICRO_SCORE;
    double dlogp[SEQUENCES], dscore[SEQUENCES];
    struct plumb_obj_out out = {.dlogp = dlogp, .dscore = dscore};
    const struct plumb_obj_in in = {.n = SEQUENCES,
                                    .k = m.pairs,
                                    .logp = m.logp,
                                    .logp_ref = m.logp_ref,
                                    .score = m.score,
                                    .len = length,
                                    .reward = m.reward,
                                    .weight = m.weight,
                                    .pair = m.pair,
                                    .groups = 2,
                                    .group = m.group,
                                    .scale = 0.25,
                                    .mean_len = 1};
    CHECK_OK(plumb_objective_eval(o, &out, &in, &m.param));
    CHECK(out.loss == m.out.loss && m.out.loss != 0);
    int64_t at = 0;
    for (int64_t q = 0; q < SEQUENCES; q++) {
        double sum = 0;
        for (int32_t j = 0; j < length[q]; j++, at++) {
            sum += (double)m.pack.logp[at];
            CHECK(score || m.pack.dlogp[at] == (float)dlogp[q]);
        }
        CHECK(m.logp[q] == sum && (!score || m.score_f32[q] == (float)dscore[q]));
    }
    CHECK(at == m.pack.n_targets);
    plumb_micro_fini(&m);
}

static void check_names(const struct plumb_objective *o)
{
    struct plumb_micro m;
    char said[100];
    fill(&m, o);
    if (m.kind == PLUMB_MICRO_SCORE) {
        m.score[4] = NAN;
        CHECK_FAILS(plumb_micro_check(&m), PLUMB_ERR_NUMERIC, "score of record 7, sample 0 is nan");
    } else {
        /* the third token of the third sequence, which follows 3 + 1 tokens */
        m.pack.logp[3 + 1 + 2] = -NAN;
        plumb_micro_sum(&m);
        CHECK_FAILS(plumb_micro_check(&m), PLUMB_ERR_NUMERIC,
                    "completion token 2 of record 40, sample 3 is nan");
    }
    CHECK_FAILS(plumb_micro_loss(&m), PLUMB_ERR_NUMERIC,
                m.kind == PLUMB_MICRO_SCORE ? "sequence 4" : "sequence 2");
    CHECK(strstr(plumb_trail_message(), o->name));
    CHECK(strstr(plumb_trail_message(), "record 40 samples 0 2 3, record 7 samples 1 0"));
    plumb_micro_fini(&m);
    /* a reference log-prob that is not set is an error */
    if (o->needs(&m.param) & PLUMB_NEED_REF) {
        fill(&m, o);
        m.logp_ref[1] = NAN;
        snprintf(said, sizeof(said), "objective %s: logp_ref of sequence 1", o->name);
        CHECK_FAILS(plumb_micro_loss(&m), PLUMB_ERR_NUMERIC, said);
        plumb_micro_fini(&m);
    }
    if (o->needs(&m.param) & (PLUMB_NEED_REWARD | PLUMB_NEED_GROUP)) {
        fill(&m, o);
        m.reward[3] = NAN;
        snprintf(said, sizeof(said), "objective %s: reward of sequence 3", o->name);
        CHECK_FAILS(plumb_micro_loss(&m), PLUMB_ERR_NUMERIC, said);
        CHECK(strstr(plumb_trail_message(), "record 7 samples 1 0"));
        plumb_micro_fini(&m);
    }
}

/* Checks that a description that does not fit into the buffer is cut, but never within a number. */
static void check_description(void)
{
    struct plumb_micro m;
    char text[30];
    fill(&m, &plumb_obj_dpo);
    plumb_micro_describe(text, sizeof(text), &m);
    CHECKF(!strcmp(text, "record 40 samples 0 2 3 ..."), "%s", text);
    plumb_micro_clear(&m);
    plumb_micro_describe(text, sizeof(text), &m);
    CHECK(m.pairs == 0 && m.groups == 0 && text[0] == '\0');
    plumb_micro_fini(&m);
}

int main(void)
{
    for (int i = 0; plumb_objective_at(i); i++) {
        check_values(plumb_objective_at(i));
        check_names(plumb_objective_at(i));
    }
    check_description();
    return 0;
}
