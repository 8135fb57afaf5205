/* test_topology.c - checks the table of ranks and cores, and the faults of a placement that it
 * reports.
 * Test. Includes harness.h, backend/. */
#include "backend/topology.h"

#include <string.h>

#include "harness.h"

static struct plumb_topology row_of(const char *host, uint64_t cores, int threads, int numa)
{
    struct plumb_topology t = {
        .cores = {cores}, .on_host = 64, .threads = threads, .numa = numa, .gpu_numa = -1};
    strcpy(t.host, host);
    return t;
}

static void check_faults(const struct plumb_topology *row, int n, const char *words)
{
    struct plumb_buf b = {0};
    CHECK_OK(plumb_topology_faults(&b, row, n));
    CHECKF(*words ? strstr(plumb_buf_text(&b), words) != NULL : b.len == 0, "%s: '%s'", words,
           plumb_buf_text(&b));
    plumb_buf_fini(&b);
}

static void test_this_machine(void)
{
    struct plumb_topology t;
    struct plumb_buf b = {0};
    plumb_topology_cores(&t, "here");
    CHECK(plumb_topology_sharing(&t, 1, 0) == 1);
    CHECK_OK(plumb_topology_read(&t, "", 3));
    CHECK(t.threads == 3 && !*t.gpu && t.gpu_numa == -1 && t.numa >= -1);
    /* the PCI address of a GPU that does not exist */
    CHECK_OK(plumb_topology_read(&t, "ffff:ff:1f.0", 3));
    CHECK(t.gpu_numa == -1);
    CHECK_OK(plumb_topology_table(&b, &t, 1));
    CHECKF(strstr(b.data, "here") && strstr(b.data, "ffff:ff:1f.0"), "%s", b.data);
    plumb_buf_fini(&b);
}

static void test_table(void)
{
    struct plumb_topology row[40];
    struct plumb_buf b = {0};
    for (int r = 0; r < 40; r++)
        row[r] = row_of("node", UINT64_C(0x10f), 2, r % 2);
    CHECK_OK(plumb_topology_table(&b, row, 40));
    CHECKF(strstr(b.data, "0-3,8") && strstr(b.data, "and 8 more ranks"), "%s", b.data);
    plumb_buf_fini(&b);
}

static void test_cores(void)
{
    struct plumb_topology row[] = {row_of("a", 0x3, 2, 0), row_of("a", 0xc, 2, 0),
                                   row_of("b", 0x3, 2, 0)};
    CHECK(plumb_topology_sharing(row, 3, 0) == 1 && plumb_topology_sharing(row, 3, 2) == 1);
    check_faults(row, 3, "");
    /* ranks 0 and 1 have core 1 in common; together they have 4 threads, but 3 cores */
    row[1].cores[0] = 0x6;
    CHECK(plumb_topology_sharing(row, 3, 0) == 2 && plumb_topology_sharing(row, 3, 1) == 2);
    check_faults(row, 3,
                 "rank 0 on a shares its 2 cores with other ranks, and together they have 4");
    /* neither rank is bound to a part of its host's cores, although there are several ranks */
    row[0].on_host = row[1].on_host = 2;
    check_faults(row, 3, "");
    row[0].on_host = row[1].on_host = 64;
    row[0].threads = row[1].threads = 1;
    check_faults(row, 3, "");
    row[2] = row_of("a", 0, 1, 0); /* rank 2 runs on core 70 */
    row[2].cores[1] = 1 << 6;
    CHECK(plumb_topology_sharing(row, 3, 2) == 1);
}

static void test_numa(void)
{
    struct plumb_topology row[] = {row_of("a", 0x1, 1, 0), row_of("a", 0x2, 1, 1)};
    strcpy(row[1].gpu, "0000:3b:00.0");
    row[1].gpu_numa = 1;
    check_faults(row, 2, "");
    row[1].gpu_numa = 0;
    check_faults(row, 2, "rank 1 runs on NUMA node 1, but its GPU 0000:3b:00.0 is next to node 0");
    row[1].numa = -1; /* numa = -1: the rank may run on all NUMA nodes */
    check_faults(row, 2, "");
}

static void test_order(void)
{
    struct plumb_topology row[] = {row_of("a", 0x1, 1, 0), row_of("b", 0x1, 1, 0),
                                   row_of("a", 0x2, 1, 0), row_of("b", 0x2, 1, 0)};
    check_faults(row, 4, "ranks 0 and 1, which exchange most, are on different hosts (a, b)");
    check_faults(row, 2, ""); /* the first two ranks are on different hosts, with one rank each */
    struct plumb_topology block[] = {row[0], row[2], row[1], row[3]};
    check_faults(block, 4, "");
    check_faults(block, 3, "");
}

int main(void)
{
    test_this_machine();
    test_table();
    test_cores();
    test_numa();
    test_order();
    return 0;
}
