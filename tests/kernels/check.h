/* check.h - parts of the checks of kernels: buffers that detect writes outside of them and writes
 * to inputs, and comparisons.
 * Test. */
#ifndef PLUMB_TESTS_KERNELS_CHECK_H
#define PLUMB_TESTS_KERNELS_CHECK_H

#include <stdbool.h>

#include "harness.h"
#include "kernels.h"

/* Kinds of input. The largest values of HUGE_VALUES and SPIKE are c->huge, which a check sets so
 * that the results of its kernel fit into float32. */
enum kind { ONES, TINY, HUGE_VALUES, ZERO, SPIKE, RANDOM, KINDS };

/* One run of a check: compares a kernel table, with a number of threads, with the table `ref` of
 * the reference implementation (kernels/ref). Every run draws the same inputs. `digest` is a hash
 * of the bits of the outputs; it must be the same in all runs. */
struct check {
    struct plumb_kernels k, ref;
    plumb_stream *s;
    int threads;
    struct rng r;
    /* inputs (narrow_in) and stored outputs (narrow_out) are rounded to bfloat16 */
    bool narrow_in, narrow_out;
    float huge;
    /* lower bound of the `largest` value in check_close: the size of terms that may cancel */
    double floor;
    uint64_t digest;
    char at[256]; /* text for messages: instruction set, kernel, sizes, kind of input */
    int at_len;
    struct held {
        unsigned char *memory, *copy; /* copy of an input, to check that it does not change */
        int64_t bytes;
    } held[96];
    int n_held;
};

/* Functions that return buffers. The buffers are valid until check_done(), which checks the guard
 * bytes around them and that inputs have not changed. */
float *check_in(struct check *c, int64_t n, enum kind kind);
int32_t *check_index(struct check *c, int64_t n, int64_t end); /* values in [0, end) */
float *check_out(struct check *c, int64_t n);                  /* filled with NaN */
float *check_inout(struct check *c, int64_t n, enum kind kind);
/* a buffer for input and output, with the values of x */
float *check_twin(struct check *c, const float *x, int64_t n);
/* neither filled nor checked as an input */
void *check_bytes(struct check *c, int64_t bytes);
/* from now on, the memory is checked as an input */
void check_freeze(struct check *c, const void *memory);
void check_done(struct check *c);

/* Sets the text that follows the kernel's name in messages. */
void check_at(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* For each element, checks that |got - want| <= rtol |want| + atol max(floor, largest finite
 * |want|), and that got is NaN exactly where want is NaN. */
void check_close(struct check *c, const char *name, const float *got, const float *want, int64_t n,
                 double rtol, double atol);
/* The same for values that are stored as bfloat16 if narrow_out is set. */
void check_stored(struct check *c, const char *name, const float *got, const float *want, int64_t n,
                  double rtol, double atol);
/* Rounds x (n,) to bfloat16 if narrow_out is set. */
void check_round(struct check *c, float *x, int64_t n);
/* Checks that the bits are equal. */
void check_same(struct check *c, const char *name, const void *a, const void *b, int64_t bytes);
/* Adds an output's bits to the digest. */
void check_digest(struct check *c, const void *x, int64_t bytes);

/* Declares check_<kernel>() for every kernel of the list. The test program does not link if one is
 * missing. */
#define X(k) void check_##k(struct check *c);
PLUMB_KERNEL_LIST(X)
#undef X

#endif
