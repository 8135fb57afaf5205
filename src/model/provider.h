/* provider.h - where the matrices of a layer lie when a pass computes it: "layer l, please".
 * Layer 4, private to model/. Includes model/net.h.
 *
 *   resident   all layers are in m->packed
 *   offload    all layers are in page-locked host memory
 *   sharded    this rank has its share of every layer; a gather brings the whole layer
 *
 * In the last two, layer l is read from buffer l mod 2, and layer l + 1 is brought to the other
 * buffer while layer l is computed. (A gather through host memory ends before layer l is computed.)
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

/* Makes the matrices of layer l readable, and starts to bring layer l + 1. Every forward pass calls
 * it for each layer in ascending order. Collective if m is sharded. */
plumb_status plumb_provider_want(const plumb_model *m, int64_t l);
/* Ends a pass, which may have failed: gathers the layers that it did not want, because the other
 * ranks wait for this one. Collective if m is sharded; does nothing otherwise. */
plumb_status plumb_provider_finish(const plumb_model *m);

/* Return the weights that the matrix products of layer l, or of the head, read. Those of a layer
 * are valid after plumb_provider_want of the layer, until that of the next one. */
struct plumb_weights plumb_weights_of_layer(const plumb_model *m, int64_t l);
struct plumb_weights plumb_weights_of_head(const plumb_model *m);

/* Returns how many of all `packed` elements of the packed weights m->packed holds: all if `how` is
 * resident, otherwise all except those of the layers. */
int64_t plumb_provider_resident(const plumb_model *m, const struct plumb_frozen *how,
                                int64_t packed);

#endif
