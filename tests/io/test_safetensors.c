/* test_safetensors.c - compares the reader and writer with the reference library. Both must write
 * the same bytes and refuse the same files. Test. Includes harness.h, io/. */
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"

static char root[4096];

static const char *in_root(const char *name)
{
    static char path[32][5000];
    static int turn;
    turn = (turn + 1) % 32;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", root, name);
    return path[turn];
}

static void says(const char *part)
{
    CHECKF(strstr(plumb_trail_message(), part), "'%s' does not say '%s'", plumb_trail_message(),
           part);
}

/* Writes a file with this header and with data bytes 0, 1, 2 ..., `data` of them. Returns its
 * path. */
static const char *file_of(const char *header, int64_t data)
{
    const char *path = in_root("made.safetensors");
    struct plumb_buf b = {0};
    const uint64_t length = strlen(header);
    CHECK_OK(plumb_buf_add(&b, &length, 8));
    CHECK_OK(plumb_buf_add_text(&b, header));
    for (int64_t i = 0; i < data; i++)
        CHECK_OK(plumb_buf_add(&b, &(char){(char)i}, 1));
    CHECK_OK(plumb_file_write_atomic(path, b.data, b.len));
    plumb_buf_fini(&b);
    return path;
}

static void refused(const char *header, int64_t data, plumb_status want, const char *part)
{
    plumb_st *st = (plumb_st *)&st;
    const plumb_status got = plumb_st_open(&st, file_of(header, data));
    CHECKF(got == want, "%s: status %d", header, (int)got);
    CHECK(st == NULL);
    says("made.safetensors");
    says(part);
}

#define T(dtype, shape, from, to)                                                                  \
    "{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" from "," to "]}"

static void test_refusals(void)
{
    const plumb_status f = PLUMB_ERR_FORMAT;
    refused("", 0, f, "zero bytes");
    refused("[]", 0, f, "'{'");
    refused(" {}", 0, f, "'{'");
    refused("{", 0, f, "JSON");
    refused("{\"a\":1}", 0, f, "'a' is not a JSON object");
    refused("{\"a\":" T("F32", "1", "0", "4") "}", 3, f, "cut short");
    refused("{\"a\":" T("F32", "1", "0", "4") "}", 5, f, "1 bytes after the last tensor");
    refused("{\"a\":" T("F32", "1", "1", "5") "}", 5, f, "belong to no tensor");
    refused("{\"a\":" T("F32", "1", "0", "4") ",\"b\":" T("F32", "1", "2", "6") "}", 6, f,
            "overlap");
    refused("{\"a\":" T("F32", "1", "4", "0") "}", 4, f, "ascending");
    refused("{\"a\":" T("F32", "1", "-4", "0") "}", 4, f, "ascending");
    refused("{\"a\":" T("F32", "1", "0", "4,8") "}", 4, f, "two ascending");
    refused("{\"a\":" T("F32", "1", "0.0", "4.0") "}", 4, f, "ascending");
    refused("{\"a\":" T("F32", "2", "0", "4") "}", 4, f, "take 8 bytes, data_offsets cover 4");
    refused("{\"a\":" T("F32", "1", "0", "8") "}", 8, f, "take 4 bytes, data_offsets cover 8");
    refused("{\"a\":" T("F31", "1", "0", "4") "}", 4, f, "unknown dtype 'F31'");
    refused("{\"a\":" T("F32", "-1", "0", "4") "}", 4, f, "dimension 0");
    refused("{\"a\":" T("F32", "4611686018427387904,4", "0", "4") "}", 4, f, "overflows");
    refused("{\"a\":" T("F32", "4611686018427387904", "0", "4") "}", 4, f, "overflows");
    refused("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, f,
            "no field 'shape' with an array");
    refused("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, f,
            "no field 'dtype' with a string");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, f, "data_offsets");
    refused("{\"__metadata__\":{\"a\":1}}", 0, f, "__metadata__ value 'a' is not a string");
    refused("{\"__metadata__\":[]}", 0, f, "__metadata__ is not a JSON object");
    refused("{\"a\":" T("F32", "1,1,1,1,1,1,1,1,1", "0", "4") "}", 4, PLUMB_ERR_UNSUPPORTED,
            "9 dimensions");
    plumb_st *st = NULL;
    CHECK(plumb_st_open(&st, in_root("absent")) == PLUMB_ERR_IO);
    says("No such file");
    CHECK(plumb_st_open(&st, root) == PLUMB_ERR_IO);
    CHECK_OK(plumb_file_write_atomic(in_root("short"), "1234567", 7));
    CHECK(plumb_st_open(&st, in_root("short")) == f);
    says("is a text file, expected a safetensors file");
    CHECK_OK(plumb_file_write_atomic(in_root("huge"), "\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10));
    CHECK(plumb_st_open(&st, in_root("huge")) == f);
    says("at most");
    CHECK_OK(plumb_file_write_atomic(in_root("long"), "\x03\0\0\0\0\0\0\0{}", 10));
    CHECK(plumb_st_open(&st, in_root("long")) == f);
    says("in a file of 10");
}

static void test_order_and_find(void)
{
    plumb_st *st;
    CHECK_OK(plumb_st_open(
        &st, file_of("{\"z\":" T("U8", "2", "1", "3") ",\"I\":" T("I8", "1", "0", "1") ",\"e\":" T(
                         "F32", "0", "1", "1") ",\"m\":" T("U8", "1", "3", "4") "}  ",
                     4)));
    CHECK(plumb_st_count(st) == 4);
    static const char *const order[] = {"I", "e", "z", "m"};
    for (int i = 0; i < 4; i++) {
        CHECK(!strcmp(plumb_st_at(st, i)->name, order[i]));
        CHECK(plumb_st_find(st, order[i]) == plumb_st_at(st, i));
    }
    CHECK(plumb_st_find(st, "a") == NULL && plumb_st_find(st, "zz") == NULL);
    float x[1] = {7};
    char z[2];
    CHECK_OK(plumb_st_read(z, plumb_st_find(st, "z"), 0, 2));
    CHECK(plumb_st_read(z, plumb_st_find(st, "z"), 1, 2) == PLUMB_ERR_ARG);
    CHECK(plumb_st_to_f32(x, plumb_st_find(st, "I")) == PLUMB_ERR_UNSUPPORTED);
    says("tensor 'I' is I8");
    CHECK(plumb_st_to_f32(x, plumb_st_find(st, "z")) == PLUMB_ERR_UNSUPPORTED);
    says("tensor 'z' is uint8");
    CHECK_OK(plumb_st_to_f32(x, plumb_st_find(st, "e")));
    CHECK(x[0] == 7);
    plumb_st_close(&st);
    CHECK(st == NULL);
    plumb_st_close(&st);
}

/* Checks a file that changes while it is open: plumb must return an error that names the file. If
 * plumb mapped the file, a signal could end the process. */
static void test_changed_while_open(void)
{
    enum { N = 100000 };
    static float big[N];
    const char *path = in_root("big.safetensors");
    const struct plumb_st_entry e = {
        .name = "w", .dtype = PLUMB_F32, .rank = 1, .dim = {N}, .data = big};
    plumb_st *st;
    float *out = malloc(N * sizeof(*out));
    CHECK(out);
    CHECK_OK(plumb_st_write(path, &e, 1, NULL));
    CHECK_OK(plumb_st_open(&st, path));
    CHECK_OK(plumb_st_to_f32(out, plumb_st_find(st, "w")));
    CHECK(truncate(path, 5000) == 0);
    CHECK(plumb_st_to_f32(out, plumb_st_find(st, "w")) == PLUMB_ERR_IO);
    says("big.safetensors: became shorter while it was read");
    plumb_st_close(&st);
    CHECK(plumb_st_open(&st, path) == PLUMB_ERR_FORMAT);
    says("cut short?");

    CHECK_OK(plumb_st_write(path, &e, 1, NULL));
    CHECK_OK(plumb_st_open(&st, path));
    FILE *f = fopen(path, "r+");
    const struct timespec other[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    CHECK(f && fseek(f, -4, SEEK_END) == 0 && fputs("abcd", f) >= 0 && fclose(f) == 0);
    CHECK(utimensat(AT_FDCWD, path, other, 0) == 0);
    CHECK(plumb_st_to_f32(out, plumb_st_find(st, "w")) == PLUMB_ERR_IO);
    says("big.safetensors: another program wrote to the file");
    plumb_st_close(&st);

    /* If the file is replaced by a new file of the same name, the open file does not change. */
    CHECK_OK(plumb_st_write(path, &e, 1, NULL));
    CHECK_OK(plumb_st_open(&st, path));
    CHECK_OK(plumb_st_write(path, &e, 1, NULL));
    CHECK_OK(plumb_st_to_f32(out, plumb_st_find(st, "w")));
    plumb_st_close(&st);
    CHECK(unlink(path) == 0);
    free(out);
}

/* Checks the conversion to float32 of all 65536 float16 and bfloat16 numbers against the
 * definition. */
static void test_conversions(void)
{
    enum { N = 65536 };
    unsigned char *in = malloc(2 * N + 1);
    float *out = malloc(N * sizeof(*out));
    CHECK(in && out);
    for (int i = 0; i < N; i++)
        memcpy(in + 1 + 2 * i, &(uint16_t){(uint16_t)i}, 2); /* at an odd address, as in a file */
    struct plumb_st_entry e = {.name = "x",
                               .file = "f",
                               .dtype = PLUMB_F16,
                               .rank = 1,
                               .dim = {N},
                               .data = in + 1,
                               .bytes = 2 * N,
                               .count = N};
    CHECK_OK(plumb_st_to_f32(out, &e));
    for (int i = 0; i < N; i++) {
        const int ex = i >> 10 & 31, m = i & 1023;
        const double sign = i & 0x8000 ? -1.0 : 1.0;
        const double want = ex == 31 ? (m ? (double)NAN : sign * (double)INFINITY)
                            : ex     ? sign * ldexp(1024 + m, ex - 25)
                                     : sign * ldexp(m, -24);
        CHECKF(isnan(want) ? isnan(out[i]) : (double)out[i] == want, "%04x: %g", i, (double)out[i]);
        CHECK(isnan(want) || !signbit(out[i]) == !signbit(want));
    }
    e.dtype = PLUMB_BF16;
    CHECK_OK(plumb_st_to_f32(out, &e));
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t want = i << 16;
        CHECK(!memcmp(&out[i], &want, 4));
    }
    const double wide[4] = {0.1, -1e300, 16777217.0, 1.5};
    e = (struct plumb_st_entry){
        .name = "x", .dtype = PLUMB_F64, .data = wide, .bytes = 32, .count = 4};
    CHECK_OK(plumb_st_to_f32(out, &e));
    CHECK(out[0] == 0.1f && out[1] == -INFINITY && out[2] == 16777216.0f && out[3] == 1.5f);
    free(in);
    free(out);
}

/* The tensors that tests/reference/io_safetensors.py writes, in its order. */
static const float b[6] = {1.5f, -2.0f, 3.25f, 0.0f, -0.0f, 1e-40f}, a[2] = {1.0f, 0.1f};
static const float scalar = 2.5f;
static const uint16_t half[3] = {0x7bff, 0x8001, 0x3554}, brain[2] = {0x7f80, 0x3f80};
static const double wide[1] = {0.1};
static const int64_t ids[2] = {7, -1};
static const int32_t small_ids[1] = {5};
static const uint8_t quoted[3] = {9, 8, 7};
static const struct plumb_st_entry entry[] = {
    {.name = "model.b", .dtype = PLUMB_F32, .rank = 2, .dim = {2, 3}, .data = b},
    {.name = "model.a", .dtype = PLUMB_F32, .rank = 1, .dim = {2}, .data = a},
    {.name = "half", .dtype = PLUMB_F16, .rank = 1, .dim = {3}, .data = half},
    {.name = "brain", .dtype = PLUMB_BF16, .rank = 1, .dim = {2}, .data = brain},
    {.name = "wide", .dtype = PLUMB_F64, .rank = 1, .dim = {1}, .data = wide},
    {.name = "ids", .dtype = PLUMB_I64, .rank = 1, .dim = {2}, .data = ids},
    {.name = "small ids", .dtype = PLUMB_I32, .rank = 1, .dim = {1}, .data = small_ids},
    {.name = "quoted \" \\ \n \xc3\xa9", .dtype = PLUMB_U8, .rank = 1, .dim = {3}, .data = quoted},
    {.name = "none", .dtype = PLUMB_F32, .rank = 2, .dim = {2, 0}, .data = NULL},
    {.name = "scalar", .dtype = PLUMB_F32, .rank = 0, .data = &scalar},
};
enum { ENTRIES = sizeof(entry) / sizeof(*entry) };

static void same_entries(const plumb_st *st)
{
    CHECK(plumb_st_count(st) == ENTRIES);
    for (int i = 0; i < ENTRIES; i++) {
        const struct plumb_st_entry *e = plumb_st_find(st, entry[i].name);
        CHECKF(e, "%s", entry[i].name);
        CHECK(e->dtype == entry[i].dtype && e->rank == entry[i].rank && !e->other);
        CHECK(!memcmp(e->dim, entry[i].dim, sizeof(e->dim)));
        int64_t count = 1;
        for (int k = 0; k < e->rank; k++)
            count *= e->dim[k];
        CHECK(e->count == count && e->bytes == count * plumb_dtype_size(e->dtype));
        char data[64];
        CHECK(e->bytes <= (int64_t)sizeof(data));
        CHECK_OK(plumb_st_read(data, e, 0, e->bytes));
        CHECK(e->bytes == 0 || !memcmp(data, entry[i].data, (size_t)e->bytes));
    }
}

static void test_reference_bytes(void)
{
    static const char *const metadata[] = {"format", "pt", NULL};
    const char *source = getenv("PLUMB_SOURCE_ROOT");
    char want_path[4096];
    CHECK_OK(plumb_path_join(want_path, sizeof(want_path), source ? source : ".",
                             "tests/io/data/reference.safetensors"));
    CHECK_OK(plumb_st_write(in_root("ours.safetensors"), entry, ENTRIES, metadata));
    struct plumb_buf want = {0}, got = {0};
    CHECK_OK(plumb_file_read(&want, want_path));
    CHECK_OK(plumb_file_read(&got, in_root("ours.safetensors")));
    CHECKF(want.len == got.len && !memcmp(want.data, got.data, (size_t)got.len), "%s\n%s",
           want.data + 8, got.data + 8);
    plumb_buf_fini(&want);
    plumb_buf_fini(&got);
    plumb_st *st;
    CHECK_OK(plumb_st_open(&st, want_path));
    same_entries(st);
    plumb_st_close(&st);
    CHECK_OK(plumb_st_write(in_root("empty"), NULL, 0, NULL));
    CHECK_OK(plumb_st_open(&st, in_root("empty")));
    CHECK(plumb_st_count(st) == 0 && plumb_st_find(st, "x") == NULL);
    plumb_st_close(&st);
}

static void test_writer_refusals(void)
{
    const char *path = in_root("never");
    struct plumb_st_entry e[2] = {entry[0], entry[2]};
    e[1].name = e[0].name;
    CHECK(plumb_st_write(path, e, 2, NULL) == PLUMB_ERR_ARG);
    says("'model.b' is given twice");
    e[1].name = "__metadata__";
    CHECK(plumb_st_write(path, e, 2, NULL) == PLUMB_ERR_ARG);
    e[0].dim[0] = INT64_MAX;
    CHECK(plumb_st_write(path, e, 1, NULL) == PLUMB_ERR_SHAPE);
    e[0].dim[0] = -1;
    CHECK(plumb_st_write(path, e, 1, NULL) == PLUMB_ERR_SHAPE);
    e[0] = entry[0];
    e[0].other = "I8";
    CHECK(plumb_st_write(path, e, 1, NULL) == PLUMB_ERR_UNSUPPORTED);
    CHECK(!plumb_file_exists(path) && !plumb_file_exists(in_root("never.tmp")));
}

static void overwrite(const char *path, const char *text)
{
    CHECK_OK(plumb_file_write_atomic(path, text, (int64_t)strlen(text)));
}

static void test_shards(void)
{
    plumb_st *st;
    const char *dir = in_root("model");
    CHECK_OK(plumb_dir_create(dir));
    CHECK(plumb_st_open_dir(&st, in_root("absent")) == PLUMB_ERR_IO);
    CHECK(plumb_st_open_dir(&st, dir) == PLUMB_ERR_IO);
    says("model.safetensors.index.json");
    /* The bytes of the tensors in the files, which have at most 24 bytes of data: 24 | 8 6 4 | 8 16
     * | 4 3 0 4. */
    CHECK_OK(plumb_st_write_dir(dir, entry, ENTRIES, 24));
    struct plumb_names names;
    CHECK_OK(plumb_dir_list(&names, dir));
    CHECK(names.n == 5 && !strcmp(names.name[0], "model-00001-of-00004.safetensors"));
    plumb_names_fini(&names);
    CHECK_OK(plumb_st_open_dir(&st, dir));
    same_entries(st);
    const char *file = plumb_st_find(st, "brain")->file;
    CHECK(strstr(file, "model/model-00002-of-00004.safetensors"));
    CHECK(!strcmp(plumb_st_at(st, 0)->name, "model.b"));
    plumb_st_close(&st);
    plumb_json *index;
    const char *index_path = in_root("model/model.safetensors.index.json");
    CHECK_OK(plumb_json_read_file(&index, index_path));
    CHECK(plumb_json_int(plumb_json_get(plumb_json_get(index, "metadata"), "total_size"), 0) == 77);
    CHECK(plumb_json_count(plumb_json_get(index, "weight_map")) == ENTRIES);
    plumb_json_free(&index);

    overwrite(index_path, "{\"weight_map\":{\"ids\":\"model-00001-of-00004.safetensors\"}}");
    CHECK(plumb_st_open_dir(&st, dir) == PLUMB_ERR_FORMAT);
    says("tensor 'ids' is missing");
    overwrite(index_path, "{\"weight_map\":{\"ids\":\"../ours.safetensors\"}}");
    CHECK(plumb_st_open_dir(&st, dir) == PLUMB_ERR_FORMAT);
    says("weight_map 'ids'");
    overwrite(index_path, "{\"weight_map\":{\"ids\":\"gone.safetensors\"}}");
    CHECK(plumb_st_open_dir(&st, dir) == PLUMB_ERR_IO);
    says("gone.safetensors");
    overwrite(index_path, "{\"weight_map\":{}}");
    CHECK(plumb_st_open_dir(&st, dir) == PLUMB_ERR_FORMAT);
    CHECK_OK(plumb_file_copy(in_root("model/model-00001-of-00004.safetensors"),
                             in_root("model/again.safetensors")));
    overwrite(index_path, "{\"weight_map\":{\"model.b\":\"again.safetensors\","
                          "\"x\":\"model-00001-of-00004.safetensors\"}}");
    CHECK(plumb_st_open_dir(&st, dir) == PLUMB_ERR_FORMAT);
    says("'model.b' is in");

    /* The folder now has model.safetensors and an index of several files. model.safetensors is
     * read. */
    CHECK_OK(plumb_st_write_dir(dir, entry, ENTRIES, 77));
    CHECK_OK(plumb_st_open_dir(&st, dir));
    same_entries(st);
    plumb_st_close(&st);
    CHECK(plumb_st_write_dir(dir, entry, ENTRIES, 24) == PLUMB_ERR_EXISTS);
    CHECK(plumb_st_write_dir(dir, entry, ENTRIES, 0) == PLUMB_ERR_ARG);
}

static bool test_conformance(void)
{
    const char *data = getenv("PLUMB_SHARED_DATA");
    char dir[4096], path[4096];
    CHECK_OK(plumb_path_join(dir, sizeof(dir), data ? data : ".", "conformance/safetensors"));
    CHECK_OK(plumb_path_join(path, sizeof(path), dir, "manifest.json"));
    if (!plumb_file_exists(path)) {
        printf("skipped: the conformance files are not at %s\n", dir);
        return false;
    }
    plumb_json *manifest;
    CHECK_OK(plumb_json_read_file(&manifest, path));
    CHECK(plumb_json_count(manifest) == 12);
    float x[1];
    for (int64_t i = 0; i < 12; i++) {
        const plumb_json *c = plumb_json_at(manifest, i);
        const char *name = plumb_json_string(plumb_json_get(c, "file"), "");
        const bool ok = !strncmp(plumb_json_string(plumb_json_get(c, "expect"), ""), "ok", 2);
        CHECK_OK(plumb_path_join(path, sizeof(path), dir, name));
        plumb_st *st = NULL;
        const plumb_status got = plumb_st_open(&st, path);
        CHECKF(got == (ok ? PLUMB_OK : PLUMB_ERR_FORMAT), "%s: status %d", name, (int)got);
        if (!ok) {
            says(name);
            continue;
        }
        const struct plumb_st_entry *last = plumb_st_at(st, plumb_st_count(st) - 1);
        if (!strcmp(name, "ok_zero_sized.safetensors"))
            CHECK(last->rank == 2 && last->dim[0] == 2 && last->dim[1] == 0 && last->count == 0);
        if (!strcmp(name, "ok_scalar.safetensors")) {
            CHECK_OK(plumb_st_to_f32(x, last));
            CHECK(last->rank == 0 && last->count == 1 && x[0] == 1.0f);
        }
        if (!strcmp(name, "ok_unaligned_data.safetensors")) {
            CHECK_OK(plumb_st_to_f32(x, plumb_st_find(st, "b")));
            CHECK(x[0] == 1.0f);
        }
        plumb_st_close(&st);
    }
    plumb_json_free(&manifest);
    return true;
}

int main(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof(root), "%s/plumb_test_st_XXXXXX", base ? base : "/tmp");
    CHECK(mkdtemp(root));
    test_refusals();
    test_order_and_find();
    test_changed_while_open();
    test_conversions();
    test_reference_bytes();
    test_writer_refusals();
    test_shards();
    const bool conformance = test_conformance();
    CHECK_OK(plumb_dir_remove(root));
    return conformance ? 0 : SKIP;
}
