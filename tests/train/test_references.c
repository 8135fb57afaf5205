/* test_references.c - checks reference policies. Two references with equal weights are one policy.
 * Log-probs are those of a forward pass, and are stored for the next time. The message about a
 * refused reference names the option.
 * Test. Includes harness.h, train/references.h. */
#include "train/references.h"

#include <string.h>

#include "harness.h"

static const char *in(const char *name)
{
    static char path[2][700];
    static int turn;
    const char *root = getenv("PLUMB_SOURCE_ROOT");
    turn = !turn;
    snprintf(path[turn], sizeof(path[turn]), "%s/tests/fixtures/model/%s", root ? root : ".", name);
    return path[turn];
}

static void fill(struct plumb_pack *p)
{
    const int32_t ids[] = {5, 9, 2, 7, 11, 3, 3, 8};
    plumb_pack_clear(p);
    CHECK_OK(plumb_pack_add(p, ids, 3, ids + 3, 5));
    CHECK_OK(plumb_pack_add(p, ids, 2, ids + 4, 3));
}

static void check_scores(plumb_references *r, int which, plumb_pass *pass, struct plumb_pack *p)
{
    double logp[2], want[2] = {0}, found;
    float token[8];
    fill(p);
    const struct plumb_batch batch = plumb_pack_batch(p);
    CHECK_OK(plumb_pass_logprob(pass, plumb_references_model(r, which), &batch, token));
    for (int j = 0; j < 8; j++)
        want[j >= 5] += (double)token[j];
    CHECK(!plumb_references_find(r, which, p->ids, 3, p->ids + 3, 5, &found));
    CHECK_OK(plumb_references_score(r, which, pass, p, logp));
    CHECK(logp[0] == want[0] && logp[1] == want[1]);
    CHECK(plumb_references_find(r, which, p->ids, 3, p->ids + 3, 5, &found) && found == want[0]);
    /* The same tokens, divided differently, are another prompt and another answer, whose log-prob
     * is not stored. */
    CHECK(!plumb_references_find(r, which, p->ids, 4, p->ids + 4, 4, &found));
    logp[0] = logp[1] = 0;
    /* the log-probs are stored, so no pass is needed */
    CHECK_OK(plumb_references_score(r, which, NULL, p, logp));
    CHECK(logp[0] == want[0] && logp[1] == want[1]);
}

int main(void)
{
    struct plumb_backend *backend;
    plumb_model *policy;
    plumb_references *r;
    plumb_pass *pass;
    struct plumb_pack pack;
    int init, again, folder, previous, none;
    double logp;
    CHECK_OK(plumb_backend_cpu_create(&backend, 1, 1));
    CHECK_OK(plumb_model_create(&policy, backend, in("llama_gqa_tied"), 3));
    char start[700]; /* a copy, because in() overwrites its result at the next call */
    snprintf(start, sizeof(start), "%s", in("llama_gqa_tied"));
    struct plumb_frozen_run frozen = {.how.mode = PLUMB_FROZEN_RESIDENT};
    CHECK_OK(plumb_references_create(&r, policy, start, &frozen, 4));
    CHECK_OK(plumb_pack_init(&pack, 16, 2));
    const struct plumb_pass_limit limit = {.max_tokens = 16, .max_seq = 2};
    CHECK_OK(plumb_pass_create(&pass, policy, &limit));

    CHECK_OK(plumb_references_open(r, &init, "init", "a"));
    CHECK_OK(plumb_references_open(r, &again, "init", "b"));
    CHECK_OK(plumb_references_open(r, &folder, in("llama_gqa_tied"), "c"));
    CHECK_OK(plumb_references_open(r, &previous, "previous", "d"));
    CHECK(init == again && plumb_references_model(r, folder) == plumb_references_model(r, init));
    CHECK(plumb_references_model(r, previous) == policy && !plumb_references_frozen(r, previous));
    CHECK(plumb_references_frozen(r, init) == plumb_references_model(r, init));
    CHECK(plumb_references_open(r, &none, "nowhere", "method.judge") == PLUMB_ERR_IO);
    CHECK(strstr(plumb_trail_message(), "method.judge: there is no folder nowhere"));
    const char *other = in("llama_odd_untied");
    CHECK(plumb_references_open(r, &none, other, "method.judge") == PLUMB_ERR_CONFIG);
    CHECK(strstr(plumb_trail_message(), "another architecture"));

    check_scores(r, init, pass, &pack);
    fill(&pack); /* the folder has the weights of `init`, so its log-probs are already stored */
    CHECK(plumb_references_find(r, folder, pack.ids, 3, pack.ids + 3, 5, &logp));
    check_scores(r, previous, pass, &pack);
    /* With a snapshot, `previous` is the policy as it was when the snapshot was last updated. */
    CHECK(!plumb_references_snapshot(r));
    CHECK_OK(plumb_references_open_snapshot(r, previous));
    CHECK_OK(plumb_references_update_snapshot(r));
    plumb_model *held = plumb_references_snapshot(r);
    CHECK(held && held->fingerprint == policy->fingerprint);
    CHECK(plumb_references_frozen(r, previous) == held);
    policy->w[policy->param[0].offset] += 1;
    CHECK_OK(plumb_model_refresh(policy));
    CHECK(held->fingerprint != policy->fingerprint);
    plumb_references_begin(r);
    check_scores(r, previous, pass, &pack);
    CHECK_OK(plumb_references_update_snapshot(r));
    CHECK(held->fingerprint == policy->fingerprint && held->w[1] == policy->w[1]);
    CHECK(plumb_references_model(r, init)->fingerprint != held->fingerprint);
    plumb_references_begin(r);
    CHECK(!plumb_references_find(r, init, pack.ids, 3, pack.ids + 3, 5, &logp));
    plumb_pass_destroy(&pass);
    plumb_pack_fini(&pack);
    plumb_references_destroy(&r);
    plumb_model_destroy(&policy);
    plumb_backend_destroy(&backend);
    return 0;
}
