/* emu_mma.h - emulates the instructions of kernels/cuda/mma.cuh, as the text and the figures of the
 * PTX ISA define them (9.7.14 warp-level matrix instructions, 9.7.9.25 cp.async).
 * Test. Included by mma.cuh. */
#ifndef PLUMB_EMU_MMA_H
#define PLUMB_EMU_MMA_H

#include <vector>

#include <cuda_runtime.h>

/* number of shared-memory bank conflicts in ldmatrix since the program began */
extern "C" int64_t plumb_emu_bank_conflicts(void);

namespace emu
{

/* Waits for all 32 lanes. Then one lane calls `act` with the pointers `mine` of all lanes. */
typedef void Together(void *const lane[32]);
void warp_together(const char *site, Together *act, void *mine);
bool is_shared(const void *at, size_t bytes);
const char *where();
[[noreturn]] void fault(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool one_order();
uint32_t draw(uint32_t end);

/* ---- mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 ------------------------------------- */

struct Mma {
    float *c;          /* 4 elements of the lane: C before, D afterwards */
    const unsigned *a; /* 4 registers, each with two bfloat16 */
    unsigned b[2];
};
void multiply(void *const lane[32]); /* defined in tensor.cpp */

static inline void mma(const char *site, float *c, const unsigned *a, unsigned b0, unsigned b1)
{
    Mma mine = {c, a, {b0, b1}};
    warp_together(site, multiply, &mine);
}

/* ---- ldmatrix.sync.aligned.m8n8.x4[.trans].shared.b16 -----------------------------------------
 */

struct Load {
    unsigned *r; /* 4 registers of the result */
    const void *row;
    bool trans;
};
void count_conflicts(const void *const row[8]); /* defined in tensor.cpp */

/* Loads four 8x8 matrices of 2-byte elements. Lanes 8i..8i+7 point to the rows of matrix i. Of
 * each matrix, lane l gets the elements 2(l%4) and 2(l%4)+1 of row l/4 or, if transposed, of
 * column l/4. */
static inline void load_matrices(void *const lane[32])
{
    for (int i = 0; i < 4; i++) {
        const uint16_t *row[8];
        for (int j = 0; j < 8; j++) {
            row[j] = static_cast<const uint16_t *>(static_cast<Load *>(lane[8 * i + j])->row);
            if (reinterpret_cast<uintptr_t>(row[j]) % 16)
                fault("ldmatrix: the row of lane %d is not aligned to 16 bytes", 8 * i + j);
            if (!is_shared(row[j], 16))
                fault("ldmatrix: the row of lane %d is not in shared memory", 8 * i + j);
        }
        count_conflicts(reinterpret_cast<const void *const *>(row));
        for (int l = 0; l < 32; l++) {
            Load *to = static_cast<Load *>(lane[l]);
            const int at = l / 4, pair = 2 * (l % 4);
            const unsigned low = to->trans ? row[pair][at] : row[at][pair];
            const unsigned high = to->trans ? row[pair + 1][at] : row[at][pair + 1];
            to->r[i] = low | high << 16;
        }
    }
}
static inline void ldmatrix(const char *site, unsigned *r, const void *row, bool trans)
{
    Load mine = {r, row, trans};
    warp_together(site, load_matrices, &mine);
}

/* ---- cp.async ------------------------------------------------------------------------------ */

/* A copy that is complete only when a wait covers its group. With seed 0, the bytes are copied at
 * the wait. With other seeds, they are copied at the wait or at once, because hardware may do
 * either. */
struct AsyncCopy {
    void *to;
    const void *from;
    bool there, committed;
};
std::vector<AsyncCopy> &async_copies(); /* the copies of the running thread */

static inline void copy_now(const AsyncCopy &c)
{
    if (c.there)
        memcpy(c.to, c.from, 16);
    else
        memset(c.to, 0, 16);
}
static inline void copy16(void *to, const void *from, bool there, bool early)
{
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % 16)
        fault("cp.async: an address is not aligned to 16 bytes");
    if (!is_shared(to, 16))
        fault("cp.async: the destination is not in shared memory");
    if (there && !early && before_wait())
        fault("%s: a copy of device memory before wait_for_previous()", where());
    const AsyncCopy c = {to, from, there, false};
    if (!before_wait() && !one_order() && draw(2))
        copy_now(c);
    else
        async_copies().push_back(c);
}
/* Ends a group of copies. An entry without an address marks the end; a group may have no copies. */
static inline void copy_commit()
{
    async_copies().push_back({nullptr, nullptr, false, true});
}
/* Completes groups of copies until at most `left` committed groups are incomplete. */
static inline void copy_wait(int left)
{
    std::vector<AsyncCopy> &all = async_copies();
    int groups = 0;
    for (const AsyncCopy &c : all)
        groups += c.committed;
    size_t done = 0;
    for (; groups > left; done++) {
        if (all[done].committed)
            groups--;
        else
            copy_now(all[done]);
    }
    all.erase(all.begin(), all.begin() + static_cast<ptrdiff_t>(done));
}

} // namespace emu

#define mma_bf16(c, a, b0, b1)    emu::mma(EMU_SITE, c, a, b0, b1)
#define load_matrix(r, row)       emu::ldmatrix(EMU_SITE, r, row, false)
#define load_matrix_trans(r, row) emu::ldmatrix(EMU_SITE, r, row, true)
#define copy_async_commit()       emu::copy_commit()
#define copy_async_wait(left)     emu::copy_wait(left)

#define copy16_async(to, from, there)       emu::copy16(to, from, there, false)
#define copy16_async_early(to, from, there) emu::copy16(to, from, there, true)

/* emulates the PTX instruction ex2.approx.ftz.f32 */
static inline float exp2_fast(float x)
{
    const float y = exp2f(x);
    return y < 0x1p-126f ? 0.0f : y;
}

#endif
