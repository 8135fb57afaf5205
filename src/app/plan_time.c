/* plan_time.c - estimates the time of a planned run from given rates. Layer 6. Includes app/plan.h.
 *
 * The phases run one after the other. A phase takes
 *     max(FLOP / (flops flops_share), bytes / (bandwidth bandwidth_share)) + bytes sent / rate sent
 * The estimate assumes that gradients are exchanged after the backward, although a run may exchange
 * them during the backward. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "app/plan.h"

/* Peak rates of the H100 SXM and the H200 SXM by NVIDIA's data sheets, without sparsity: FLOP/s and
 * bytes/s of the memory. */
#define FLOPS_BF16     989e12
#define FLOPS_F32      67e12
#define BANDWIDTH_H100 3.35e12
#define BANDWIDTH_H200 4.8e12
/* if a rank may use more bytes of device memory, plumb assumes an H200, else an H100 */
#define H100_BYTES 100e9

/* The rates that a rank is assumed to reach, each the peak rate times the option plan.*_share.
 * flops: FLOP/s; bandwidth: bytes/s of the device memory; inside: bytes/s to ranks of the same
 * host; link: bytes/s to other hosts. */
struct rates {
    double flops, bandwidth, inside, link;
};

/* Sets *out. Returns false if plan.flops or plan.bandwidth is not set on a CPU, for which there are
 * no default rates, so that no time can be estimated. */
static bool rates_of(struct rates *out, const struct plumb_plan *p)
{
    const struct plumb_config *c = &p->cfg;
    const bool cuda = p->best->place == PLUMB_DEVICE, wide = p->best->dtype == PLUMB_F32;
    const double flops = c->plan.flops > 0 ? c->plan.flops
                         : !cuda           ? 0
                         : wide            ? FLOPS_F32
                                           : FLOPS_BF16;
    const double bandwidth = c->plan.bandwidth > 0            ? c->plan.bandwidth
                             : !cuda                          ? 0
                             : (double)p->budget > H100_BYTES ? BANDWIDTH_H200
                                                              : BANDWIDTH_H100;
    *out = (struct rates){.flops = flops * c->plan.flops_share,
                          .bandwidth = bandwidth * c->plan.bandwidth_share,
                          .inside = c->plan.host_link * c->plan.link_share,
                          .link = c->plan.link * c->plan.link_share};
    return flops > 0 && bandwidth > 0;
}

static double seconds_of(const struct plumb_cost_phase *x, const struct rates *r)
{
    return fmax(x->flops / r->flops, x->bytes / r->bandwidth) + x->sent_inside / r->inside +
           x->sent / r->link;
}

static double total_of(const struct plumb_cost *c, const struct rates *r)
{
    double sum = 0;
    for (int i = 0; i < c->n; i++)
        sum += seconds_of(&c->phase[i], r);
    return sum;
}

bool plumb_plan_seconds(double *seconds, const struct plumb_plan *p)
{
    struct rates r;
    if (!rates_of(&r, p))
        return false;
    *seconds = total_of(&p->cost, &r) * p->cost.units;
    return true;
}

void plumb_plan_print_time(const struct plumb_plan *p)
{
    const struct plumb_cost *c = &p->cost;
    struct rates r;
    if (c->micro_batches < p->world)
        printf("only %lld of the %d ranks have work: a step has %lld micro-batch%s; raise "
               "train.global_batch_size or lower %s\n",
               (long long)c->micro_batches, p->world, (long long)c->micro_batches,
               c->micro_batches > 1 ? "es" : "",
               p->cfg.train.micro_batch_tokens > 0 ? "train.micro_batch_tokens"
                                                   : "train.micro_batch_size");
    if (!rates_of(&r, p)) {
        printf("no estimate of time: plan.flops and plan.bandwidth are not set\n");
        return;
    }
    const double one = total_of(c, &r), all = one * c->units;
    printf("estimated, not measured: %.3g s per %s, %.0f %s%s in %.3g hours, %.3g GPU-hours\n", one,
           c->unit, c->units, c->unit, c->units > 1 ? "s" : "", all / 3600, all / 3600 * p->world);
    printf("  by phase:");
    for (int i = 0; i < c->n; i++)
        printf("%s %s %.3g s", i ? "," : "", c->phase[i].name, seconds_of(&c->phase[i], &r));
    printf("\n  assumed per rank: %.3g FLOP/s, %.3g bytes/s from memory, %.3g bytes/s to ranks of "
           "its host, %.3g to others, %lld ranks a host (plan.flops .. plan.link times their "
           "shares)\n",
           r.flops, r.bandwidth, r.inside, r.link, (long long)p->cfg.plan.host_ranks);
    const bool resident = p->cfg.frozen == PLUMB_FROZEN_RESIDENT;
    printf("  not counted: ");
    if (c->left_out)
        printf("what %s adds to the stages, ", c->left_out);
    printf("%sevaluations and checkpoints\n", resident ? "" : "the transport of frozen layers, ");
}

plumb_status plumb_plan_put_time(struct plumb_buf *out, const struct plumb_plan *p)
{
    const struct plumb_cost *c = &p->cost;
    struct rates r;
    if (!rates_of(&r, p))
        return PLUMB_OK;
    const double one = total_of(c, &r);
    PLUMB_TRY(
        plumb_buf_addf(out,
                       ", \"estimate\": {\"unit\": \"%s\", \"units\": %.0f, \"seconds\": %.6g, "
                       "\"gpu_hours\": %.6g, \"rates\": {\"flops\": %.6g, \"bandwidth\": %.6g, "
                       "\"host_link\": %.6g, \"link\": %.6g}, \"phases\": {",
                       c->unit, c->units, one, one * c->units / 3600 * p->world, r.flops,
                       r.bandwidth, r.inside, r.link));
    for (int i = 0; i < c->n; i++) {
        const struct plumb_cost_phase *x = &c->phase[i];
        PLUMB_TRY(plumb_buf_addf(out,
                                 "%s\"%s\": {\"seconds\": %.6g, \"flops\": %.6g, \"bytes\": "
                                 "%.6g, \"sent_inside\": %.6g, \"sent\": %.6g}",
                                 i ? ", " : "", x->name, seconds_of(x, &r), x->flops, x->bytes,
                                 x->sent_inside, x->sent));
    }
    return plumb_buf_add_text(out, "}}");
}
