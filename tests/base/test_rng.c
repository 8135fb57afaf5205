/* test_rng.c - checks Philox4x32-10 against its published test vectors, and that the same key
 * always gives the same number.
 * Test. */
#include "base/rng.h"

#include <string.h>

#include "harness.h"

/* Test vectors of the Random123 library: file kat_vectors, lines "philox4x32 10". */
static const struct {
    uint32_t counter[4], key[2], out[4];
} known[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static void test_known(void)
{
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        plumb_philox(out, known[i].counter, known[i].key);
        CHECKF(memcmp(out, known[i].out, sizeof(out)) == 0, "vector %d: %08x %08x %08x %08x", i,
               out[0], out[1], out[2], out[3]);
    }
}

/* Checks that a change of the lowest or the highest bit of any field of a key changes the
 * number. */
static void test_key(void)
{
    const struct plumb_rng_key base = {0};
    struct plumb_rng_key key[] = {
        {.seed = 1},          {.seed = 1ull << 63},    {.purpose = 1}, {.purpose = 1u << 7},
        {.iteration = 1},     {.iteration = 1u << 23}, {.prompt = 1},  {.prompt = 1ull << 39},
        {.prompt = 1u << 31}, {.prompt = 1ull << 32},  {.sample = 1},  {.sample = 1u << 23},
        {.position = 1},      {.position = 1u << 31},
    };
    enum { KEYS = sizeof(key) / sizeof(*key) };
    uint32_t seen[KEYS + 1][4];
    plumb_rng_bits(seen[KEYS], &base);
    for (int i = 0; i < KEYS; i++) {
        plumb_rng_bits(seen[i], &key[i]);
        for (int j = 0; j < i; j++)
            CHECKF(memcmp(seen[i], seen[j], 16) != 0, "keys %d and %d", i, j);
        CHECKF(memcmp(seen[i], seen[KEYS], 16) != 0, "key %d", i);
    }
}

static void test_moments(void)
{
    enum { N = 20000 };
    double sum = 0.0, sum2 = 0.0, normal = 0.0, normal2 = 0.0, normal4 = 0.0;
    struct plumb_rng_key k = {.seed = 42, .purpose = PLUMB_RNG_INIT};
    for (uint32_t i = 0; i < N; i++) {
        k.position = i;
        const double u = plumb_rng_uniform(&k), z = plumb_rng_normal(&k);
        CHECK(u >= 0.0 && u < 1.0);
        CHECK(isfinite(z));
        sum += u, sum2 += u * u;
        normal += z, normal2 += z * z, normal4 += z * z * z * z;
    }
    CHECK(fabs(sum / N - 0.5) < 0.01);
    CHECK(fabs(sum2 / N - 1.0 / 3) < 0.01);
    CHECK(fabs(normal / N) < 0.03);
    CHECK(fabs(normal2 / N - 1.0) < 0.05);
    CHECK(fabs(normal4 / N - 3.0) < 0.3);
}

static void test_shuffle(void)
{
    int64_t order[100], again[100], place[100] = {0};
    plumb_rng_shuffle(order, 100, (struct plumb_rng_key){.seed = 1});
    plumb_rng_shuffle(again, 100, (struct plumb_rng_key){.seed = 1, .position = 77});
    CHECK(memcmp(order, again, sizeof(order)) == 0);
    int fixed = 0;
    for (int i = 0; i < 100; i++) {
        CHECK(order[i] >= 0 && order[i] < 100);
        place[order[i]]++;
        fixed += order[i] == i;
    }
    for (int i = 0; i < 100; i++)
        CHECKF(place[i] == 1, "%d occurs %d times", i, (int)place[i]);
    CHECK(fixed < 10);
    /* Over many shuffles, each element is first about equally often. */
    for (uint64_t s = 0; s < 3000; s++) {
        plumb_rng_shuffle(order, 3, (struct plumb_rng_key){.seed = s});
        place[order[0]]++;
    }
    for (int i = 0; i < 3; i++)
        CHECKF(place[i] > 900 && place[i] < 1100, "%d first %d times", i, (int)place[i]);
}

int main(void)
{
    test_known();
    test_key();
    test_moments();
    test_shuffle();
    return 0;
}
