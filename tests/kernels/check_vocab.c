/* check_vocab.c - checks of the log-prob kernels and of sampling.
 * Test. */
#include <string.h>

#include "check.h"

static const int64_t rows_of[] = {1, 9}, vocabulary[] = {1, 2, 15, 16, 63, 65, 513, 5003};
#define EACH(i, list) for (size_t i = 0; i < sizeof(list) / sizeof(*(list)); i++)

void check_softcap_fwd(struct check *c)
{
    static const int64_t counts[] = {1, 15, 16, 17, 1000, 70000};
    c->huge = 1e6f;
    EACH(a, counts) for (int kind = 0; kind < KINDS; kind++)
    {
        const int64_t n = counts[a];
        const float cap = a % 2 ? 30.0f : 0.7f;
        check_at(c, "n %lld kind %d", (long long)n, kind);
        const float *z = check_in(c, n, (enum kind)kind);
        float *y = check_twin(c, z, n), *want = check_twin(c, z, n), *alone = check_twin(c, z, n);
        CHECK_OK(c->k.softcap_fwd(c->s, y, n, cap));
        CHECK_OK(c->ref.softcap_fwd(NULL, want, n, cap));
        check_close(c, "z", y, want, n, 1e-6, 0.0);
        check_digest(c, y, n * 4);
        for (int64_t i = 0; i < n; i += i < 40 ? 1 : 997) {
            CHECK_OK(c->k.softcap_fwd(c->s, alone + i, 1, cap));
            check_same(c, "alone", alone + i, y + i, 4);
        }
        check_done(c);
    }
}

void check_logprob_fwd(struct check *c)
{
    c->huge = 300.0f;
    EACH(a, rows_of) EACH(b, vocabulary) for (int kind = 0; kind < KINDS; kind++)
    {
        const int64_t n = rows_of[a], v = vocabulary[b];
        check_at(c, "n %lld v %lld kind %d", (long long)n, (long long)v, kind);
        const float *z = check_in(c, n * v, (enum kind)kind);
        const int32_t *target = check_index(c, n, v);
        float *logp = check_out(c, n), *lse = check_out(c, n);
        float *want = check_out(c, n), *want_lse = check_out(c, n), *alone = check_out(c, 2);
        CHECK_OK(c->k.logprob_fwd(c->s, logp, lse, z, target, n, v));
        CHECK_OK(c->ref.logprob_fwd(NULL, want, want_lse, z, target, n, v));
        check_close(c, "lse", lse, want_lse, n, 5e-7, 3e-7);
        check_close(c, "logp", logp, want, n, 5e-7, 3e-7);
        check_digest(c, logp, n * 4);
        check_digest(c, lse, n * 4);
        for (int64_t i = 0; i < n; i++) {
            CHECK_OK(c->k.logprob_fwd(c->s, alone, alone + 1, z + i * v, target + i, 1, v));
            check_same(c, "row alone", alone, logp + i, 4);
            check_same(c, "lse alone", alone + 1, lse + i, 4);
        }
        check_done(c);
    }
}

void check_logprob_bwd(struct check *c)
{
    c->huge = 50.0f;
    EACH(a, rows_of) EACH(b, vocabulary) for (int kind = 0; kind < 2 * KINDS; kind++)
    {
        const int64_t n = rows_of[a], v = vocabulary[b];
        check_at(c, "n %lld v %lld kind %d", (long long)n, (long long)v, kind);
        const float cap = kind < KINDS ? 0.0f : 20.0f;
        float *z = check_inout(c, n * v, (enum kind)(kind % KINDS));
        if (cap > 0.0f)
            CHECK_OK(c->ref.softcap_fwd(NULL, z, n * v, cap));
        float *want = check_twin(c, z, n * v);
        const int32_t *target = check_index(c, n, v);
        const float *dlogp = check_in(c, n, RANDOM);
        float *logp = check_out(c, n), *lse = check_out(c, n), *dz = check_out(c, n * v);
        CHECK_OK(c->ref.logprob_fwd(NULL, logp, lse, z, target, n, v));
        check_freeze(c, lse);
        CHECK_OK(c->k.logprob_bwd(c->s, dz, z, lse, target, dlogp, n, v, cap));
        CHECK_OK(c->ref.logprob_bwd(NULL, want, want, lse, target, dlogp, n, v, cap));
        check_stored(c, "dlogits", dz, want, n * v, 2e-6, 1e-7);
        check_digest(c, dz, n * v * 4);
        if (!c->narrow_out) {
            CHECK_OK(c->k.logprob_bwd(c->s, z, z, lse, target, dlogp, n, v, cap));
            check_same(c, "in place", z, dz, n * v * 4);
        }
        check_done(c);
    }
}

/* Checks the draws of one setting. ref must draw the same id for u - 1e-6, u or u + 1e-6. An id
 * between the draws of ref for u - 1e-6 and u + 1e-6 is right, too: the rounding of the cumulative
 * sums can move up to 2e-6 of probability to a neighbour. */
static void check_draw(struct check *c, const struct plumb_sample_param *p, int64_t n, int64_t v,
                       enum kind kind)
{
    const int64_t count = c->k.sample_work_count(n, v, c->threads);
    const float *z = check_in(c, n * v, kind);
    double *u = check_bytes(c, n * 8), *near_u = check_bytes(c, n * 8);
    for (int64_t i = 0; i < n; i++)
        u[i] = i % 5 == 4 ? 1.0 - 0x1p-53 : i % 7 == 6 ? 1e-5 : rng_u(&c->r);
    check_freeze(c, u);
    int32_t *token = check_bytes(c, n * 4), *want = check_bytes(c, n * 4);
    float *logp = check_out(c, n), *drawn = check_out(c, n), *work = check_out(c, count);
    float *want_logp = check_out(c, n), *want_drawn = check_out(c, n), *lse = check_out(c, n);
    float *ref_work = check_out(c, c->ref.sample_work_count(n, v, 1));
    memset(token, 0xff, (size_t)n * 4);
    CHECK_OK(c->k.sample_fwd(c->s, token, logp, drawn, z, u, p, work, n, v));
    for (int64_t i = 0; i < n; i++)
        CHECKF(token[i] >= 0 && token[i] < v, "%s: token %d", c->at, token[i]);
    CHECK_OK(c->k.logprob_fwd(c->s, want_logp, lse, z, token, n, v));
    check_same(c, "logp and logprob_fwd", logp, want_logp, n * 4);
    bool agreed[64] = {0};
    /* number of draws of ref that are below the token, minus the number above it */
    int between[64] = {0};
    for (int side = -1; side <= 1; side++) {
        for (int64_t i = 0; i < n; i++)
            near_u[i] = fmin(1.0 - 0x1p-53, fmax(0.0, u[i] + side * 1e-6));
        CHECK_OK(
            c->ref.sample_fwd(NULL, want, want_logp, want_drawn, z, near_u, p, ref_work, n, v));
        for (int64_t i = 0; i < n; i++) {
            between[i] += (want[i] < token[i]) - (want[i] > token[i]);
            if (want[i] != token[i])
                continue;
            agreed[i] = true;
            check_close(c, "logp_sampled", drawn + i, want_drawn + i, 1, 2e-6, 3e-7);
        }
    }
    for (int64_t i = 0; i < n; i++)
        CHECKF(agreed[i] || abs(between[i]) < 3, "%s: row %lld, u %.17g: token %d, ref %d", c->at,
               (long long)i, u[i], token[i], want[i]);
    check_digest(c, token, n * 4);
    check_digest(c, drawn, n * 4);
    for (int64_t i = 0; i < n; i++) {
        int32_t alone;
        CHECK_OK(c->k.sample_fwd(c->s, &alone, lse, want_drawn, z + i * v, u + i, p, work, 1, v));
        CHECKF(alone == token[i], "%s: row %lld alone draws %d, not %d", c->at, (long long)i, alone,
               token[i]);
        check_same(c, "logp_sampled alone", want_drawn, drawn + i, 4);
    }
    check_done(c);
}

void check_sample_work_count(struct check *c)
{
    CHECKF(c->k.sample_work_count(8, 100, 2) >= c->k.sample_work_count(8, 100, 1), "%s", c->at);
}

void check_sample_fwd(struct check *c)
{
    static const struct plumb_sample_param param[] = {
        {0.0f, 0, 1.0f, 0.0f}, {1.0f, 0, 1.0f, 0.0f},   {0.3f, 0, 1.0f, 0.0f},
        {1.7f, 5, 1.0f, 0.0f}, {1.0f, 0, 0.9f, 0.0f},   {0.8f, 0, 1.0f, 0.05f},
        {1.0f, 1, 1.0f, 0.0f}, {0.7f, 40, 0.8f, 0.02f}, {1.0f, 9000, 0.3f, 0.5f},
        {1.0f, 0, 1e-6f, 0.0f}};
    c->huge = 20.0f;
    c->floor = 1.0;
    EACH(i, param) EACH(a, rows_of) EACH(b, vocabulary) for (int kind = 0; kind < KINDS; kind++)
    {
        if (kind != RANDOM && vocabulary[b] > 600)
            continue;
        check_at(c, "param %d n %lld v %lld kind %d", (int)i, (long long)rows_of[a],
                 (long long)vocabulary[b], kind);
        check_draw(c, &param[i], rows_of[a], vocabulary[b], (enum kind)kind);
    }
    /* Computed by hand: ids 1, 0 and 2 have the probabilities 1/2, 1/4 and 1/4, so top_p = 0.7
     * keeps ids 1 and 0. */
    const float z[3] = {0.0f, logf(2.0f), 0.0f};
    const struct plumb_sample_param top = {1.0f, 0, 0.7f, 0.0f};
    static const double u[] = {0.0, 0.332, 0.334, 0.999};
    static const int32_t want[] = {0, 0, 1, 1};
    float work[512], logp, drawn;
    for (int i = 0; i < 4; i++) {
        int32_t token;
        CHECK(c->k.sample_work_count(1, 3, c->threads) <= 512);
        CHECK_OK(c->k.sample_fwd(c->s, &token, &logp, &drawn, z, &u[i], &top, work, 1, 3));
        CHECKF(token == want[i], "u %g token %d", u[i], token);
        CHECKF(fabsf(logp - logf(token == 1 ? 0.5f : 0.25f)) < 1e-6f, "logp %g", (double)logp);
        CHECKF(fabsf(drawn - logf(token == 1 ? 2.0f / 3 : 1.0f / 3)) < 1e-6f, "drawn %g",
               (double)drawn);
    }
}

void check_penalty_fwd(struct check *c)
{
    c->huge = 1e30f;
    EACH(a, rows_of) EACH(b, vocabulary) for (int kind = 0; kind < KINDS; kind++)
    {
        const int64_t n = rows_of[a], v = vocabulary[b], words = (v + 31) / 32;
        check_at(c, "n %lld v %lld kind %d", (long long)n, (long long)v, kind);
        const float *x = check_in(c, n * v, (enum kind)kind);
        int32_t *seen = check_bytes(c, n * words * 4);
        for (int64_t i = 0; i < n * words; i++)
            seen[i] = (int32_t)(uint32_t)(rng_u(&c->r) * 4294967296.0);
        check_freeze(c, seen);
        float *y = check_out(c, n * v), *want = check_out(c, n * v);
        CHECK_OK(c->k.penalty_fwd(c->s, y, x, seen, 1.3f, n, v));
        CHECK_OK(c->ref.penalty_fwd(NULL, want, x, seen, 1.3f, n, v));
        check_same(c, "y", y, want, n * v * 4);
        check_digest(c, y, n * v * 4);
        check_done(c);
    }
    /* Computed by hand: the bits of `seen` mark ids 0, 1 and 33. */
    float x[34] = {3.0f, -3.0f, 3.0f}, y[34];
    const int32_t seen[2] = {3, 2};
    x[33] = -1.0f;
    CHECK_OK(c->k.penalty_fwd(c->s, y, x, seen, 1.5f, 1, 34));
    CHECKF(y[0] == 2.0f && y[1] == -4.5f && y[2] == 3.0f && y[33] == -1.5f, "%g %g %g %g",
           (double)y[0], (double)y[1], (double)y[2], (double)y[33]);
}

void check_entropy_fwd(struct check *c)
{
    c->huge = 300.0f;
    EACH(a, rows_of) EACH(b, vocabulary) for (int kind = 0; kind < KINDS; kind++)
    {
        const int64_t n = rows_of[a], v = vocabulary[b];
        check_at(c, "n %lld v %lld kind %d", (long long)n, (long long)v, kind);
        const float *z = check_in(c, n * v, (enum kind)kind);
        const int32_t *target = check_index(c, n, v);
        float *logp = check_out(c, n), *lse = check_out(c, n), *alone = check_out(c, 2);
        float *got = check_out(c, n), *mean = check_out(c, n);
        float *want = check_out(c, n), *want_mean = check_out(c, n);
        CHECK_OK(c->ref.logprob_fwd(NULL, logp, lse, z, target, n, v));
        check_freeze(c, lse);
        CHECK_OK(c->k.entropy_fwd(c->s, got, mean, z, lse, n, v));
        CHECK_OK(c->ref.entropy_fwd(NULL, want, want_mean, z, lse, n, v));
        c->floor = 10.0; /* the terms p (lse - z) have the size of a few nats */
        check_close(c, "entropy", got, want, n, 2e-6, 1e-6);
        c->floor = kind == HUGE_VALUES || kind == SPIKE ? 300.0 : 1.0;
        check_close(c, "mean", mean, want_mean, n, 2e-6, 1e-6);
        c->floor = 0.0;
        check_digest(c, got, n * 4);
        check_digest(c, mean, n * 4);
        for (int64_t i = 0; i < n; i++) {
            CHECK_OK(c->k.entropy_fwd(c->s, alone, alone + 1, z + i * v, lse + i, 1, v));
            check_same(c, "row alone", alone, got + i, 4);
            check_same(c, "mean alone", alone + 1, mean + i, 4);
        }
        check_done(c);
    }
    /* Computed by hand: the probabilities are 1/2, 1/4 and 1/4. */
    const float z[3] = {0.0f, logf(2.0f), 0.0f}, lse = logf(4.0f);
    float entropy, mean;
    CHECK_OK(c->k.entropy_fwd(c->s, &entropy, &mean, z, &lse, 1, 3));
    CHECKF(fabsf(entropy - 1.5f * logf(2.0f)) < 1e-6f && fabsf(mean - logf(2.0f) / 3) < 1e-6f,
           "entropy %g, mean %g", (double)entropy, (double)mean);
}
