/* check.h - the checks that stand before every kernel call.
 * Layer 3, private to op/. Includes op.h. */
#ifndef PLUMB_OP_CHECK_H
#define PLUMB_OP_CHECK_H

#include "op/op.h"

/* One argument of an operation and what it must be. */
struct want {
    const char *arg;              /* its name in op.h */
    const struct plumb_tensor *t; /* NULL is refused */
    enum plumb_dtype dtype;
    int rank;
    int64_t dim[PLUMB_MAX_RANK];
};

/* PLUMB_ERR_SHAPE for the first of n arguments that is not as wanted, or not in b's memory. */
plumb_status plumb_op_check(const struct plumb_backend *b, const char *op, const struct want *want,
                            int n);
/* As wanted, but any rank >= 1: only dtype, place and the number of elements count. */
plumb_status plumb_op_check_count(const struct plumb_backend *b, const char *op, const char *arg,
                                  const struct plumb_tensor *t, enum plumb_dtype dtype,
                                  int64_t count);
/* At least `count` float32 elements. */
plumb_status plumb_op_check_work(const struct plumb_backend *b, const char *op,
                                 const struct plumb_tensor *t, int64_t count);
/* The rank of t, before its dimensions are used to say what the others must be. */
plumb_status plumb_op_check_rank(const char *op, const char *arg, const struct plumb_tensor *t,
                                 int lowest, int highest);
/* With host memory: every value in [0, end). Device memory is not read. */
plumb_status plumb_op_check_index(const char *op, const char *arg, const struct plumb_tensor *t,
                                  int64_t end);

/* The kernel in the form that the backend b computes in. What is REAL in it comes as void *. */
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
