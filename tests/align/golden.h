/* golden.h - reads the fixtures that tests/reference/align_fixtures.py wrote. */
#ifndef PLUMB_TESTS_ALIGN_GOLDEN_H
#define PLUMB_TESTS_ALIGN_GOLDEN_H
#include <string.h>

#include "align/param.h"
#include "base/range.h"
#include "harness.h"
#include "io/json.h"

static inline plumb_json *golden_read(const char *name)
{
    char path[1024];
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    plumb_json *doc = NULL;
    snprintf(path, sizeof(path), "%s/tests/fixtures/align/%s.json", root ? root : ".", name);
    CHECK_OK(plumb_json_read_file(&doc, path));
    return doc;
}

/* Returns element i of the array member `key` of v, or NaN if the element is null. */
static inline double golden_at(const plumb_json *v, const char *key, int64_t i)
{
    return plumb_json_real(plumb_json_at(plumb_json_get(v, key), i), NAN);
}

static inline double golden_real(const plumb_json *v, const char *key)
{
    return plumb_json_real(plumb_json_get(v, key), NAN);
}

/* Returns the default parameters, except that the members of v set the fields with their names. */
static inline struct plumb_align_param golden_param(const plumb_json *v)
{
    struct plumb_align_param p = plumb_align_param_default();
    for (int64_t i = 0; i < plumb_json_count(v); i++) {
        const char *key;
        const plumb_json *x;
        CHECK_OK(plumb_json_member_at(v, i, &key, &x));
#define GOLDEN_REAL(name, range)   plumb_json_real(x, NAN)
#define GOLDEN_INT(name, range)    plumb_json_int(x, -1)
#define GOLDEN_BOOL(name, range)   plumb_json_bool(x, true)
#define GOLDEN_CHOICE(name, range) plumb_range_word(range, plumb_json_string(x, ""))
#define GOLDEN(X, type, c_type, name, value, range, ...)                                           \
    if (!strcmp(key, #name))                                                                       \
        p.name = (c_type)GOLDEN_##type(name, range), known = true;
        bool known = false;
        PLUMB_METHOD_LIST(GOLDEN, PLUMB_PARAM_NONE, )
        if (!known)
            CHECKF(0, "unknown parameter %s", key);
    }
    CHECK_OK(plumb_align_param_check(&p));
    return p;
}

/* Returns true if a is within 1e-12 max(1, |b|) of b, or if both are NaN. */
static inline bool golden_near(double a, double b)
{
    return isnan(b) ? isnan(a) : fabs(a - b) <= 1e-12 * fmax(1.0, fabs(b));
}
#endif
