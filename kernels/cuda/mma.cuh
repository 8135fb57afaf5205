/* mma.cuh - tensor-core products and the copies of their operands, one PTX instruction each, for
 * sm_80 and later.
 * Layer 1, kernels/cuda only. Includes device.cuh.
 *
 * With g = lane / 4 and t = lane % 4, each lane holds these elements of the operands:
 *     A (16,16)  a[0]: row g, columns 2t, 2t+1; a[1]: row g+8; a[2], a[3]: the same, columns +8
 *     B (16,8)   b0: column g, rows 2t, 2t+1; b1: rows +8
 *     C (16,8)   c[0], c[1]: row g, columns 2t, 2t+1; c[2], c[3]: row g+8
 * Two adjacent C tiles, rounded, therefore have the layout of an A. In a word of two elements, the
 * one with the lower index is in the low 16 bits.
 *
 * Row invariance relies on two properties of mma, which test_mma checks on the device. First, an
 * element of D depends only on its row of A, its column of B and its element of C. Second, a term
 * of which one factor is zero does not change the sum, if the other factor is finite. */
#ifndef PLUMB_KERNELS_CUDA_MMA_CUH
#define PLUMB_KERNELS_CUDA_MMA_CUH

#include "cuda/device.cuh"

#ifdef PLUMB_CUDA_EMU
#include <emu_mma.h>
#else

/* c += A B: products of bfloat16, sums in float32. */
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

/* Loads four matrices of (8,8) from shared memory. Lanes 8i..8i+7 pass the addresses of the rows of
 * matrix i; a row is 16 bytes, 16-byte aligned. In each lane (g = lane / 4, t = lane % 4), r[i]
 * receives elements 2t and 2t+1 of row g of matrix i; load_matrix_trans loads elements 2t and 2t+1
 * of column g. */
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

/* Starts an asynchronous copy of 16 aligned bytes from device to shared memory. If `there` is
 * false, nothing is read and zeros are written. The copying thread sees the data after
 * copy_async_wait; other threads see it after a barrier that follows the wait. */
DEVICE void copy16_async(void *to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(shared_address(to)), "l"(__cvta_generic_to_global(from)), "r"(there ? 16 : 0)
                 : "memory");
}
/* Does what copy16_async does, but may be called before wait_for_previous() (device.cuh). `from`
 * must be memory that no earlier kernel may still be writing, such as weights. */
DEVICE void copy16_async_early(void *to, const void *from, bool there)
{
    copy16_async(to, from, there);
}
/* Closes a group of copies: all copies of this thread since the previous commit. */
DEVICE void copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Waits until at most `left` groups, the newest ones, are still in flight. `left` must be a
 * literal. */
#define copy_async_wait(left) asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory")

/* Returns 2^x with a relative error below 2^-22; exactly 1 at x = 0, and 0 if x is -infinity or the
 * result is below 2^-126. */
DEVICE float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif

/* Makes the compiler keep *x, a variable or an array of the thread, in local memory, so that
 * registers are free for the values that the caller's loop uses often. */
template <class T> DEVICE void keep_in_memory(T *x)
{
    (void)x;
#ifdef __CUDA_ARCH__
    asm volatile("" ::"l"(x) : "memory");
#endif
}
/* Returns x, and makes the compiler keep *x in memory as long as the caller accesses it only
 * through the result. */
template <class T> DEVICE T *in_memory(T *x)
{
#ifdef __CUDA_ARCH__
    asm volatile("" : "+l"(x)::"memory");
#endif
    return x;
}

/* Returns x. The compiler cannot know that the result is x, so it must recompute at each call what
 * depends on the result. It therefore does not keep such values in registers from one iteration of
 * a loop to the next. */
DEVICE int anew(int x)
{
#ifdef __CUDA_ARCH__
    asm volatile("" : "+r"(x));
#endif
    return x;
}

/* Packs two floats into one word of two bfloat16, each rounded to nearest even. */
DEVICE unsigned pack_bf16(float low, float high)
{
    return __float_as_uint(pack2(low, high));
}
#endif
