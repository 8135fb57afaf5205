/* test_num.c - checks overflow-checked arithmetic, and the conversion between float32 and bfloat16.
 * Test. */
#include "base/num.h"

#include "harness.h"

static void test_sizes(void)
{
    int64_t n = 7;
    CHECK(plumb_mul(&n, 3, 5) && n == 15);
    CHECK(!plumb_mul(&n, INT64_MAX / 2, 3) && !plumb_mul(&n, -1, 3) && n == 15);
    CHECK(plumb_add(&n, 3, 5) && n == 8);
    CHECK(!plumb_add(&n, INT64_MAX, 1) && !plumb_add(&n, -1, 3) && n == 8);
    CHECK(plumb_ceil_div(0, 4) == 0 && plumb_ceil_div(8, 4) == 2 && plumb_ceil_div(9, 4) == 3);
    CHECK(plumb_is_pow2(64) && !plumb_is_pow2(0) && !plumb_is_pow2(96));
    CHECK(plumb_pow2_ceil(1) == 1 && plumb_pow2_ceil(64) == 64 && plumb_pow2_ceil(65) == 128);
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* Checks that the conversion of every bfloat16 to float32 and back changes nothing (a NaN stays a
 * NaN, perhaps with other bits). A float32 between two bfloat16 must be rounded to the nearer one,
 * and from the middle to the even one. */
static void test_bfloat16(void)
{
    for (uint32_t half = 0; half < 0x10000; half++) {
        const float x = plumb_from_bf16((uint16_t)half);
        const bool nan = (half & 0x7fff) > 0x7f80, infinite = (half & 0x7fff) == 0x7f80;
        CHECK((isnan(x) != 0) == nan && (isinf(x) != 0) == infinite);
        const uint16_t back = plumb_to_bf16(x);
        CHECKF(nan ? isnan(plumb_from_bf16(back)) : back == half, "%04x came back as %04x", half,
               back);
        if (nan || infinite)
            continue;
        CHECK(plumb_to_bf16(float_of(half << 16 | 0x7fff)) == half);
        CHECK(plumb_to_bf16(float_of(half << 16 | 0x8001)) == half + 1);
        CHECK(plumb_to_bf16(float_of(half << 16 | 0x8000)) == half + half % 2);
    }
    CHECK(isnan(
        /* without its low bits, this NaN would be infinity */
        plumb_from_bf16(plumb_to_bf16(float_of(0x7f800001)))));
    CHECK(plumb_from_bf16(plumb_to_bf16(1.00390625f)) == 1.0f);
}

int main(void)
{
    test_sizes();
    test_bfloat16();
    return 0;
}
