/* safetensors_write.c - writes safetensors files that equal the reference library's byte for byte.
 * Layer 1. Includes safetensors.h, json.h, file.h, base/. */
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"

/* `order` is the rank of a dtype in the reference library; a file has the tensors of the highest
 * `order` first. */
static const struct {
    const char *name;
    int order;
} dtypes[] = {
    [PLUMB_U8] = {"U8", 0},   [PLUMB_F16] = {"F16", 1}, [PLUMB_BF16] = {"BF16", 2},
    [PLUMB_I32] = {"I32", 3}, [PLUMB_F32] = {"F32", 4}, [PLUMB_F64] = {"F64", 5},
    [PLUMB_I64] = {"I64", 6},
};

static int file_order(const void *a, const void *b)
{
    const struct plumb_st_entry *x = *(const struct plumb_st_entry *const *)a;
    const struct plumb_st_entry *y = *(const struct plumb_st_entry *const *)b;
    const int order = dtypes[y->dtype].order - dtypes[x->dtype].order;
    return order ? order : strcmp(x->name, y->name);
}

static int name_order(const void *a, const void *b)
{
    const struct plumb_st_entry *x = *(const struct plumb_st_entry *const *)a;
    const struct plumb_st_entry *y = *(const struct plumb_st_entry *const *)b;
    return strcmp(x->name, y->name);
}

static plumb_status bytes_of(int64_t *bytes, const struct plumb_st_entry *e)
{
    PLUMB_REQUIRE(!e->other, PLUMB_ERR_UNSUPPORTED,
                  "tensor '%s': the writer does not support the dtype %s", e->name, e->other);
    PLUMB_REQUIRE(e->rank >= 0 && e->rank <= PLUMB_ST_MAX_RANK, PLUMB_ERR_SHAPE,
                  "tensor '%s': rank %d, expected 0 to %d", e->name, e->rank, PLUMB_ST_MAX_RANK);
    *bytes = plumb_dtype_size(e->dtype);
    for (int i = 0; i < e->rank; i++)
        PLUMB_REQUIRE(plumb_mul(bytes, *bytes, e->dim[i]), PLUMB_ERR_SHAPE,
                      "tensor '%s': the size is negative or overflows 64 bits", e->name);
    return PLUMB_OK;
}

/* Sets order (n,) to the entries sorted by name. Returns an error if two names are equal or if a
 * tensor has the reserved name __metadata__. */
static plumb_status sort_names(const struct plumb_st_entry **order,
                               const struct plumb_st_entry *entry, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        order[i] = &entry[i];
        PLUMB_REQUIRE(strcmp(entry[i].name, "__metadata__") != 0, PLUMB_ERR_ARG,
                      "a tensor may not be called __metadata__");
    }
    if (n > 1)
        qsort(order, (size_t)n, sizeof(*order), name_order);
    for (int64_t i = 1; i < n; i++)
        PLUMB_REQUIRE(strcmp(order[i - 1]->name, order[i]->name) != 0, PLUMB_ERR_ARG,
                      "tensor '%s' is given twice", order[i]->name);
    return PLUMB_OK;
}

static plumb_status put_text(struct plumb_buf *b, const char *text)
{
    PLUMB_TRY(plumb_json_put_string(b, text, (int64_t)strlen(text)));
    return PLUMB_OK;
}

static plumb_status put_header(struct plumb_buf *b, const struct plumb_st_entry *const *order,
                               int64_t n, const char *const *metadata)
{
    PLUMB_TRY(plumb_buf_add_text(b, "{"));
    bool first = true;
    if (metadata && metadata[0]) {
        PLUMB_TRY(plumb_buf_add_text(b, "\"__metadata__\":"));
        for (int64_t i = 0; metadata[i]; i += 2) {
            PLUMB_TRY(plumb_buf_add_text(b, i ? "," : "{"));
            PLUMB_TRY(put_text(b, metadata[i]));
            PLUMB_TRY(plumb_buf_add_text(b, ":"));
            PLUMB_TRY(put_text(b, metadata[i + 1]));
        }
        PLUMB_TRY(plumb_buf_add_text(b, "}"));
        first = false;
    }
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++, first = false) {
        const struct plumb_st_entry *e = order[i];
        int64_t bytes = 0, end;
        PLUMB_TRY(bytes_of(&bytes, e));
        PLUMB_REQUIRE(plumb_add(&end, at, bytes), PLUMB_ERR_SHAPE,
                      "the size of the file overflows 64 bits");
        PLUMB_TRY(plumb_buf_add_text(b, first ? "" : ","));
        PLUMB_TRY(put_text(b, e->name));
        PLUMB_TRY(plumb_buf_addf(b, ":{\"dtype\":\"%s\",\"shape\":[", dtypes[e->dtype].name));
        for (int k = 0; k < e->rank; k++)
            PLUMB_TRY(plumb_buf_addf(b, "%s%" PRId64, k ? "," : "", e->dim[k]));
        PLUMB_TRY(plumb_buf_addf(b, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", at, end));
        at = end;
    }
    PLUMB_TRY(plumb_buf_add_text(b, "}"));
    while (b->len % 8)
        PLUMB_TRY(plumb_buf_add_text(b, " "));
    return PLUMB_OK;
}

static plumb_status write_file(const char *path, const struct plumb_st_entry *const *order,
                               int64_t n, const struct plumb_buf *header)
{
    struct plumb_file_out f;
    plumb_status st;
    PLUMB_TRY(plumb_file_out_begin(&f, path));
    const uint64_t length = (uint64_t)header->len;
    PLUMB_TRY_GOTO(st, plumb_file_out_add(&f, &length, sizeof(length)), fail);
    PLUMB_TRY_GOTO(st, plumb_file_out_add(&f, header->data, header->len), fail);
    for (int64_t i = 0; i < n; i++) {
        const struct plumb_st_entry *e = order[i];
        const void *data = e->data;
        int64_t bytes = 0;
        PLUMB_TRY_GOTO(st, bytes_of(&bytes, e), fail);
        if (!data && e->fetch)
            PLUMB_TRY_GOTO(st, e->fetch(e->arg, e, &data), fail);
        PLUMB_TRY_GOTO(st, plumb_file_out_add(&f, data, bytes), fail);
    }
    PLUMB_TRY(plumb_file_out_commit(&f));
    return PLUMB_OK;
fail:
    plumb_file_out_abort(&f);
    return st;
}

plumb_status plumb_st_write(const char *path, const struct plumb_st_entry *entry, int64_t n,
                            const char *const *metadata)
{
    PLUMB_REQUIRE(n >= 0, PLUMB_ERR_ARG, "%s: cannot write %" PRId64 " tensors", path, n);
    struct plumb_buf header = {0};
    plumb_status st;
    const struct plumb_st_entry **order = malloc((size_t)(n + 1) * sizeof(*order));
    PLUMB_REQUIRE(order, PLUMB_ERR_NOMEM, "%s: cannot sort the names of %" PRId64 " tensors", path,
                  n);
    PLUMB_TRY_GOTO(st, sort_names(order, entry, n), fail);
    if (n > 1)
        qsort(order, (size_t)n, sizeof(*order), file_order);
    PLUMB_TRY_GOTO(st, put_header(&header, order, n, metadata), fail);
    PLUMB_TRY_GOTO(st, write_file(path, order, n, &header), fail);
fail:
    plumb_buf_fini(&header);
    free(order);
    return st;
}

/* Splits the entries, in the given order, into shards of at most shard_bytes. last[i] is the index
 * one past the last entry of shard i. A tensor larger than shard_bytes gets a shard of its own. */
static plumb_status split_shards(int64_t *last, int64_t *shards, int64_t *total,
                                 const struct plumb_st_entry *entry, int64_t n, int64_t shard_bytes)
{
    int64_t in_shard = 0;
    *total = 0;
    *shards = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t bytes = 0, sum;
        PLUMB_TRY(bytes_of(&bytes, &entry[i]));
        PLUMB_REQUIRE(plumb_add(total, *total, bytes) && plumb_add(&sum, in_shard, bytes),
                      PLUMB_ERR_SHAPE, "the size of the model overflows 64 bits");
        if (in_shard > 0 && sum > shard_bytes) {
            last[(*shards)++] = i;
            sum = bytes;
        }
        in_shard = sum;
    }
    last[(*shards)++] = n;
    return PLUMB_OK;
}

static void shard_name(char *name, size_t size, int64_t i, int64_t shards)
{
    snprintf(name, size, "model-%05" PRId64 "-of-%05" PRId64 ".safetensors", i + 1, shards);
}

static plumb_status write_index(const char *dir, const struct plumb_st_entry *entry, int64_t n,
                                const int64_t *last, int64_t shards, int64_t total)
{
    char path[PATH_MAX], name[64];
    struct plumb_buf b = {0};
    plumb_status st;
    const struct plumb_st_entry **order = malloc((size_t)(n + 1) * sizeof(*order));
    PLUMB_REQUIRE(order, PLUMB_ERR_NOMEM, "%s: cannot sort %" PRId64 " tensors", dir, n);
    PLUMB_TRY_GOTO(st, sort_names(order, entry, n), fail);
    PLUMB_TRY_GOTO(st,
                   plumb_buf_addf(&b,
                                  "{\n  \"metadata\": {\n    \"total_size\": %" PRId64
                                  "\n  },\n  \"weight_map\": {\n",
                                  total),
                   fail);
    for (int64_t i = 0; i < n; i++) {
        int64_t s = 0;
        while (order[i] - entry >= last[s])
            s++;
        shard_name(name, sizeof(name), s, shards);
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(&b, "    "), fail);
        PLUMB_TRY_GOTO(st, put_text(&b, order[i]->name), fail);
        PLUMB_TRY_GOTO(st, plumb_buf_addf(&b, ": \"%s\"%s\n", name, i + 1 < n ? "," : ""), fail);
    }
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&b, "  }\n}\n"), fail);
    PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof(path), dir, "model.safetensors.index.json"),
                   fail);
    PLUMB_TRY_GOTO(st, plumb_file_write_atomic(path, b.data, b.len), fail);
fail:
    plumb_buf_fini(&b);
    free(order);
    return st;
}

plumb_status plumb_st_write_dir(const char *dir, const struct plumb_st_entry *entry, int64_t n,
                                int64_t shard_bytes)
{
    static const char *const metadata[] = {"format", "pt", NULL};
    PLUMB_REQUIRE(n >= 0 && shard_bytes > 0, PLUMB_ERR_ARG,
                  "%s: cannot write %" PRId64 " tensors in shards of %" PRId64 " bytes", dir, n,
                  shard_bytes);
    char path[PATH_MAX], name[64];
    int64_t shards, total, from = 0;
    plumb_status st;
    int64_t *last = malloc((size_t)(n + 1) * sizeof(*last));
    PLUMB_REQUIRE(last, PLUMB_ERR_NOMEM, "%s: cannot split %" PRId64 " tensors into shards", dir,
                  n);
    PLUMB_TRY_GOTO(st, split_shards(last, &shards, &total, entry, n, shard_bytes), fail);
    if (shards == 1) {
        PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof(path), dir, "model.safetensors"), fail);
        PLUMB_TRY_GOTO(st, plumb_st_write(path, entry, n, metadata), fail);
        goto fail;
    }
    /* Readers use model.safetensors if it exists and would ignore the shards beside it. */
    PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof(path), dir, "model.safetensors"), fail);
    if (plumb_file_exists(path))
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_EXISTS, fail,
                        "%s: exists already, and readers would prefer it to the shards to be "
                        "written; remove it",
                        path);
    for (int64_t i = 0; i < shards; from = last[i++]) {
        shard_name(name, sizeof(name), i, shards);
        PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof(path), dir, name), fail);
        PLUMB_TRY_GOTO(st, plumb_st_write(path, entry + from, last[i] - from, metadata), fail);
    }
    PLUMB_TRY_GOTO(st, write_index(dir, entry, n, last, shards, total), fail);
fail:
    free(last);
    return st;
}
