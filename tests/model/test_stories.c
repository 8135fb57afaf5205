/* test_stories.c - compares a pretrained model with a float64 reference: the tokens of greedy
 * generation, their log-probs, and logits. */
#include <string.h>

#include "harness.h"
#include "io/file.h"
#include "io/json.h"
#include "model/generate.h"

static struct {
    int32_t ids[512];
    float logp[512];
    int64_t n;
} got;

static plumb_status keep(void *arg, const struct plumb_completion *c)
{
    (void)arg;
    CHECK(c->n < 512);
    memcpy(got.ids, c->ids, (size_t)c->n * sizeof *c->ids);
    memcpy(got.logp, c->logp, (size_t)c->n * sizeof *c->logp);
    got.n = c->n;
    return PLUMB_OK;
}

static void check_greedy(const plumb_model *m, const int32_t *ids, const float *logp, int64_t n)
{
    plumb_generator *g;
    const struct plumb_request q = {.ids = ids, .n = 1, .n_samples = 1};
    const struct plumb_generate_options o = {
        .sample = {.top_p = 1}, .max_new_tokens = n, .ignore_eos = true};
    CHECK_OK(plumb_generator_create(&g, m,
                                    &(struct plumb_generator_need){.slots = 1, .max_tokens = 512}));
    CHECK_OK(plumb_generate(g, m, &q, 1, &o, keep, NULL));
    CHECK(got.n == n);
    for (int64_t i = 0; i < n; i++) {
        CHECKF(got.ids[i] == ids[i + 1], "token %lld is %d, expected %d", (long long)i, got.ids[i],
               ids[i + 1]);
        CHECKF(fabsf(got.logp[i] - logp[i]) < 1e-5f, "token %lld: %.7f, expected %.7f",
               (long long)i, got.logp[i], logp[i]);
    }
    plumb_generator_destroy(&g);
}

static void check_forward(const plumb_model *m, const int32_t *ids, const float *logp, int64_t n,
                          const plumb_json *rows)
{
    plumb_pass *p;
    const int64_t offset[] = {0, n + 1}, prompt = 1;
    const struct plumb_batch b = {1, ids, offset, &prompt};
    const struct plumb_pass_limit limit = {.max_tokens = n + 1, .max_seq = 1, .max_targets = n};
    CHECK_OK(plumb_pass_create(&p, m, &limit));
    float *mine = malloc((size_t)(n + 1) * 512 * sizeof *mine);
    CHECK(mine);
    CHECK_OK(plumb_pass_logprob(p, m, &b, mine));
    for (int64_t i = 0; i < n; i++) {
        CHECKF(fabsf(mine[i] - logp[i]) < 1e-5f, "target %lld", (long long)i);
        CHECKF(mine[i] == got.logp[i], "target %lld: training %a, sampling %a", (long long)i,
               mine[i], got.logp[i]);
    }
    CHECK_OK(plumb_pass_logits(p, m, &b, mine));
    CHECK(plumb_json_count(rows) > 0);
    for (int64_t i = 0; i < plumb_json_count(rows); i++) {
        const char *key;
        const plumb_json *row;
        CHECK_OK(plumb_json_member_at(rows, i, &key, &row));
        CHECK(plumb_json_count(row) == 512);
        for (int64_t j = 0; j < 512; j++) {
            const double want = plumb_json_real(plumb_json_at(row, j), NAN);
            const double have = mine[atoi(key) * 512 + j];
            CHECKF(fabs(have - want) <= 1e-5 * (1 + fabs(want)), "row %s, token %lld: %.8f, %.8f",
                   key, (long long)j, have, want);
        }
    }
    free(mine);
    plumb_pass_destroy(&p);
}

int main(void)
{
    const char *data = getenv("PLUMB_SHARED_DATA");
    char dir[512], path[600];
    snprintf(dir, sizeof dir, "%s/models/stories260K-hf", data ? data : ".");
    snprintf(path, sizeof path, "%s/expected_greedy.json", dir);
    if (!plumb_file_exists(path)) {
        printf("SKIP: %s is not here\n", path);
        return SKIP;
    }
    plumb_json *j;
    CHECK_OK(plumb_json_read_file(&j, path));
    const plumb_json *list = plumb_json_get(j, "ids"), *lp = plumb_json_get(j, "logprob");
    const int64_t n = plumb_json_count(lp);
    int32_t ids[512];
    float logp[512];
    CHECK(n == 200 && plumb_json_count(list) == n + 1);
    for (int64_t i = 0; i <= n; i++)
        ids[i] = (int32_t)plumb_json_int(plumb_json_at(list, i), -1);
    for (int64_t i = 0; i < n; i++)
        logp[i] = (float)plumb_json_real(plumb_json_at(lp, i), NAN);
    for (int kind = 0; kind < 2; kind++) {
        struct plumb_backend *b;
        plumb_model *m;
        CHECK_OK(kind ? plumb_backend_cpu_create(&b, 2, 1) : plumb_backend_ref_create(&b));
        CHECK_OK(plumb_model_open(&m, b, dir));
        check_greedy(m, ids, logp, n);
        check_forward(m, ids, logp, n, plumb_json_get(j, "logits"));
        plumb_model_destroy(&m);
        plumb_backend_destroy(&b);
    }
    plumb_json_free(&j);
    return 0;
}
