/* test_gemm.c - compares the linear kernels with ref (the reference implementation, kernels/ref).
 * Checks that the bits do not depend on how the rows are divided into calls, on the number of
 * threads, or on the instruction set. Test. */
#include "harness.h"

#include <float.h>
#include <string.h>

#include "base/pool.h"
#include "kernels.h"

enum { GUARD = 64 };
#define CANARY 12345.75f

/* An array v (n,) between two guard areas that are filled with CANARY. */
struct guarded {
    float *all, *v;
    int64_t n;
};

static struct guarded guarded_new(int64_t n)
{
    struct guarded g = {.n = n};
    g.all = malloc((size_t)(n + 2 * GUARD) * sizeof(float));
    CHECK(g.all);
    g.v = g.all + GUARD;
    for (int64_t i = 0; i < n + 2 * GUARD; i++)
        g.all[i] = i < GUARD || i >= n + GUARD ? CANARY : NAN;
    return g;
}
static void guarded_free(struct guarded *g, const char *what)
{
    for (int i = 0; i < GUARD; i++) {
        CHECKF(g->all[i] == CANARY, "%s: written %d before its start", what, GUARD - i);
        CHECKF(g->v[g->n + i] == CANARY, "%s: written %d past its end", what, i);
    }
    free(g->all);
}
static struct guarded guarded_copy(const struct guarded *from)
{
    struct guarded g = guarded_new(from->n);
    memcpy(g.v, from->v, (size_t)g.n * sizeof(float));
    return g;
}
static bool equal(const struct guarded *a, const struct guarded *b)
{
    return memcmp(a->v, b->v, (size_t)a->n * sizeof(float)) == 0;
}

enum kind { ONES, TINY, HUGE_, SPIKE, RANDOM, KINDS };
static const char *const kind_name[] = {"ones", "tiny", "huge", "spike", "random"};

static void fill(struct guarded *g, enum kind kind, uint64_t seed)
{
    struct rng r = {seed * 2654435761u + 1};
    for (int64_t i = 0; i < g->n; i++) {
        const float x = rng_f(&r, -1.0f, 1.0f);
        g->v[i] = kind == ONES ? 1.0f : kind == TINY ? 1e-18f * x : kind == HUGE_ ? 1e15f * x : x;
    }
    if (kind == SPIKE)
        g->v[(int64_t)(rng_u(&r) * (double)g->n)] = 1e6f;
}

struct problem {
    int64_t n, out, in;
    enum kind kind;
    /* dx0, dw0, dbias0: the values to which the kernels add gradients */
    struct guarded x, w, bias, dy, dx0, dw0, dbias0;
};

static struct problem problem_new(int64_t n, int64_t out, int64_t in, enum kind kind)
{
    struct problem p = {.n = n, .out = out, .in = in, .kind = kind};
    struct guarded *const array[] = {&p.x, &p.w, &p.bias, &p.dy, &p.dx0, &p.dw0, &p.dbias0};
    const int64_t count[] = {n * in, out * in, out, n * out, n * in, out * in, out};
    for (int i = 0; i < 7; i++) {
        *array[i] = guarded_new(count[i]);
        fill(array[i], kind, (uint64_t)(i + 1));
    }
    return p;
}
static void problem_free(struct problem *p)
{
    struct guarded *const array[] = {&p->x, &p->w, &p->bias, &p->dy, &p->dx0, &p->dw0, &p->dbias0};
    for (int i = 0; i < 7; i++)
        guarded_free(array[i], "an input");
}

/* The results of a kernel table for one problem. */
struct answer {
    struct guarded y, y_plain, dx, dx_more, dw, dbias;
};

static void answer_free(struct answer *a)
{
    struct guarded *const array[] = {&a->y, &a->y_plain, &a->dx, &a->dx_more, &a->dw, &a->dbias};
    static const char *const name[] = {"y", "y without bias", "dx", "dx +=", "dw", "dbias"};
    for (int i = 0; i < 6; i++)
        guarded_free(array[i], name[i]);
}

static struct guarded packed_of(const struct plumb_kernels *k, plumb_stream *s,
                                const struct problem *p)
{
    struct guarded packed = guarded_new(k->linear_packed_count(p->out, p->in));
    CHECK_OK(k->linear_pack(s, packed.v, p->w.v, p->out, p->in));
    return packed;
}

static struct answer solve(const struct plumb_kernels *k, plumb_pool *pool, const struct problem *p)
{
    plumb_stream *s = (plumb_stream *)pool;
    const int64_t n = p->n, out = p->out, in = p->in;
    struct problem before = *p;
    struct guarded *const inputs[] = {&before.x, &before.w, &before.bias, &before.dy};
    const struct guarded *const now[] = {&p->x, &p->w, &p->bias, &p->dy};
    for (int i = 0; i < 4; i++)
        *inputs[i] = guarded_copy(now[i]);
    struct guarded packed = packed_of(k, s, p), packed_before = guarded_copy(&packed);
    struct guarded work = guarded_new(k->linear_work_count(n, out, in, plumb_pool_threads(pool)));
    struct answer a = {.y = guarded_new(n * out),
                       .y_plain = guarded_new(n * out),
                       .dx = guarded_new(n * in),
                       .dx_more = guarded_copy(&p->dx0),
                       .dw = guarded_copy(&p->dw0),
                       .dbias = guarded_copy(&p->dbias0)};
    CHECK_OK(k->linear_fwd(s, a.y.v, p->x.v, packed.v, p->bias.v, n, out, in));
    CHECK_OK(k->linear_fwd(s, a.y_plain.v, p->x.v, packed.v, NULL, n, out, in));
    CHECK_OK(k->linear_bwd_x(s, a.dx.v, p->dy.v, p->w.v, work.v, n, out, in, 0));
    CHECK_OK(k->linear_bwd_x(s, a.dx_more.v, p->dy.v, p->w.v, work.v, n, out, in, 1));
    CHECK_OK(k->linear_bwd_w(s, a.dw.v, a.dbias.v, p->dy.v, p->x.v, work.v, n, out, in));
    for (int i = 0; i < 4; i++) {
        CHECKF(equal(now[i], inputs[i]), "input %d was changed", i);
        guarded_free(inputs[i], "a copy");
    }
    CHECK(equal(&packed, &packed_before));
    guarded_free(&packed, "packed"), guarded_free(&packed_before, "a copy");
    guarded_free(&work, "work");
    return a;
}

static void check_equal(const struct answer *a, const struct answer *b, const char *what,
                        const struct problem *p)
{
    const struct guarded *const left[] = {&a->y,       &a->y_plain, &a->dx,
                                          &a->dx_more, &a->dw,      &a->dbias};
    const struct guarded *const right[] = {&b->y,       &b->y_plain, &b->dx,
                                           &b->dx_more, &b->dw,      &b->dbias};
    for (int i = 0; i < 6; i++)
        CHECKF(equal(left[i], right[i]), "%s: output %d differs, %lld x %lld x %lld %s", what, i,
               (long long)p->n, (long long)p->out, (long long)p->in, kind_name[p->kind]);
}

/* Checks that |got - want| <= terms * 2^-24 * size, where size is the sum of the magnitudes of the
 * terms. This is the bound of one chain of fused multiply-adds (Higham 2002, eq. 3.5). A small
 * addition allows that products underflow. */
static void check_near(const float *got, const float *want, const double *size, int64_t n,
                       int64_t terms, const char *what, const struct problem *p)
{
    for (int64_t i = 0; i < n; i++) {
        const double bound = (double)(terms + 2) * (0x1p-24 * size[i] + 0x1p-149);
        CHECKF(fabs((double)got[i] - (double)want[i]) <= bound,
               "%s[%lld] = %g, not %g (bound %g), %lld x %lld x %lld %s", what, (long long)i,
               (double)got[i], (double)want[i], bound, (long long)p->n, (long long)p->out,
               (long long)p->in, kind_name[p->kind]);
    }
}

/* Compares the results with those of ref. The error bound of an element is proportional to the
 * sum of the magnitudes of its terms, which is the result of ref for the absolute values of the
 * inputs. */
static void check_against_ref(const struct answer *a, const struct problem *p)
{
    struct plumb_kernels ref;
    plumb_kernels_init_ref(&ref);
    struct answer want = solve(&ref, NULL, p);
    struct problem m = problem_new(p->n, p->out, p->in, p->kind);
    struct guarded *const array[] = {&m.x, &m.w, &m.bias, &m.dy, &m.dx0, &m.dw0, &m.dbias0};
    for (int i = 0; i < 7; i++)
        for (int64_t j = 0; j < array[i]->n; j++)
            array[i]->v[j] = fabsf(array[i]->v[j]);
    struct answer size = solve(&ref, NULL, &m);
    const struct guarded *const got[] = {&a->y,       &a->y_plain, &a->dx,
                                         &a->dx_more, &a->dw,      &a->dbias};
    const struct guarded *const right[] = {&want.y,       &want.y_plain, &want.dx,
                                           &want.dx_more, &want.dw,      &want.dbias};
    const struct guarded *const big[] = {&size.y,       &size.y_plain, &size.dx,
                                         &size.dx_more, &size.dw,      &size.dbias};
    const int64_t terms[] = {p->in, p->in, p->out, p->out, p->n, p->n};
    static const char *const name[] = {"y", "y_plain", "dx", "dx_more", "dw", "dbias"};
    for (int i = 0; i < 6; i++) {
        double *bound = malloc((size_t)got[i]->n * sizeof(*bound));
        CHECK(bound);
        for (int64_t j = 0; j < got[i]->n; j++)
            bound[j] = (double)big[i]->v[j];
        check_near(got[i]->v, right[i]->v, bound, got[i]->n, terms[i], name[i], p);
        free(bound);
    }
    answer_free(&want), answer_free(&size);
    problem_free(&m);
}

/* Checks that y has the same bits if the rows are computed 1, 3, 7 ... at a time. */
static void check_rows(const struct plumb_kernels *k, const struct answer *a,
                       const struct problem *p)
{
    struct guarded packed = packed_of(k, NULL, p);
    for (int64_t rows = 1; rows <= p->n; rows = rows * 2 + 1) {
        struct guarded y = guarded_new(p->n * p->out);
        for (int64_t i = 0; i < p->n; i += rows) {
            const int64_t n = p->n - i < rows ? p->n - i : rows;
            CHECK_OK(k->linear_fwd(NULL, y.v + i * p->out, p->x.v + i * p->in, packed.v, p->bias.v,
                                   n, p->out, p->in));
        }
        CHECKF(equal(&y, &a->y), "y differs %lld rows at a time: %lld x %lld x %lld",
               (long long)rows, (long long)p->n, (long long)p->out, (long long)p->in);
        guarded_free(&y, "y");
    }
    guarded_free(&packed, "packed");
}

/* Checks that two calls, divided between two blocks of rows, give the same dw and dbias as one
 * call, and that dx of a row does not depend on the division. */
static void check_split(const struct plumb_kernels *k, const struct answer *a,
                        const struct problem *p)
{
    const int64_t out = p->out, in = p->in;
    const int64_t step = p->n > PLUMB_SUM_BLOCK ? PLUMB_SUM_BLOCK / 2 : 1 + p->n / 3;
    for (int64_t first = 0; first <= p->n; first += step) {
        struct guarded dw = guarded_copy(&p->dw0), dbias = guarded_copy(&p->dbias0);
        struct guarded dx = guarded_new(p->n * in);
        struct guarded work = guarded_new(k->linear_work_count(p->n, out, in, 1));
        for (int part = 0; part < 2; part++) {
            const int64_t i = part ? first : 0, n = part ? p->n - first : first;
            if (n == 0)
                continue;
            CHECK_OK(k->linear_bwd_w(NULL, dw.v, dbias.v, p->dy.v + i * out, p->x.v + i * in,
                                     work.v, n, out, in));
            CHECK_OK(k->linear_bwd_x(NULL, dx.v + i * in, p->dy.v + i * out, p->w.v, work.v, n, out,
                                     in, 0));
        }
        const bool whole = first % PLUMB_SUM_BLOCK == 0;
        CHECKF(!whole || equal(&dw, &a->dw), "dw differs when cut at row %lld", (long long)first);
        CHECKF(!whole || equal(&dbias, &a->dbias), "dbias differs when cut at row %lld",
               (long long)first);
        CHECKF(equal(&dx, &a->dx), "dx differs when cut at row %lld", (long long)first);
        guarded_free(&dw, "dw"), guarded_free(&dbias, "dbias"), guarded_free(&dx, "dx");
        guarded_free(&work, "work");
    }
}

static void check_problem(struct problem *p, plumb_pool *pool[3])
{
    struct answer first = {0};
    bool have = false;
    for (int i = 0; plumb_kernels_isa[i]; i++) {
        struct plumb_kernels k;
        if (!plumb_kernels_init_isa(&k, plumb_kernels_isa[i]))
            continue;
        struct answer a = solve(&k, NULL, p);
        for (int t = 0; t < 3; t++) {
            struct answer threaded = solve(&k, pool[t], p);
            check_equal(&threaded, &a, "threads", p);
            answer_free(&threaded);
        }
        check_rows(&k, &a, p);
        check_split(&k, &a, p);
        if (have) {
            check_equal(&a, &first, plumb_kernels_isa[i], p);
            answer_free(&a);
        } else {
            check_against_ref(&a, p);
            first = a, have = true;
        }
    }
    CHECK(have);
    answer_free(&first);
    problem_free(p);
}

/* Checks that the environment variable PLUMB_ISA selects the instruction set, and that an unknown
 * name changes nothing. */
static void check_choice(void)
{
    struct plumb_kernels chosen, named, best;
    unsetenv("PLUMB_ISA");
    plumb_kernels_init_cpu(&best);
    CHECK(plumb_kernels_init_isa(&named, "baseline"));
    setenv("PLUMB_ISA", "baseline", 1);
    plumb_kernels_init_cpu(&chosen);
    CHECK(chosen.linear_fwd == named.linear_fwd);
    setenv("PLUMB_ISA", "mmx", 1);
    plumb_kernels_init_cpu(&chosen);
    CHECK(chosen.linear_fwd == best.linear_fwd);
    unsetenv("PLUMB_ISA");
}

int main(void)
{
    static const int64_t size[][3] = {
        {1, 1, 1},   {2, 3, 1},    {1, 33, 5},   {3, 31, 7},    {5, 64, 16},    {7, 40, 257},
        {11, 17, 9}, {12, 32, 64}, {13, 100, 3}, {23, 48, 300}, {25, 65, 129},  {24, 96, 256},
        {48, 7, 33}, {97, 33, 40}, {200, 70, 9}, {193, 1, 600}, {600, 30, 530}, {50, 550, 20},
    };
    plumb_pool *pool[3];
    for (int t = 0; t < 3; t++)
        CHECK_OK(plumb_pool_create(&pool[t], t + 1));
    check_choice();
    for (size_t s = 0; s < sizeof(size) / sizeof(*size); s++) {
        const bool small = size[s][0] * size[s][1] * size[s][2] < 100000;
        for (enum kind kind = small ? ONES : RANDOM; kind < KINDS; kind++) {
            struct problem p = problem_new(size[s][0], size[s][1], size[s][2], kind);
            check_problem(&p, pool);
        }
    }
    for (int t = 0; t < 3; t++)
        plumb_pool_destroy(&pool[t]);
    return 0;
}
