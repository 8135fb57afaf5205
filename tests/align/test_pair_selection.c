/* test_pair_selection.c - checks the selection of pairs by cosines: against numpy, and Lloyd's
 * algorithm on cosines against Lloyd's algorithm on coordinates.
 * Test. Includes align/, golden.h. */
#include "align/pair_selection.h"

#include "golden.h"

enum { N = 40, C = 64 };

static void expect(enum plumb_pair_selection pick, const double *gram, int64_t n,
                   const plumb_json *v, const char *name)
{
    int64_t a, b;
    const struct plumb_rng_key key = {.seed = 1};
    CHECK_OK(plumb_select_pair(&a, &b, pick, gram, n, &key));
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
    plumb_cosine_matrix(gram, e, n, c);
    for (int64_t i = 0; i < n * n; i++)
        CHECK(golden_near(gram[i], golden_at(v, "cosine", i)));
    expect(PLUMB_SELECT_EASY, gram, n, v, "easy");
    expect(PLUMB_SELECT_HARD, gram, n, v, "hard");
    expect(PLUMB_SELECT_CENTROID, gram, n, v, "centroid");
    for (int64_t i = 0; i < n; i++)
        column[i] = round(gram[i * n] * 1e12);
    for (int side = 0; side < 2; side++) {
        const struct plumb_rng_key key = {0};
        CHECK_OK(plumb_select_share(kept, n / 2, side ? PLUMB_SELECT_HARD : PLUMB_SELECT_EASY,
                                    column, n, &key));
        for (int64_t i = 0; i < n / 2; i++)
            CHECK((double)kept[i] == golden_at(v, side ? "share_hard" : "share_easy", i));
    }
}

/* Checks that the random selection draws every pair about equally often, and that
 * plumb_select_share selects the same items for the same key. */
static void check_random(void)
{
    const double gram[25] = {0};
    int count[25] = {0};
    int64_t a, b, kept[6], again[6];
    for (uint64_t k = 0; k < 10000; k++) {
        const struct plumb_rng_key key = {.seed = 5, .purpose = PLUMB_RNG_SELECT, .prompt = k};
        CHECK_OK(plumb_select_pair(&a, &b, PLUMB_SELECT_RANDOM, gram, 5, &key));
        CHECK(a >= 0 && a < b && b < 5);
        count[a * 5 + b]++;
    }
    for (int i = 0; i < 5; i++)
        for (int j = i + 1; j < 5; j++)
            CHECKF(count[i * 5 + j] > 850 && count[i * 5 + j] < 1150, "%d %d: %d", i, j,
                   count[i * 5 + j]);
    const struct plumb_rng_key key = {.seed = 9, .purpose = PLUMB_RNG_SELECT};
    CHECK_OK(plumb_select_share(kept, 3, PLUMB_SELECT_RANDOM, gram, 6, &key));
    CHECK_OK(plumb_select_share(again, 3, PLUMB_SELECT_RANDOM, gram, 6, &key));
    for (int i = 0; i < 3; i++)
        CHECK(kept[i] == again[i] && (i == 0 || kept[i] > kept[i - 1]));
}

/* Checks Lloyd's algorithm, which is used when there are too many answers to try all partitions.
 * For 40 answers in two clear clusters it must select the answers nearest to the means of the
 * clusters. */
static void check_lloyd(void)
{
    float e[N * 2];
    double gram[N * N];
    int64_t a, b;
    const struct plumb_rng_key key = {0};
    /* 20 unit vectors with angles near 0 radians, 20 with angles near 2 */
    for (int i = 0; i < N; i++) {
        const double angle = (i < 20 ? 0 : 2) + 0.01 * ((i % 20) - 6) + (i % 20 > 12 ? -0.08 : 0);
        e[2 * i] = (float)cos(angle), e[2 * i + 1] = (float)sin(angle);
    }
    plumb_cosine_matrix(gram, e, N, 2);
    CHECK_OK(plumb_select_pair(&a, &b, PLUMB_SELECT_CENTROID, gram, N, &key));
    CHECKF(a < 20 && b >= 20, "%lld and %lld", (long long)a, (long long)b);
    double sum = 0;
    for (int j = 0; j < 20; j++)
        sum += (j - 6) * 0.01 + (j > 12 ? -0.08 : 0);
    CHECK(fabs((double)(a - 6) * 0.01 + (a > 12 ? -0.08 : 0) - sum / 20) <= 0.0051);
}

enum { MANY = 20, D = 3 };

static double apart(const double *x, const double *y)
{
    double sum = 0;
    for (int k = 0; k < D; k++)
        sum += (x[k] - y[k]) * (x[k] - y[k]);
    return sum;
}

/* Sets mean (2,D) to the mean of the unit vectors x whose side is 0, and of those whose side is
 * 1. */
static void means(double mean[2][D], double x[MANY][D], const int *side)
{
    memset(mean, 0, 2 * sizeof(*mean));
    for (int set = 0; set < 2; set++) {
        double m = 0;
        for (int i = 0; i < MANY; i++)
            m += side[i] == set;
        for (int i = 0; i < MANY; i++)
            for (int k = 0; k < D && side[i] == set; k++)
                mean[set][k] += x[i][k] / m;
    }
}

/* Runs Lloyd's algorithm with two clusters on coordinates. It starts from the two vectors that are
 * farthest apart. Sets near to the indices of the vectors nearest to the two means. Returns the
 * number of rounds. */
static int lloyd(int64_t near[2], double x[MANY][D])
{
    double mean[2][D], most = -1;
    int side[MANY] = {0}, rounds = 0, moved = 1;
    for (int i = 0; i < MANY; i++)
        for (int j = i + 1; j < MANY; j++)
            if (apart(x[i], x[j]) > most) {
                most = apart(x[i], x[j]);
                memcpy(mean[0], x[i], sizeof(mean[0]));
                memcpy(mean[1], x[j], sizeof(mean[1]));
            }
    for (; moved; rounds++) {
        moved = 0;
        for (int i = 0; i < MANY; i++) {
            const int now = apart(x[i], mean[1]) < apart(x[i], mean[0]);
            moved += now != side[i];
            side[i] = now;
        }
        means(mean, x, side);
    }
    for (int set = 0; set < 2; set++) {
        near[set] = -1;
        for (int i = 0; i < MANY; i++)
            if (side[i] == set &&
                (near[set] < 0 || apart(x[i], mean[set]) < apart(x[near[set]], mean[set])))
                near[set] = i;
    }
    return rounds;
}

/* Checks random unit vectors without clusters, for which Lloyd's algorithm needs several rounds. */
static void check_iteration(void)
{
    struct rng r = {23};
    const struct plumb_rng_key key = {0};
    int most = 0;
    for (int trial = 0; trial < 200; trial++) {
        double x[MANY][D], gram[MANY * MANY];
        float e[MANY * D];
        int64_t a, b, near[2];
        for (int i = 0; i < MANY; i++) {
            double norm = 0;
            for (int k = 0; k < D; k++) {
                e[i * D + k] = rng_f(&r, -1, 1);
                norm += (double)e[i * D + k] * (double)e[i * D + k];
            }
            for (int k = 0; k < D; k++)
                x[i][k] = (double)e[i * D + k] / sqrt(norm);
        }
        plumb_cosine_matrix(gram, e, MANY, D);
        CHECK_OK(plumb_select_pair(&a, &b, PLUMB_SELECT_CENTROID, gram, MANY, &key));
        const int rounds = lloyd(near, x);
        most = rounds > most ? rounds : most;
        CHECKF((a == near[0] && b == near[1]) || (a == near[1] && b == near[0]),
               "trial %d: %lld and %lld, want %lld and %lld", trial, (long long)a, (long long)b,
               (long long)near[0], (long long)near[1]);
    }
    CHECK(most > 4);
}

static void check_limits(void)
{
    const float zero[6] = {0, 0, 3, 4, 0, 0};
    const struct plumb_rng_key key = {0};
    double gram[9];
    int64_t a, b;
    plumb_cosine_matrix(gram, zero, 3, 2);
    CHECK(gram[0] == 0 && gram[4] == 1 && gram[1] == 0);
    const double equal[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    for (int pick = PLUMB_SELECT_EASY; pick <= PLUMB_SELECT_CENTROID;
         pick++) { /* equal cosines: the lowest indices */
        CHECK_OK(plumb_select_pair(&a, &b, (enum plumb_pair_selection)pick, equal, 3, &key));
        CHECK(a == 0 && b == 1);
    }
    double alike[N * N]; /* cosines of 40 equal answers, with rounding errors */
    for (int i = 0; i < N * N; i++)
        alike[i] = i % (N + 1) ? 1 + 1e-15 : 1;
    CHECK_OK(plumb_select_pair(&a, &b, PLUMB_SELECT_CENTROID, alike, N, &key));
    CHECKF(a == 0 && b == 1, "%lld and %lld", (long long)a, (long long)b);
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
    check_iteration();
    check_limits();
    return 0;
}
