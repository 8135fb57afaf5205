/* load.c - measures the seconds that each phase of an iteration takes on this rank, and the seconds
 * of these that the rank spends in collectives.
 * Layer 5. Includes stage/load.h, base/, comm/. */
#include "stage/load.h"

#include <stdlib.h>

#include "base/log.h"

static double waited(const plumb_comm *comm)
{
    double seconds = 0;
    for (int k = 0; k < PLUMB_TRAFFIC_CLASSES; k++)
        seconds += plumb_comm_traffic(comm, (enum plumb_traffic_class)k).seconds;
    return seconds;
}

void plumb_load_begin(struct plumb_load *l, const plumb_comm *comm,
                      const plumb_generator *generator)
{
    *l = (struct plumb_load){
        .comm = comm, .generator = generator, .since = plumb_now(), .waited = waited(comm)};
    plumb_generator_count(generator, &l->count);
}

double plumb_load_lap(struct plumb_load *l, enum plumb_load_value phase)
{
    const double now = plumb_now(), idle = waited(l->comm), spent = now - l->since;
    if ((int)phase < PLUMB_LOAD_PHASES) {
        l->seconds[phase] += spent;
        l->idle[phase] += idle - l->waited;
    }
    if (phase == PLUMB_LOAD_ROLLOUT) {
        struct plumb_generator_count end;
        plumb_generator_count(l->generator, &end);
        l->count.tokens = end.tokens - l->count.tokens;
        l->count.steps = end.steps - l->count.steps;
    }
    l->since = now;
    l->waited = idle;
    return spent;
}

static void set_metrics(struct plumb_metrics_row *row, const struct plumb_load_line *line)
{
    static const enum plumb_metric metric[PLUMB_LOAD_COUNT] = {
        [PLUMB_LOAD_ROLLOUT] = PLUMB_METRIC_IDLE_ROLLOUT,
        [PLUMB_LOAD_REWARD] = PLUMB_METRIC_IDLE_REWARD,
        [PLUMB_LOAD_REFERENCE] = PLUMB_METRIC_IDLE_REFERENCE,
        [PLUMB_LOAD_TRAIN] = PLUMB_METRIC_IDLE_TRAIN,
        [PLUMB_LOAD_TOKENS] = PLUMB_METRIC_TAIL_TOKENS,
        [PLUMB_LOAD_STEPS] = PLUMB_METRIC_TAIL_STEPS,
    };
    for (int v = 0; v < PLUMB_LOAD_COUNT; v++) {
        const struct plumb_load_spread s = plumb_load_spread(line, (enum plumb_load_value)v);
        if (v < PLUMB_LOAD_PHASES)
            plumb_metrics_set(row, metric[v], s.mean);
        else if (s.mean > 0)
            plumb_metrics_set(row, metric[v], s.most / s.mean);
    }
}

plumb_status plumb_load_share(const struct plumb_load *l, const struct plumb_trainer *t,
                              struct plumb_metrics_row *row)
{
    const int ranks = plumb_comm_size(t->comm), rank = plumb_comm_rank(t->comm);
    struct plumb_load_line line = {.step = t->state.step,
                                   .iteration = t->state.iteration,
                                   .ranks = ranks,
                                   .made_by = l->made_by,
                                   .prompts = l->prompts};
    plumb_status st = PLUMB_OK;
    if (ranks == 1)
        return PLUMB_OK;
    line.value = calloc((size_t)ranks * PLUMB_LOAD_COUNT, sizeof(*line.value));
    if (!line.value)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "the load of %d ranks", ranks);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(t->comm, st), done);
    double *mine = line.value + rank * PLUMB_LOAD_COUNT;
    for (int v = 0; v < PLUMB_LOAD_PHASES; v++)
        mine[v] = l->seconds[v] > 0 ? l->idle[v] / l->seconds[v] : 0;
    mine[PLUMB_LOAD_TOKENS] = (double)l->count.tokens;
    mine[PLUMB_LOAD_STEPS] = (double)l->count.steps;
    PLUMB_TRY_GOTO(
        st,
        plumb_comm_allreduce_f64(t->comm, line.value, (int64_t)ranks * PLUMB_LOAD_COUNT, PLUMB_SUM),
        done);
    set_metrics(row, &line);
    if (rank == 0)
        st = plumb_load_write(t->cfg->output_dir, &line);
    st = plumb_comm_agree(t->comm, st);
done:
    free(line.value);
    return st;
}
