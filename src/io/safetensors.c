/* safetensors.c - opens safetensors files, checks their headers and reads their tensors.
 * Layer 1. Includes safetensors.h, json.h, kind.h, file.h, base/.
 *
 * The header decides which bytes are read, so nothing in it is trusted. After the checks in this
 * file, each tensor lies inside its file, and each byte of the data belongs to exactly one
 * tensor. */
#include "io/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"
#include "io/file.h"
#include "io/json.h"
#include "io/kind.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian");

/* bytes of the header's length, which begins a file; the reference implementation's limit of it */
enum { LENGTH_BYTES = 8, MAX_HEADER = 100000000 };
/* PIECE: most bytes of one pread. BLOCK: bytes that are converted together. */
enum { PIECE = 1 << 24, BLOCK = 1 << 16 };

struct plumb_st_shard {
    char *path;
    int fd;           /* -1 if the file is not open */
    struct stat info; /* size and modification time when the file was opened */
    int64_t size;
    plumb_json *header; /* parsed header; it owns the names of the tensors */
};

struct plumb_st {
    struct plumb_st_shard *shard;
    int64_t shards, n, cap;
    struct plumb_st_entry *entry; /* (n,) tensors of all shards */
    int64_t *by_name;             /* (n,) indices of entry, sorted by name */
};

/* All dtypes of the format whose values fill whole bytes. `known` is true for those that have a
 * plumb_dtype. */
static const struct {
    const char *name;
    int bytes;
    bool known;
    enum plumb_dtype dtype;
} dtypes[] = {
    {"F32", 4, true, PLUMB_F32},     {"BF16", 2, true, PLUMB_BF16},
    {"F16", 2, true, PLUMB_F16},     {"F64", 8, true, PLUMB_F64},
    {"I32", 4, true, PLUMB_I32},     {"I64", 8, true, PLUMB_I64},
    {"U8", 1, true, PLUMB_U8},       {"BOOL", 1, false, PLUMB_U8},
    {"I8", 1, false, PLUMB_U8},      {"I16", 2, false, PLUMB_U8},
    {"U16", 2, false, PLUMB_U8},     {"U32", 4, false, PLUMB_U8},
    {"U64", 8, false, PLUMB_U8},     {"F8_E4M3", 1, false, PLUMB_U8},
    {"F8_E5M2", 1, false, PLUMB_U8}, {"F8_E8M0", 1, false, PLUMB_U8},
    {"C64", 8, false, PLUMB_U8},
};

static plumb_status read_dtype(struct plumb_st_entry *e, int64_t *size, const plumb_json *info)
{
    const char *name = plumb_json_string(plumb_json_get(info, "dtype"), NULL);
    PLUMB_REQUIRE(name, PLUMB_ERR_FORMAT, "%s: tensor '%s' has no field 'dtype' with a string",
                  e->file, e->name);
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(*dtypes); i++) {
        if (!strcmp(name, dtypes[i].name)) {
            e->dtype = dtypes[i].dtype;
            e->other = dtypes[i].known ? NULL : dtypes[i].name;
            *size = dtypes[i].bytes;
            return PLUMB_OK;
        }
    }
    PLUMB_FAIL(PLUMB_ERR_FORMAT, "%s: tensor '%s' has the unknown dtype '%s'", e->file, e->name,
               name);
}

static plumb_status read_shape(struct plumb_st_entry *e, const plumb_json *info)
{
    const plumb_json *shape = plumb_json_get(info, "shape");
    PLUMB_REQUIRE(plumb_json_type_of(shape) == PLUMB_JSON_ARRAY, PLUMB_ERR_FORMAT,
                  "%s: tensor '%s' has no field 'shape' with an array", e->file, e->name);
    const int64_t rank = plumb_json_count(shape);
    PLUMB_REQUIRE(rank <= PLUMB_ST_MAX_RANK, PLUMB_ERR_UNSUPPORTED,
                  "%s: tensor '%s' has %" PRId64 " dimensions, at most %d are read", e->file,
                  e->name, rank, PLUMB_ST_MAX_RANK);
    e->rank = (int)rank;
    e->count = 1;
    for (int64_t i = 0; i < rank; i++) {
        e->dim[i] = plumb_json_int(plumb_json_at(shape, i), -1);
        PLUMB_REQUIRE(e->dim[i] >= 0, PLUMB_ERR_FORMAT,
                      "%s: dimension %" PRId64 " of tensor '%s' is not a whole number >= 0",
                      e->file, i, e->name);
        PLUMB_REQUIRE(plumb_mul(&e->count, e->count, e->dim[i]), PLUMB_ERR_FORMAT,
                      "%s: the size of tensor '%s' overflows 64 bits", e->file, e->name);
    }
    return PLUMB_OK;
}

/* Fills *e from `info`, one member of the header. The data section begins at byte `data` of the
 * file and has data_bytes bytes. */
static plumb_status read_entry(struct plumb_st_entry *e, const plumb_json *info, int64_t data,
                               int64_t data_bytes)
{
    int64_t size = 0, bytes;
    PLUMB_REQUIRE(plumb_json_type_of(info) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: header entry '%s' is not a JSON object", e->file, e->name);
    PLUMB_TRY(read_dtype(e, &size, info));
    PLUMB_TRY(read_shape(e, info));
    PLUMB_REQUIRE(plumb_mul(&bytes, e->count, size), PLUMB_ERR_FORMAT,
                  "%s: the size of tensor '%s' overflows 64 bits", e->file, e->name);
    const plumb_json *offsets = plumb_json_get(info, "data_offsets");
    const int64_t begin = plumb_json_int(plumb_json_at(offsets, 0), -1);
    const int64_t end = plumb_json_int(plumb_json_at(offsets, 1), -1);
    PLUMB_REQUIRE(plumb_json_count(offsets) == 2 && begin >= 0 && end >= begin, PLUMB_ERR_FORMAT,
                  "%s: tensor '%s': data_offsets are not two ascending byte counts", e->file,
                  e->name);
    PLUMB_REQUIRE(end - begin == bytes, PLUMB_ERR_FORMAT,
                  "%s: tensor '%s': shape and dtype take %" PRId64
                  " bytes, data_offsets cover %" PRId64,
                  e->file, e->name, bytes, end - begin);
    PLUMB_REQUIRE(end <= data_bytes, PLUMB_ERR_FORMAT,
                  "%s: tensor '%s' ends at byte %" PRId64 " of the data, the file has %" PRId64
                  " (cut short?)",
                  e->file, e->name, end, data_bytes);
    e->at = data + begin;
    e->bytes = bytes;
    return PLUMB_OK;
}

static plumb_status check_metadata(const plumb_json *meta, const char *path)
{
    PLUMB_REQUIRE(plumb_json_type_of(meta) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: __metadata__ is not a JSON object", path);
    for (int64_t i = 0; i < plumb_json_count(meta); i++) {
        const char *key;
        const plumb_json *value;
        PLUMB_TRY(plumb_json_member_at(meta, i, &key, &value));
        PLUMB_REQUIRE(plumb_json_type_of(value) == PLUMB_JSON_STRING, PLUMB_ERR_FORMAT,
                      "%s: the __metadata__ value '%s' is not a string", path, key);
    }
    return PLUMB_OK;
}

/* Compares two entries by their position in the file. An empty tensor sorts before the tensor that
 * begins at the same byte. */
static int by_data(const void *a, const void *b)
{
    const struct plumb_st_entry *x = a, *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Appends the entries of a parsed header to st->entry, which is large enough, and checks that they
 * cover the data section without gaps or overlaps. */
static plumb_status read_entries(plumb_st *st, const struct plumb_st_shard *s, int64_t header_bytes)
{
    const int64_t data = LENGTH_BYTES + header_bytes;
    const int64_t data_bytes = s->size - LENGTH_BYTES - header_bytes;
    struct plumb_st_entry *first = st->entry + st->n;
    int64_t n = 0;
    for (int64_t i = 0; i < plumb_json_count(s->header); i++) {
        const char *key;
        const plumb_json *value;
        PLUMB_TRY(plumb_json_member_at(s->header, i, &key, &value));
        if (!strcmp(key, "__metadata__")) {
            PLUMB_TRY(check_metadata(value, s->path));
            continue;
        }
        first[n] = (struct plumb_st_entry){.name = key, .file = s->path, .shard = s};
        PLUMB_TRY(read_entry(&first[n], value, data, data_bytes));
        n++;
    }
    if (n > 1)
        qsort(first, (size_t)n, sizeof(*first), by_data);
    int64_t end = data;
    for (int64_t i = 0; i < n; i++) {
        PLUMB_REQUIRE(
            first[i].at == end, PLUMB_ERR_FORMAT,
            "%s: tensor '%s' begins at byte %" PRId64 " of the data, expected %" PRId64 ": %s",
            s->path, first[i].name, first[i].at - data, end - data,
            first[i].at < end ? "tensors overlap" : "the bytes between belong to no tensor");
        end += first[i].bytes;
    }
    PLUMB_REQUIRE(end == data + data_bytes, PLUMB_ERR_FORMAT,
                  "%s: %" PRId64 " bytes after the last tensor belong to no tensor", s->path,
                  data + data_bytes - end);
    st->n += n;
    return PLUMB_OK;
}

/* Reads exactly `bytes` bytes at offset `at` of the file into out. */
static plumb_status read_at(void *out, const struct plumb_st_shard *s, int64_t at, int64_t bytes)
{
    char *to = out;
    while (bytes > 0) {
        const ssize_t n = pread(s->fd, to, (size_t)plumb_min_i64(bytes, PIECE), (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        PLUMB_REQUIRE(n >= 0, PLUMB_ERR_IO, "%s: cannot read byte %" PRId64 ": %s", s->path, at,
                      strerror(errno));
        PLUMB_REQUIRE(n > 0, PLUMB_ERR_IO,
                      "%s: became shorter while it was read: it had %" PRId64
                      " bytes when it was opened and now ends at byte %" PRId64,
                      s->path, s->size, at);
        to += n;
        at += n;
        bytes -= n;
    }
    return PLUMB_OK;
}

/* Checks, by size and modification time, that no other program has written to the open file:
 * otherwise the data that is read could be partly old and partly new. */
static plumb_status check_same(const struct plumb_st_shard *s)
{
    struct stat now;
    PLUMB_REQUIRE(fstat(s->fd, &now) == 0, PLUMB_ERR_IO, "%s: cannot read its size: %s", s->path,
                  strerror(errno));
    PLUMB_REQUIRE(
        now.st_size == s->info.st_size && now.st_mtim.tv_sec == s->info.st_mtim.tv_sec &&
            now.st_mtim.tv_nsec == s->info.st_mtim.tv_nsec,
        PLUMB_ERR_IO,
        "%s: another program wrote to the file while it was read; try again when the file "
        "is complete",
        s->path);
    return PLUMB_OK;
}

const char *plumb_st_metadata(const plumb_st *st, const char *key)
{
    for (int64_t i = 0; i < st->shards; i++) {
        const plumb_json *all = plumb_json_get(st->shard[i].header, "__metadata__");
        if (plumb_json_get(all, key))
            return plumb_json_string(plumb_json_get(all, key), NULL);
    }
    return NULL;
}

plumb_status plumb_st_read(void *out, const struct plumb_st_entry *e, int64_t first, int64_t bytes)
{
    PLUMB_REQUIRE(first >= 0 && bytes >= 0 && first <= e->bytes && bytes <= e->bytes - first,
                  PLUMB_ERR_ARG, "tensor '%s' has no bytes %" PRId64 " to %" PRId64, e->name, first,
                  first + bytes);
    if (e->shard) {
        PLUMB_TRY(read_at(out, e->shard, e->at + first, bytes));
        PLUMB_TRY(check_same(e->shard));
    } else if (bytes) {
        memcpy(out, (const char *)e->data + first, (size_t)bytes);
    }
    return PLUMB_OK;
}

static plumb_status open_file(struct plumb_st_shard *s)
{
    PLUMB_TRY(plumb_file_open(&s->fd, s->path, false));
    PLUMB_REQUIRE(fstat(s->fd, &s->info) == 0, PLUMB_ERR_IO, "%s: cannot read its size: %s",
                  s->path, strerror(errno));
    s->size = s->info.st_size;
    return PLUMB_OK;
}

/* Reads the JSON text of the header, of *length bytes, into *header. The caller frees *header, also
 * after a failure. */
static plumb_status read_header(char **header, int64_t *length, const struct plumb_st_shard *s)
{
    uint64_t claimed;
    const char *path = s->path;
    PLUMB_REQUIRE(s->size >= LENGTH_BYTES, PLUMB_ERR_FORMAT,
                  "%s: %" PRId64 " bytes are too few for a safetensors file", path, s->size);
    PLUMB_TRY(read_at(&claimed, s, 0, LENGTH_BYTES));
    PLUMB_REQUIRE(claimed <= MAX_HEADER, PLUMB_ERR_FORMAT,
                  "%s: a header of %" PRIu64 " bytes, at most %d are allowed", path, claimed,
                  MAX_HEADER);
    PLUMB_REQUIRE((int64_t)claimed <= s->size - LENGTH_BYTES, PLUMB_ERR_FORMAT,
                  "%s: a header of %" PRIu64 " bytes in a file of %" PRId64, path, claimed,
                  s->size);
    *length = (int64_t)claimed;
    *header = malloc((size_t)*length + 1);
    PLUMB_REQUIRE(*header, PLUMB_ERR_NOMEM, "%s: its header of %" PRId64 " bytes", path, *length);
    PLUMB_TRY(read_at(*header, s, LENGTH_BYTES, *length));
    PLUMB_REQUIRE(*length > 0 && **header == '{', PLUMB_ERR_FORMAT,
                  "%s: the header does not begin with '{'", path);
    return PLUMB_OK;
}

/* Adds one file to st. After an error, plumb_st_close releases what was acquired. */
static plumb_status add_file(plumb_st *st, const char *path)
{
    struct plumb_st_shard *s = &st->shard[st->shards++];
    char *header = NULL;
    int64_t length = 0;
    s->fd = -1;
    s->path = strdup(path);
    PLUMB_REQUIRE(s->path, PLUMB_ERR_NOMEM, "%s: cannot store the file's name", path);
    PLUMB_TRY(open_file(s));
    plumb_status failed = read_header(&header, &length, s);
    if (failed == PLUMB_OK) {
        char where[PATH_MAX + 16];
        snprintf(where, sizeof(where), "%s: header", path);
        failed = plumb_json_parse(&s->header, header, length, where);
        /* If the file is of another known kind, the error names it. */
    } else if (failed == PLUMB_ERR_FORMAT) {
        enum plumb_file_kind kind;
        if (plumb_file_kind_at(&kind, path) == PLUMB_OK && kind != PLUMB_FILE_BINARY &&
            kind != PLUMB_FILE_SAFETENSORS)
            failed = plumb_file_expect(path, PLUMB_FILE_SAFETENSORS);
    }
    free(header);
    PLUMB_TRY(failed);
    const int64_t room = st->n + plumb_json_count(s->header);
    struct plumb_st_entry *grown = realloc(st->entry, (size_t)(room + 1) * sizeof(*grown));
    PLUMB_REQUIRE(grown, PLUMB_ERR_NOMEM, "%s: cannot store the properties of %" PRId64 " tensors",
                  path, room);
    st->entry = grown;
    PLUMB_TRY(read_entries(st, s, length));
    return PLUMB_OK;
}

static int by_name(const void *a, const void *b, void *entries)
{
    const struct plumb_st_entry *e = entries;
    return strcmp(e[*(const int64_t *)a].name, e[*(const int64_t *)b].name);
}

/* Sorts the entries by name. Returns an error if two shards have a tensor of the same name. */
static plumb_status index_names(plumb_st *st)
{
    st->by_name = malloc((size_t)(st->n + 1) * sizeof(*st->by_name));
    PLUMB_REQUIRE(st->by_name, PLUMB_ERR_NOMEM, "cannot sort %" PRId64 " tensor names", st->n);
    for (int64_t i = 0; i < st->n; i++)
        st->by_name[i] = i;
    if (st->n > 1)
        qsort_r(st->by_name, (size_t)st->n, sizeof(*st->by_name), by_name, st->entry);
    for (int64_t i = 1; i < st->n; i++) {
        const struct plumb_st_entry *a = &st->entry[st->by_name[i - 1]];
        const struct plumb_st_entry *b = &st->entry[st->by_name[i]];
        PLUMB_REQUIRE(strcmp(a->name, b->name) != 0, PLUMB_ERR_FORMAT,
                      "tensor '%s' is in two files: %s and %s", a->name, a->file, b->file);
    }
    return PLUMB_OK;
}

static plumb_status create(plumb_st **out, int64_t files)
{
    *out = calloc(1, sizeof(**out));
    PLUMB_REQUIRE(*out, PLUMB_ERR_NOMEM, "cannot create a safetensors reader");
    (*out)->shard = calloc((size_t)files, sizeof(*(*out)->shard));
    if (!(*out)->shard) {
        plumb_st_close(out);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "cannot create a safetensors reader of %" PRId64 " files",
                   files);
    }
    return PLUMB_OK;
}

plumb_status plumb_st_open(plumb_st **out, const char *path)
{
    *out = NULL;
    plumb_st *r;
    PLUMB_TRY(create(&r, 1));
    plumb_status st;
    PLUMB_TRY_GOTO(st, add_file(r, path), fail);
    PLUMB_TRY_GOTO(st, index_names(r), fail);
    *out = r;
    return PLUMB_OK;
fail:
    plumb_st_close(&r);
    return st;
}

static int text_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sets name to the sorted file names of the shards in `map`, the weight map of the index, each
 * once, and *n to their number. `name` has as many elements as `map` has members. */
static plumb_status shard_names(const char **name, int64_t *n, const plumb_json *map,
                                const char *path)
{
    const int64_t count = plumb_json_count(map);
    for (int64_t i = 0; i < count; i++) {
        const char *key;
        const plumb_json *value;
        PLUMB_TRY(plumb_json_member_at(map, i, &key, &value));
        name[i] = plumb_json_string(value, NULL);
        PLUMB_REQUIRE(name[i] && *name[i] && !strchr(name[i], '/'), PLUMB_ERR_FORMAT,
                      "%s: weight_map '%s': expected the name of a file in this folder", path, key);
    }
    qsort(name, (size_t)count, sizeof(*name), text_order);
    *n = 0;
    for (int64_t i = 0; i < count; i++)
        if (!*n || strcmp(name[*n - 1], name[i]))
            name[(*n)++] = name[i];
    return PLUMB_OK;
}

static plumb_status check_map(const plumb_st *st, const plumb_json *map, const char *dir)
{
    for (int64_t i = 0; i < plumb_json_count(map); i++) {
        const char *key;
        const plumb_json *value;
        PLUMB_TRY(plumb_json_member_at(map, i, &key, &value));
        const char *file = plumb_json_string(value, "");
        const struct plumb_st_entry *e = plumb_st_find(st, key);
        const char *slash = e ? strrchr(e->file, '/') : NULL;
        PLUMB_REQUIRE(e && slash && !strcmp(slash + 1, file), PLUMB_ERR_FORMAT,
                      "%s/%s: tensor '%s' is missing, but the index says that it is in this file",
                      dir, file, key);
    }
    return PLUMB_OK;
}

static plumb_status open_shards(plumb_st **out, const char *dir, const char *index_path)
{
    char path[PATH_MAX];
    plumb_json *index = NULL;
    const char **name = NULL;
    plumb_st *r = NULL;
    int64_t files = 0;
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_json_read_file(&index, index_path), fail);
    const plumb_json *map = plumb_json_get(index, "weight_map");
    if (plumb_json_type_of(map) != PLUMB_JSON_OBJECT || plumb_json_count(map) == 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail,
                        "%s: expected a field 'weight_map' with at least one tensor", index_path);
    name = malloc((size_t)plumb_json_count(map) * sizeof(*name));
    if (!name)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "%s: cannot store %" PRId64 " file names",
                        index_path, plumb_json_count(map));
    PLUMB_TRY_GOTO(st, shard_names(name, &files, map, index_path), fail);
    PLUMB_TRY_GOTO(st, create(&r, files), fail);
    for (int64_t i = 0; i < files; i++) {
        PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof(path), dir, name[i]), fail);
        PLUMB_TRY_GOTO(st, add_file(r, path), fail);
    }
    PLUMB_TRY_GOTO(st, index_names(r), fail);
    PLUMB_TRY_GOTO(st, check_map(r, map, dir), fail);
    *out = r;
    r = NULL;
fail:
    plumb_st_close(&r);
    free(name);
    plumb_json_free(&index);
    return st;
}

/* Raises the error for a folder without safetensors files. The message names a file of another
 * format, if there is one, and how to convert it. */
static plumb_status no_weights(const char *dir)
{
    static const struct {
        const char *name, *advice;
    } other[] = {
        {"adapter_model.safetensors",
         "an adapter (LoRA) without its model: merge it with merge_and_unload of peft"},
        {"pytorch_model.bin", "a PyTorch checkpoint: save it as safetensors with save_pretrained"},
        {"pytorch_model.bin.index.json",
         "a PyTorch checkpoint: save it as safetensors with save_pretrained"},
        {"consolidated.safetensors", "weights under other names than those of transformers"},
        {"tf_model.h5", "a TensorFlow checkpoint: save it as safetensors with transformers"},
        {"flax_model.msgpack", "a Flax checkpoint: save it as safetensors with transformers"},
    };
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
        PLUMB_REQUIRE(
            plumb_path_join(path, sizeof(path), dir, other[i].name) != PLUMB_OK ||
                !plumb_file_exists(path),
            PLUMB_ERR_IO,
            "%s: neither model.safetensors nor model.safetensors.index.json is there, but "
            "%s: %s",
            dir, other[i].name, other[i].advice);
    PLUMB_FAIL(PLUMB_ERR_IO,
               "%s: neither model.safetensors nor model.safetensors.index.json is there (other "
               "weight formats are not read; save the model as safetensors)",
               dir);
}

plumb_status plumb_st_open_dir(plumb_st **out, const char *dir)
{
    *out = NULL;
    char path[PATH_MAX];
    PLUMB_REQUIRE(plumb_dir_exists(dir), PLUMB_ERR_IO, "%s: this model folder does not exist", dir);
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, "model.safetensors"));
    if (plumb_file_exists(path)) {
        PLUMB_TRY(plumb_st_open(out, path));
        return PLUMB_OK;
    }
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, "model.safetensors.index.json"));
    if (!plumb_file_exists(path))
        return no_weights(dir);
    PLUMB_TRY(open_shards(out, dir, path));
    return PLUMB_OK;
}

void plumb_st_close(plumb_st **st)
{
    if (!st || !*st)
        return;
    for (int64_t i = 0; i < (*st)->shards; i++) {
        struct plumb_st_shard *s = &(*st)->shard[i];
        if (s->path && s->fd >= 0)
            close(s->fd);
        plumb_json_free(&s->header);
        free(s->path);
    }
    free((*st)->shard);
    free((*st)->entry);
    free((*st)->by_name);
    free(*st);
    *st = NULL;
}

int64_t plumb_st_count(const plumb_st *st)
{
    return st->n;
}

const struct plumb_st_entry *plumb_st_at(const plumb_st *st, int64_t i)
{
    return &st->entry[i];
}

const struct plumb_st_entry *plumb_st_find(const plumb_st *st, const char *name)
{
    int64_t lo = 0, hi = st->n;
    while (lo < hi) {
        const int64_t mid = lo + (hi - lo) / 2;
        const struct plumb_st_entry *e = &st->entry[st->by_name[mid]];
        const int order = strcmp(name, e->name);
        if (order == 0)
            return e;
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* Converts IEEE 754 binary16 to binary32, exactly. The value of a subnormal number is mantissa *
 * 2^-24. */
static float half_to_float(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t exponent = (h >> 10) & 0x1f, mantissa = h & 0x3ff;
    uint32_t bits;
    float x;
    if (exponent == 0) {
        x = (float)mantissa * 0x1p-24f;
        return sign ? -x : x;
    }
    bits = sign | (exponent == 0x1f ? 0x7f800000u : (exponent + 112) << 23) | mantissa << 13;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* Converts n values, as stored in a file, to float32. */
static void convert(float *out, const unsigned char *in, int64_t n, enum plumb_dtype dtype)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        double wide;
        if (dtype == PLUMB_F64) {
            memcpy(&wide, in + 8 * i, sizeof(wide));
            out[i] = (float)wide;
            continue;
        }
        memcpy(&half, in + 2 * i, sizeof(half));
        out[i] = dtype == PLUMB_BF16 ? plumb_from_bf16(half) : half_to_float(half);
    }
}

plumb_status plumb_st_to_f32(float *out, const struct plumb_st_entry *e)
{
    unsigned char block[BLOCK];
    PLUMB_REQUIRE(!e->other && (e->dtype == PLUMB_F32 || e->dtype == PLUMB_BF16 ||
                                e->dtype == PLUMB_F16 || e->dtype == PLUMB_F64),
                  PLUMB_ERR_UNSUPPORTED,
                  "%s: tensor '%s' is %s, expected float32, bfloat16, float16 or float64", e->file,
                  e->name, e->other ? e->other : plumb_dtype_name(e->dtype));
    if (e->dtype == PLUMB_F32)
        return plumb_st_read(out, e, 0, e->bytes);
    const int64_t size = plumb_dtype_size(e->dtype);
    for (int64_t at = 0; at < e->bytes; at += BLOCK) {
        const int64_t bytes = plumb_min_i64(BLOCK, e->bytes - at);
        PLUMB_TRY(plumb_st_read(block, e, at, bytes));
        convert(out + at / size, block, bytes / size, e->dtype);
    }
    return PLUMB_OK;
}
