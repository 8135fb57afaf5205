/* test_penalty.c - compares generation with a repetition penalty with transformers: the tokens,
 * their log-probs under the raw logits, and their log-probs under the distribution from which they
 * are drawn. tests/reference/penalty_fixtures.py makes the fixture.
 * Test. Covers model/generate.c and model/decode.c. */
#include <math.h>

#include "generated.h"
#include "io/json.h"

#define BOUND 2e-5 /* nats; float32 against float64; the largest measured difference is 2e-6 */

static void read_ids(int32_t *out, const plumb_json *list)
{
    for (int64_t i = 0; i < plumb_json_count(list); i++)
        out[i] = (int32_t)plumb_json_int(plumb_json_at(list, i), -1);
}

static void compare(const float *got, const plumb_json *want, const char *name, int64_t at)
{
    for (int64_t i = 0; i < plumb_json_count(want); i++) {
        const double x = plumb_json_real(plumb_json_at(want, i), NAN);
        CHECKF(fabs((double)got[i] - x) < BOUND, "case %lld, %s[%lld]: %g, transformers has %g",
               (long long)at, name, (long long)i, (double)got[i], x);
    }
}

static void check_case(const plumb_model *m, const plumb_json *v, int64_t at, int64_t slots)
{
    const plumb_json *ids = plumb_json_get(v, "ids");
    const int64_t n = plumb_json_count(ids);
    int32_t asked[MAX_LEN], want[MAX_LEN];
    read_ids(asked, plumb_json_get(v, "prompt"));
    read_ids(want, ids);
    const double temperature = plumb_json_real(plumb_json_get(v, "temperature"), NAN);
    const struct plumb_generate_options o = {
        .sample = {.temperature = (float)temperature, .top_p = 1.0f},
        .repetition_penalty = plumb_json_real(plumb_json_get(v, "penalty"), NAN),
        .max_new_tokens = n,
        .seed = 5,
        .ignore_eos = true};
    const struct plumb_request q = {.ids = asked,
                                    .n = plumb_json_count(plumb_json_get(v, "prompt")),
                                    .prompt_id = at,
                                    .n_samples = 3};
    plumb_generator *g;
    CHECK_OK(plumb_generator_create(
        &g, m,
        &(struct plumb_generator_need){.slots = slots, .max_tokens = MAX_LEN, .penalty = true}));
    base.n = 0;
    CHECK_OK(plumb_generate(g, m, &q, 1, &o, keep, &base));
    plumb_generator_destroy(&g);
    const int64_t k = find(&base, 0, 0);
    CHECKF(base.c[k].n == n && memcmp(base.c[k].ids, want, (size_t)n * 4) == 0,
           "case %lld: other tokens than transformers", (long long)at);
    compare(base.c[k].logp, plumb_json_get(v, "logp"), "logp", at);
    if (temperature > 0)
        compare(base.c[k].logp_sampled, plumb_json_get(v, "logp_sampled"), "logp_sampled", at);
}

/* Checks that a completion whose first 11 tokens are given continues in the same way: the penalty
 * also counts the given tokens. */
static void check_given(const plumb_model *m)
{
    struct plumb_generate_options o = options();
    o.repetition_penalty = 1.3;
    o.ignore_eos = true;
    const struct plumb_generator_need need = {.slots = 2, .max_tokens = MAX_LEN, .penalty = true};
    plumb_generator *g;
    make_requests(m->spec.v);
    CHECK_OK(plumb_generator_create(&g, m, &need));
    base.n = other.n = 0;
    struct plumb_request q = request[1];
    CHECK_OK(plumb_generate(g, m, &q, 1, &o, keep, &base));
    q.given = base.c[0].ids;
    q.given_logp = base.c[0].logp;
    q.given_logp_sampled = base.c[0].logp_sampled;
    q.n_given = 11;
    CHECK_OK(plumb_generate(g, m, &q, 1, &o, keep, &other));
    check_same(&base, &other, "with given tokens");
    plumb_generator_destroy(&g);
}

static void check_refusal(const plumb_model *m)
{
    struct plumb_generate_options o = options();
    o.repetition_penalty = 1.3;
    plumb_generator *g;
    CHECK_OK(plumb_generator_create(
        &g, m, &(struct plumb_generator_need){.slots = 2, .max_tokens = MAX_LEN}));
    CHECK(plumb_generate(g, m, request, 1, &o, keep, &other) == PLUMB_ERR_ARG);
    plumb_generator_destroy(&g);
}

int main(void)
{
    char path[600], dir[600];
    plumb_json *root;
    struct plumb_backend *b;
    plumb_model *m;
    fixture(path, "../penalty.json");
    CHECK_OK(plumb_json_read_file(&root, path));
    fixture(dir, plumb_json_string(plumb_json_get(root, "model"), ""));
    CHECK_OK(plumb_backend_cpu_create(&b, 1, 1));
    CHECK_OK(plumb_model_open(&m, b, dir));
    const plumb_json *cases = plumb_json_get(root, "cases");
    CHECK(plumb_json_count(cases) == 4);
    for (int64_t i = 0; i < plumb_json_count(cases); i++)
        for (int64_t slots = 1; slots <= 4; slots += 3)
            check_case(m, plumb_json_at(cases, i), i, slots);
    check_given(m);
    check_refusal(m);
    plumb_model_destroy(&m);
    plumb_backend_destroy(&b);
    plumb_json_free(&root);
    return 0;
}
