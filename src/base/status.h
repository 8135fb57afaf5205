/* status.h - error codes, and the macros that raise and pass them on.
 * Layer 0. Includes nothing of ours. */
#ifndef PLUMB_BASE_STATUS_H
#define PLUMB_BASE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* name, value, text, process exit code */
#define PLUMB_STATUS_LIST(X)                                                                       \
    X(PLUMB_ERR_ARG, -1, "invalid argument", 2)                                                    \
    X(PLUMB_ERR_SHAPE, -2, "shape, dtype or placement mismatch", 3)                                \
    X(PLUMB_ERR_NOMEM, -3, "out of memory", 4)                                                     \
    X(PLUMB_ERR_IO, -4, "read or write failed", 5)                                                 \
    X(PLUMB_ERR_FORMAT, -5, "malformed input", 6)                                                  \
    X(PLUMB_ERR_UNSUPPORTED, -6, "not supported", 7)                                               \
    X(PLUMB_ERR_NUMERIC, -7, "non-finite value", 8)                                                \
    X(PLUMB_ERR_DEVICE, -8, "device call failed", 9)                                               \
    X(PLUMB_ERR_COMM, -9, "MPI or NCCL call failed", 10)                                           \
    X(PLUMB_ERR_PEER, -10, "another rank failed", 11)                                              \
    X(PLUMB_ERR_CONFIG, -11, "invalid configuration", 12)                                          \
    X(PLUMB_ERR_EXISTS, -12, "would overwrite something", 13)                                      \
    X(PLUMB_STOPPED, -13, "stopped on request", 99)

#if defined(__clang__)
#define PLUMB_MUST_CHECK __attribute__((warn_unused_result))
#else
#define PLUMB_MUST_CHECK
#endif

typedef enum PLUMB_MUST_CHECK plumb_status {
    PLUMB_OK = 0,
#define X(name, value, text, code) name = value,
    PLUMB_STATUS_LIST(X)
#undef X
} plumb_status;

const char *plumb_status_text(plumb_status s);

/* Exit code of a process that ends with s: 0 for PLUMB_OK, 2..13 for
 * errors, 99 for PLUMB_STOPPED: put the job back into the queue. */
int plumb_status_exit_code(plumb_status s);

/* The trail of the last failure in this thread: the message of the PLUMB_FAIL that raised
 * it, then one line per PLUMB_TRY that passed it on. Empty before the first failure. */
const char *plumb_trail(void);
/* The first line of the trail without its file:line, for messages to users. */
const char *plumb_trail_message(void);
plumb_status plumb_fail_at(plumb_status s, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
plumb_status plumb_pass_at(plumb_status s, const char *file, int line, const char *expr);

/* The code is returned as it stands, so that compilers see that a failure is never PLUMB_OK. */
#define PLUMB_FAIL(code, ...)                                                                      \
    return (void)plumb_fail_at((code), __FILE__, __LINE__, __VA_ARGS__), (code)
#define PLUMB_REQUIRE(cond, code, ...)                                                             \
    do {                                                                                           \
        if (!(cond))                                                                               \
            PLUMB_FAIL((code), __VA_ARGS__);                                                       \
    } while (0)
#define PLUMB_TRY(expr)                                                                            \
    do {                                                                                           \
        plumb_status st_ = (expr);                                                                 \
        if (st_ != PLUMB_OK) {                                                                     \
            (void)plumb_pass_at(st_, __FILE__, __LINE__, #expr);                                   \
            return st_;                                                                            \
        }                                                                                          \
    } while (0)
/* For functions that have acquired something: sets st and jumps to the release label. */
#define PLUMB_TRY_GOTO(st, expr, label)                                                            \
    do {                                                                                           \
        if (((st) = (expr)) != PLUMB_OK) {                                                         \
            (void)plumb_pass_at((st), __FILE__, __LINE__, #expr);                                  \
            goto label;                                                                            \
        }                                                                                          \
    } while (0)
#define PLUMB_FAIL_GOTO(st, code, label, ...)                                                      \
    do {                                                                                           \
        (st) = plumb_fail_at((code), __FILE__, __LINE__, __VA_ARGS__);                             \
        goto label;                                                                                \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
