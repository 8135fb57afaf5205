/* topology.h - the hardware that each rank runs on (cores, NUMA node, GPU, network devices), and
 * faults in the placement of the ranks. Layer 2. Includes base/ only; topology.c is the only user
 * of hwloc. */
#ifndef PLUMB_BACKEND_TOPOLOGY_H
#define PLUMB_BACKEND_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

enum { PLUMB_TOPOLOGY_CORES = 1024 }; /* cores (hardware threads) that a row can hold */

/* Describes one rank. A row has a fixed size, so that ranks can exchange it. */
struct plumb_topology {
    char host[64];
    /* (PLUMB_TOPOLOGY_CORES / 64,) bit c % 64 of element c / 64: the process may run on core c */
    uint64_t cores[PLUMB_TOPOLOGY_CORES / 64];
    int32_t on_host;  /* number of cores of the host that are online */
    int32_t threads;  /* threads that the rank computes with */
    int32_t numa;     /* NUMA node of the cores; -1 if they lie on several nodes, or if unknown */
    int32_t gpu_numa; /* NUMA node next to the GPU; -1 if there is no GPU, or if unknown */
    char gpu[24];     /* PCI id of the GPU, such as "0000:3b:00.0"; "" on the CPU */
    char network[64]; /* names of the host's network devices, with blanks between; or "" */
};

/* Sets the host and the cores of this process. Needs no hwloc, so it is fast. Not collective. */
void plumb_topology_cores(struct plumb_topology *out, const char *host);
/* Sets the other fields with hwloc, after plumb_topology_cores. gpu is the PCI id of the GPU, or
 * "". Fails with PLUMB_ERR_IO if hwloc cannot read the machine. Not collective. */
plumb_status plumb_topology_read(struct plumb_topology *out, const char *gpu, int threads);

/* Writes the PCI id of the GPU of this process to out (size bytes). Exists only if PLUMB_HAVE_CUDA
 * is 1. Fails with PLUMB_ERR_DEVICE if CUDA reports an error. Not collective. */
plumb_status plumb_topology_gpu(char *out, int size);

/* Returns the number of ranks among row (n,), including `rank`, that are on its host and may run on
 * one of its cores. */
int plumb_topology_sharing(const struct plumb_topology *row, int n, int rank);

/* Appends a table with one line per rank, for the first 32 ranks, and the number of the others. */
plumb_status plumb_topology_table(struct plumb_buf *out, const struct plumb_topology *row, int n);
/* Appends one line for each kind of fault in the placement of n ranks, about the lowest rank that
 * has it:
 *   - the cores of a rank lie on another NUMA node than its GPU
 *   - ranks are bound to the same few cores of a host, and have more threads than these cores
 *   - ranks r and r ^ 1, which exchange the most data, are on different hosts, although each host
 * has several ranks (the launcher dealt the ranks one by one to the hosts) */
plumb_status plumb_topology_faults(struct plumb_buf *out, const struct plumb_topology *row, int n);

#endif
