/* tensor.cpp - emulates the matrix product of a tensor core, and counts bank conflicts of shared
 * memory.
 * Test. Includes emu.h, emu_mma.h. */
#include <emu_mma.h>

#include "emu.h"

namespace emu
{

namespace
{

int64_t conflicts;

float widen(unsigned bits)
{
    return __uint_as_float(bits << 16);
}

} // namespace

/* Computes D = A B + C for one warp. Lane = 4 g + t holds these elements:
 *     A (16,16)  a[0]: row g, columns 2t, 2t+1; a[1]: row g+8; a[2], a[3]: the same, columns +8
 *     B (16,8)   b[0]: column g, rows 2t, 2t+1; b[1]: rows +8
 *     C (16,8)   c[0], c[1]: row g, columns 2t, 2t+1; c[2], c[3]: row g+8
 * An element of D is the element of C plus products in ascending k, one float32 addition after
 * another; float32 represents each product exactly. Hardware adds in another order and rounds
 * differently. But on hardware, too, an element depends only on its row of A, its column of B and
 * its element of C. */
void multiply(void *const lane[32])
{
    float a[16][16], b[16][8], c[16][8];
    for (int l = 0; l < 32; l++) {
        const Mma *m = static_cast<const Mma *>(lane[l]);
        const int g = l / 4, t = l % 4;
        for (int i = 0; i < 4; i++) {
            const int row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
            a[row][column] = widen(m->a[i] & 0xffffu);
            a[row][column + 1] = widen(m->a[i] >> 16);
            c[g + i / 2 * 8][2 * t + i % 2] = m->c[i];
        }
        for (int i = 0; i < 2; i++) {
            b[2 * t + i * 8][g] = widen(m->b[i] & 0xffffu);
            b[2 * t + i * 8 + 1][g] = widen(m->b[i] >> 16);
        }
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++)
                c[row][column] += a[row][k] * b[k][column];
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++)
            static_cast<Mma *>(lane[l])->c[i] = c[l / 4 + i / 2 * 8][2 * (l % 4) + i % 2];
}

/* Adds the bank conflicts of one read of eight rows of 16 bytes to the count. There is no conflict
 * if the rows' addresses modulo 128 are all different. */
void count_conflicts(const void *const row[8])
{
    unsigned taken = 0;
    for (int i = 0; i < 8; i++) {
        const unsigned bit = 1u << reinterpret_cast<uintptr_t>(row[i]) / 16 % 8;
        conflicts += taken & bit ? 1 : 0;
        taken |= bit;
    }
}

} // namespace emu

extern "C" int64_t plumb_emu_bank_conflicts(void)
{
    return emu::conflicts;
}
