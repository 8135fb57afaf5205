/* test_length.c - how loss_aggregation changes the expected length of answers when a policy is
 * trained on its own samples.
 * Test. Includes align/, harness.h. Covers plumb_imitation_length of align/pair_term.h.
 *
 * The policy is so small that all answers can be enumerated. Position t draws one of three tokens
 * from softmax(theta_t); token 0 ends the answer; an answer is cut after LONGEST tokens. The test
 * enumerates all batches of `size` answers with their probabilities. It averages the gradient of
 * the loss, with equal weights of the answers, over these batches, so there is no sampling noise. A
 * step against this gradient changes the expected length by -(gradient . gradient of the expected
 * length), with these results for each loss_aggregation:
 *
 *     sum        no change, because E[grad log-prob] = 0
 *     sequence   the gradient is that of E[-1 / n], so answers become shorter
 *     token      no change for a fixed mean length. If the loss divides by the mean length of the
 *                batch itself, which contains the answer, 1 / size of the effect of `sequence`
 *                remains */
#include <math.h>
#include <string.h>

#include "align/objective.h"
#include "align/scoreboard.h"
#include "harness.h"

enum { TOKENS = 3, LONGEST = 3, THETA = TOKENS * LONGEST, ANSWERS = 15, MOST = 3 };

static const double theta[LONGEST][TOKENS] = {{0.1, 0.7, -0.2}, {0.4, -0.5, 0.3}, {-0.3, 0.2, 0.9}};

struct answer {
    int32_t n;
    double logp, slope[THETA]; /* slope: derivative of logp by theta */
};

static struct answer answers[ANSWERS];
static int known;

static void enumerate(struct answer so_far)
{
    double all = 0;
    for (int k = 0; k < TOKENS; k++)
        all += exp(theta[so_far.n][k]);
    for (int token = 0; token < TOKENS; token++) {
        struct answer a = so_far;
        for (int k = 0; k < TOKENS; k++)
            a.slope[a.n * TOKENS + k] = (k == token) - exp(theta[a.n][k]) / all;
        a.logp += theta[a.n][token] - log(all);
        a.n++;
        if (token != 0 && a.n < LONGEST)
            enumerate(a);
        else
            answers[known++] = a;
    }
}

/* Adds to grad the gradient of the loss of one batch of answers, multiplied by the probability of
 * this batch. who (size,): indices of the answers. mean_len: the mean length by which the loss
 * divides; 0 stands for that of this batch. */
static void add_batch(double grad[THETA], const struct plumb_objective *o,
                      const struct plumb_align_param *p, const int *who, int size, double mean_len)
{
    double logp[MOST], weight[MOST], dlogp[MOST], chance = 1;
    int32_t len[MOST];
    struct plumb_imitated sums = {0};
    for (int i = 0; i < size; i++) {
        const struct answer *a = &answers[who[i]];
        logp[i] = a->logp, len[i] = a->n, weight[i] = 1;
        sums.weight += 1, sums.tokens += a->n;
        chance *= exp(a->logp);
    }
    const struct plumb_obj_in in = {.n = size,
                                    .logp = logp,
                                    .len = len,
                                    .weight = weight,
                                    .scale = 1.0 / size,
                                    .mean_len =
                                        mean_len > 0 ? mean_len : plumb_imitated_mean(sums)};
    struct plumb_obj_out out = {.dlogp = dlogp};
    CHECK_OK(plumb_objective_eval(o, &out, &in, p));
    for (int i = 0; i < size; i++)
        for (int k = 0; k < THETA; k++)
            grad[k] += chance * dlogp[i] * answers[who[i]].slope[k];
}

/* Returns the change of the expected length for a small step against the expected gradient, divided
 * by the step size. mean_len: see add_batch. */
static double length_change(const struct plumb_objective *o, enum plumb_aggregation aggregation,
                            int size, double mean_len)
{
    struct plumb_align_param p = plumb_align_param_default();
    double grad[THETA] = {0}, longer[THETA] = {0}, change = 0;
    int64_t batches = 1;
    p.loss_aggregation = aggregation;
    for (int i = 0; i < size; i++)
        batches *= ANSWERS;
    for (int64_t b = 0; b < batches; b++) {
        int who[MOST];
        int64_t rest = b;
        for (int i = 0; i < size; i++, rest /= ANSWERS)
            who[i] = (int)(rest % ANSWERS);
        add_batch(grad, o, &p, who, size, mean_len);
    }
    for (int a = 0; a < ANSWERS; a++)
        for (int k = 0; k < THETA; k++)
            longer[k] += exp(answers[a].logp) * answers[a].n * answers[a].slope[k];
    for (int k = 0; k < THETA; k++)
        change -= grad[k] * longer[k];
    return change;
}

static void check(const struct plumb_objective *o)
{
    const double sequence = length_change(o, PLUMB_AGGREGATE_SEQUENCE, 1, 0);
    CHECKF(sequence < -0.02, "%s, sequence: %g", o->name, sequence);
    for (int size = 1; size <= MOST; size++) {
        const double token = length_change(o, PLUMB_AGGREGATE_TOKEN, size, 0);
        CHECKF(fabs(length_change(o, PLUMB_AGGREGATE_SUM, size, 0)) < 1e-15, "%s, sum", o->name);
        CHECKF(fabs(length_change(o, PLUMB_AGGREGATE_TOKEN, size, 2.25)) < 1e-15, "%s, token",
               o->name);
        CHECKF(fabs(length_change(o, PLUMB_AGGREGATE_SEQUENCE, size, 0) - sequence) < 1e-14,
               "%s: a larger batch does not help `sequence`", o->name);
        CHECKF(token <= 0 && token > 1.02 * sequence / size, "%s, token, batch of %d: %g of %g",
               o->name, size, token, sequence);
    }
}

int main(void)
{
    double all = 0;
    enumerate((struct answer){0});
    for (int a = 0; a < known; a++)
        all += exp(answers[a].logp);
    CHECK(known == ANSWERS && fabs(all - 1) < 1e-15);
    check(&plumb_obj_sft);
    check(&plumb_obj_psle);
    return 0;
}
