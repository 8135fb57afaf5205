/* state.c - writes and reads the state of a run in trainer_state.h5.
 * Layer 5. Includes base/, io/format.h, io/hdf5.h. */
#include "train/state.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/format.h"

/* The integer fields of the state. Their names are the names of the file's attributes. */
static const struct {
    const char *name;
    size_t offset;
    bool is_unsigned;
} field_table[] = {
#define FIELD(x, u)                                                                                \
    {                                                                                              \
#x, offsetof(struct plumb_train_state, x), u                                               \
    }
    FIELD(step, false),          FIELD(iteration, false),        FIELD(total_steps, false),
    FIELD(prompt_cursor, false), FIELD(num_tokens, false),       FIELD(seed, true),
    FIELD(config_hash, true),    FIELD(start_fingerprint, true), FIELD(weight_fingerprint, true),
    FIELD(n_values, false),
#undef FIELD
};
/* Name of an array of one value: the fingerprint of the weights in the checkpoint's files. The
 * array is written only if these weights are rounded (checkpoint.dtype). */
#define STORED   "stored_fingerprint"
#define N_FIELDS (sizeof(field_table) / sizeof(field_table[0]))

plumb_status plumb_state_set(struct plumb_train_state *s, const char *name, double value)
{
    int64_t i = 0;
    PLUMB_REQUIRE(name[0] && strlen(name) < sizeof(s->value[0].name) && !strchr(name, '\n'),
                  PLUMB_ERR_ARG,
                  "the name of a state value is '%s', expected 1 to %d characters on one line",
                  name, (int)sizeof(s->value[0].name) - 1);
    while (i < s->n_values && strcmp(s->value[i].name, name) != 0)
        i++;
    PLUMB_REQUIRE(i < PLUMB_STATE_VALUES, PLUMB_ERR_ARG,
                  "state value '%s': all %d places are taken", name, PLUMB_STATE_VALUES);
    if (i == s->n_values)
        s->n_values++;
    snprintf(s->value[i].name, sizeof(s->value[i].name), "%s", name);
    s->value[i].value = value;
    return PLUMB_OK;
}

double plumb_state_get(const struct plumb_train_state *s, const char *name, double fallback)
{
    for (int64_t i = 0; i < s->n_values; i++) {
        if (!strcmp(s->value[i].name, name))
            return s->value[i].value;
    }
    return fallback;
}

plumb_status plumb_state_write(plumb_h5 *f, const struct plumb_train_state *s)
{
    char names[PLUMB_STATE_VALUES * sizeof(s->value[0].name)] = "";
    double value[PLUMB_STATE_VALUES];
    size_t at = 0;
    PLUMB_TRY(plumb_format_put(f, PLUMB_FORMAT_STATE));
    for (size_t i = 0; i < N_FIELDS; i++) {
        const void *p = (const char *)s + field_table[i].offset;
        PLUMB_TRY(field_table[i].is_unsigned
                      ? plumb_h5_put_attr_u64(f, field_table[i].name, *(const uint64_t *)p)
                      : plumb_h5_put_attr_i64(f, field_table[i].name, *(const int64_t *)p));
    }
    if (s->stored_fingerprint)
        PLUMB_TRY(plumb_h5_put(f, STORED, PLUMB_H5_U64, 1, &s->stored_fingerprint));
    for (int64_t i = 0; i < s->n_values; i++) {
        at += (size_t)snprintf(names + at, sizeof(names) - at, "%s\n", s->value[i].name);
        value[i] = s->value[i].value;
    }
    PLUMB_TRY(plumb_h5_put_attr_text(f, "value_names", names));
    if (s->config)
        PLUMB_TRY(plumb_h5_put(f, "config", PLUMB_H5_U8, (int64_t)strlen(s->config), s->config));
    if (s->gemm_classes && *s->gemm_classes)
        PLUMB_TRY(plumb_h5_put(f, "gemm_classes", PLUMB_H5_U8, (int64_t)strlen(s->gemm_classes),
                               s->gemm_classes));
    return plumb_h5_put(f, "values", PLUMB_H5_F64, s->n_values, value);
}

plumb_status plumb_state_read(struct plumb_train_state *s, const plumb_h5 *f)
{
    char names[PLUMB_STATE_VALUES * sizeof(s->value[0].name) + 1];
    double value[PLUMB_STATE_VALUES];
    PLUMB_TRY(plumb_format_get(NULL, f, PLUMB_FORMAT_STATE));
    *s = (struct plumb_train_state){0};
    for (size_t i = 0; i < N_FIELDS; i++) {
        void *p = (char *)s + field_table[i].offset;
        PLUMB_TRY(field_table[i].is_unsigned
                      ? plumb_h5_get_attr_u64(f, field_table[i].name, (uint64_t *)p)
                      : plumb_h5_get_attr_i64(f, field_table[i].name, (int64_t *)p));
    }
    if (plumb_h5_has(f, STORED))
        PLUMB_TRY(plumb_h5_read(f, STORED, PLUMB_H5_U64, 0, 1, &s->stored_fingerprint));
    const int64_t n = s->n_values;
    s->n_values = 0;
    PLUMB_REQUIRE(n >= 0 && n <= PLUMB_STATE_VALUES, PLUMB_ERR_FORMAT,
                  "%s: n_values is %lld, expected 0 to %d", plumb_h5_path(f), (long long)n,
                  PLUMB_STATE_VALUES);
    PLUMB_TRY(plumb_h5_get_attr_text(f, "value_names", names, sizeof(names)));
    PLUMB_TRY(plumb_h5_read(f, "values", PLUMB_H5_F64, 0, n, value));
    char *at = names;
    for (int64_t i = 0; i < n; i++) {
        char *end = strchr(at, '\n');
        PLUMB_REQUIRE(end, PLUMB_ERR_FORMAT, "%s: value_names has %lld lines, expected %lld",
                      plumb_h5_path(f), (long long)i, (long long)n);
        *end = '\0';
        PLUMB_TRY(plumb_state_set(s, at, value[i]));
        at = end + 1;
    }
    PLUMB_REQUIRE(s->n_values == n, PLUMB_ERR_FORMAT, "%s: value_names has a name twice",
                  plumb_h5_path(f));
    return PLUMB_OK;
}

static plumb_status read_text(struct plumb_buf *out, const plumb_h5 *f, const char *name)
{
    int64_t n = 0;
    if (!plumb_h5_has(f, name))
        return PLUMB_OK;
    PLUMB_TRY(plumb_h5_count(f, name, &n));
    char *text = malloc((size_t)n + 1);
    PLUMB_REQUIRE(text, PLUMB_ERR_NOMEM, "%s of %lld bytes", name, (long long)n);
    plumb_status st = plumb_h5_read(f, name, PLUMB_H5_U8, 0, n, text);
    if (st == PLUMB_OK)
        st = plumb_buf_add(out, text, n);
    free(text);
    return st;
}

plumb_status plumb_state_read_config(struct plumb_buf *out, const plumb_h5 *f)
{
    return read_text(out, f, "config");
}

plumb_status plumb_state_read_gemm_classes(struct plumb_buf *out, const plumb_h5 *f)
{
    return read_text(out, f, "gemm_classes");
}
