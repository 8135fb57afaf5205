/* test_health.c - checks the limits in the section `health` of the configuration, mostly with
 * health.action=stop, with which a value beyond its limit gives an error. Test. Includes harness.h,
 * train/health.h. */
#include "train/health.h"

#include <math.h>
#include <string.h>

#include "harness.h"

static struct plumb_config limits(enum plumb_health_action action)
{
    struct plumb_config c = {0};
    c.generate.temperature = 1;
    c.health.action = action;
    c.health.max_kl = 0.5, c.health.min_entropy = 0.02, c.health.max_clipped = 0.5;
    c.health.max_duplicates = 0.5, c.health.max_loss_jump = 8;
    return c;
}

static struct plumb_metrics_row row_of(double kl, double entropy, double clipped, double duplicates)
{
    struct plumb_metrics_row row = {0};
    plumb_metrics_set(&row, PLUMB_METRIC_COMPLETION_LENGTH, 20);
    plumb_metrics_set(&row, PLUMB_METRIC_KL, kl);
    plumb_metrics_set(&row, PLUMB_METRIC_ENTROPY, entropy);
    plumb_metrics_set(&row, PLUMB_METRIC_CLIPPED_RATIO, clipped);
    plumb_metrics_set(&row, PLUMB_METRIC_DUPLICATE_RATIO, duplicates);
    return row;
}

static void expect(struct plumb_health *h, const struct plumb_config *c,
                   struct plumb_metrics_row row, const char *words)
{
    const plumb_status st = plumb_health_rollouts(h, c, 3, &row);
    CHECKF(words ? st == PLUMB_ERR_NUMERIC && strstr(plumb_trail_message(), words) : st == PLUMB_OK,
           "status %d, %s, expected %s", (int)st, plumb_trail_message(), words ? words : "none");
}

static void test_rollouts(void)
{
    struct plumb_config c = limits(PLUMB_HEALTH_STOP);
    struct plumb_health h = {0};
    /* all values are at their limits, but not beyond */
    expect(&h, &c, row_of(10, 0.02, 0.5, 0.5), NULL);
    expect(&h, &c, row_of(10.2, 1, 0, 0), "health.max_kl: iteration 3: the policy is 0.51 nats");
    /* no message: the value has been beyond the limit since the previous row */
    expect(&h, &c, row_of(11, 1, 0, 0), NULL);
    expect(&h, &c, row_of(9, 1, 0, 0), NULL);
    /* the previous value was within the limit */
    expect(&h, &c, row_of(11, 1, 0, 0), "health.max_kl");
    expect(&h, &c, row_of(0, 0.019, 0, 0), "health.min_entropy");
    expect(&h, &c, row_of(0, 1, 0.51, 0), "health.max_clipped: iteration 3: 51 %");
    expect(&h, &c, row_of(0, 1, 0, 0.75), "health.max_duplicates: iteration 3: 75 %");
    c.health.max_kl = c.health.min_entropy = 0; /* the values that mean no limit */
    c.health.max_clipped = c.health.max_duplicates = 1;
    h = (struct plumb_health){0};
    expect(&h, &c, row_of(1000, 0, 1, 1), NULL);
    c = limits(PLUMB_HEALTH_STOP);
    c.generate.temperature = 0; /* greedy answers have no entropy, so min_entropy does not apply */
    expect(&h, &c, row_of(0, 0, 0, 0), NULL);
    struct plumb_metrics_row none = {0}; /* a missing metric exceeds no limit */
    expect(&h, &c, none, NULL);
    c = limits(PLUMB_HEALTH_WARN);
    expect(&h, &c, row_of(1000, 0, 1, 1), NULL);
    CHECK(h.beyond[PLUMB_HEALTH_KL] && h.beyond[PLUMB_HEALTH_CLIPPED]);
}

/* Passes `steps` losses around `level`, with an amplitude of 0.1, to the check, and then the loss
 * `last`. Returns the status of the last call. */
static plumb_status after(int steps, double level, double limit, double last)
{
    struct plumb_config c = limits(PLUMB_HEALTH_STOP);
    struct plumb_health h = {0};
    c.health.max_loss_jump = limit;
    for (int i = 0; i < steps; i++)
        CHECK_OK(plumb_health_loss(&h, &c, i + 1, level + (i % 2 ? 0.1 : -0.1)));
    const plumb_status st = plumb_health_loss(&h, &c, steps + 1, last);
    CHECK(st == PLUMB_OK || strstr(plumb_trail_message(), "health.max_loss_jump: step"));
    return st;
}

static void test_loss(void)
{
    CHECK(after(32, 2, 8, 2.79) == PLUMB_OK && after(32, 2, 8, 2.81) == PLUMB_ERR_NUMERIC);
    CHECK(after(16, -5, 8, -4.1) == PLUMB_ERR_NUMERIC && after(32, 2, 8, -50) == PLUMB_OK);
    CHECK(after(15, 2, 8, 50) == PLUMB_OK); /* with fewer than 16 losses there is no limit yet */
    CHECK(after(32, 2, 0, 50) == PLUMB_OK && after(32, 2, 100, 11) == PLUMB_OK);
    struct plumb_config c = limits(PLUMB_HEALTH_STOP);
    struct plumb_health h = {0};
    for (int i = 0; i < 100; i++) /* if the loss was constant, less than 1 % more is no jump */
        CHECK_OK(plumb_health_loss(&h, &c, i + 1, 3));
    CHECK_OK(plumb_health_loss(&h, &c, 101, 3.02));
    /* the 100 losses before these no longer matter: only the last 32 losses count */
    for (int i = 0; i < 100; i++)
        CHECK_OK(plumb_health_loss(&h, &c, i + 1, 3));
    CHECK(plumb_health_loss(&h, &c, 300, 3.04) == PLUMB_ERR_NUMERIC);
}

int main(void)
{
    test_rollouts();
    test_loss();
    return 0;
}
