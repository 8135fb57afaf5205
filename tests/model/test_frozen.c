/* test_frozen.c - checks src/model/frozen.c and provider.c: a frozen model computes the same bits
 * as the trained model with the same weights, wherever its layers are stored, and has the same
 * fingerprint. */
#include <string.h>

#include "harness.h"
#include "model/provider.h"

enum { SEQ = 3, LONGEST = 9 };

static const char *in(const char *fixture)
{
    static char path[700];
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    snprintf(path, sizeof(path), "%s/tests/fixtures/model/%s", root ? root : ".", fixture);
    return path;
}

/* Simulates two ranks in one process. A gather takes the other rank's share of a layer from a model
 * that has all weights. The share is there only after `gathered` was called. */
struct world {
    int rank;
    int64_t cut; /* rank 0 has this many tenths of every layer */
    const struct plumb_provider *all;
    int64_t layers, gathers;
    /* destination of the gather in progress: n floats of `whole`; NULL if there is none */
    float *x;
    const float *whole;
    int64_t n;
};

static void share(void *arg, int64_t n, int64_t *begin, int64_t *end)
{
    const struct world *w = arg;
    const int64_t cut = n * w->cut / 10 / 64 * 64;
    *begin = w->rank == 0 ? 0 : cut;
    *end = w->rank == 0 ? cut : n;
}

static plumb_status gather(void *arg, float *x, int64_t n)
{
    struct world *w = arg;
    int64_t begin, end;
    const float *whole = (const float *)(const void *)w->all->host;
    /* each pass gathers the layers one after another */
    whole += w->all->begin[w->gathers++ % w->layers];
    share(w, n, &begin, &end);
    CHECK(memcmp(x + begin, whole + begin, (size_t)(end - begin) * sizeof(*x)) == 0);
    CHECK(!w->x);
    for (int64_t i = 0; i < n; i++)
        x[i] = NAN;
    w->x = x;
    w->whole = whole;
    w->n = n;
    return PLUMB_OK;
}

static plumb_status gathered(void *arg)
{
    struct world *w = arg;
    if (w->x)
        memcpy(w->x, w->whole, (size_t)w->n * sizeof(*w->x));
    w->x = NULL;
    return PLUMB_OK;
}

static int32_t ids[SEQ * LONGEST];
static int64_t offset[SEQ + 1], prompt[SEQ];

static struct plumb_batch batch_of(const struct plumb_spec *s)
{
    for (int i = 0; i < SEQ; i++) {
        offset[i + 1] = offset[i] + 4 + 2 * i;
        prompt[i] = 1 + i;
    }
    for (int64_t i = 0; i < offset[SEQ]; i++)
        ids[i] = (int32_t)((7 * i + 3) % s->v);
    return (struct plumb_batch){SEQ, ids, offset, prompt};
}

/* Sets out to the log-probs or scores of the batch. Returns their number. */
static int64_t run(float *out, const plumb_model *m, plumb_pass *pass)
{
    const struct plumb_batch batch = batch_of(&m->spec);
    if (m->spec.labels > 0) {
        CHECK_OK(plumb_pass_score(pass, m, &batch, out));
        return SEQ * m->spec.labels;
    }
    CHECK_OK(plumb_pass_logprob(pass, m, &batch, out));
    return plumb_batch_targets(&batch);
}

static void check_mode(struct plumb_backend *b, const char *fixture, const plumb_model *whole,
                       const float *want, int64_t n, struct plumb_frozen how, plumb_pass *pass)
{
    plumb_model *m = NULL;
    float got[SEQ * LONGEST];
    uint64_t hash = 0;
    CHECK_OK(plumb_model_open_frozen(&m, b, in(fixture), 0, &how));
    CHECK(m->fingerprint == whole->fingerprint && m->base_fingerprint == whole->base_fingerprint);
    CHECK(plumb_model_gathers(m) == (how.mode == PLUMB_FROZEN_SHARDED));
    for (int again = 0; again < 2; again++) {
        memset(got, 0, sizeof(got));
        CHECK(run(got, m, pass) == n && memcmp(got, want, (size_t)n * sizeof(*got)) == 0);
    }
    CHECK_OK(plumb_model_hash(m, &hash));
    CHECK(hash == whole->fingerprint);
    m->w[m->net->norm] += 1;
    CHECK_OK(plumb_model_hash(m, &hash));
    CHECK(hash != whole->fingerprint); /* a changed weight changes the hash */
    CHECK(plumb_model_each(m, NULL, NULL) == PLUMB_ERR_ARG);
    plumb_model_destroy(&m);
}

/* Checks ranks that gather: each pass gathers every layer once, also a pass that fails, and a pass
 * in which only the other rank computes. */
static void check_sharded(struct plumb_backend *b, const char *fixture, const plumb_model *whole,
                          const float *want, int64_t n, plumb_pass *pass)
{
    const struct plumb_frozen offload = {.mode = PLUMB_FROZEN_OFFLOAD};
    plumb_model *all = NULL, *m = NULL;
    float got[SEQ * LONGEST];
    CHECK_OK(plumb_model_open_frozen(&all, b, in(fixture), 0, &offload));
    struct world w = {.all = all->provider, .layers = whole->spec.l};
    const struct plumb_frozen how = {.mode = PLUMB_FROZEN_SHARDED,
                                     .share = share,
                                     .gather = gather,
                                     .gathered = gathered,
                                     .arg = &w};
    for (w.rank = 0; w.rank < 2; w.rank++)
        for (w.cut = 0; w.cut <= 10; w.cut += 5)
            check_mode(b, fixture, whole, want, n, how, pass);
    w.rank = 0, w.cut = 5, w.gathers = 0;
    CHECK_OK(plumb_model_open_frozen(&m, b, in(fixture), 0, &how));
    (void)run(got, m, pass);
    CHECK(w.gathers == w.layers);
    CHECK_OK(plumb_model_follow(m));
    CHECK(w.gathers == 2 * w.layers);
    const struct plumb_batch bad = batch_of(&m->spec);
    ids[0] = (int32_t)m->spec.v;
    CHECK((m->spec.labels ? plumb_pass_score(pass, m, &bad, got)
                          : plumb_pass_logprob(pass, m, &bad, got)) == PLUMB_ERR_ARG);
    CHECK(w.gathers == 3 * w.layers && !w.x);
    CHECK(run(got, m, pass) == n && memcmp(got, want, (size_t)n * sizeof(*got)) == 0);
    plumb_model_destroy(&m);
    plumb_model_destroy(&all);
}

static void check_fixture(struct plumb_backend *b, const char *fixture)
{
    static const enum plumb_frozen_mode alone[] = {PLUMB_FROZEN_RESIDENT, PLUMB_FROZEN_OFFLOAD};
    plumb_model *whole = NULL;
    plumb_pass *pass = NULL;
    float want[SEQ * LONGEST] = {0};
    const struct plumb_pass_limit limit = {.max_tokens = SEQ * LONGEST, .max_seq = SEQ};
    CHECK_OK(plumb_model_open(&whole, b, in(fixture)));
    CHECK_OK(plumb_pass_create(&pass, whole, &limit));
    const int64_t n = run(want, whole, pass);
    for (int i = 0; i < 2; i++)
        check_mode(b, fixture, whole, want, n, (struct plumb_frozen){.mode = alone[i]}, pass);
    check_sharded(b, fixture, whole, want, n, pass);
    plumb_pass_destroy(&pass);
    plumb_model_destroy(&whole);
}

/* Checks that a frozen model takes fewer bytes than a trained one. On the CPU, it lacks the second
 * copy of its matrices. */
static void check_bytes(struct plumb_backend *b)
{
    const struct plumb_frozen resident = {.mode = PLUMB_FROZEN_RESIDENT};
    const struct plumb_frozen offload = {.mode = PLUMB_FROZEN_OFFLOAD};
    plumb_model *whole = NULL, *frozen = NULL, *away = NULL;
    CHECK_OK(plumb_model_open(&whole, b, in("llama_odd_untied")));
    CHECK_OK(plumb_model_open_frozen(&frozen, b, in("llama_odd_untied"), 0, &resident));
    CHECK_OK(plumb_model_open_frozen(&away, b, in("llama_odd_untied"), 0, &offload));
    CHECK(frozen->arena.cap < whole->arena.cap && away->arena.cap < frozen->arena.cap);
    plumb_model_destroy(&away);
    plumb_model_destroy(&frozen);
    plumb_model_destroy(&whole);
}

int main(void)
{
    static const char *const fixture[] = {
        "llama_gqa_tied", "llama_odd_untied", "llama_score1", "gpt2",    "gpt_neox", "phi3_short",
        "gemma2",         "qwen2_score3",     "olmo2",        "exaone4", "helium",   "glm4_score"};
    struct plumb_backend *b;
    for (int ref = 0; ref < 2; ref++) {
        CHECK_OK(ref ? plumb_backend_ref_create(&b) : plumb_backend_cpu_create(&b, 2, 1));
        for (size_t i = 0; i < sizeof(fixture) / sizeof(*fixture); i++)
            check_fixture(b, fixture[i]);
        if (!ref)
            check_bytes(b);
        plumb_backend_destroy(&b);
    }
    return 0;
}
