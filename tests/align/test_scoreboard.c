/* test_scoreboard.c - checks the errors for completions that no rank or two ranks put on the
 * scoreboard, and the statistics of equal, large and missing rewards. */
#include <string.h>

#include "align/stats.h"
#include "harness.h"

static struct plumb_scoreboard *fresh(int64_t prompts, int64_t group)
{
    struct plumb_scoreboard *b;
    CHECK_OK(plumb_scoreboard_create(&b, prompts, group));
    CHECK_OK(plumb_scoreboard_begin(b, prompts));
    return b;
}

static void check_owners(void)
{
    struct plumb_scoreboard *b = fresh(3, 2);
    CHECK(plumb_scoreboard_put(b, 3, 0, false, 1) == PLUMB_ERR_ARG);
    CHECK(plumb_scoreboard_put(b, 0, 2, false, 1) == PLUMB_ERR_ARG);
    CHECK(plumb_scoreboard_put(b, -1, 0, false, 1) == PLUMB_ERR_ARG);
    CHECK_OK(plumb_scoreboard_put(b, 0, 0, false, 1));
    CHECK(plumb_scoreboard_put(b, 0, 0, false, 1) == PLUMB_ERR_ARG);
    CHECK_OK(plumb_scoreboard_put(b, 2, 1, true, NAN));
    /* No rank has put a completion of prompt 1 on the board. */
    CHECK(plumb_scoreboard_close(b) == PLUMB_ERR_ARG);
    CHECK(strstr(plumb_trail_message(), "prompt 1 "));
    CHECK_OK(plumb_scoreboard_put(b, 1, 0, true, -0.5));
    CHECK_OK(plumb_scoreboard_close(b));
    CHECK(b->kind[0] == PLUMB_ENTRY_PLAIN && b->reward[0] == 1);
    CHECK(b->kind[1] == PLUMB_ENTRY_ABSENT && isnan(b->reward[1]));
    CHECK(b->kind[2] == PLUMB_ENTRY_PRINCIPLED && b->reward[2] == -0.5);
    CHECK(b->kind[5] == PLUMB_ENTRY_PRINCIPLED && isnan(b->reward[5]));
    CHECK(b->choice[0].branch == PLUMB_BRANCH_SKIP && !plumb_scoreboard_uses(b, 0));
    /* Two ranks put the same completion on the board, with all combinations of plain and
     * principled, with and without a reward. */
    for (int a = 0; a < 4; a++)
        for (int c = 0; c < 4; c++) {
            CHECK_OK(plumb_scoreboard_begin(b, 1));
            CHECK_OK(plumb_scoreboard_put(b, 0, 1, a & 1, a & 2 ? NAN : 0.0));
            const double code = b->slot[2];
            CHECK_OK(plumb_scoreboard_begin(b, 1));
            CHECK_OK(plumb_scoreboard_put(b, 0, 1, c & 1, c & 2 ? NAN : 0.0));
            b->slot[2] += code;
            CHECK(plumb_scoreboard_close(b) == PLUMB_ERR_ARG);
            CHECK(strstr(plumb_trail_message(), "completion 1 of prompt 0"));
        }
    CHECK(plumb_scoreboard_begin(b, 4) == PLUMB_ERR_ARG);
    CHECK(plumb_scoreboard_begin(b, 0) == PLUMB_ERR_ARG);
    plumb_scoreboard_destroy(&b);
    plumb_scoreboard_destroy(&b);
    CHECK(plumb_scoreboard_create(&b, INT64_MAX / 2, 8) == PLUMB_ERR_NOMEM);
    CHECK(plumb_scoreboard_create(&b, 0, 8) == PLUMB_ERR_ARG);
}

static void check_edges(void)
{
    struct plumb_align_param p = plumb_align_param_default();
    struct plumb_align_stats s;
    struct plumb_scoreboard *b = fresh(4, 1);
    /* The rewards are equal up to rounding. The z-score must not divide by their tiny standard
     * deviation. */
    for (int q = 0; q < 4; q++)
        CHECK_OK(plumb_scoreboard_put(b, q, 0, false, 0.1 * (1 + 1e-16 * q)));
    CHECK_OK(plumb_scoreboard_close(b));
    plumb_stats_reward(&s, b, &p);
    for (int q = 0; q < 4; q++)
        CHECK(b->norm[q] == 0);
    CHECK(isnan(s.reward_principled_mean) && s.completions == 4 && s.missing == 0);
    /* The rewards have a large offset. One-pass sums of squares would lose the digits of their
     * standard deviation. */
    CHECK_OK(plumb_scoreboard_begin(b, 4));
    for (int q = 0; q < 4; q++)
        CHECK_OK(plumb_scoreboard_put(b, q, 0, false, 1e9 + q));
    CHECK_OK(plumb_scoreboard_close(b));
    p.reward_norm = PLUMB_NORM_NONE;
    plumb_stats_reward(&s, b, &p);
    CHECK(fabs(s.reward_std - sqrt(1.25)) < 1e-9 && b->norm[3] == 1e9 + 3);
    /* No completion has a reward. */
    CHECK_OK(plumb_scoreboard_begin(b, 2));
    for (int q = 0; q < 2; q++)
        CHECK_OK(plumb_scoreboard_put(b, q, 0, true, NAN));
    CHECK_OK(plumb_scoreboard_close(b));
    plumb_stats_reward(&s, b, &p);
    plumb_stats_margin(&s, b);
    CHECK(s.missing == 2 && isnan(s.reward_mean) && s.margins == 0 && isnan(s.margin_mean));
    p.reward_norm = PLUMB_NORM_SIGMOID;
    CHECK_OK(plumb_scoreboard_begin(b, 2));
    CHECK_OK(plumb_scoreboard_put(b, 0, 0, true, 1000.0));
    CHECK_OK(plumb_scoreboard_put(b, 1, 0, true, -1000.0));
    CHECK_OK(plumb_scoreboard_close(b));
    plumb_stats_reward(&s, b, &p);
    CHECK(b->norm[0] == 1 && b->norm[1] == 0);
    plumb_scoreboard_destroy(&b);

    const double x[4] = {1, 2, 4, 8};
    CHECK(plumb_quantile(x, 4, 0) == 1 && plumb_quantile(x, 4, 1) == 8);
    CHECK(plumb_quantile(x, 4, 0.5) == 3 && plumb_quantile(x, 1, 0.7) == 1);
    CHECK(isnan(plumb_quantile(x, 0, 0.5)));
}

int main(void)
{
    check_owners();
    check_edges();
    return 0;
}
