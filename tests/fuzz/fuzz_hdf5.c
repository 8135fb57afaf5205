/* fuzz_hdf5.c - reads valid rollout, trainer state and replay files with changed parts, and any
 * bytes as an HDF5 file. plumb must refuse them, or read them within their bounds.
 * Test. Includes data/, train/, io/, hdf5.
 *
 * HDF5 files have checksums of their metadata, so the HDF5 library refuses most files with changed
 * bytes. Therefore the input is a list of changes that are made by the library itself: another
 * type, number of dimensions, extent, layout or value of an attribute or array, or a link instead
 * of an array. The first byte of the input selects the file, and each change takes 5 bytes. If the
 * first byte is 255, the bytes of a whole file follow. */
#include <hdf5.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/rollout_store.h"
#include "io/file.h"
#include "io/hdf5.h"
#include "train/replay.h"
#include "train/state.h"

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n);

enum { ROLLOUTS, MASTER, STATE, REPLAY, FILES, ROLL = 6, NAMES = 64 };
static char folder[] = "/tmp/plumb_fuzz_h5_XXXXXX";
static struct {
    char path[128];
    struct plumb_buf whole;
    char attr[NAMES][32], set[NAMES][32];
    int attrs, sets;
} file[FILES];

static void must(plumb_status st)
{
    if (st == PLUMB_OK)
        return;
    fprintf(stderr, "%s", plumb_trail());
    abort();
}

/* Writes a file without flushing it to disk, because the fuzzer does this some hundred times per
 * second. */
static void put_file(const char *path, const void *bytes, int64_t n)
{
    FILE *f = fopen(path, "w");
    if (!f || (n > 0 && fwrite(bytes, 1, (size_t)n, f) != (size_t)n) || fclose(f) != 0)
        abort();
}

/* ---- the valid files ---- */

static void write_rollouts(void)
{
    const struct plumb_rollout_meta meta = {1, 2, 1, 1};
    const int32_t ids[5] = {1, 2, 3, 4, 5};
    const float logp[3] = {-1, -2, -3};
    struct plumb_rollout_store *r;
    must(plumb_rollout_store_create(&r, ROLL, 5 * ROLL, 3 * ROLL, 2 * ROLL));
    for (int i = 0; i < ROLL; i++) {
        const struct plumb_rollout_row one = {.global_index = i,
                                              .prompt_id = i / 2,
                                              .sample = i % 2,
                                              .ids = ids,
                                              .n = 5 - i % 2,
                                              .prompt_tokens = 2,
                                              .logprob = logp,
                                              .logprob_sampled = logp,
                                              .record = i % 2 ? NULL : "{}",
                                              .record_len = i % 2 ? 0 : 2};
        must(plumb_rollout_store_add(r, &one));
    }
    must(plumb_rollout_store_write(r, folder, 0, &meta));
    must(plumb_rollout_store_write_master(folder, &meta));
    plumb_rollout_store_destroy(&r);
    snprintf(file[ROLLOUTS].path, sizeof file[0].path, "%s/iteration-0001.rank-0.h5", folder);
    snprintf(file[MASTER].path, sizeof file[0].path, "%s/iteration-0001.h5", folder);
}

static void write_state(void)
{
    struct plumb_train_state s = {.step = 3, .seed = 4, .config = "model: x\n"};
    plumb_h5 *f;
    must(plumb_state_set(&s, "tau", 0.5));
    must(plumb_state_set(&s, "decay_power", 2));
    snprintf(file[STATE].path, sizeof file[0].path, "%s/trainer_state.h5", folder);
    must(plumb_h5_create(&f, file[STATE].path));
    must(plumb_state_write(f, &s));
    must(plumb_h5_commit(&f));
}

static void write_replay(void)
{
    const int32_t ids[4] = {1, 2, 3, 4};
    struct plumb_micro m;
    struct plumb_replay r = {
        .command = "prefer", .method = "dpo", .device = "cpu", .weights = "w", .step = 1};
    snprintf(file[REPLAY].path, sizeof file[0].path, "%s/replay-1-0.h5", folder);
    must(plumb_micro_init(&m, PLUMB_MICRO_LOGP, 32, 4));
    m.objective = plumb_objective_find("dpo");
    m.param = plumb_align_param_default();
    m.reference = true;
    m.scale = 0.5;
    for (int i = 0; i < 4; i++) {
        must(plumb_micro_add(&m, i / 2, i % 2, ids, 2, ids + 2, 2));
        m.logp_ref[i] = -1;
        if (i % 2) {
            m.pair[m.pairs++] = (struct plumb_pair){.win = i, .lose = i - 1, .weight = 1};
            plumb_micro_end_group(&m);
        }
    }
    must(plumb_replay_write(&r, &m, file[REPLAY].path));
    plumb_micro_fini(&m);
}

static herr_t note_set(hid_t id, const char *name, const H5L_info_t *info, void *arg)
{
    const int k = *(int *)arg;
    (void)id, (void)info;
    if (file[k].sets < NAMES)
        snprintf(file[k].set[file[k].sets++], 32, "%s", name);
    return 0;
}

static herr_t note_attr(hid_t id, const char *name, const H5A_info_t *info, void *arg)
{
    const int k = *(int *)arg;
    (void)id, (void)info;
    if (file[k].attrs < NAMES)
        snprintf(file[k].attr[file[k].attrs++], 32, "%s", name);
    return 0;
}

static void remove_folder(void)
{
    for (int k = 0; k < FILES; k++)
        plumb_buf_fini(&file[k].whole);
    must(plumb_dir_remove(folder));
}

static void begin(void)
{
    if (file[0].whole.len > 0)
        return;
    if (!mkdtemp(folder) || H5Eset_auto2(H5E_DEFAULT, NULL, NULL) < 0)
        abort();
    write_rollouts();
    write_state();
    write_replay();
    for (int k = 0; k < FILES; k++) {
        must(plumb_file_read(&file[k].whole, file[k].path));
        const hid_t f = H5Fopen(file[k].path, H5F_ACC_RDONLY, H5P_DEFAULT);
        H5Literate(f, H5_INDEX_NAME, H5_ITER_INC, NULL, note_set, &k);
        H5Aiterate2(f, H5_INDEX_NAME, H5_ITER_INC, NULL, note_attr, &k);
        H5Fclose(f);
        if (file[k].sets == 0 || file[k].attrs == 0)
            abort();
    }
    atexit(remove_folder);
}

/* ---- changes ---- */

static const long long numbers[] = {0,         1,         2,   3,         4,         5,
                                    6,         -1,        -2,  7,         1 << 20,   INT32_MAX,
                                    INT32_MIN, 255,       127, INT64_MAX, INT64_MIN, INT64_MAX / 8,
                                    1ll << 61, 1ll << 32, 24,  17};
static long long number(unsigned char b)
{
    return numbers[b % (sizeof numbers / sizeof numbers[0])];
}

static hid_t type_of(unsigned char b)
{
    hid_t t;
    switch (b % 12) {
    case 0:
        return H5Tcopy(H5T_STD_I64LE);
    case 1:
        return H5Tcopy(H5T_STD_U64LE);
    case 2:
        return H5Tcopy(H5T_IEEE_F64LE);
    case 3:
        return H5Tcopy(H5T_STD_I32BE);
    case 4:
        return H5Tcopy(H5T_STD_I8LE);
    case 5:
        return H5Tcopy(H5T_IEEE_F32LE);
    case 6:
        t = H5Tcopy(H5T_C_S1);
        H5Tset_size(t, 200);
        return t;
    case 7:
        t = H5Tcopy(H5T_C_S1);
        H5Tset_size(t, H5T_VARIABLE);
        return t;
    case 8:
        t = H5Tcreate(H5T_COMPOUND, 16);
        H5Tinsert(t, "a", 0, H5T_STD_I64LE);
        return t;
    case 9:
        return H5Tvlen_create(H5T_STD_I64LE);
    case 10:
        return H5Tarray_create2(H5T_STD_I64LE, 1, (const hsize_t[]){3});
    default:
        return H5Tcopy(H5T_STD_REF_OBJ);
    }
}

static hid_t space_of(unsigned char b, unsigned char size, long long most)
{
    const long long n = number(size);
    const hsize_t dim[2] = {(hsize_t)(n < 0 || n > most ? most : n), 2};
    switch (b % 4) {
    case 0:
        return H5Screate(H5S_SCALAR);
    case 1:
        return H5Screate(H5S_NULL);
    default:
        return H5Screate_simple(b % 4 - 1, dim, NULL);
    }
}

static void new_attr(hid_t f, const char *name, const unsigned char *b)
{
    H5Adelete(f, name);
    /* at most 100 values, because the HDF5 library crashes later if an attribute is too large */
    hid_t type = type_of(b[2]), space = space_of(b[3], b[4], 100);
    hid_t attr = H5Acreate2(f, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attr >= 0)
        H5Aclose(attr);
    H5Sclose(space);
    H5Tclose(type);
}

/* Changes the value of an attribute, but not its type and extent. */
static void poke_attr(hid_t f, const char *name, const unsigned char *b)
{
    const int64_t v = number(b[2]);
    hid_t attr = H5Aopen(f, name, H5P_DEFAULT);
    hid_t space = attr < 0 ? -1 : H5Aget_space(attr);
    if (space >= 0 && H5Sget_simple_extent_npoints(space) == 1)
        H5Awrite(attr, H5T_NATIVE_INT64, &v); /* fails if the attribute is a string */
    if (space >= 0)
        H5Sclose(space);
    if (attr >= 0)
        H5Aclose(attr);
}

static void new_set(hid_t f, const char *name, const unsigned char *b)
{
    H5Ldelete(f, name, H5P_DEFAULT);
    hid_t type = type_of(b[2]), space = space_of(b[3], b[4], INT64_MAX);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t chunk[2] = {4, 2};
    switch (b[3] / 4 % 6) {
    case 0:
        H5Pset_chunk(create, H5Sget_simple_extent_ndims(space) == 2 ? 2 : 1, chunk);
        if (b[2] & 64)
            H5Pset_shuffle(create);
        break;
    case 1:
        if (H5Sget_simple_extent_npoints(space) < 100)
            H5Pset_layout(create, H5D_COMPACT);
        break;
    case 2:
        H5Pset_virtual(create, space, b[2] & 64 ? "." : "iteration-0001.rank-0.h5", name, space);
        break;
    case 3:
        H5Pset_external(create, "outside", 0, H5F_UNLIMITED);
        break;
    case 4:
        if (H5Sget_simple_extent_npoints(space) < 1000)
            H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY);
        break;
    default:
        break;
    }
    hid_t set = H5Dcreate2(f, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    if (set >= 0)
        H5Dclose(set);
    H5Pclose(create);
    H5Sclose(space);
    H5Tclose(type);
}

/* Changes one value of an array, but not its type and extent. */
static void poke_set(hid_t f, const char *name, const unsigned char *b)
{
    const int64_t v = number(b[3]);
    hid_t set = H5Dopen2(f, name, H5P_DEFAULT);
    hid_t space = set < 0 ? -1 : H5Dget_space(set);
    hsize_t n = 0;
    if (space >= 0 && H5Sget_simple_extent_ndims(space) == 1) {
        H5Sget_simple_extent_dims(space, &n, NULL);
        const hsize_t one = 1, at = n ? b[2] % n : 0;
        hid_t here = H5Screate_simple(1, &one, NULL);
        if (n && n < 1000 && H5Sselect_hyperslab(space, H5S_SELECT_SET, &at, NULL, &one, NULL) >= 0)
            H5Dwrite(set, H5T_NATIVE_INT64, here, space, H5P_DEFAULT, &v);
        H5Sclose(here);
    }
    if (space >= 0)
        H5Sclose(space);
    if (set >= 0)
        H5Dclose(set);
}

static void change(hid_t f, int k, const unsigned char *b)
{
    const char *attr = file[k].attr[b[1] % file[k].attrs];
    const char *set = file[k].set[b[1] % file[k].sets];
    const char *other = file[k].set[b[2] % file[k].sets];
    switch (b[0] % 8) {
    case 0:
    case 1:
        poke_set(f, set, b);
        break;
    case 2:
        poke_attr(f, attr, b);
        break;
    case 3:
        new_attr(f, attr, b);
        break;
    case 4:
        new_set(f, set, b);
        break;
    case 5:
        H5Ldelete(f, set, H5P_DEFAULT);
        if (b[3] % 3 == 0)
            H5Lcreate_soft(other, f, set, H5P_DEFAULT, H5P_DEFAULT);
        else if (b[3] % 3 == 1)
            H5Lcreate_hard(f, other, f, set, H5P_DEFAULT, H5P_DEFAULT);
        else
            H5Lcreate_external("iteration-0001.rank-0.h5", set, f, set, H5P_DEFAULT, H5P_DEFAULT);
        break;
    case 6:
        H5Adelete(f, attr);
        break;
    default:
        H5Ldelete(f, set, H5P_DEFAULT);
        if (b[3] % 2)
            H5Gclose(H5Gcreate2(f, set, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        break;
    }
    H5Eclear2(H5E_DEFAULT);
}

/* ---- reading ---- */

/* If the rollout file is accepted, reads all its values. */
static void use_rollouts(const char *path)
{
    struct plumb_rollout_store *r = NULL;
    double sum = 0;
    if (plumb_rollout_store_read(&r, path) == PLUMB_OK)
        for (int64_t i = 0; i < r->n; i++) {
            for (int64_t t = r->offsets[i]; t < r->offsets[i + 1]; t++)
                sum += r->tokens[t];
            for (int64_t t = r->logprob_offsets[i]; t < r->logprob_offsets[i + 1]; t++)
                sum += (double)r->logprob[t] + (double)r->logprob_sampled[t];
            int64_t len = 0;
            const char *record = plumb_rollout_store_record(r, i, &len);
            for (int64_t t = 0; t < len; t++)
                sum += record[t];
            if (r->completion_start[i] < r->offsets[i] ||
                r->completion_start[i] > r->offsets[i + 1])
                abort();
        }
    if (sum == 0.12345)
        abort(); /* never true; keeps the compiler from removing the reads */
    plumb_rollout_store_destroy(&r);
}

static void use_state(const char *path)
{
    struct plumb_train_state s;
    struct plumb_buf text = {0};
    plumb_h5 *f = NULL;
    if (plumb_h5_open(&f, path) == PLUMB_OK) {
        if (plumb_state_read(&s, f) == PLUMB_OK &&
            (s.n_values < 0 || s.n_values > PLUMB_STATE_VALUES))
            abort();
        (void)!plumb_state_read_config(&text, f);
    }
    plumb_buf_fini(&text);
    plumb_h5_close(&f);
}

static void use_replay(const char *path)
{
    struct plumb_replay r;
    struct plumb_micro m;
    if (plumb_replay_read(&r, &m, path) != PLUMB_OK)
        return;
    for (int64_t i = 0; i < m.pack.n_seq; i++)
        m.logp[i] = m.score[i] = 0;
    if (m.kind != PLUMB_MICRO_TOKENS)
        (void)!plumb_micro_loss(&m);
    plumb_replay_fini(&r);
    plumb_micro_fini(&m);
}

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n)
{
    begin();
    if (n == 0)
        return 0;
    const int k = bytes[0] % FILES;
    const char *path = file[k].path;
    if (bytes[0] == 255) {
        put_file(path, bytes + 1, (int64_t)n - 1);
    } else {
        put_file(path, file[k].whole.data, file[k].whole.len);
        const hid_t f = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        for (size_t at = 1; at + 5 <= n && at < 60; at += 5)
            change(f, k, bytes + at);
        if (H5Fclose(f) < 0)
            return 0;
    }
    use_rollouts(path);
    use_state(path);
    use_replay(path);
    if (k == MASTER) /* no other input reads the master file, so it need not be restored */
        return 0;
    put_file(path, file[k].whole.data, file[k].whole.len);
    return 0;
}
