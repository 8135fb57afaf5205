/* test_op.c - checks that an operation refuses a wrong tensor before its kernel runs: the message
 * names the tensor, and nothing is written. Test. */
#include "harness.h"

#include <string.h>

#include "op/op.h"

#define F32(name, ...) plumb_view_f32(name, store, b->place, __VA_ARGS__)

/* Checks that st is PLUMB_ERR_SHAPE and that its message contains both texts. */
static void refused(plumb_status st, const char *name, const char *detail, int line)
{
    CHECKF(st == PLUMB_ERR_SHAPE, "line %d: status %d", line, (int)st);
    CHECKF(strstr(plumb_trail_message(), name), "line %d: no '%s' in: %s", line, name,
           plumb_trail_message());
    CHECKF(strstr(plumb_trail_message(), detail), "line %d: no '%s' in: %s", line, detail,
           plumb_trail_message());
}
#define REFUSED(e, name, detail) refused((e), name, detail, __LINE__)
/* For wrong values in an array of indices, which are checked only in host memory. */
#define REFUSED_ON_HOST(e, name, detail)                                                           \
    do {                                                                                           \
        if (b->place == PLUMB_HOST)                                                                \
            REFUSED(e, name, detail);                                                              \
    } while (0)

/* Checks a call with valid tensors: y (3,8) becomes rows 0, 3 and 1 of a (4,8). */
static void test_good(struct plumb_backend *b, float *store)
{
    static const int32_t row[3] = {0, 3, 1};
    void *ids = NULL, *y = NULL;
    float out[24];
    CHECK_OK(b->alloc(b, &ids, sizeof(row), "ids"));
    CHECK_OK(b->alloc(b, &y, sizeof(out), "y"));
    CHECK_OK(b->to_device(b, ids, row, sizeof(row)));
    const struct plumb_tensor x = F32("table", 4, 8);
    const struct plumb_tensor index = plumb_view_i32("ids", ids, b->place, 3);
    const struct plumb_tensor picked = plumb_view_f32("picked", y, b->place, 3, 8);
    CHECK_OK(plumb_op_gather_fwd(b, &picked, &x, &index));
    CHECK_OK(b->to_host(b, out, y, sizeof(out)));
    for (int i = 0; i < 24; i++)
        CHECK(out[i] == (float)(row[i / 8] * 8 + i % 8));
    b->release(b, ids);
    b->release(b, y);
}

static void test_rows(struct plumb_backend *b, float *store)
{
    int32_t bad[3] = {0, 4, 1}, good[3] = {0, 3, 1};
    const struct plumb_tensor x = F32("table", 4, 8), y = F32("picked", 3, 8);
    const struct plumb_tensor narrow = F32("narrow", 3, 7), flat = F32("flat", 24);
    const struct plumb_tensor index = plumb_view_i32("ids", good, b->place, 3);
    const struct plumb_tensor past = plumb_view_i32("ids", bad, b->place, 3);
    const enum plumb_place elsewhere = b->place == PLUMB_HOST ? PLUMB_DEVICE : PLUMB_HOST;
    const struct plumb_tensor far = plumb_view_f32("far", store, elsewhere, 3, 8);
    REFUSED(plumb_op_gather_fwd(b, &narrow, &x, &index), "'narrow'", "(3,7)");
    REFUSED(plumb_op_gather_fwd(b, &narrow, &x, &index), "gather_fwd", "(3,8)");
    REFUSED(plumb_op_gather_fwd(b, &flat, &x, &index), "'flat'", "(24)");
    REFUSED(plumb_op_gather_fwd(b, &far, &x, &index), "'far'", "device");
    REFUSED_ON_HOST(plumb_op_gather_fwd(b, &y, &x, &past), "'ids'", "holds 4 at index 1");
    REFUSED(plumb_op_gather_fwd(b, &y, &x, &y), "'picked'", "dimensions");
    REFUSED(
        plumb_op_gather_fwd(
            b, &y, &x,
            &(struct plumb_tensor){.dtype = PLUMB_F32, .rank = 1, .dim = {3}, .name = "float ids"}),
        "'float ids'", "int32");
    REFUSED(plumb_op_gather_fwd(b, NULL, &x, &index), "argument y is NULL", "gather_fwd");
    REFUSED(plumb_op_gather_bwd(b, &x, &narrow, &index), "'narrow'", "(3,8)");
    const struct plumb_tensor planes = F32("planes", 2, 2, 4);
    const struct plumb_tensor pair = plumb_view_i32("pairs", bad, b->place, 1, 2);
    const struct plumb_tensor one = plumb_view_i32("pair", good, b->place, 0, 2);
    REFUSED(plumb_op_move_rows(b, &planes, &index, 8), "'ids'", "dimensions");
    REFUSED(plumb_op_move_rows(b, &planes, &one, 7), "8 elements", "7 elements");
    REFUSED_ON_HOST(plumb_op_move_rows(b, &planes, &pair, 8), "'pairs'", "holds 4 at index 1");
    int64_t cut[3] = {0, 5, 4};
    const struct plumb_tensor offset = plumb_view_i64("cuts", cut, b->place, 3);
    const struct plumb_tensor mean = F32("mean", 2, 8);
    REFUSED_ON_HOST(plumb_op_segment_mean_fwd(b, &mean, &x, &offset), "'cuts'", "holds 5");
    REFUSED(plumb_op_add_fwd(b, &y, &y, &x), "'table'", "(4,8)");
    REFUSED(plumb_op_accumulate(b, &y, &flat), "'flat'", "(3,8)");
    REFUSED(plumb_op_act_fwd(b, &y, &y, &narrow, PLUMB_ACT_GELU), "'narrow'", "up");
    REFUSED(plumb_op_act_bwd(b, &y, &y, &x, &y, &y, PLUMB_ACT_SILU), "'table'", "dy");
    CHECK(plumb_op_act_bwd(b, &y, NULL, &y, &y, &y, PLUMB_ACT_SILU) == PLUMB_ERR_ARG);
    REFUSED(plumb_op_scale_fwd(b, &y, &x, 2), "'table'", "(3,8)");
}

static void test_norm_and_rope(struct plumb_backend *b, float *store)
{
    int32_t at[3] = {0, 1, 9};
    const struct plumb_tensor x = F32("x", 3, 2, 4), w = F32("gain", 4), wide = F32("gain", 5);
    const struct plumb_tensor rstd = F32("rstd", 6), rows = F32("rstd", 3);
    const struct plumb_tensor table = F32("cos_sin", 8, 4),
                              pos = plumb_view_i32("pos", at, b->place, 3);
    const struct plumb_tensor odd = F32("odd", 3, 2, 3), uneven = F32("uneven", 8, 3);
    REFUSED(plumb_op_rmsnorm_fwd(b, &x, &rstd, &x, &wide, 1e-5f, 0), "'gain'", "(4)");
    REFUSED(plumb_op_rmsnorm_fwd(b, &x, &rows, &x, &w, 1e-5f, 0), "'rstd'", "6 elements");
    REFUSED(plumb_op_rmsnorm_bwd(b, &x, &wide, &x, &x, &w, &rstd, 0), "'gain'", "dw");
    REFUSED(plumb_op_layernorm_fwd(b, &x, &rstd, &rstd, &x, &w, &wide, 1e-5f), "'gain'", "bias");
    REFUSED(plumb_op_layernorm_fwd(b, &x, &rows, &rstd, &x, &w, &w, 1e-5f), "mean", "6 elements");
    REFUSED(plumb_op_layernorm_bwd(b, &x, &w, &wide, &x, &x, &w, &rstd, &rstd), "'gain'", "dbias");
    REFUSED(plumb_op_layernorm_bwd(b, &x, &w, &w, &x, &x, &w, &rstd, &rows), "rstd", "6 elements");
    REFUSED_ON_HOST(plumb_op_rope_fwd(b, &x, &table, &pos), "'pos'", "holds 9 at index 2");
    REFUSED(plumb_op_rope_bwd(b, &odd, &table, &pos), "'odd'", "head size 3");
    REFUSED(plumb_op_rope_fwd(b, &x, &uneven, &pos), "'uneven'", "even number of columns");
    REFUSED(plumb_op_rope_fwd(b, &x, &w, &pos), "'gain'", "dimensions");
}

static void test_linear(struct plumb_backend *b, float *store)
{
    const struct plumb_tensor x = F32("x", 3, 2, 4), y = F32("y", 3, 5), w = F32("w", 5, 8);
    const struct plumb_tensor packed = F32("packed", b->k.linear_packed_count(5, 8));
    const struct plumb_tensor small = F32("small", 1), rows = F32("rows", 2, 5);
    const int64_t need = b->k.linear_work_count(3, 5, 8, b->threads);
    CHECK_OK(plumb_op_linear_pack(b, &packed, &w));
    REFUSED(plumb_op_linear_pack(b, &small, &w), "'small'", "linear_pack");
    REFUSED(plumb_op_linear_fwd(b, &y, &x, &small, NULL), "'small'", "packed");
    REFUSED(plumb_op_linear_fwd(b, &rows, &x, &packed, NULL), "'rows'", "3 rows");
    REFUSED(plumb_op_linear_fwd(b, &y, &x, &packed, &small), "'small'", "bias");
    REFUSED(plumb_op_linear_bwd_x(b, &y, &y, &w, &packed, false), "'y'", "3 rows of 8");
    REFUSED(plumb_op_linear_bwd_w(b, &w, &small, &y, &x, &packed), "'small'", "dbias");
    if (need > 1)
        REFUSED(plumb_op_linear_bwd_x(b, &x, &y, &w, &small, false), "'small'", "at least");
}

static void test_attention(struct plumb_backend *b, float *store)
{
    int32_t seq[2] = {0, 0}, pos[2] = {31, 32}, page[2] = {0, 3};
    const struct plumb_rows rows = {2, 1, 2, seq, pos, page, 1};
    const struct plumb_attn_shape shape = {4, 2, 8, 1.0f, 0, 0}, uneven = {3, 2, 8, 1.0f, 0, 0};
    const struct plumb_tensor q = F32("q", 2, 4, 8), k = F32("k", 2, 2, 8), lse = F32("lse", 2, 4);
    const struct plumb_tensor kc = F32("keys", 2, 2, 8, PLUMB_KV_PAGE);
    const struct plumb_tensor vc = F32("values", 2, 2, PLUMB_KV_PAGE, 8);
    const struct plumb_tensor short_lse = F32("short", 2, 3);
    REFUSED_ON_HOST(plumb_op_kv_write_fwd(b, &kc, &vc, &k, &k, &rows), "'keys'", "page 3");
    REFUSED_ON_HOST(plumb_op_attention_fwd(b, &q, &lse, &q, &kc, &vc, &rows, &shape), "row 1",
                    "expected 0 to 1");
    page[1] = 1;
    REFUSED(plumb_op_attention_fwd(b, &q, &lse, &q, &vc, &kc, &rows, &shape), "'values'", "kc");
    REFUSED(plumb_op_attention_fwd(b, &q, &short_lse, &q, &kc, &vc, &rows, &shape), "'short'",
            "lse");
    REFUSED(plumb_op_attention_fwd(b, &q, &lse, &q, &kc, &vc, &rows, &uneven), "3 query heads",
            "multiple");
    REFUSED(plumb_op_attention_bwd(b, &q, &k, &q, &q, &q, &lse, &q, &kc, &vc, &lse, &rows, &shape),
            "dv 'q'", "(2,2,8)");
    pos[1] = 64;
    REFUSED_ON_HOST(plumb_op_kv_write_fwd(b, &kc, &vc, &k, &k, &rows), "position 64",
                    "position 0 to 63");
    pos[1] = 32, seq[1] = 1;
    REFUSED_ON_HOST(plumb_op_kv_write_fwd(b, &kc, &vc, &k, &k, &rows), "sequence 1",
                    "sequence 0 to 0");
}

static void test_vocab_and_optim(struct plumb_backend *b, float *store)
{
    int32_t id[2] = {0, 9};
    double u[2] = {0.5, 0.5};
    const struct plumb_tensor z = F32("logits", 2, 9), row = F32("row", 2), w = F32("w", 6);
    const struct plumb_tensor target = plumb_view_i32("target", id, b->place, 2);
    const struct plumb_tensor draw = plumb_view_f64("u", u, b->place, 2);
    const struct plumb_tensor sums = plumb_view_f64("sums", u, b->place, 2);
    const struct plumb_tensor work = F32("work", b->k.sample_work_count(2, 9, b->threads));
    const struct plumb_sample_param p = {1.0f, 0, 1.0f, 0.0f}, bad = {1.0f, 0, 0.0f, 0.0f};
    const struct plumb_adamw step = {.correction1 = 0.0f, .correction2 = 1.0f};
    REFUSED_ON_HOST(plumb_op_logprob_fwd(b, &row, &row, &z, &target), "'target'",
                    "holds 9 at index 1");
    REFUSED(plumb_op_entropy_fwd(b, &row, &w, &z, &row), "'w'", "mean");
    REFUSED(plumb_op_logprob_bwd(b, &z, &z, &w, &target, &row, 0), "'w'", "lse");
    if (b->k.sample_work_count(2, 9, b->threads) > 2)
        REFUSED(plumb_op_sample_fwd(b, &target, &row, &row, &z, &draw, &p, &row), "'row'",
                "at least");
    REFUSED(plumb_op_sample_fwd(b, &target, &row, &row, &z, &row, &p, &work), "'row'", "float64");
    CHECK(plumb_op_sample_fwd(b, &target, &row, &row, &z, &draw, &bad, &work) == PLUMB_ERR_ARG);
    REFUSED(plumb_op_penalty_fwd(b, &z, &z, &target, 1.2), "'target'", "seen");
    REFUSED(plumb_op_sumsq(b, &sums, &w, 2), "'sums'", "(3)");
    CHECK(plumb_op_sumsq(b, &sums, &w, 0) == PLUMB_ERR_ARG);
    REFUSED(plumb_op_adamw(b, &w, &row, &w, &w, &step), "'row'", "m");
    CHECK(plumb_op_adamw(b, &w, &w, &w, &w, &step) == PLUMB_ERR_ARG);
}

/* tests/cuda_emu builds this file a second time, for the CUDA backend. */
#ifdef PLUMB_TEST_CUDA
#include "cuda_emu/gpu.h"
static plumb_status create(struct plumb_backend **b)
{
    skip_without_gpu();
    return plumb_backend_cuda_create(b, 0);
}
#else
static plumb_status create(struct plumb_backend **b)
{
    return plumb_backend_cpu_create(b, 1, 1);
}
#endif

int main(void)
{
    enum { STORE = 4096 };
    struct plumb_backend *b = NULL;
    float number[STORE];
    void *block = NULL;
    for (int i = 0; i < STORE; i++)
        number[i] = (float)i;
    CHECK_OK(create(&b));
    CHECK(b->k.linear_packed_count(5, 8) <= STORE);
    CHECK_OK(b->alloc(b, &block, sizeof(number), "test"));
    CHECK_OK(b->to_device(b, block, number, sizeof(number)));
    float *store = block;
    test_good(b, store);
    test_rows(b, store);
    test_norm_and_rope(b, store);
    test_attention(b, store);
    test_vocab_and_optim(b, store);
    test_linear(b, store);
    const struct plumb_tensor cube = F32("cube", 2, 3, 4), flat = plumb_view_flat(&cube);
    CHECK(flat.rank == 1 && flat.dim[0] == 24 && flat.data == store);
    const struct plumb_tensor last = plumb_view_rows(&cube, 1, 1);
    CHECK(last.rank == 3 && last.dim[0] == 1 && last.dim[2] == 4 && last.data == store + 12);
    const struct plumb_tensor half = plumb_view("half", PLUMB_BF16, store, b->place, 2, cube.dim);
    CHECK(plumb_view_rows(&half, 1, 1).data == (char *)store + 6);
    REFUSED(plumb_op_add_fwd(b, &half, &half, &half), "bfloat16 (2,3)", "expected float32 (2,3)");
    if (b->place == PLUMB_HOST)
        CHECK_FAILS(plumb_op_narrow_fwd(b, &half, &cube), PLUMB_ERR_UNSUPPORTED, "narrow_fwd: cpu");
    b->release(b, block);
    plumb_backend_destroy(&b);
    CHECK(b == NULL);
    return 0;
}
