/* test_schedule.c - checks learning rates against those of the schedulers of transformers.
 * Test. Includes harness.h, train/, the golden values (optim_golden.h). */
#include "train/schedule.h"

#include "harness.h"
#include "optim_golden.h"

static void against(const char *name, const struct plumb_schedule *s, const double *golden, int n)
{
    for (int i = 0; i < n; i++) {
        const double lr = plumb_lr_at(s, i);
        CHECKF(fabs(lr - golden[i]) <= 1e-15, "%s step %d: %.17g, expected %.17g", name, i, lr,
               golden[i]);
    }
}

int main(void)
{
    struct plumb_schedule s = {.kind = PLUMB_LR_CONSTANT, .total = 20, .warmup_ratio = 0.22};
    CHECK(plumb_schedule_warmup(&s) == 5);
    against("constant", &s, golden_constant, 24);
    s.kind = PLUMB_LR_LINEAR;
    against("linear", &s, golden_linear, 24);
    s.kind = PLUMB_LR_COSINE;
    against("cosine", &s, golden_cosine, 20);
    CHECK(plumb_lr_at(&s, 20) == 0 && plumb_lr_at(&s, 30) == 0);
    s.min_lr_ratio = 0.1;
    against("cosine with a floor", &s, golden_cosine_min, 20);
    CHECK(plumb_lr_at(&s, 25) == 0.1);
    s.kind = PLUMB_LR_LINEAR;
    CHECK(fabs(plumb_lr_at(&s, 10) - (golden_linear[10] * 0.9 + 0.1)) < 1e-15);

    s = (struct plumb_schedule){.kind = PLUMB_LR_LINEAR, .total = 4};
    CHECK(plumb_lr_at(&s, 0) == 1 && plumb_lr_at(&s, 3) == 0.25);
    s.warmup_ratio = 1;
    CHECK(plumb_schedule_warmup(&s) == 4 && plumb_lr_at(&s, 3) == 0.75 && plumb_lr_at(&s, 4) == 0);

    enum plumb_schedule_kind kind;
    CHECK_OK(plumb_schedule_parse(&kind, "linear"));
    CHECK(kind == PLUMB_LR_LINEAR && !strcmp(plumb_schedule_name(kind), "linear"));
    CHECK_FAILS(plumb_schedule_parse(&kind, "lin"), PLUMB_ERR_ARG, "'lin'");
    return 0;
}
