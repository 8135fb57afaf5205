/* threshold.c - the table of threshold kinds, and the rules that apply the threshold tau to a
 * prompt.
 * Layer 1. Includes align/ and base/ only. */
#include "align/threshold.h"

#include <math.h>

struct plumb_threshold_state plumb_threshold_begin(const struct plumb_align_param *p)
{
    return (struct plumb_threshold_state){p->tau, 0};
}

const struct plumb_threshold *plumb_threshold_of(enum plumb_threshold_kind kind)
{
    static const struct plumb_threshold *const table[] = {
        [PLUMB_THRESHOLD_DECAY] = &plumb_thr_decay,
        [PLUMB_THRESHOLD_QUANTILE] = &plumb_thr_quantile,
        [PLUMB_THRESHOLD_MEAN_DECAY] = &plumb_thr_mean_decay,
        [PLUMB_THRESHOLD_NONE] = &plumb_thr_none,
    };
    return table[kind];
}

static bool takes_part(const struct plumb_scoreboard *b, int64_t i, enum plumb_weighted_loss loss)
{
    return !isnan(b->norm[i]) &&
           (loss == PLUMB_WEIGHTED_SOFTMAX || b->kind[i] == PLUMB_ENTRY_PRINCIPLED);
}

static void weigh(struct plumb_scoreboard *b, int64_t prompt, const struct plumb_align_param *p)
{
    const int64_t first = prompt * b->group_size, end = first + b->group_size;
    const bool equal = p->weighted_loss == PLUMB_WEIGHTED_PRINCIPLED_ONLY;
    double most = -INFINITY, sum = 0.0;
    for (int64_t i = first; i < end; i++)
        if (takes_part(b, i, p->weighted_loss))
            most = fmax(most, b->norm[i]);
    for (int64_t i = first; i < end; i++)
        if (takes_part(b, i, p->weighted_loss)) {
            b->weight[i] = equal ? 1.0 : exp((b->norm[i] - most) / p->weight_temperature);
            sum += b->weight[i];
        }
    for (int64_t i = first; i < end; i++)
        if (b->weight[i] > 0)
            b->weight[i] /= sum;
}

void plumb_threshold_weigh(struct plumb_scoreboard *b, int64_t prompt, double tau,
                           const struct plumb_align_param *p)
{
    struct plumb_choice *c = &b->choice[prompt];
    c->weight = c->margin >= tau ? 1.0 : 1.0 / (1.0 + exp(-c->margin / p->curriculum_temperature));
    c->denominator = c->weight;
}

double plumb_sigmoid_weight(double margin, const struct plumb_align_param *p)
{
    return 1.0 / (1.0 + exp(-p->weight_beta * margin));
}

void plumb_threshold_sigmoid(struct plumb_scoreboard *b, int64_t prompt, double tau,
                             const struct plumb_align_param *p)
{
    (void)tau;
    b->choice[prompt].weight = plumb_sigmoid_weight(b->choice[prompt].margin, p);
}

void plumb_threshold_branch(struct plumb_scoreboard *b, int64_t prompt, double tau,
                            const struct plumb_align_param *p)
{
    struct plumb_choice *c = &b->choice[prompt];
    const bool ranks = p->rank_loss != PLUMB_RANK_NONE;
    if (ranks && c->margin > tau) {
        c->branch = PLUMB_BRANCH_RANK;
    } else if (ranks && p->reverse == PLUMB_REVERSE_SWAP && -c->margin > tau) {
        const int64_t plain = c->lose;
        c->branch = PLUMB_BRANCH_SWAP;
        c->lose = c->win;
        c->win = plain;
    } else if (p->weighted_loss == PLUMB_WEIGHTED_NONE) {
        c->branch = PLUMB_BRANCH_SKIP;
    } else {
        c->branch = PLUMB_BRANCH_WEIGHTED;
        weigh(b, prompt, p);
    }
}
