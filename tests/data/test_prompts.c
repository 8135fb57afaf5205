/* test_prompts.c - checks the order in which iterations use prompts: each prompt occurs once in an
 * epoch and at most once in an iteration. */
#include "data/prompts.h"

#include <string.h>

#include "harness.h"

enum { MAX = 64 };

/* Checks, over this number of iterations, that every epoch has each prompt once and that no
 * iteration has a prompt twice. */
static void check_fair(struct plumb_prompt_order o, int64_t iterations)
{
    int64_t got[MAX], seen[MAX] = {0}, read = 0;
    for (int64_t it = 1; it <= iterations; it++) {
        bool here[MAX] = {false};
        CHECK_OK(plumb_prompts_at(got, it, &o));
        for (int64_t i = 0; i < o.per_iteration; i++, read++) {
            CHECKF(got[i] >= 0 && got[i] < o.count, "%lld", (long long)got[i]);
            CHECKF(!here[got[i]], "iteration %lld has prompt %lld twice", (long long)it,
                   (long long)got[i]);
            here[got[i]] = true;
            CHECKF(seen[got[i]] == read / o.count, "prompt %lld of %lld/%lld, epoch %lld",
                   (long long)got[i], (long long)o.per_iteration, (long long)o.count,
                   (long long)(read / o.count));
            seen[got[i]]++;
        }
    }
}

struct seen {
    const struct plumb_prompt_order *o;
    const int64_t *got;
    int64_t calls;
};

static plumb_status compare(void *arg, int64_t iteration)
{
    struct seen *s = arg;
    int64_t alone[MAX];
    CHECK(iteration == ++s->calls);
    CHECK_OK(plumb_prompts_at(alone, iteration, s->o));
    CHECKF(!memcmp(alone, s->got, (size_t)s->o->per_iteration * sizeof *alone),
           "iteration %lld of %lld/%lld", (long long)iteration, (long long)s->o->per_iteration,
           (long long)s->o->count);
    return iteration == 17 ? PLUMB_STOPPED : PLUMB_OK;
}

/* Checks that plumb_prompts_each visits the prompts that plumb_prompts_at returns, and that it
 * stops at an error. */
static void check_each(const struct plumb_prompt_order *o)
{
    int64_t got[MAX];
    struct seen s = {o, got, 0};
    CHECK_OK(plumb_prompts_each(got, 16, o, compare, &s));
    CHECK(s.calls == 16);
    s.calls = 0;
    CHECK(plumb_prompts_each(got, 40, o, compare, &s) == PLUMB_STOPPED);
    CHECK(s.calls == 17);
}

int main(void)
{
    for (int64_t count = 1; count <= 12; count++)
        for (int64_t per = 1; per <= count; per++)
            for (int shuffle = 0; shuffle < 2; shuffle++) {
                const struct plumb_prompt_order o = {7, count, per, shuffle};
                check_fair(o, 40);
                check_each(&o);
            }
    check_fair((struct plumb_prompt_order){7, MAX, 48, true}, 50);

    /* Without shuffling, the prompts come in the order of the file, again and again. */
    int64_t a[MAX], b[MAX];
    CHECK_OK(plumb_prompts_at(a, 3, &(struct plumb_prompt_order){1, 5, 2, false}));
    CHECK(a[0] == 4 && a[1] == 0);

    /* An iteration has the same prompts, whichever iterations were read before. With another seed,
     * or in another epoch, the order differs. */
    const struct plumb_prompt_order o = {1, MAX, MAX, true};
    CHECK_OK(plumb_prompts_at(a, 2, &o));
    CHECK_OK(plumb_prompts_at(b, 1, &o));
    CHECK(memcmp(a, b, sizeof a) != 0);
    CHECK_OK(plumb_prompts_at(b, 2, &o));
    CHECK(memcmp(a, b, sizeof a) == 0);
    CHECK_OK(plumb_prompts_at(b, 2, &(struct plumb_prompt_order){2, MAX, MAX, true}));
    CHECK(memcmp(a, b, sizeof a) != 0);

    /* The order of prompts determines the results of runs, so it must not change between
     * versions. */
    static const int64_t want[6] = {1, 3, 4, 2, 0, 5};
    CHECK_OK(plumb_prompts_at(a, 1, &(struct plumb_prompt_order){1, 6, 6, true}));
    for (int i = 0; i < 6; i++)
        CHECKF(a[i] == want[i], "%d: %lld", i, (long long)a[i]);

    CHECK(plumb_prompts_at(a, 1, &(struct plumb_prompt_order){1, 4, 5, true}) == PLUMB_ERR_CONFIG);
    CHECK(plumb_prompts_at(a, 1, &(struct plumb_prompt_order){1, 0, 1, true}) == PLUMB_ERR_CONFIG);
    CHECK(plumb_prompts_at(a, 0, &(struct plumb_prompt_order){1, 4, 1, true}) == PLUMB_ERR_ARG);
    return 0;
}
