/* topology.c - the hardware that each rank runs on (cores, NUMA node, GPU, network devices), and
 * faults in the placement of the ranks. Layer 2. Includes topology.h, base/, hwloc.h. */
#include "backend/topology.h"

#include <hwloc.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MOST_ROWS = 32 };

static bool has_core(const struct plumb_topology *t, int core)
{
    return t->cores[core / 64] >> (core % 64) & 1;
}

void plumb_topology_cores(struct plumb_topology *out, const char *host)
{
    cpu_set_t set;
    *out = (struct plumb_topology){.numa = -1, .gpu_numa = -1};
    snprintf(out->host, sizeof(out->host), "%s", host);
    out->on_host = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return;
    for (int c = 0; c < PLUMB_TOPOLOGY_CORES && c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &set))
            out->cores[c / 64] |= UINT64_C(1) << (c % 64);
}

/* Returns the only NUMA node that has one of the cores; -1 if there are several or none. */
static int node_of_cores(hwloc_topology_t machine, const struct plumb_topology *t)
{
    hwloc_obj_t node = NULL;
    int found = -1;
    while ((node = hwloc_get_next_obj_by_type(machine, HWLOC_OBJ_NUMANODE, node))) {
        bool here = false;
        for (int c = 0; c < PLUMB_TOPOLOGY_CORES; c++)
            here |= has_core(t, c) && hwloc_bitmap_isset(node->cpuset, (unsigned)c);
        if (here && found >= 0)
            return -1;
        if (here)
            found = (int)node->os_index;
    }
    return found;
}

static int node_of_gpu(hwloc_topology_t machine, const char *gpu)
{
    hwloc_obj_t device = *gpu ? hwloc_get_pcidev_by_busidstring(machine, gpu) : NULL;
    hwloc_obj_t near = device ? hwloc_get_non_io_ancestor_obj(machine, device) : NULL;
    const bool one = near && near->nodeset && hwloc_bitmap_weight(near->nodeset) == 1;
    return one ? hwloc_bitmap_first(near->nodeset) : -1;
}

static void list_network(hwloc_topology_t machine, struct plumb_topology *t)
{
    hwloc_obj_t device = NULL;
    while ((device = hwloc_get_next_osdev(machine, device))) {
        const hwloc_obj_osdev_type_t type = device->attr->osdev.type;
        const size_t used = strlen(t->network);
        if (!device->name ||
            (type != HWLOC_OBJ_OSDEV_NETWORK && type != HWLOC_OBJ_OSDEV_OPENFABRICS))
            continue;
        if (used + 1 + strlen(device->name) < sizeof(t->network))
            snprintf(t->network + used, sizeof(t->network) - used, "%s%s", used ? " " : "",
                     device->name);
    }
}

plumb_status plumb_topology_read(struct plumb_topology *out, const char *gpu, int threads)
{
    hwloc_topology_t machine;
    PLUMB_REQUIRE(hwloc_topology_init(&machine) == 0, PLUMB_ERR_IO,
                  "hwloc cannot read the topology of this machine");
    hwloc_topology_set_io_types_filter(machine, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    if (hwloc_topology_load(machine) != 0) {
        hwloc_topology_destroy(machine);
        PLUMB_FAIL(PLUMB_ERR_IO, "hwloc cannot read the topology of this machine");
    }
    snprintf(out->gpu, sizeof(out->gpu), "%s", gpu);
    out->threads = threads;
    out->numa = node_of_cores(machine, out);
    out->gpu_numa = node_of_gpu(machine, gpu);
    list_network(machine, out);
    hwloc_topology_destroy(machine);
    return PLUMB_OK;
}

static bool same_host(const struct plumb_topology *a, const struct plumb_topology *b)
{
    return strcmp(a->host, b->host) == 0;
}

static bool share_core(const struct plumb_topology *a, const struct plumb_topology *b)
{
    bool shared = false;
    for (int i = 0; i < PLUMB_TOPOLOGY_CORES / 64; i++)
        shared |= (a->cores[i] & b->cores[i]) != 0;
    return shared && same_host(a, b);
}

int plumb_topology_sharing(const struct plumb_topology *row, int n, int rank)
{
    int sharing = 1;
    for (int r = 0; r < n; r++)
        sharing += r != rank && share_core(&row[r], &row[rank]);
    return sharing;
}

static int count_cores(const struct plumb_topology *t)
{
    int n = 0;
    for (int c = 0; c < PLUMB_TOPOLOGY_CORES; c++)
        n += has_core(t, c);
    return n;
}

/* Appends the cores as ranges: "0-3,8". */
static plumb_status put_cores(struct plumb_buf *out, const struct plumb_topology *t)
{
    const char *before = "";
    for (int c = 0; c < PLUMB_TOPOLOGY_CORES; c++) {
        int last = c;
        if (!has_core(t, c))
            continue;
        while (last + 1 < PLUMB_TOPOLOGY_CORES && has_core(t, last + 1))
            last++;
        PLUMB_TRY(last > c ? plumb_buf_addf(out, "%s%d-%d", before, c, last)
                           : plumb_buf_addf(out, "%s%d", before, c));
        before = ",";
        c = last;
    }
    return PLUMB_OK;
}

static plumb_status put_node(struct plumb_buf *out, int node)
{
    if (node < 0)
        return plumb_buf_add_text(out, "  -   ");
    return plumb_buf_addf(out, "  %-4d", node);
}

plumb_status plumb_topology_table(struct plumb_buf *out, const struct plumb_topology *row, int n)
{
    struct plumb_buf cores = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st,
                   plumb_buf_addf(out, "  %-5s %-16s %-16s %-7s  %-4s  %-12s  %-4s  %s\n", "rank",
                                  "host", "cores", "threads", "NUMA", "GPU", "NUMA", "network"),
                   done);
    for (int r = 0; r < n && r < MOST_ROWS; r++) {
        plumb_buf_clear(&cores);
        PLUMB_TRY_GOTO(st, put_cores(&cores, &row[r]), done);
        PLUMB_TRY_GOTO(st,
                       plumb_buf_addf(out, "  %-5d %-16s %-16s %-7d", r, row[r].host,
                                      plumb_buf_text(&cores), row[r].threads),
                       done);
        PLUMB_TRY_GOTO(st, put_node(out, row[r].numa), done);
        PLUMB_TRY_GOTO(st, plumb_buf_addf(out, "  %-12s", *row[r].gpu ? row[r].gpu : "-"), done);
        PLUMB_TRY_GOTO(st, put_node(out, row[r].gpu_numa), done);
        PLUMB_TRY_GOTO(st, plumb_buf_addf(out, "  %s\n", *row[r].network ? row[r].network : "-"),
                       done);
    }
    if (n > MOST_ROWS)
        st = plumb_buf_addf(out, "  and %d more ranks\n", n - MOST_ROWS);
done:
    plumb_buf_fini(&cores);
    return st;
}

/* Returns the sum of the threads of all ranks that may run on a core of rank r. */
static int64_t threads_beside(const struct plumb_topology *row, int n, int r)
{
    int64_t threads = 0;
    for (int k = 0; k < n; k++)
        threads += share_core(&row[k], &row[r]) ? row[k].threads : 0;
    return threads;
}

static int ranks_on_host(const struct plumb_topology *row, int n, int r)
{
    int ranks = 0;
    for (int k = 0; k < n; k++)
        ranks += same_host(&row[k], &row[r]);
    return ranks;
}

plumb_status plumb_topology_faults(struct plumb_buf *out, const struct plumb_topology *row, int n)
{
    int far = -1, crowded = -1, split = -1;
    for (int r = n - 1; r >= 0; r--) {
        if (row[r].numa >= 0 && row[r].gpu_numa >= 0 && row[r].numa != row[r].gpu_numa)
            far = r;
        if (plumb_topology_sharing(row, n, r) > 1 && count_cores(&row[r]) < row[r].on_host &&
            threads_beside(row, n, r) > count_cores(&row[r]))
            crowded = r;
        if ((r ^ 1) < n && !same_host(&row[r], &row[r ^ 1]) && ranks_on_host(row, n, r) > 1 &&
            ranks_on_host(row, n, r ^ 1) > 1)
            split = r;
    }
    if (far >= 0)
        PLUMB_TRY(plumb_buf_addf(
            out,
            "rank %d runs on NUMA node %d, but its GPU %s is next to node %d: bind the rank to the "
            "cores of that node\n",
            far, row[far].numa, row[far].gpu, row[far].gpu_numa));
    if (crowded >= 0)
        PLUMB_TRY(plumb_buf_addf(
            out,
            "rank %d on %s shares its %d cores with other ranks, and together they have %lld "
            "threads: bind each rank to cores of its own, or set threads\n",
            crowded, row[crowded].host, count_cores(&row[crowded]),
            (long long)threads_beside(row, n, crowded)));
    if (split >= 0)
        PLUMB_TRY(plumb_buf_addf(
            out,
            "ranks %d and %d, which exchange most, are on different hosts (%s, %s): let the "
            "launcher fill one host after the other (srun --distribution=block, mpirun --map-by "
            "slot)\n",
            split & ~1, split | 1, row[split & ~1].host, row[split | 1].host));
    return PLUMB_OK;
}
