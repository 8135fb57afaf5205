/* status.h - error codes, and the macros that raise an error or pass it to the caller.
 * Layer 0. Includes no other file of the project. */
#ifndef PLUMB_BASE_STATUS_H
#define PLUMB_BASE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* Columns: name of the code, its value, its text for the user, exit code of the process. */
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

/* Returns the exit code of a process that ends with status s: 0 for PLUMB_OK, 2..13 for errors, and
 * 99 for PLUMB_STOPPED, which tells a job scheduler to put the job back into the queue. */
int plumb_status_exit_code(plumb_status s);

/* Returns the trail of this thread's last failure, at most 4095 bytes: one line with file, line,
 * status text and message of the macro that raised it (PLUMB_FAIL, PLUMB_REQUIRE or
 * PLUMB_FAIL_GOTO), then one line for each PLUMB_TRY or PLUMB_TRY_GOTO that passed it on. Returns
 * "" before the first failure. */
const char *plumb_trail(void);
/* Returns only the message of this thread's last failure, without file:line, to show it to a user.
 * For PLUMB_ERR_NOMEM, a message without the word "memory" begins with "out of memory: ", so the
 * message passed to PLUMB_FAIL only needs to say what could not be allocated. */
const char *plumb_trail_message(void);
plumb_status plumb_fail_at(plumb_status s, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
plumb_status plumb_pass_at(plumb_status s, const char *file, int line, const char *expr);

/* PLUMB_FAIL returns the code itself rather than the result of plumb_fail_at, so that a compiler
 * sees that a failure never returns PLUMB_OK. */
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
/* Use PLUMB_TRY_GOTO in a function that has acquired resources. It sets st to the status of expr,
 * and if that is an error, it jumps to the label, where the function releases the resources. */
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
