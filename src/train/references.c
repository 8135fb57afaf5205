/* references.c - opens each reference model once, and stores log-probs in a table by weights and
 * tokens.
 * Layer 5. Includes train/references.h, base/, io/. */
#include "train/references.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"
#include "model/adapter.h"
#include "train/masters.h"
#include "train/same.h"

enum { MOST = 8 };

/* A stored log-prob. Its key is two hashes of weights, prompt and completion with different seeds.
 * With 128 bits a collision of two keys is practically impossible. */
struct kept {
    uint64_t a, b; /* the key; both are 0 in a free entry */
    double logp;   /* log-prob sum of the completion, nats */
};

struct reference {
    char *name;
    plumb_model *model; /* owned; NULL if weights is the policy or another reference's model */
    const plumb_model *weights;
};

struct plumb_references {
    const plumb_model *policy;
    const char *init_dir;
    const struct plumb_frozen_run *frozen;
    struct plumb_lockstep lockstep;
    struct reference ref[MOST];
    int n;
    plumb_model *snapshot; /* weights of `previous`; NULL if there is no snapshot */
    /* masters of the snapshot, if those of the policy are divided among the ranks */
    struct plumb_masters masters;
    struct kept *kept; /* (slots,) hash table of the stored log-probs */
    int64_t slots;     /* a power of two, at least 2 * room */
    int64_t used, room;
};

plumb_status plumb_references_create(plumb_references **out, const plumb_model *policy,
                                     const char *init_dir, const struct plumb_frozen_run *frozen,
                                     int64_t room)
{
    plumb_references *r = calloc(1, sizeof(*r));
    *out = NULL;
    PLUMB_REQUIRE(r, PLUMB_ERR_NOMEM, "references");
    *r = (plumb_references){
        .policy = policy, .init_dir = init_dir, .frozen = frozen, .room = room, .slots = 4};
    while (r->slots < 2 * room)
        r->slots *= 2;
    r->kept = calloc((size_t)r->slots, sizeof(*r->kept));
    if (!r->kept) {
        plumb_references_destroy(&r);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "log-probs of %lld answers", (long long)room);
    }
    *out = r;
    return PLUMB_OK;
}

void plumb_references_destroy(plumb_references **rp)
{
    plumb_references *r = *rp;
    if (!r)
        return;
    for (int i = 0; i < r->n; i++) {
        plumb_model_destroy(&r->ref[i].model);
        free(r->ref[i].name);
    }
    plumb_masters_fini(&r->masters);
    free(r->kept);
    free(r);
    *rp = NULL;
}

/* Opens the weights from which a policy with an adapter started: its base with the adapter in
 * init_dir or, if init_dir is not an adapter folder, its base alone. */
static plumb_status open_start(plumb_references *r, struct reference *ref)
{
    PLUMB_TRY(plumb_model_share(&ref->model, r->policy, false));
    ref->weights = ref->model;
    return plumb_adapter_in(r->init_dir) ? plumb_adapter_open(ref->model, r->init_dir) : PLUMB_OK;
}

/* Opens the weights in dir. If another reference has already opened the same weights, uses that
 * model instead. */
static plumb_status open_weights(plumb_references *r, struct reference *ref, const char *dir,
                                 const char *field)
{
    PLUMB_REQUIRE(plumb_dir_exists(dir), PLUMB_ERR_IO,
                  "%s: there is no folder %s; expected init, previous or a checkpoint folder",
                  field, dir);
    PLUMB_TRY(plumb_model_open_frozen(&ref->model, r->policy->backend, dir, 0, &r->frozen->how));
    PLUMB_TRY(plumb_model_set_longest(ref->model, r->policy->longest, dir));
    PLUMB_REQUIRE(plumb_spec_same_sizes(&ref->model->spec, &r->policy->spec), PLUMB_ERR_CONFIG,
                  "%s: %s has another architecture than the policy in %s", field, dir,
                  r->policy->dir);
    ref->weights = ref->model;
    for (int i = 0; i < r->n; i++) {
        /* If another reference has the same fingerprint, its model is used. A memory plan reads no
         * weights, so there all fingerprints are 0 and are not compared. */
        if (!r->ref[i].model || r->ref[i].model == r->snapshot || !ref->model->fingerprint ||
            r->ref[i].model->fingerprint != ref->model->fingerprint)
            continue;
        plumb_model_destroy(&ref->model);
        ref->weights = r->ref[i].model;
        break;
    }
    return PLUMB_OK;
}

plumb_status plumb_references_open(plumb_references *r, int *which, const char *name,
                                   const char *field)
{
    for (int i = 0; i < r->n; i++)
        if (strcmp(r->ref[i].name, name) == 0) {
            *which = i;
            return PLUMB_OK;
        }
    PLUMB_REQUIRE(r->n < MOST, PLUMB_ERR_CONFIG,
                  "%s: %s would be reference number %d, expected at most %d different references",
                  field, name, MOST + 1, MOST);
    struct reference ref = {.name = strdup(name), .weights = r->policy};
    plumb_status st = PLUMB_OK;
    if (!ref.name)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "reference %s", name);
    const bool init = strcmp(name, "init") == 0;
    if (init && plumb_adapter_lora(r->policy))
        PLUMB_TRY_GOTO(st, open_start(r, &ref), fail);
    else if (strcmp(name, "previous") != 0)
        PLUMB_TRY_GOTO(st, open_weights(r, &ref, init ? r->init_dir : name, field), fail);
    *which = r->n;
    r->ref[r->n++] = ref;
    return PLUMB_OK;
fail:
    plumb_model_destroy(&ref.model);
    free(ref.name);
    return st;
}

plumb_status plumb_references_same(const plumb_references *r, plumb_comm *comm)
{
    char key[4200];
    for (int i = 0; i < r->n; i++) {
        if (strcmp(r->ref[i].name, "previous") == 0)
            continue;
        snprintf(key, sizeof(key), "reference model %.4096s", r->ref[i].name);
        PLUMB_TRY(plumb_same_model(comm, key, r->ref[i].weights));
    }
    return PLUMB_OK;
}

plumb_status plumb_references_open_snapshot(plumb_references *r, int which)
{
    struct reference *ref = &r->ref[which];
    struct plumb_backend *b = r->policy->backend;
    const struct plumb_masters *of = plumb_masters_of(r->policy);
    if (plumb_adapter_lora(r->policy)) {
        PLUMB_TRY(plumb_model_share(&ref->model, r->policy, true));
    } else {
        if (of) {
            plumb_masters_init(&r->masters, of->cfg, of->comm, b);
            r->masters.like = of;
            PLUMB_TRY(plumb_model_open_divided(&ref->model, b, r->init_dir, 0, false, 0,
                                               &r->masters.hook));
        } else {
            PLUMB_TRY(plumb_model_open(&ref->model, b, r->init_dir));
        }
        PLUMB_TRY(plumb_model_set_longest(ref->model, r->policy->longest, NULL));
    }
    ref->weights = r->snapshot = ref->model;
    return PLUMB_OK;
}

plumb_status plumb_references_update_snapshot(plumb_references *r)
{
    if (!r->snapshot)
        return PLUMB_OK;
    if (plumb_masters_of(r->policy))
        PLUMB_TRY(plumb_masters_copy(&r->masters, plumb_masters_of(r->policy)));
    return plumb_model_copy(r->snapshot, r->policy);
}

plumb_model *plumb_references_snapshot(const plumb_references *r)
{
    return r->snapshot;
}

const plumb_model *plumb_references_model(const plumb_references *r, int which)
{
    return r->ref[which].weights;
}

const plumb_model *plumb_references_frozen(const plumb_references *r, int which)
{
    return r->ref[which].weights == r->policy ? NULL : r->ref[which].weights;
}

int64_t plumb_references_bytes(const plumb_references *r)
{
    int64_t bytes = r->slots * (int64_t)sizeof(*r->kept) +
                    r->masters.shards.count * (int64_t)sizeof(*r->masters.w);
    for (int i = 0; i < r->n; i++)
        bytes += r->ref[i].model ? plumb_model_bytes(r->ref[i].model) : 0;
    return bytes;
}

/* ---- stored log-probs ----------------------------------------------------------------------- */

void plumb_references_begin(plumb_references *r)
{
    memset(r->kept, 0, (size_t)r->slots * sizeof(*r->kept));
    r->used = 0;
}

static struct kept key_of(const plumb_references *r, int which, const int32_t *prompt,
                          int64_t n_prompt, const int32_t *ids, int64_t n)
{
    const uint64_t of = plumb_references_model(r, which)->fingerprint;
    const int64_t size = (int64_t)sizeof(*ids);
    struct kept key = {.a = plumb_hash(prompt, n_prompt * size, of),
                       .b = plumb_hash(prompt, n_prompt * size, ~of)};
    key.a = plumb_hash(ids, n * size, key.a);
    key.b = plumb_hash(ids, n * size, key.b);
    key.a += key.a == 0;
    return key;
}

/* Returns the entry with this key, or the free entry where the key must be stored. */
static struct kept *place_of(const plumb_references *r, const struct kept *key)
{
    int64_t at = (int64_t)(key->a & (uint64_t)(r->slots - 1));
    while ((r->kept[at].a || r->kept[at].b) && (r->kept[at].a != key->a || r->kept[at].b != key->b))
        at = (at + 1) & (r->slots - 1);
    return &r->kept[at];
}

bool plumb_references_find(const plumb_references *r, int which, const int32_t *prompt,
                           int64_t n_prompt, const int32_t *ids, int64_t n, double *logp)
{
    const struct kept key = key_of(r, which, prompt, n_prompt, ids, n);
    const struct kept *at = place_of(r, &key);
    if (!at->a && !at->b)
        return false;
    *logp = at->logp;
    return true;
}

static void keep(plumb_references *r, int which, const int32_t *prompt, int64_t n_prompt,
                 const int32_t *ids, int64_t n, double logp)
{
    struct kept key = key_of(r, which, prompt, n_prompt, ids, n);
    struct kept *at = place_of(r, &key);
    const bool fresh = !at->a && !at->b;
    if (fresh && r->used >= r->room)
        return; /* the table is full, so this log-prob is computed again when it is needed */
    r->used += fresh;
    key.logp = logp;
    *at = key;
}

plumb_status plumb_references_score(plumb_references *r, int which, plumb_pass *pass,
                                    struct plumb_pack *pack, double *logp)
{
    bool known = true;
    for (int64_t q = 0; q < pack->n_seq && known; q++) {
        const int32_t *ids = pack->ids + pack->offset[q];
        const int64_t p = pack->prompt_tokens[q], n = pack->offset[q + 1] - pack->offset[q];
        known = plumb_references_find(r, which, ids, p, ids + p, n - p, &logp[q]);
    }
    if (known)
        return PLUMB_OK;
    const struct plumb_batch batch = plumb_pack_batch(pack);
    const plumb_model *weights = plumb_references_model(r, which);
    PLUMB_TRY(plumb_references_pass(r, which));
    PLUMB_TRY(plumb_pass_logprob(pass, weights, &batch, pack->logp));
    const float *at = pack->logp;
    for (int64_t q = 0; q < pack->n_seq; q++) {
        const int32_t *ids = pack->ids + pack->offset[q];
        const int64_t p = pack->prompt_tokens[q], n = pack->offset[q + 1] - pack->offset[q];
        logp[q] = 0;
        for (int64_t j = p; j < n; j++)
            logp[q] += (double)*at++;
        keep(r, which, ids, p, ids + p, n - p, logp[q]);
    }
    return PLUMB_OK;
}

plumb_status plumb_references_pass(plumb_references *r, int which)
{
    return plumb_lockstep_pass(&r->lockstep, r->frozen, plumb_references_model(r, which));
}

plumb_status plumb_references_before(void *of)
{
    const struct plumb_reference_of *r = of;
    return plumb_references_pass(r->set, r->which);
}

plumb_status plumb_references_end(plumb_references *r, int which, plumb_status local)
{
    return plumb_lockstep_end(&r->lockstep, r->frozen, plumb_references_model(r, which), local);
}
