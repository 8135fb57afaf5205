/* check.h - parts of the checks of kernels: buffers that show writes outside of them and to inputs,
 * and comparisons.
 * Test of layer 1. */
#ifndef PLUMB_TESTS_KERNELS_CHECK_H
#define PLUMB_TESTS_KERNELS_CHECK_H

#include <stdbool.h>

#include "harness.h"
#include "kernels.h"

/* Kinds of input. HUGE_VALUES and SPIKE reach c->huge, which a check sets so that the results of
 * its kernel fit into float32. */
enum kind { ONES, TINY, HUGE_VALUES, ZERO, SPIKE, RANDOM, KINDS };

/* One run of a check: a kernel table with a number of threads, compared with ref. Every run draws
 * the same inputs; `digest` is a hash of its outputs' bits, which must be the same for all runs. */
struct check {
    struct plumb_kernels k, ref;
    plumb_stream *s;
    int threads;
    struct rng r;
    bool narrow_in, narrow_out; /* inputs, and stored outputs, are rounded to bfloat16 */
    float huge;
    double floor; /* least `largest` of check_close: the size of terms that may cancel */
    uint64_t digest;
    char at[256]; /* for messages: instruction set, kernel, sizes, kind */
    int at_len;
    struct held {
        unsigned char *memory, *copy; /* copy: of an input, to check that it is unchanged */
        int64_t bytes;
    } held[96];
    int n_held;
};

/* The buffers are valid until check_done(), which checks the canaries around them and the inputs.
 */
float *check_in(struct check *c, int64_t n, enum kind kind);
int32_t *check_index(struct check *c, int64_t n, int64_t end); /* values in [0, end) */
float *check_out(struct check *c, int64_t n);                  /* filled with NaN */
float *check_inout(struct check *c, int64_t n, enum kind kind);
float *check_twin(struct check *c, const float *x, int64_t n); /* an inout with x's values */
void *check_bytes(struct check *c, int64_t bytes);             /* unfilled, not an input */
void check_freeze(struct check *c, const void *memory);        /* from now on an input */
void check_done(struct check *c);

/* Sets the text that messages have behind the kernel's name. */
void check_at(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Checks that |got - want| <= rtol |want| + atol max(floor, largest finite |want|) for each
 * element, and that got is NaN exactly where want is NaN. */
void check_close(struct check *c, const char *name, const float *got, const float *want, int64_t n,
                 double rtol, double atol);
/* The same for values that are stored as bfloat16 when narrow_out says so. */
void check_stored(struct check *c, const char *name, const float *got, const float *want, int64_t n,
                  double rtol, double atol);
/* Rounds x (n,) to bfloat16 if narrow_out is set. */
void check_round(struct check *c, float *x, int64_t n);
/* Checks that the bits are equal. */
void check_same(struct check *c, const char *name, const void *a, const void *b, int64_t bytes);
/* Adds an output's bits to the digest. */
void check_digest(struct check *c, const void *x, int64_t bytes);

/* check_<kernel>() of every kernel: without one the test program does not link. */
#define X(k) void check_##k(struct check *c);
PLUMB_KERNEL_LIST(X)
#undef X

#endif
