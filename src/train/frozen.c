/* frozen.c - divides frozen models among the ranks, and lets all ranks run passes together.
 * Layer 5. Includes train/frozen.h. */
#include "train/frozen.h"

static void share(void *arg, int64_t n, int64_t *begin, int64_t *end)
{
    const struct plumb_frozen_run *r = arg;
    const struct plumb_range mine = plumb_comm_shard(r->comm, n, plumb_comm_rank(r->comm));
    *begin = mine.begin;
    *end = mine.end;
}

static plumb_status gather(void *arg, float *x, int64_t n)
{
    const struct plumb_frozen_run *r = arg;
    return plumb_comm_gather_begin(r->comm, x, n, r->place);
}

static plumb_status gathered(void *arg)
{
    const struct plumb_frozen_run *r = arg;
    return plumb_comm_gather_end(r->comm);
}

void plumb_frozen_of(struct plumb_frozen_run *out, const struct plumb_config *cfg, plumb_comm *comm,
                     const struct plumb_backend *b)
{
    enum plumb_frozen_mode mode = (enum plumb_frozen_mode)cfg->frozen;
    if (mode == PLUMB_FROZEN_AUTO)
        mode = PLUMB_FROZEN_RESIDENT;
    *out = (struct plumb_frozen_run){
        .how = {.mode = mode, .share = share, .gather = gather, .gathered = gathered, .arg = out},
        .comm = comm,
        .place = b->place};
}

const char *plumb_frozen_name(int mode)
{
    static const char *const name[] = {[PLUMB_FROZEN_AUTO] = "auto",
                                       [PLUMB_FROZEN_RESIDENT] = "resident",
                                       [PLUMB_FROZEN_SHARDED] = "sharded",
                                       [PLUMB_FROZEN_OFFLOAD] = "offload"};
    return name[mode];
}

/* Exchanges with the other ranks the status `local` and whether this rank has a pass to run
 * (`pass`). Sets *any to true if any rank has a pass to run, and s->over to true if no pass
 * follows. Fails if any rank has failed or pauses. Collective. */
static plumb_status meet(struct plumb_lockstep *s, const struct plumb_frozen_run *run,
                         plumb_status local, bool pass, bool *any)
{
    const bool stopped = local == PLUMB_STOPPED;
    double v[3] = {local != PLUMB_OK && !stopped, stopped, pass};
    PLUMB_TRY(plumb_comm_allreduce_f64(run->comm, v, 3, PLUMB_MAX));
    *any = v[2] > 0;
    s->over = v[0] > 0 || v[1] > 0 || !*any;
    if (v[0] > 0)
        return plumb_comm_agree(run->comm, stopped ? PLUMB_OK : local);
    PLUMB_REQUIRE(v[1] == 0, PLUMB_STOPPED, "a rank pauses");
    return PLUMB_OK;
}

plumb_status plumb_lockstep_pass(struct plumb_lockstep *s, const struct plumb_frozen_run *run,
                                 const plumb_model *m)
{
    bool any;
    return plumb_model_gathers(m) ? meet(s, run, PLUMB_OK, true, &any) : PLUMB_OK;
}

plumb_status plumb_lockstep_end(struct plumb_lockstep *s, const struct plumb_frozen_run *run,
                                const plumb_model *m, plumb_status local)
{
    bool any = true;
    while (plumb_model_gathers(m) && !s->over) {
        const plumb_status st = meet(s, run, local, false, &any);
        if (st != PLUMB_OK)
            local = st;
        else if (any)
            local = plumb_model_follow(m);
    }
    s->over = false;
    return local;
}
