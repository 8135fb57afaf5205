/* cmd_gradient.c - writes the gradient of the mean negative log-likelihood of given completions,
 * with the names and shapes of the model's files, for comparisons with other programs. Layer 6. May
 * include everything. */
#include <math.h>
#include <string.h>

#include "app/session.h"
#include "io/safetensors.h"
#include "train/gradient_model.h"
#include "train/loops.h"
#include "train/pack.h"
#include "train/record_split.h"

struct gradient {
    struct plumb_session s;
    struct plumb_pack pack;
    struct plumb_gradient gradient;
    struct plumb_batch_split split;
    double scale; /* 1 / number of trained tokens in the file */
};

static plumb_status micro_batch_gradient(void *arg, int64_t micro_batch, float *grad,
                                         double value[PLUMB_MICRO_BATCH_VALUES])
{
    struct gradient *g = arg;
    struct plumb_pack *p = &g->pack;
    const struct plumb_range r = plumb_split_micro_batch(&g->split, 0, micro_batch);
    plumb_pack_clear(p);
    for (int64_t i = r.begin; i < r.end; i++) {
        const struct plumb_record *rec = &g->s.data->record[i];
        PLUMB_TRY(plumb_pack_add(p, rec->prompt.ids, rec->prompt.n, rec->completion[0].ids,
                                 rec->completion[0].n));
        plumb_pack_mask(p, rec->trained);
    }
    const struct plumb_batch batch = plumb_pack_batch(p);
    PLUMB_TRY(plumb_pass_logprob(g->s.pass, g->s.model, &batch, p->logp));
    for (int64_t j = 0; j < p->n_targets; j++) {
        p->dlogp[j] = p->trained[j] ? (float)-g->scale : 0.0F;
        if (p->trained[j])
            value[0] -= g->scale * (double)p->logp[j];
    }
    return plumb_pass_logprob_backward(g->s.pass, g->s.model, p->dlogp, grad);
}

static plumb_status write_tensors(const struct gradient *g, const float *sum, const char *path,
                                  double loss)
{
    const struct plumb_trained t = plumb_model_trained(g->s.model);
    struct plumb_file_tensors tensors;
    PLUMB_TRY(plumb_file_tensors_make(&tensors, t.param, t.n_param, sum));
    char text[32];
    snprintf(text, sizeof(text), "%.17g", loss);
    const char *const metadata[] = {"format", "pt", "loss", text, NULL};
    const plumb_status st = plumb_st_write(path, tensors.entry, tensors.n, metadata);
    plumb_file_tensors_fini(&tensors);
    return st;
}

/* Writes the gradient to the output file if it is not sharded, so that rank 0 has all of its
 * elements. First copies it to host memory, if it is on a device. Only rank 0 calls this. */
static plumb_status write_sum(const struct gradient *g, double loss)
{
    struct plumb_backend *b = g->s.app->backend;
    const int64_t bytes = g->gradient.count * (int64_t)sizeof(float);
    const char *path = g->s.app->cfg->output;
    void *host = NULL;
    if (b->place == PLUMB_HOST)
        return write_tensors(g, g->gradient.sum[0], path, loss);
    PLUMB_TRY(b->alloc_host(b, &host, bytes, "gradient"));
    plumb_status st = b->to_host(b, host, g->gradient.sum[0], bytes);
    if (st == PLUMB_OK)
        st = write_tensors(g, host, path, loss);
    b->release_host(b, host);
    return st;
}

/* Gathers a sharded gradient on rank 0, which writes it to the output file. Collective. */
static plumb_status gather_and_write(struct gradient *g, double loss)
{
    struct plumb_app *app = g->s.app;
    struct plumb_backend *b = app->backend;
    const int64_t bytes = g->gradient.count * (int64_t)sizeof(float);
    const bool writes = plumb_comm_rank(app->comm) == 0;
    void *host = NULL;
    plumb_status st = writes ? b->alloc_host(b, &host, bytes, "gradient") : PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_comm_agree(app->comm, st), done);
    PLUMB_TRY_GOTO(st, plumb_gradient_gather(&g->gradient, host), done);
    if (writes)
        st = write_tensors(g, host, app->cfg->output, loss);
    st = plumb_comm_agree(app->comm, st);
done:
    b->release_host(b, host);
    return st;
}

static plumb_status prepare(struct gradient *g)
{
    const struct plumb_config *cfg = g->s.app->cfg;
    const struct plumb_dataset *data = g->s.data;
    struct plumb_split_most most;
    int64_t targets = 0;
    for (int64_t i = 0; i < data->n; i++)
        targets += plumb_record_trained(&data->record[i]);
    PLUMB_REQUIRE(targets > 0, PLUMB_ERR_FORMAT, "input: no record has a completion token");
    g->scale = 1.0 / (double)targets;
    PLUMB_TRY(plumb_record_split(&g->split, &most, data, 1, cfg, cfg->input));
    PLUMB_TRY(plumb_pack_init(&g->pack, most.tokens, most.items));
    const struct plumb_pass_limit limit =
        plumb_pack_limit(&g->pack, true, cfg->train.recompute, cfg->train.head_rows);
    return plumb_pass_create(&g->s.pass, g->s.model, &limit);
}

/* Allocates the memory of the gradient. Collective. */
static plumb_status open_gradient(struct gradient *g)
{
    struct plumb_app *app = g->s.app;
    const plumb_status st = plumb_gradient_open(&g->gradient, g->s.model, app->comm, app->cfg,
                                                plumb_split_micro_batches(&g->split, 0));
    PLUMB_TRY(plumb_comm_agree(app->comm, st));
    plumb_gradient_attach(&g->gradient, g->s.pass);
    return PLUMB_OK;
}

static plumb_status run(struct gradient *g)
{
    struct plumb_app *app = g->s.app;
    double value[PLUMB_MICRO_BATCH_VALUES];
    const enum plumb_place place = app->backend->place;
    PLUMB_TRY(plumb_gradient_run(&g->gradient, plumb_split_micro_batches(&g->split, 0),
                                 micro_batch_gradient, g, value));
    PLUMB_REQUIRE(isfinite(value[0]), PLUMB_ERR_NUMERIC,
                  "the loss is %g, expected a finite number: the weights in %s hold non-finite or "
                  "very large numbers; nothing is written",
                  value[0], g->s.model->dir);
    if (plumb_gradient_shards(&g->gradient))
        return gather_and_write(g, value[0]);
    float *sum = g->gradient.sum[0];
    PLUMB_TRY(plumb_comm_reduce_tree(app->comm, sum, g->gradient.count, place));
    PLUMB_TRY(plumb_comm_allgather_shards(app->comm, sum, g->gradient.count, place));
    plumb_status st = PLUMB_OK;
    if (plumb_comm_rank(app->comm) == 0)
        st = write_sum(g, value[0]);
    return plumb_comm_agree(app->comm, st);
}

plumb_status plumb_cmd_gradient(struct plumb_app *app)
{
    struct gradient g = {0};
    plumb_status st = PLUMB_OK;
    if (strcmp(app->cfg->output, "-") == 0)
        st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                           "output: is not set; name a .safetensors file");
    if (st == PLUMB_OK)
        st = plumb_session_open(&g.s, app, PLUMB_SESSION_CAUSAL, PLUMB_DATA_SFT, app->cfg->input);
    if (st == PLUMB_OK)
        st = plumb_comm_agree(app->comm, prepare(&g));
    if (st == PLUMB_OK)
        st = open_gradient(&g);
    if (st == PLUMB_OK)
        st = run(&g);
    plumb_pack_fini(&g.pack);
    plumb_split_fini(&g.split);
    plumb_gradient_fini(&g.gradient);
    plumb_session_close(&g.s);
    return st;
}
