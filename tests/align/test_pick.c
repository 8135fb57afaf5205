/* test_pick.c - pairs by likeness: against numpy, by hand, and Lloyd beside the enumeration.
 * Test. Includes align/, golden.h. */
#include "align/pick.h"

#include "golden.h"

enum { N = 40, C = 64 };

static void expect(enum plumb_pick pick, const double *gram, int64_t n, const plumb_json *v,
                   const char *name)
{
    int64_t a, b;
    const struct plumb_rng_key key = {.seed = 1};
    CHECK_OK(plumb_pick_pair(&a, &b, pick, gram, n, &key));
    CHECKF((double)a == golden_at(v, name, 0) && (double)b == golden_at(v, name, 1),
           "%s of %lld: %lld and %lld, want %g and %g", name, (long long)n, (long long)a,
           (long long)b, golden_at(v, name, 0), golden_at(v, name, 1));
}

static void check_case(const plumb_json *v)
{
    const int64_t n = plumb_json_int(plumb_json_get(v, "n"), 0);
    const int64_t c = plumb_json_int(plumb_json_get(v, "c"), 0);
    float e[N * C];
    double gram[N * N], column[N];
    int64_t kept[N];
    CHECK(n >= 2 && n <= N && c <= C);
    for (int64_t i = 0; i < n * c; i++)
        e[i] = (float)golden_at(v, "e", i);
    plumb_pick_gram(gram, e, n, c);
    for (int64_t i = 0; i < n * n; i++)
        CHECK(golden_near(gram[i], golden_at(v, "cosine", i)));
    expect(PLUMB_PICK_EASY, gram, n, v, "easy");
    expect(PLUMB_PICK_HARD, gram, n, v, "hard");
    expect(PLUMB_PICK_CENTROID, gram, n, v, "centroid");
    for (int64_t i = 0; i < n; i++)
        column[i] = round(gram[i * n] * 1e12);
    for (int side = 0; side < 2; side++) {
        const struct plumb_rng_key key = {0};
        CHECK_OK(plumb_pick_share(kept, n / 2, side ? PLUMB_PICK_HARD : PLUMB_PICK_EASY, column, n,
                                  &key));
        for (int64_t i = 0; i < n / 2; i++)
            CHECK((double)kept[i] == golden_at(v, side ? "share_hard" : "share_easy", i));
    }
}

/* Every pair is drawn about equally often, and the same key draws the same. */
static void check_random(void)
{
    const double gram[25] = {0};
    int count[25] = {0};
    int64_t a, b, kept[6], again[6];
    for (uint64_t k = 0; k < 10000; k++) {
        const struct plumb_rng_key key = {.seed = 5, .purpose = PLUMB_RNG_SELECT, .prompt = k};
        CHECK_OK(plumb_pick_pair(&a, &b, PLUMB_PICK_RANDOM, gram, 5, &key));
        CHECK(a >= 0 && a < b && b < 5);
        count[a * 5 + b]++;
    }
    for (int i = 0; i < 5; i++)
        for (int j = i + 1; j < 5; j++)
            CHECKF(count[i * 5 + j] > 850 && count[i * 5 + j] < 1150, "%d %d: %d", i, j,
                   count[i * 5 + j]);
    const struct plumb_rng_key key = {.seed = 9, .purpose = PLUMB_RNG_SELECT};
    CHECK_OK(plumb_pick_share(kept, 3, PLUMB_PICK_RANDOM, gram, 6, &key));
    CHECK_OK(plumb_pick_share(again, 3, PLUMB_PICK_RANDOM, gram, 6, &key));
    for (int i = 0; i < 3; i++)
        CHECK(kept[i] == again[i] && (i == 0 || kept[i] > kept[i - 1]));
}

/* Two heaps that no one can miss, more than are enumerated: one answer of each, the middle ones. */
static void check_lloyd(void)
{
    float e[N * 2];
    double gram[N * N];
    int64_t a, b;
    const struct plumb_rng_key key = {0};
    for (int i = 0; i < N; i++) { /* angles around 0 and around 2, the middles are 6 and 20 + 6 */
        const double angle = (i < 20 ? 0 : 2) + 0.01 * ((i % 20) - 6) + (i % 20 > 12 ? -0.08 : 0);
        e[2 * i] = (float)cos(angle), e[2 * i + 1] = (float)sin(angle);
    }
    plumb_pick_gram(gram, e, N, 2);
    CHECK_OK(plumb_pick_pair(&a, &b, PLUMB_PICK_CENTROID, gram, N, &key));
    CHECKF(a < 20 && b >= 20, "%lld and %lld", (long long)a, (long long)b);
    double sum = 0;
    for (int j = 0; j < 20; j++)
        sum += (j - 6) * 0.01 + (j > 12 ? -0.08 : 0);
    CHECK(fabs((double)(a - 6) * 0.01 + (a > 12 ? -0.08 : 0) - sum / 20) <= 0.0051);
}

static void check_limits(void)
{
    const float zero[6] = {0, 0, 3, 4, 0, 0};
    const struct plumb_rng_key key = {0};
    double gram[9];
    int64_t a, b;
    plumb_pick_gram(gram, zero, 3, 2);
    CHECK(gram[0] == 0 && gram[4] == 1 && gram[1] == 0);
    const double equal[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    for (int pick = PLUMB_PICK_EASY; pick <= PLUMB_PICK_CENTROID; pick++) { /* ties: the lowest */
        CHECK_OK(plumb_pick_pair(&a, &b, (enum plumb_pick)pick, equal, 3, &key));
        CHECK(a == 0 && b == 1);
    }
}

int main(void)
{
    plumb_json *doc = golden_read("pick");
    CHECK(plumb_json_count(doc) >= 7);
    for (int64_t c = 0; c < plumb_json_count(doc); c++)
        check_case(plumb_json_at(doc, c));
    plumb_json_free(&doc);
    check_random();
    check_lloyd();
    check_limits();
    return 0;
}
