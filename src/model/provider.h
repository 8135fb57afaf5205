/* provider.h - where the matrices of the layers are, and how a pass gets the matrices of one layer.
 * Layer 4, private to model/. Includes model/net.h.
 *
 *   resident   all layers are in m->packed
 *   offload    all layers are in page-locked host memory
 *   sharded    each rank has a share of every layer; a gather sends all shares to all ranks
 *
 * If offloaded or sharded, layer l is read from buffer l mod 2, and layer l + 1 is copied or
 * gathered to the other buffer while layer l is computed. (A gather through host memory ends before
 * layer l is computed.)
 *
 *     buffer 0   | layer 0           | layer 2 arrives   | layer 2           | ...
 *     buffer 1   | layer 1 arrives   | layer 1           | layer 3 arrives   | ...
 *     computes     layer 0             layer 1             layer 2
 *
 * The embedding, the head, norms and biases are always on the device. */
#ifndef PLUMB_MODEL_PROVIDER_H
#define PLUMB_MODEL_PROVIDER_H

#include "model/net.h"

struct plumb_provider {
    struct plumb_frozen how;
    int64_t layers, most; /* number of layers; elements of the largest one */
    plumb_real *buffer[2];
    int64_t held[2]; /* the layer in each buffer; -1 if there is none */
    int64_t next;    /* sharded: the first layer that the running pass has not gathered */
    int64_t *begin;  /* (layers,) offload: offset in host; sharded: offset in share; in elements */
    /* offload: host has all layers, one after the other; sharded: share has, on the device, this
     * rank's share of each layer */
    plumb_real *host, *share;
    struct plumb_arena arena; /* the buffers and the share */
};

/* Allocates the memory of m's layers; does nothing if they are resident. m->net must be complete.
 */
plumb_status plumb_provider_create(plumb_model *m, const struct plumb_frozen *how);
void plumb_provider_destroy(plumb_model *m);
/* Copies elements [at, at + n) of the packed weights from `packed`, in host memory, to where m
 * holds them. If m is sharded, it stores only this rank's share of a layer. */
plumb_status plumb_provider_store(plumb_model *m, int64_t at, const void *packed, int64_t n);

/* Makes the matrices of layer l readable for kernels that are launched afterwards, and starts to
 * copy or gather layer l + 1. Every forward pass calls it for each layer in ascending order.
 * Collective if m is sharded. */
plumb_status plumb_provider_want(const plumb_model *m, int64_t l);
/* Ends a pass, also one that failed. If m is sharded, gathers the layers that the pass has not
 * gathered, because the other ranks wait for this rank's shares; collective. Otherwise does
 * nothing. */
plumb_status plumb_provider_finish(const plumb_model *m);

/* Return the weights that the matrix products of layer l, or of the head, read. The weights of
 * layer l are valid after plumb_provider_want(m, l) and until plumb_provider_want(m, l + 1). */
struct plumb_weights plumb_weights_of_layer(const plumb_model *m, int64_t l);
struct plumb_weights plumb_weights_of_head(const plumb_model *m);

/* Returns the number of elements in m->packed. packed: the number of elements of all packed
 * weights. If `how` is resident, m->packed has all of them, otherwise all except those of the
 * layers. */
int64_t plumb_provider_resident(const plumb_model *m, const struct plumb_frozen *how,
                                int64_t packed);

#endif
