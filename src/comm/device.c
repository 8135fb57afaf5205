/* device.c - exchanges vectors in device memory through host memory, piece by piece.
 * Layer 1. Includes comm/ and base/ only. */
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "comm/comm_impl.h"

#define PIECE ((int64_t)2 << 20) /* floats of a piece, if the device sets no size */

static plumb_status swap_piece(plumb_comm *c, const struct plumb_swap *s, struct plumb_range give,
                               struct plumb_range take)
{
    const struct plumb_comm_device *d = &c->device;
    const int64_t given = give.end - give.begin, taken = take.end - take.begin;
    const int64_t size = (int64_t)sizeof(float);
    const struct plumb_move m = {
        .to = given ? s->peer : -1,
        .send = c->staging.out,
        .send_bytes = given * size,
        .from = taken ? s->peer : -1,
        .recv_bytes = taken * size,
        .take = plumb_take_copy,
        .arg = c->staging.in,
    };
    if (given)
        PLUMB_TRY(d->to_host(d->arg, c->staging.out, s->x + give.begin, given * size));
    PLUMB_TRY(plumb_coll_move(c, &m));
    if (!taken)
        return PLUMB_OK;
    float *x = s->x + take.begin;
    PLUMB_TRY(d->to_device(d->arg, s->add ? c->staging.sum : x, c->staging.in, taken * size));
    return s->add ? d->accumulate(d->arg, x, c->staging.sum, taken) : PLUMB_OK;
}

static plumb_status swap_staged(plumb_comm *c, const struct plumb_swap *s)
{
    const int64_t piece = c->device.piece;
    const int64_t most = plumb_max_i64(s->give.end - s->give.begin, s->take.end - s->take.begin);
    for (int64_t i = 0; i * piece < most; i++) {
        const plumb_status st =
            swap_piece(c, s, plumb_piece_of(s->give, i, piece), plumb_piece_of(s->take, i, piece));
        c->broken = c->broken || st != PLUMB_OK; /* the peer waits for a piece that is never sent */
        PLUMB_TRY(st);
    }
    return PLUMB_OK;
}

static void staging_release(plumb_comm *c)
{
    const struct plumb_comm_device *d = &c->device;
    d->release_host(d->arg, c->staging.out);
    d->release_host(d->arg, c->staging.in);
    d->release(d->arg, c->staging.sum);
    memset(&c->staging, 0, sizeof(c->staging));
}

static const struct plumb_link staged = {.swap = swap_staged, .detach = staging_release};

plumb_status plumb_comm_attach_device(plumb_comm *c, const struct plumb_comm_device *device)
{
    PLUMB_REQUIRE(!c->link, PLUMB_ERR_ARG, "the communicator has a device already");
    PLUMB_REQUIRE(device->piece >= 0, PLUMB_ERR_ARG,
                  "pieces of %lld floats, expected at least 0 (0: the default)",
                  (long long)device->piece);
    c->device = *device;
    if (device->piece == 0)
        c->device.piece = PIECE;
    if (c->size == 1)
        return PLUMB_OK;
    const int64_t bytes = c->device.piece * (int64_t)sizeof(float);
    void *out = NULL, *in = NULL, *sum = NULL;
    plumb_status st = device->alloc_host(device->arg, &out, bytes);
    if (st == PLUMB_OK)
        st = device->alloc_host(device->arg, &in, bytes);
    if (st == PLUMB_OK)
        st = device->alloc(device->arg, &sum, bytes);
    c->staging.out = out, c->staging.in = in, c->staging.sum = sum;
    if (st != PLUMB_OK) {
        staging_release(c);
        return plumb_pass_at(st, __FILE__, __LINE__, "plumb_comm_attach_device");
    }
    c->link = &staged;
    snprintf(c->link_name, sizeof(c->link_name), "host memory");
    return PLUMB_OK;
}

void plumb_comm_detach_device(plumb_comm *c)
{
    if (!c || !c->link)
        return;
    c->link->detach(c);
    c->link = NULL;
}

bool plumb_comm_own_order(const plumb_comm *c)
{
    return c->link && c->link->reduce;
}

const char *plumb_comm_device_name(const plumb_comm *c)
{
    return c->link ? c->link_name : "none";
}
