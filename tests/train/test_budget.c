/* test_budget.c - checks how many prompts an iteration gets if the run is limited by a number of
 * generated tokens. Test. Includes harness.h, train/budget.h. */
#include "train/budget.h"

#include "harness.h"

/* Simulates a run with a budget of `tokens` generated tokens: iterations of at most `whole`
 * prompts, optimizer steps of `batch` prompts. The answers to a prompt have `mean` tokens plus or
 * minus a random number up to `spread`. Checks the progress at each iteration. Sets *iterations to
 * the number of iterations, and returns the number of generated tokens. */
static int64_t run(int64_t tokens, int64_t whole, int64_t batch, int64_t mean, int64_t spread,
                   int64_t *iterations)
{
    struct plumb_budget b = {.tokens = tokens, .whole = whole, .batch = batch};
    struct rng r = {(uint64_t)(tokens + mean)};
    int64_t n = plumb_budget_first(tokens, whole, mean + spread);
    double before = -1;
    *iterations = 0;
    while (n > 0) {
        const double progress = plumb_budget_progress(tokens, b.generated, *iterations);
        CHECK(n <= whole && progress > before - (before == 1) && progress >= 0 && progress <= 1);
        before = progress;
        b.last_tokens = 0;
        for (int64_t i = 0; i < n; i++)
            b.last_tokens += mean + (int64_t)(rng_u(&r) * (double)(2 * spread + 1)) - spread;
        b.generated += b.last_tokens;
        b.last_prompts = n;
        ++*iterations;
        n = plumb_budget_next(&b);
    }
    return b.generated;
}

static void test_runs(void)
{
    int64_t iterations;
    /* The budget is a multiple of an iteration's tokens, so the run generates exactly the
     * budget. */
    CHECK(run(8 * 20 * 50, 20, 10, 50, 0, &iterations) == 8000 && iterations == 8);
    /* The rest of the budget is rounded to whole prompts; half a prompt is rounded up. */
    CHECK(run(1000 + 250, 20, 10, 50, 0, &iterations) == 1250 && iterations == 2);
    CHECK(run(1000 + 275, 20, 10, 50, 0, &iterations) == 1300 && iterations == 2);
    CHECK(run(1000 + 274, 20, 10, 50, 0, &iterations) == 1250 && iterations == 2);
    /* A rest of less than half a batch is not used. */
    CHECK(run(1000 + 225, 20, 10, 50, 0, &iterations) == 1250 && iterations == 2);
    CHECK(run(1000 + 224, 20, 10, 50, 0, &iterations) == 1000 && iterations == 1);
    CHECK(run(1000 + 475, 20, 64, 50, 0, &iterations) == 1500 && iterations == 2);
    CHECK(run(1000 + 474, 20, 64, 50, 0, &iterations) == 1000 && iterations == 1);
    CHECK(run(1000 + 25, 20, 1, 50, 0, &iterations) == 1050 && iterations == 2);
    CHECK(run(1000 + 24, 20, 1, 50, 0, &iterations) == 1000 && iterations == 1);
    /* The first iteration has fewer prompts, because its answers could have the greatest length. */
    CHECK(run(1000, 20, 8, 50, 30, &iterations) < 1150 && iterations == 2);
    for (int64_t mean = 20; mean < 400; mean += 17) {
        const int64_t got = run(50000, 40, 8, mean, mean / 3, &iterations);
        CHECKF(llabs(got - 50000) < 4 * mean, "mean %lld: %lld", (long long)mean, (long long)got);
    }
}

static void test_next(void)
{
    struct plumb_budget b = {.tokens = 1000,
                             .generated = 600,
                             .last_tokens = 600,
                             .last_prompts = 3,
                             .whole = 8,
                             .batch = 4};
    CHECK(plumb_budget_next(&b) == 2);
    b.batch = 5;
    CHECK(plumb_budget_next(&b) == 0);
    b.whole = 1;
    CHECK(plumb_budget_next(&b) == 1);
    b.generated = 1000;
    CHECK(plumb_budget_next(&b) == 0);
    b.generated = 1500;
    CHECK(plumb_budget_next(&b) == 0);
    b = (struct plumb_budget){.tokens = 1000000000000,
                              .generated = 1,
                              .last_tokens = 1,
                              .last_prompts = 1000000000,
                              .whole = 1000000000,
                              .batch = 64};
    CHECK(plumb_budget_next(&b) == 1000000000);
}

int main(void)
{
    test_runs();
    test_next();
    CHECK(plumb_budget_first(1000, 8, 100) == 8 && plumb_budget_first(799, 8, 100) == 7);
    CHECK(plumb_budget_first(5, 8, 100) == 1);
    for (int64_t i = 0; i < 8; i++) /* iterations of equal size make equal progress */
        CHECK(fabs(plumb_budget_progress(8000, 1000 * i, i) - (double)i / 7) < 1e-15);
    CHECK(plumb_budget_progress(1000, 1000, 1) == 1 && plumb_budget_progress(1000, 3000, 2) == 1);
    return 0;
}
