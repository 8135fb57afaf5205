/* check.c - argument checks of the operations with their error messages, and views of tensors.
 * Layer 3. Includes check.h, base/. */
#include "op/check.h"

#include <stdio.h>

#include "base/num.h"

enum { TEXT = 160 };

static const char *place_name(enum plumb_place place)
{
    return place == PLUMB_HOST ? "host" : "device";
}

static void describe(char out[TEXT], enum plumb_dtype dtype, enum plumb_place place, int rank,
                     const int64_t *dim)
{
    int at = snprintf(out, TEXT, "%s (", plumb_dtype_name(dtype));
    for (int i = 0; i < rank && at < TEXT; i++)
        at += snprintf(out + at, (size_t)(TEXT - at), i ? ",%lld" : "%lld", (long long)dim[i]);
    if (at < TEXT)
        snprintf(out + at, (size_t)(TEXT - at), ") in %s memory", place_name(place));
}

static const char *name_of(const struct plumb_tensor *t)
{
    return t->name ? t->name : "(unnamed)";
}

static plumb_status check_one(const struct plumb_backend *b, const char *op, const struct want *w)
{
    PLUMB_REQUIRE(w->t, PLUMB_ERR_SHAPE, "%s: argument %s is NULL, expected a tensor", op, w->arg);
    bool same = w->t->dtype == w->dtype && w->t->place == b->place && w->t->rank == w->rank;
    for (int i = 0; same && i < w->rank; i++)
        same = w->t->dim[i] == w->dim[i];
    if (same)
        return PLUMB_OK;
    char found[TEXT], wanted[TEXT];
    describe(found, w->t->dtype, w->t->place, w->t->rank, w->t->dim);
    describe(wanted, w->dtype, b->place, w->rank, w->dim);
    PLUMB_FAIL(PLUMB_ERR_SHAPE, "%s: %s '%s' is %s, expected %s", op, w->arg, name_of(w->t), found,
               wanted);
}

plumb_status plumb_op_check(const struct plumb_backend *b, const char *op, const struct want *want,
                            int n)
{
    for (int i = 0; i < n; i++)
        PLUMB_TRY(check_one(b, op, &want[i]));
    return PLUMB_OK;
}

plumb_status plumb_op_check_count(const struct plumb_backend *b, const char *op, const char *arg,
                                  const struct plumb_tensor *t, enum plumb_dtype dtype,
                                  int64_t count)
{
    PLUMB_TRY(plumb_op_check_rank(op, arg, t, 1, PLUMB_MAX_RANK));
    if (t->dtype == dtype && t->place == b->place && plumb_tensor_count(t) == count)
        return PLUMB_OK;
    char found[TEXT];
    describe(found, t->dtype, t->place, t->rank, t->dim);
    PLUMB_FAIL(PLUMB_ERR_SHAPE, "%s: %s '%s' is %s, expected %lld elements of %s in %s memory", op,
               arg, name_of(t), found, (long long)count, plumb_dtype_name(dtype),
               place_name(b->place));
}

plumb_status plumb_op_check_work(const struct plumb_backend *b, const char *op,
                                 const struct plumb_tensor *t, int64_t count)
{
    if (count <= 0 && !t)
        return PLUMB_OK;
    PLUMB_TRY(plumb_op_check_rank(op, "work", t, 1, PLUMB_MAX_RANK));
    if (t->dtype == PLUMB_F32 && t->place == b->place && plumb_tensor_count(t) >= count)
        return PLUMB_OK;
    char found[TEXT];
    describe(found, t->dtype, t->place, t->rank, t->dim);
    PLUMB_FAIL(PLUMB_ERR_SHAPE,
               "%s: work '%s' is %s, expected at least %lld elements of float32 in %s memory", op,
               name_of(t), found, (long long)count, place_name(b->place));
}

plumb_status plumb_op_check_rank(const char *op, const char *arg, const struct plumb_tensor *t,
                                 int lowest, int highest)
{
    PLUMB_REQUIRE(t, PLUMB_ERR_SHAPE, "%s: argument %s is NULL, expected a tensor", op, arg);
    PLUMB_REQUIRE(t->rank >= lowest && t->rank <= highest, PLUMB_ERR_SHAPE,
                  "%s: %s '%s' has %d dimensions, expected %d to %d", op, arg, name_of(t), t->rank,
                  lowest, highest);
    PLUMB_REQUIRE(plumb_tensor_count(t) >= 0, PLUMB_ERR_SHAPE,
                  "%s: %s '%s' has a negative or overflowing size", op, arg, name_of(t));
    return PLUMB_OK;
}

plumb_status plumb_op_check_index(const char *op, const char *arg, const struct plumb_tensor *t,
                                  int64_t end)
{
    if (t->place != PLUMB_HOST)
        return PLUMB_OK;
    const int64_t n = plumb_tensor_count(t);
    for (int64_t i = 0; i < n; i++) {
        const int32_t at = plumb_i32(t)[i];
        PLUMB_REQUIRE(at >= 0 && at < end, PLUMB_ERR_SHAPE,
                      "%s: %s '%s' holds %d at index %lld, expected 0 to %lld", op, arg, name_of(t),
                      at, (long long)i, (long long)end - 1);
    }
    return PLUMB_OK;
}

struct plumb_tensor plumb_view(const char *name, enum plumb_dtype dtype, const void *data,
                               enum plumb_place place, int rank, const int64_t *dim)
{
    struct plumb_tensor t = {.data = (void *)(uintptr_t)data,
                             .dtype = dtype,
                             .place = place,
                             .rank = rank,
                             .name = name};
    for (int i = 0; i < rank && i < PLUMB_MAX_RANK; i++)
        t.dim[i] = dim[i];
    return t;
}

struct plumb_tensor plumb_view_rows(const struct plumb_tensor *t, int64_t begin, int64_t rows)
{
    struct plumb_tensor part = *t;
    part.dim[0] = rows;
    const int64_t count = plumb_tensor_count(&part), width = rows > 0 ? count / rows : 0;
    part.data = (char *)t->data + begin * width * plumb_dtype_size(t->dtype);
    return part;
}

struct plumb_tensor plumb_view_flat(const struct plumb_tensor *t)
{
    const int64_t n = plumb_tensor_count(t);
    return plumb_view(t->name, t->dtype, t->data, t->place, 1, &n);
}

plumb_status plumb_op_check_bf16(const struct plumb_backend *b, const char *op)
{
    PLUMB_REQUIRE(b->dtype == PLUMB_BF16, PLUMB_ERR_UNSUPPORTED,
                  "%s: %s computes in %s, expected bfloat16", op, b->name,
                  plumb_dtype_name(b->dtype));
    return PLUMB_OK;
}
