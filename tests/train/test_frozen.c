/* test_frozen.c - src/train/frozen.c: ranks with shares of a model and different numbers of passes
 * get the bits of the whole model; a failure and a pause of one rank reach all.
 * Test. Includes comm/threads.h, train/. */
#include "train/frozen.h"

#include <string.h>

#include "../comm/threads.h"
#include "harness.h"

enum { TOKENS = 12 };
static char dir[700];
static float want[TOKENS];

static const int32_t ids[TOKENS] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
static const int64_t offset[] = {0, 5, TOKENS}, prompt[] = {2, 3};
static const struct plumb_batch batch = {2, ids, offset, prompt};

static plumb_status score(plumb_pass *pass, const plumb_model *m)
{
    float got[TOKENS] = {0};
    PLUMB_TRY(plumb_pass_logprob(pass, m, &batch, got));
    CHECK(memcmp(got, want, sizeof(got)) == 0);
    return PLUMB_OK;
}

/* `passes` passes of this rank; then it ends with the status `local`. */
static plumb_status series(struct plumb_frozen_run *run, const plumb_model *m, plumb_pass *pass,
                           int passes, plumb_status local)
{
    struct plumb_lockstep s = {0};
    plumb_status st = PLUMB_OK;
    for (int i = 0; i < passes && st == PLUMB_OK; i++) {
        st = plumb_lockstep_pass(&s, run, m);
        if (st == PLUMB_OK)
            st = score(pass, m);
    }
    if (st == PLUMB_OK && local == PLUMB_ERR_NUMERIC)
        st = plumb_fail_at(local, __FILE__, __LINE__, "this rank has had enough");
    else if (st == PLUMB_OK)
        st = local;
    return plumb_lockstep_end(&s, run, m, st);
}

static void rank(plumb_comm *c)
{
    const struct plumb_config cfg = {.frozen = PLUMB_FROZEN_SHARDED};
    const int me = plumb_comm_rank(c), n = plumb_comm_size(c), last = n - 1;
    struct plumb_frozen_run run;
    struct plumb_backend *b;
    plumb_model *m;
    plumb_pass *pass;
    CHECK_OK(plumb_backend_cpu_create(&b, 1, 1));
    plumb_frozen_of(&run, &cfg, c, b);
    CHECK_OK(plumb_model_open_frozen(&m, b, dir, 0, &run.how));
    const struct plumb_pass_limit limit = {.max_tokens = TOKENS, .max_seq = 2};
    CHECK_OK(plumb_pass_create(&pass, m, &limit));
    CHECK_OK(series(&run, m, pass, me, PLUMB_OK)); /* rank 0 only follows */
    CHECK_OK(series(&run, m, pass, 2 * (last - me), PLUMB_OK));
    CHECK_OK(series(&run, m, pass, 0, PLUMB_OK));
    /* the last rank fails after two passes, while the others have five */
    plumb_status st =
        series(&run, m, pass, me == last ? 2 : 5, me == last ? PLUMB_ERR_NUMERIC : PLUMB_OK);
    CHECKF(st == (me == last ? PLUMB_ERR_NUMERIC : PLUMB_ERR_PEER), "%s", plumb_status_text(st));
    CHECK(strstr(plumb_trail_message(), "this rank has had enough"));
    /* the first rank pauses before its first pass */
    st = series(&run, m, pass, me == 0 ? 0 : 3, me == 0 ? PLUMB_STOPPED : PLUMB_OK);
    CHECK(st == PLUMB_STOPPED);
    CHECK_OK(series(&run, m, pass, 1, PLUMB_OK));
    plumb_pass_destroy(&pass);
    plumb_model_destroy(&m);
    plumb_backend_destroy(&b);
}

int main(void)
{
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    struct plumb_backend *b;
    plumb_model *m;
    plumb_pass *pass;
    snprintf(dir, sizeof(dir), "%s/tests/fixtures/model/llama_odd_untied", root ? root : ".");
    CHECK_OK(plumb_backend_cpu_create(&b, 1, 1));
    CHECK_OK(plumb_model_open(&m, b, dir));
    const struct plumb_pass_limit limit = {.max_tokens = TOKENS, .max_seq = 2};
    CHECK_OK(plumb_pass_create(&pass, m, &limit));
    CHECK_OK(plumb_pass_logprob(pass, m, &batch, want));
    CHECK_OK(plumb_frozen_alone(m, "nothing"));
    plumb_pass_destroy(&pass);
    plumb_model_destroy(&m);
    plumb_backend_destroy(&b);
    for (int n = 1; n <= 4; n++)
        on_threads(n, rank);
    return 0;
}
