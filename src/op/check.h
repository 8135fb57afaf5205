/* check.h - argument checks that every operation runs before it calls its kernel.
 * Layer 3, private to op/. Includes op.h. */
#ifndef PLUMB_OP_CHECK_H
#define PLUMB_OP_CHECK_H

#include "op/op.h"

/* One argument of an operation, and the dtype and dimensions that it must have. */
struct want {
    const char *arg;              /* the argument's name in op.h, for messages */
    const struct plumb_tensor *t; /* the tensor; NULL is an error */
    enum plumb_dtype dtype;
    int rank;
    int64_t dim[PLUMB_MAX_RANK];
};

/* Checks n arguments. Fails with PLUMB_ERR_SHAPE for the first one whose dtype or dimensions differ
 * from `want`, or that is not in b's memory. */
plumb_status plumb_op_check(const struct plumb_backend *b, const char *op, const struct want *want,
                            int n);
/* Checks dtype, place and number of elements of one argument, which may have any rank >= 1. */
plumb_status plumb_op_check_count(const struct plumb_backend *b, const char *op, const char *arg,
                                  const struct plumb_tensor *t, enum plumb_dtype dtype,
                                  int64_t count);
/* Checks that the scratch memory t holds at least `count` float32 elements. If count is 0, t may be
 * NULL. */
plumb_status plumb_op_check_work(const struct plumb_backend *b, const char *op,
                                 const struct plumb_tensor *t, int64_t count);
/* Checks that t is not NULL, has between `lowest` and `highest` dimensions, and has a number of
 * elements that fits int64_t. Operations call this before they use t's dimensions to check other
 * arguments. */
plumb_status plumb_op_check_rank(const char *op, const char *arg, const struct plumb_tensor *t,
                                 int lowest, int highest);
/* Fails with PLUMB_ERR_UNSUPPORTED unless b computes in bfloat16. */
plumb_status plumb_op_check_bf16(const struct plumb_backend *b, const char *op);
/* Checks that every value of the int32 tensor t lies in [0, end) if t is in host memory. Device
 * memory is not checked. */
plumb_status plumb_op_check_index(const char *op, const char *arg, const struct plumb_tensor *t,
                                  int64_t end);

/* Calls the float32 or the bfloat16 form of a kernel, depending on b->dtype. Pass arguments of type
 * REAL (float or bfloat16) as void *. */
#define RUN_REAL(kernel, ...)                                                                      \
    (b->dtype == PLUMB_BF16 ? b->k.bf16.kernel(b->stream, __VA_ARGS__)                             \
                            : b->k.kernel(b->stream, __VA_ARGS__))

#define CHECK_ARGS(b, op, ...)                                                                     \
    plumb_op_check((b), (op), (const struct want[]){__VA_ARGS__},                                  \
                   (int)(sizeof((const struct want[]){__VA_ARGS__}) / sizeof(struct want)))
#define WANT_F32(t, rank, ...)                                                                     \
    {                                                                                              \
#t, t, PLUMB_F32, rank,                                                                    \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define WANT_REAL(t, rank, ...) WANT(t, b->dtype, rank, __VA_ARGS__)
#define WANT(t, dtype, rank, ...)                                                                  \
    {                                                                                              \
#t, t, dtype, rank,                                                                        \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

#endif
