/* test_frozen.c - checks src/train/frozen.c with a frozen model that is sharded over ranks, which
 * run different numbers of passes. Every rank must get the bits of the whole model, also when the
 * ranks generate with it or mix its logits with those of another model. A failure or a pause of one
 * rank must reach all ranks.
 * Test. Includes comm/threads.h, model/, train/. */
#include "train/frozen.h"

#include <string.h>

#include "../comm/threads.h"
#include "harness.h"
#include "model/generate.h"
#include "model/mix.h"

enum { TOKENS = 12, NEW = 5, PROMPTS = 4, SAMPLES = 2, TARGETS = 7 };
static char dir[700];

/* The completions that a rank has generated, by prompt and sample. */
struct answers {
    int64_t n[PROMPTS][SAMPLES]; /* number of tokens; 0 if the completion was not returned */
    enum plumb_stop stop[PROMPTS][SAMPLES];
    int32_t ids[PROMPTS][SAMPLES][NEW];
    float logp[PROMPTS][SAMPLES][NEW];
    int64_t left;  /* number of decode steps until the pause function asks for a pause; -1: never */
    int64_t fails; /* number of the completion at which the caller's function fails; -1: none */
    int64_t done;
};

/* The expected results, computed with the whole model. */
static float want[TOKENS], want_mixed[TARGETS];
static struct answers want_answers;

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

static plumb_status keep(void *arg, const struct plumb_completion *c)
{
    struct answers *a = arg;
    CHECK(c->n <= NEW && c->request < PROMPTS);
    a->n[c->request][c->sample] = c->n;
    a->stop[c->request][c->sample] = c->stop;
    memcpy(a->ids[c->request][c->sample], c->ids, (size_t)c->n * sizeof(*c->ids));
    memcpy(a->logp[c->request][c->sample], c->logp, (size_t)c->n * sizeof(*c->logp));
    PLUMB_REQUIRE(a->done++ != a->fails, PLUMB_ERR_NUMERIC, "this rank has had enough");
    return PLUMB_OK;
}

static plumb_status ask(void *arg)
{
    struct answers *a = arg;
    PLUMB_REQUIRE(a->left < 0 || a->left-- > 0, PLUMB_STOPPED, "a request to pause");
    return PLUMB_OK;
}

/* Generates completions of the first n prompts. */
static plumb_status generate(struct answers *a, const plumb_model *m, int64_t n,
                             plumb_status (*pass)(void *arg), void *pass_arg)
{
    const struct plumb_generator_need need = {.slots = 3, .max_tokens = TOKENS};
    struct plumb_request request[PROMPTS];
    struct plumb_generate_options o = {.sample = {.temperature = 1, .top_p = 1},
                                       .max_new_tokens = NEW,
                                       .seed = 7,
                                       .ignore_eos = true,
                                       .pause = ask,
                                       .pause_arg = a,
                                       .pass = pass,
                                       .pass_arg = pass_arg};
    plumb_generator *g;
    for (int64_t i = 0; i < PROMPTS; i++)
        request[i] = (struct plumb_request){
            .ids = ids + i, .n = 2 + i, .prompt_id = i, .n_samples = SAMPLES};
    CHECK_OK(plumb_generator_create(&g, m, &need));
    const plumb_status st = plumb_generate(g, m, request, n, &o, keep, a);
    plumb_generator_destroy(&g);
    return st;
}

/* Checks that the first n prompts have the completions of the whole model, and that the others have
 * none. */
static void check_answers(const struct answers *a, int64_t n)
{
    for (int64_t i = 0; i < PROMPTS; i++)
        for (int64_t s = 0; s < SAMPLES; s++) {
            CHECK(a->n[i][s] == (i < n ? NEW : 0));
            CHECK(i >= n || !memcmp(a->ids[i][s], want_answers.ids[i][s], sizeof(a->ids[i][s])));
            CHECK(i >= n || !memcmp(a->logp[i][s], want_answers.logp[i][s], sizeof(a->logp[i][s])));
        }
}

/* Runs `passes` passes on this rank, and ends with the status `local`, which all ranks must
 * learn. */
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

struct meeting {
    struct plumb_lockstep s;
    struct plumb_frozen_run *run;
    const plumb_model *m;
};

static plumb_status before_pass(void *arg)
{
    struct meeting *x = arg;
    return plumb_lockstep_pass(&x->s, x->run, x->m);
}

/* Generates completions together with the other ranks. */
static plumb_status answer(struct answers *a, struct plumb_frozen_run *run, const plumb_model *m,
                           int64_t n)
{
    struct meeting x = {.run = run, .m = m};
    const plumb_status st = generate(a, m, n, before_pass, &x);
    return plumb_lockstep_end(&x.s, run, m, st);
}

static void check_generation(struct plumb_frozen_run *run, const plumb_model *m, int me, int last)
{
    struct answers all = {.left = -1, .fails = -1}, again = all, lone = all;
    /* rank 0 has no prompt and only takes part in the gathers */
    CHECK_OK(answer(&all, run, m, me));
    check_answers(&all, me);
    CHECK(generate(&lone, m, 1, NULL, NULL) == PLUMB_ERR_ARG);
    CHECK(strstr(plumb_trail_message(), "shares of the ranks"));
    if (last == 0)
        return;
    /* Rank 0 pauses after two steps. The other ranks return their incomplete completions. */
    struct answers part = {.left = me == 0 ? 2 : -1, .fails = -1};
    CHECK(answer(&part, run, m, PROMPTS) == PLUMB_STOPPED);
    int64_t begun = 0;
    for (int64_t i = 0; i < PROMPTS; i++)
        for (int64_t s = 0; s < SAMPLES; s++) {
            const size_t n = (size_t)part.n[i][s];
            CHECK(n < NEW && (n == 0 || part.stop[i][s] == PLUMB_STOP_PAUSED));
            CHECK(!memcmp(part.ids[i][s], want_answers.ids[i][s], n * sizeof(int32_t)));
            begun += n > 0;
        }
    CHECKF(begun > 0, "rank %d handed out nothing", me);
    /* The last rank fails at its second completion. */
    struct answers bad = {.left = -1, .fails = me == last ? 1 : -1};
    const plumb_status st = answer(&bad, run, m, PROMPTS);
    CHECKF(st == (me == last ? PLUMB_ERR_NUMERIC : PLUMB_ERR_PEER), "%s", plumb_status_text(st));
    CHECK_OK(answer(&again, run, m, last - me));
    check_answers(&again, last - me);
}

/* Mixes the logits of the whole model with those of m. Rank 0 has no batch and only takes part in
 * the gathers. If `thin` is given, the last rank uses it; it is a pass that cannot mix. */
static plumb_status mix(struct plumb_frozen_run *run, const plumb_model *m,
                        const plumb_model *whole, plumb_pass *pass, plumb_pass *thin, int me,
                        int last)
{
    struct plumb_lockstep s = {0};
    struct plumb_mix x;
    float got[TARGETS] = {0};
    plumb_status st = PLUMB_OK;
    CHECK_OK(plumb_mix_init(&x, whole, TARGETS));
    for (int i = 0; i < me && st == PLUMB_OK; i++) {
        st = plumb_lockstep_pass(&s, run, m);
        if (st == PLUMB_OK)
            st = plumb_pass_mixed_logprob(thin && me == last ? thin : pass, &x, whole, m, 0.5,
                                          &batch, got);
        CHECK(st != PLUMB_OK || !memcmp(got, want_mixed, sizeof(got)));
    }
    plumb_mix_fini(&x);
    return plumb_lockstep_end(&s, run, m, st);
}

static void check_mix(struct plumb_frozen_run *run, const plumb_model *m, plumb_pass *pass, int me,
                      int last)
{
    const struct plumb_pass_limit limit = {.max_tokens = TOKENS, .max_seq = 2, .head_rows = 1};
    plumb_model *whole;
    plumb_pass *thin;
    CHECK_OK(plumb_model_open(&whole, m->backend, dir));
    CHECK_OK(plumb_pass_create(&thin, m, &limit));
    CHECK_OK(mix(run, m, whole, pass, NULL, me, last));
    const plumb_status st = mix(run, m, whole, pass, thin, me, last);
    CHECKF(st == (last == 0    ? PLUMB_OK
                  : me == last ? PLUMB_ERR_ARG
                               : PLUMB_ERR_PEER),
           "%s", plumb_status_text(st));
    plumb_pass_destroy(&thin);
    plumb_model_destroy(&whole);
}

static void rank(plumb_comm *c)
{
    const struct plumb_config cfg = {.frozen = PLUMB_FROZEN_SHARDED};
    const int me = plumb_comm_rank(c), n = plumb_comm_size(c), last = n - 1;
    struct plumb_frozen_run run;
    struct plumb_backend *b;
    plumb_model *m;
    plumb_pass *pass;
    /* Checks that all ranks call the same collectives at the same places in the source. */
    plumb_comm_check_calls(c, true);
    CHECK_OK(plumb_backend_cpu_create(&b, 1, 1));
    plumb_frozen_of(&run, &cfg, c, b);
    CHECK_OK(plumb_model_open_frozen(&m, b, dir, 0, &run.how));
    const struct plumb_pass_limit limit = {.max_tokens = TOKENS, .max_seq = 2};
    CHECK_OK(plumb_pass_create(&pass, m, &limit));
    /* rank 0 runs no pass and only takes part in the gathers */
    CHECK_OK(series(&run, m, pass, me, PLUMB_OK));
    CHECK_OK(series(&run, m, pass, 2 * (last - me), PLUMB_OK));
    CHECK_OK(series(&run, m, pass, 0, PLUMB_OK));
    /* The last rank fails after two passes, while the other ranks want to run five. */
    plumb_status st =
        series(&run, m, pass, me == last ? 2 : 5, me == last ? PLUMB_ERR_NUMERIC : PLUMB_OK);
    CHECKF(st == (me == last ? PLUMB_ERR_NUMERIC : PLUMB_ERR_PEER), "%s", plumb_status_text(st));
    CHECK(strstr(plumb_trail_message(), "this rank has had enough"));
    /* Rank 0 pauses before its first pass. */
    st = series(&run, m, pass, me == 0 ? 0 : 3, me == 0 ? PLUMB_STOPPED : PLUMB_OK);
    CHECK(st == PLUMB_STOPPED);
    CHECK_OK(series(&run, m, pass, 1, PLUMB_OK));
    check_generation(&run, m, me, last);
    check_mix(&run, m, pass, me, last);
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
    want_answers = (struct answers){.left = -1, .fails = -1};
    CHECK_OK(generate(&want_answers, m, PROMPTS, NULL, NULL));
    struct plumb_mix x;
    CHECK_OK(plumb_mix_init(&x, m, TARGETS));
    CHECK_OK(plumb_pass_mixed_logprob(pass, &x, m, m, 0.5, &batch, want_mixed));
    plumb_mix_fini(&x);
    plumb_pass_destroy(&pass);
    plumb_model_destroy(&m);
    plumb_backend_destroy(&b);
    for (int n = 1; n <= 4; n++)
        on_threads(n, rank);
    return 0;
}
