/* mma.cuh - tensor cores, and the instructions that feed them: one line of PTX each, of sm_80 on.
 * Layer 1, kernels/cuda only. Includes device.cuh.
 *
 * With g = lane / 4 and t = lane % 4, the lanes hold of
 *     A (16,16)  a[0]: row g, columns 2t, 2t+1; a[1]: row g+8; a[2], a[3]: the same, columns +8
 *     B (16,8)   b0: column g, rows 2t, 2t+1; b1: rows +8
 *     C (16,8)   c[0], c[1]: row g, columns 2t, 2t+1; c[2], c[3]: row g+8
 * so that two neighbouring C, rounded, are an A. Elements of a pair: the lower one in the low half.
 *
 * Row invariance rests on two properties of mma, which test_mma checks wherever it runs: an element
 * of D is a function of its row of A, its column of B and its C, whatever the rest of the tile
 * holds; and a product with a zero takes no part, whatever the finite factor beside it. */
#ifndef PLUMB_KERNELS_CUDA_MMA_CUH
#define PLUMB_KERNELS_CUDA_MMA_CUH

#include "cuda/device.cuh"

#ifdef PLUMB_CUDA_EMU
#include <emu_mma.h>
#else

/* c += A B, float32 sums of bfloat16 products. */
DEVICE void mma_bf16(float *c, const unsigned *a, unsigned b0, unsigned b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE unsigned shared_address(const void *at)
{
    return unsigned(__cvta_generic_to_shared(at));
}

/* Four matrices of (8,8): lanes 8i..8i+7 point to the rows of matrix i in shared memory, 16 bytes
 * each and so aligned; r[i] = elements 2t, 2t+1 of its row g. _trans: of its column g. */
DEVICE void load_matrix(unsigned *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
DEVICE void load_matrix_trans(unsigned *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* 16 aligned bytes from device to shared memory behind the thread's back; zeros, and nothing is
 * read, where !there. A thread sees its copies after a wait, others after a barrier, too. */
DEVICE void copy16_async(void *to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(shared_address(to)), "l"(__cvta_generic_to_global(from)), "r"(there ? 16 : 0)
                 : "memory");
}
/* The copies since the commit before are a group. */
DEVICE void copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Until no more than `left` groups are under way: the newest ones. A literal. */
#define copy_async_wait(left) asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory")

/* 2^x within 2^-22 of it; 1 at 0, 0 at -infinity and where it is below 2^-126. */
DEVICE float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif

/* x, an array of the thread, in memory: not in registers that a loop has better use for. */
DEVICE float *in_memory(float *x)
{
#ifdef __CUDA_ARCH__
    asm volatile("" : "+l"(x)::"memory");
#endif
    return x;
}

/* Two elements, each to nearest even. */
DEVICE unsigned pack_bf16(float low, float high)
{
    return __float_as_uint(pack2(low, high));
}
#endif
