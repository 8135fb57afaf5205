/* test_masters.c - checks src/train/masters.c: float32 master weights that are sharded over 1 to 8
 * ranks. They must have the fingerprint of the whole model and be written to the same files. A
 * changed shard must be detected, also if it changes on its way to the file.
 * tests/cuda_emu/test_masters_cuda.py checks updates, which need bfloat16. Test. Includes
 * comm/threads.h, train/. */
#include "train/masters.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../comm/threads.h"
#include "harness.h"
#include "io/file.h"
#include "train/weights.h"

static char root[700], temporary[64], whole[2][128], other[2][128];
static uint64_t rounded;

/* The sharded masters of a float32 model. The model itself has all weights, to compare with. */
struct world {
    struct plumb_config cfg;
    struct plumb_backend *b;
    plumb_model *m;
    struct plumb_masters s;
    float **scratch;
};

static plumb_status put(void *arg, const struct plumb_param *p, float *w)
{
    const struct plumb_masters *s = arg;
    return s->hook.put(s->hook.arg, p, w);
}

static void world_open(struct world *w, plumb_comm *c)
{
    char dir[800];
    *w = (struct world){.cfg = {.train = {.shard = PLUMB_SHARD_GRADIENTS}}};
    /* this model has fused projections */
    snprintf(dir, sizeof(dir), "%s/tests/fixtures/model/phi3_short", root);
    CHECK_OK(plumb_backend_cpu_create(&w->b, 1, 1));
    CHECK_OK(plumb_model_open(&w->m, w->b, dir));
    plumb_masters_init(&w->s, &w->cfg, c, w->b);
    CHECK(!plumb_masters_of(w->m));
    CHECK_OK(w->s.hook.open(w->s.hook.arg, w->m));
    CHECK_OK(plumb_model_each(w->m, put, &w->s));
    w->scratch = calloc((size_t)w->s.shards.buckets, sizeof(*w->scratch));
    CHECK(w->scratch);
    for (int64_t k = 0; k < w->s.shards.buckets; k++) {
        w->scratch[k] = calloc((size_t)w->m->count, sizeof(float));
        CHECK(w->scratch[k]);
    }
    w->s.scratch = w->scratch;
    w->m->masters = &w->s.hook;
    CHECK(plumb_masters_of(w->m) == &w->s);
}

static void world_close(struct world *w)
{
    for (int64_t k = 0; k < w->s.shards.buckets; k++)
        free(w->scratch[k]);
    free(w->scratch);
    plumb_masters_fini(&w->s);
    plumb_model_destroy(&w->m);
    plumb_backend_destroy(&w->b);
}

/* Checks reads: rank 0 reads the tensors from the last to the first, and the other ranks send their
 * shards. */
static void check_reads(struct world *w, bool reads)
{
    plumb_model *m = w->m;
    for (int64_t i = m->n_param - 1; reads && i >= 0; i--) {
        const struct plumb_param *p = &m->param[i];
        float *x = malloc((size_t)p->count * sizeof(*x));
        CHECK(x);
        CHECK_OK(w->s.hook.get(w->s.hook.arg, p, x));
        CHECK(memcmp(x, m->w + p->offset, (size_t)p->count * sizeof(*x)) == 0);
        free(x);
    }
    CHECK_OK(plumb_masters_finish(m, PLUMB_OK));
}

static plumb_status save(struct world *w, int k)
{
    uint64_t hash = 0;
    w->m->saved_as = k ? PLUMB_BF16 : PLUMB_F32;
    PLUMB_TRY(plumb_dir_remove(other[k]));
    PLUMB_TRY(plumb_dir_create(other[k]));
    PLUMB_TRY(plumb_model_saved_hash(w->m, &hash));
    CHECK(hash == (k ? rounded : w->m->fingerprint));
    return plumb_model_save(w->m, other[k], 1 << 16);
}

static void same_folders(const char *a, const char *b)
{
    char command[400];
    snprintf(command, sizeof(command), "diff -r %s %s", a, b);
    CHECK(system(command) == 0);
}

static void flip(float *x)
{
    uint32_t bits;
    memcpy(&bits, x, sizeof(bits));
    bits ^= 1;
    memcpy(x, &bits, sizeof(bits));
}

/* Copies like b->copy, but flips one bit: the copy of a rank's shard is damaged on its way to rank
 * 0. */
static plumb_status copy_badly(struct plumb_backend *b, void *to, const void *from, int64_t bytes)
{
    (void)b;
    memcpy(to, from, (size_t)bytes);
    flip((float *)to + 7);
    return PLUMB_OK;
}

/* Flips a bit between the check of the weights and the write of the file: first in the copy of a
 * shard on its way to rank 0, then in the shard itself. Both saves must fail, and the next save
 * must be correct. */
static void check_save_flips(struct world *w, plumb_comm *c)
{
    const int me = plumb_comm_rank(c), bad = plumb_comm_size(c) > 1;
    const struct plumb_backend sound = *w->b;
    char says[64];
    if (me == bad)
        w->b->copy = copy_badly;
    plumb_status st = plumb_masters_finish(w->m, me == 0 ? save(w, 0) : PLUMB_OK);
    w->b->copy = sound.copy;
    CHECK(st == (me == 0 ? PLUMB_ERR_NUMERIC : PLUMB_OK));
    snprintf(says, sizeof(says), "with other bits than rank %d has", bad);
    CHECKF(me > 0 || strstr(plumb_trail_message(), says), "%s", plumb_trail_message());
    if (me == bad)
        flip(&w->s.w[100]);
    CHECK_FAILS(plumb_masters_finish(w->m, me == 0 ? save(w, 0) : PLUMB_OK), PLUMB_ERR_NUMERIC,
                "something else wrote to them, so they are not saved");
    if (me == bad)
        flip(&w->s.w[100]);
    CHECK_OK(plumb_masters_finish(w->m, me == 0 ? save(w, 0) : PLUMB_OK));
    if (me == 0)
        same_folders(whole[0], other[0]);
}

/* Checks one flipped bit in the weights of one rank, and then one in the shard of one rank. */
static void check_flips(struct world *w, plumb_comm *c, uint64_t want)
{
    uint64_t hash = 0;
    const bool mine = plumb_comm_rank(c) == (plumb_comm_size(c) > 1);
    w->m->n_packed = 0; /* as if a pass read all weights from w, not from packed copies */
    CHECK_OK(plumb_model_replaced(w->m, want));
    CHECK_OK(plumb_weights_agree(&hash, w->m, c));
    CHECK(hash == want);
    if (mine)
        flip(&w->m->w[5]);
    CHECK(plumb_weights_agree(&hash, w->m, c) == (mine ? PLUMB_ERR_NUMERIC : PLUMB_ERR_PEER));
    if (mine)
        flip(&w->m->w[5]);
    CHECK_OK(plumb_weights_agree(&hash, w->m, c));
    if (mine)
        CHECK(w->s.shards.count > 100);
    if (mine)
        flip(&w->s.w[100]);
    CHECK_FAILS(plumb_weights_agree(&hash, w->m, c), PLUMB_ERR_NUMERIC,
                "the ranks' master weights");
    CHECK_OK(plumb_masters_hash(&w->s, &hash));
    CHECK(hash != want);
}

static void rank(plumb_comm *c)
{
    struct world w;
    uint64_t hash = 0;
    const bool first = plumb_comm_rank(c) == 0;
    /* checks that reading and sending ranks call the same collectives */
    plumb_comm_check_calls(c, true);
    world_open(&w, c);
    const uint64_t want = w.m->fingerprint;
    CHECK_OK(plumb_masters_hash(&w.s, &hash));
    CHECK(hash == want);
    check_reads(&w, first);
    for (int k = 0; k < 2; k++) {
        CHECK_OK(plumb_masters_finish(w.m, first ? save(&w, k) : PLUMB_OK));
        if (first)
            same_folders(whole[k], other[k]);
    }
    /* a failure of rank 0 also ends the reads on the other ranks */
    plumb_status st = plumb_masters_finish(
        w.m, first ? plumb_fail_at(PLUMB_ERR_IO, __FILE__, __LINE__, "disk full") : PLUMB_OK);
    CHECK(st == (first ? PLUMB_ERR_IO : PLUMB_OK));
    check_reads(&w, first);
    check_save_flips(&w, c);
    check_flips(&w, c, want);
    world_close(&w);
}

/* Writes the files of the whole model, with which the files from shards are compared. */
static void save_whole(void)
{
    struct world w;
    plumb_comm *c;
    CHECK_OK(plumb_comm_single_create(&c));
    world_open(&w, c);
    w.m->masters = NULL;
    for (int k = 0; k < 2; k++) {
        snprintf(whole[k], sizeof(whole[k]), "%s/whole-%d", temporary, k);
        snprintf(other[k], sizeof(other[k]), "%s/other-%d", temporary, k);
        w.m->saved_as = k ? PLUMB_BF16 : PLUMB_F32;
        CHECK_OK(plumb_dir_create(whole[k]));
        CHECK_OK(plumb_model_save(w.m, whole[k], 1 << 16));
        CHECK_OK(plumb_model_saved_hash(w.m, &rounded));
    }
    world_close(&w);
    plumb_comm_destroy(&c);
}

int main(void)
{
    const char *source = getenv("PLUMB_SOURCE_ROOT");
    snprintf(root, sizeof(root), "%s", source ? source : ".");
    snprintf(temporary, sizeof(temporary), "/tmp/plumb-masters-XXXXXX");
    CHECK(mkdtemp(temporary));
    save_whole();
    for (int n = 1; n <= 8; n++)
        on_threads(n, rank);
    CHECK_OK(plumb_dir_remove(temporary));
    return 0;
}
