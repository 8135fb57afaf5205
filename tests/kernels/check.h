/* check.h - what every kernel check is made of: buffers that notice misuse, and comparisons.
 * Test of layer 1. */
#ifndef PLUMB_TESTS_KERNELS_CHECK_H
#define PLUMB_TESTS_KERNELS_CHECK_H

#include <stdbool.h>

#include "harness.h"
#include "kernels.h"

/* Kinds of input. HUGE_VALUES and SPIKE reach c->huge, which a check sets to what its kernel can
 * take without leaving float32. */
enum kind { ONES, TINY, HUGE_VALUES, ZERO, SPIKE, RANDOM, KINDS };

/* One run of one check: a kernel table on so many threads, against ref. Every run draws the same
 * inputs, and `digest` collects its outputs' bits: all runs must end with the same one. */
struct check {
    struct plumb_kernels k, ref;
    plumb_stream *s;
    int threads;
    struct rng r;
    bool narrow_in, narrow_out; /* values drawn, and stored, are bfloat16 */
    float huge;
    double floor; /* least `largest` of check_close: the size of terms that may cancel */
    uint64_t digest;
    char at[256]; /* isa, kernel, sizes, kind: for messages */
    int at_len;
    struct held {
        unsigned char *memory, *copy; /* copy: of an input, to be found unchanged */
        int64_t bytes;
    } held[96];
    int n_held;
};

/* All live until check_done, which looks at the canaries around them and at the inputs. */
float *check_in(struct check *c, int64_t n, enum kind kind);
int32_t *check_index(struct check *c, int64_t n, int64_t end); /* values in [0, end) */
float *check_out(struct check *c, int64_t n);                  /* NaN */
float *check_inout(struct check *c, int64_t n, enum kind kind);
float *check_twin(struct check *c, const float *x, int64_t n); /* an inout with x's values */
void *check_bytes(struct check *c, int64_t bytes);             /* unfilled, not an input */
void check_freeze(struct check *c, const void *memory);        /* from now on an input */
void check_done(struct check *c);

/* Where the messages say this happens, behind the kernel's name. */
void check_at(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* |got - want| <= rtol |want| + atol max(floor, largest |want|); NaN only where want has it. */
void check_close(struct check *c, const char *name, const float *got, const float *want, int64_t n,
                 double rtol, double atol);
/* The same for values that are stored as bfloat16 when narrow_out says so. */
void check_stored(struct check *c, const char *name, const float *got, const float *want, int64_t n,
                  double rtol, double atol);
/* Rounds x (n,) as narrow_out says. */
void check_round(struct check *c, float *x, int64_t n);
/* Equal bits. */
void check_same(struct check *c, const char *name, const void *a, const void *b, int64_t bytes);
/* Adds an output's bits to the digest. */
void check_digest(struct check *c, const void *x, int64_t bytes);

/* check_<kernel>: a kernel without one does not link. */
#define X(k) void check_##k(struct check *c);
PLUMB_KERNEL_LIST(X)
#undef X

#endif
