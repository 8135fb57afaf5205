/* test_comm.c - checks that every implementation of plumb_comm does what comm.h promises.
 *   test_comm single | thread N | faults | mpi | mpi-late | mpi-disagree | mpi-places | mpi-abort
 */
#define CHECK_EXIT LATE /* a slow machine can make a check fail; see harness.h */

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/num.h"
#include "comm/comm.h"
#include "comm/tree.h"
#include "harness.h"
#include "threads.h"
#include "tree_sums.h"

/* Checks that ranks that make the same call of a collective at different places of the source get
 * an error and exchange no values. Different places mean that one rank may have failed alone. */
static void places_differ(plumb_comm *c)
{
    double x = 1;
    plumb_status st;
    plumb_comm_check_calls(c, false);
    plumb_comm_max_wait(c, 2 * test_pace());
    if (plumb_comm_rank(c) == 1)
        st = plumb_comm_allreduce_f64(c, &x, 1, PLUMB_SUM);
    else
        st = plumb_comm_allreduce_f64(c, &x, 1, PLUMB_SUM);
    /* ranks 0 and 2 call at the same place, so they may have added their values */
    CHECK(st == PLUMB_ERR_COMM && (x == 1 || plumb_comm_size(c) > 2));
    CHECKF(strstr(plumb_trail_message(), "disagree"), "%s", plumb_trail_message());
}

#ifdef PLUMB_HAVE_MPI
#include "comm/mpi_impl.h"
#endif

#define SEEN_EXIT  42  /* exit code of the modes mpi-..., if rank 0 gets the expected message */
#define MAX_WAIT_S 1.5 /* seconds, times test_pace(): comm.max_wait in mode mpi-late */

static double value_of(int rank, int64_t i)
{
    return (double)((i * 7 + rank * 13 + 1) % 101 - 50);
}

static void check_allreduce(plumb_comm *c, int64_t n)
{
    const int r = plumb_comm_rank(c), size = plumb_comm_size(c);
    const enum plumb_redop ops[] = {PLUMB_SUM, PLUMB_MIN, PLUMB_MAX};
    double *v = malloc((size_t)(n + 1) * sizeof(double));
    for (int o = 0; o < 3; o++) {
        for (int64_t i = 0; i < n; i++)
            v[i] = value_of(r, i);
        v[n] = 1234.5;
        CHECK_OK(plumb_comm_allreduce_f64(c, v, n, ops[o]));
        for (int64_t i = 0; i < n; i++) {
            double want = value_of(0, i);
            for (int k = 1; k < size; k++) {
                const double x = value_of(k, i);
                want = o == 0 ? want + x : o == 1 ? fmin(want, x) : fmax(want, x);
            }
            CHECKF(v[i] == want, "op %d rank %d of %d: [%lld] %g != %g", o, r, size, (long long)i,
                   v[i], want);
        }
        CHECK(v[n] == 1234.5);
    }
    free(v);
}

/* Checks that every rank gets the same bits for a sum that is rounded. */
static void check_same_bits(plumb_comm *c)
{
    double v[3] = {0.1 * (plumb_comm_rank(c) + 1), 1e-17, plumb_comm_rank(c) ? 0.0 : -0.0};
    double all[3 * 64];
    int64_t count[64];
    CHECK_OK(plumb_comm_allreduce_f64(c, v, 2, PLUMB_SUM));
    CHECK_OK(plumb_comm_allreduce_f64(c, v + 2, 1, PLUMB_MIN));
    CHECK_OK(plumb_comm_allgather(c, all, sizeof(all), count, v, sizeof(v)));
    for (int r = 0; r < plumb_comm_size(c); r++)
        CHECK(memcmp(all + 3 * r, v, sizeof(v)) == 0);
    double nan = plumb_comm_rank(c) == plumb_comm_size(c) - 1 ? NAN : 1.0;
    CHECK_OK(plumb_comm_allreduce_f64(c, &nan, 1, PLUMB_MIN));
    CHECK(isnan(nan));
}

/* Checks the sum of a vector in which each element is set by one rank and is 0 on all other ranks.
 * The sum must have every value unchanged, on any number of ranks. */
static void check_slots(plumb_comm *c)
{
    double slot[40], want[40];
    struct rng rng = {4711};
    for (int leaves = 1; leaves <= 40; leaves += 13) {
        const struct plumb_range own =
            plumb_tree_leaves(leaves, plumb_comm_rank(c), plumb_comm_size(c));
        for (int i = 0; i < leaves; i++) {
            want[i] = ldexp(rng_u(&rng) - 0.5, (int)(rng_u(&rng) * 200) - 100) + 1e-300;
            slot[i] = i >= own.begin && i < own.end ? want[i] : 0.0;
        }
        CHECK_OK(plumb_comm_allreduce_f64(c, slot, leaves, PLUMB_SUM));
        CHECK(memcmp(slot, want, (size_t)leaves * sizeof(double)) == 0);
    }
}

static void check_broadcast(plumb_comm *c)
{
    const int64_t sizes[] = {0, 1, 5, 4096, (3 << 20) + 17};
    for (int s = 0; s < 5; s++)
        for (int root = 0; root < plumb_comm_size(c); root++) {
            const int64_t n = sizes[s];
            unsigned char *b = malloc((size_t)n + 1);
            for (int64_t i = 0; i <= n; i++)
                b[i] = plumb_comm_rank(c) == root ? (unsigned char)(i * 31 + root) : 0xee;
            b[n] = 0x5a;
            CHECK_OK(plumb_comm_broadcast(c, b, n, root));
            for (int64_t i = 0; i < n; i++)
                CHECK(b[i] == (unsigned char)(i * 31 + root));
            CHECK(b[n] == 0x5a);
            free(b);
        }
    char b = 0;
    CHECK(plumb_comm_broadcast(c, &b, 1, plumb_comm_size(c)) == PLUMB_ERR_ARG); /* no wait */
    CHECK(plumb_comm_broadcast(c, &b, 1, -1) == PLUMB_ERR_ARG);
}

static void check_allgather(plumb_comm *c)
{
    const int r = plumb_comm_rank(c), size = plumb_comm_size(c);
    int64_t count[64];
    char mine[64 * 5], all[64 * 64 * 5 + 1];
    /* Rank r sends 5 (r % 3) bytes, so some ranks send none. */
    const int64_t bytes = 5 * (r % 3);
    int64_t total = 0;
    for (int k = 0; k < size; k++)
        total += 5 * (k % 3);
    memset(mine, 'a' + r, sizeof(mine));
    all[total] = '#';
    CHECK_OK(plumb_comm_allgather(c, all, total, count, mine, bytes));
    const char *at = all;
    for (int k = 0; k < size; k++) {
        CHECK(count[k] == 5 * (k % 3));
        for (int64_t i = 0; i < count[k]; i++)
            CHECK(*at++ == 'a' + k);
    }
    CHECK(*at == '#');
    CHECK_OK(plumb_comm_allgather(c, NULL, 0, count, NULL, 0));
    CHECK(count[size - 1] == 0);
    /* If the last rank has too little room, the call fails on every rank. Later calls work. */
    const int64_t cap = r == size - 1 ? 4 * size - 1 : 4 * size;
    CHECK(plumb_comm_allgather(c, all, cap, count, mine, 4) == PLUMB_ERR_NOMEM);
    char who[32];
    snprintf(who, sizeof(who), "rank %d has room", size - 1);
    CHECKF(strstr(plumb_trail_message(), who), "%s", plumb_trail_message());
    CHECK_OK(plumb_comm_barrier(c));
}

/* Checks the messages of an allgather. On W = 2^k ranks, each rank sends k messages for small
 * parts and W - 1 for large ones. Before that, an allreduce of the sizes takes k messages. */
static void check_allgather_messages(plumb_comm *c)
{
    const int r = plumb_comm_rank(c), size = plumb_comm_size(c);
    const int64_t each[] = {1, 64 << 10, (64 << 10) + 1};
    int64_t count[64], rounds = 0;
    while (1 << rounds < size)
        rounds++;
    char *mine = malloc((size_t)each[2]), *all = malloc((size_t)(each[2] * size));
    memset(mine, 'a' + r % 26, (size_t)each[2]);
    for (int i = 0; i < 3; i++) {
        const struct plumb_traffic before = plumb_comm_traffic(c, PLUMB_TRAFFIC_CONTROL);
        CHECK_OK(plumb_comm_allgather(c, all, each[i] * size, count, mine, each[i]));
        const struct plumb_traffic after = plumb_comm_traffic(c, PLUMB_TRAFFIC_CONTROL);
        for (int k = 0; k < size; k++)
            for (int64_t at = 0; at < each[i]; at += plumb_max_i64(each[i] - 1, 1))
                CHECK(all[k * each[i] + at] == 'a' + k % 26);
#ifndef PLUMB_COMM_CHECK_CALLS /* the collective check would send messages of its own */
        const int64_t steps = i < 2 ? rounds : size - 1;
        if (plumb_is_pow2(size))
            CHECKF(after.messages - before.messages == rounds + steps, "%lld",
                   (long long)(after.messages - before.messages));
        if (plumb_is_pow2(size))
            CHECK(after.bytes - before.bytes == rounds * 16 * size + (size - 1) * each[i]);
#else
        (void)before, (void)after, (void)rounds;
#endif
    }
    free(all);
    free(mine);
}

/* Returns the number of bytes that rank a sends to rank b: none for a third of the pairs, and more
 * than one message for ranks 0 and 1. */
static int64_t part_bytes(int a, int b)
{
    return (a + 2 * b) % 3 == 0 ? 0 : 7 * a + 5 * b + 1 + (a + b == 1 ? 300000 : 0);
}

static void check_alltoall(plumb_comm *c)
{
    const int r = plumb_comm_rank(c), size = plumb_comm_size(c);
    int64_t give[64], get[64], out = 0, in = 0;
    for (int k = 0; k < size; k++) {
        out += give[k] = part_bytes(r, k);
        in += get[k] = part_bytes(k, r);
    }
    char *send = malloc((size_t)out + 1), *recv = malloc((size_t)in + 1), *at = send;
    for (int k = 0; k < size; k++)
        for (int64_t i = 0; i < give[k]; i++)
            *at++ = (char)(r * 31 + k * 7 + i % 11);
    recv[in] = '#';
    const struct plumb_traffic before = plumb_comm_traffic(c, PLUMB_TRAFFIC_CONTROL);
    CHECK_OK(plumb_comm_alltoall(c, recv, get, send, give));
    const struct plumb_traffic after = plumb_comm_traffic(c, PLUMB_TRAFFIC_CONTROL);
    CHECK(after.seconds >= before.seconds);
    at = recv;
    for (int k = 0; k < size; k++)
        for (int64_t i = 0; i < get[k]; i++)
            CHECK(*at++ == (char)(k * 31 + r * 7 + i % 11));
    CHECK(*at == '#');
#ifndef PLUMB_COMM_CHECK_CALLS /* the collective check would send messages of its own */
    int64_t messages = 0;
    for (int k = 0; k < size; k++)
        messages += k != r && give[k] > 0;
    CHECK(after.messages - before.messages == messages);
    CHECK(after.bytes - before.bytes == out - give[r]);
#endif
    memset(give, 0, sizeof(give));
    CHECK_OK(plumb_comm_alltoall(c, NULL, give, NULL, give));
    CHECK(plumb_comm_alltoall(c, NULL, give, NULL, NULL) == PLUMB_ERR_ARG);
    give[0] = 1;
    CHECK(plumb_comm_alltoall(c, recv, give, NULL, give) == PLUMB_ERR_ARG);
    give[0] = -1;
    CHECK(plumb_comm_alltoall(c, recv, give, send, give) == PLUMB_ERR_ARG);
    free(send);
    free(recv);
}

/* Checks the messages and bytes of a rank. With equal shards on W ranks, reduction and gather each
 * send log2 W messages and (W - 1) / W of the vector. A barrier sends ceil(log2 W) times 8 bytes.
 */
static void check_traffic(plumb_comm *c)
{
    const int64_t size = plumb_comm_size(c), n = 3 * size * PLUMB_SHARD_BLOCK;
    int64_t rounds = 0;
    while (1 << rounds < size)
        rounds++;
    const struct plumb_traffic control = plumb_comm_traffic(c, PLUMB_TRAFFIC_CONTROL);
    CHECK_OK(plumb_comm_barrier(c));
    const struct plumb_traffic barrier = plumb_comm_traffic(c, PLUMB_TRAFFIC_CONTROL);
#ifndef PLUMB_COMM_CHECK_CALLS /* the collective check would send messages of its own */
    CHECK(barrier.messages - control.messages == rounds);
    CHECK(barrier.bytes - control.bytes == rounds * 8);
#endif
    CHECK(barrier.seconds > control.seconds);
    if (!plumb_is_pow2(size))
        return;
    float *g = calloc((size_t)n, sizeof(float));
    const struct plumb_traffic before = plumb_comm_traffic(c, PLUMB_TRAFFIC_EXCHANGE);
    CHECK_OK(plumb_comm_reduce_tree(c, g, n, PLUMB_HOST));
    CHECK_OK(plumb_comm_allgather_shards(c, g, n, PLUMB_HOST));
    const struct plumb_traffic after = plumb_comm_traffic(c, PLUMB_TRAFFIC_EXCHANGE);
    CHECK(after.messages - before.messages == 2 * rounds);
    CHECK(after.bytes - before.bytes == 2 * (n - n / size) * (int64_t)sizeof(float));
    free(g);
}

static void check_agree(plumb_comm *c)
{
    const int r = plumb_comm_rank(c), size = plumb_comm_size(c);
    CHECK_OK(plumb_comm_agree(c, PLUMB_OK));
    plumb_status mine = PLUMB_OK;
    if (r == size - 1) /* only the last rank fails */
        mine = plumb_fail_at(PLUMB_ERR_IO, "f.c", 1, "cannot write shard-7");
    const plumb_status all = plumb_comm_agree(c, mine);
    if (r == size - 1) {
        CHECK(all == PLUMB_ERR_IO && strstr(plumb_trail_message(), "shard-7"));
    } else {
        char who[32];
        snprintf(who, sizeof(who), "rank %d", size - 1);
        CHECK(all == PLUMB_ERR_PEER);
        CHECKF(strstr(plumb_trail_message(), who) && strstr(plumb_trail_message(), "shard-7"), "%s",
               plumb_trail_message());
    }
    /* Failing ranks keep their own error. The others get the error of the lowest failing rank. */
    mine = r % 2 ? plumb_fail_at(PLUMB_ERR_FORMAT, "f.c", 1, "bad line %d", r) : PLUMB_OK;
    const plumb_status odd = plumb_comm_agree(c, mine);
    CHECK(odd == (size == 1 ? PLUMB_OK : r % 2 ? PLUMB_ERR_FORMAT : PLUMB_ERR_PEER));
    if (size > 1 && r % 2 == 0)
        CHECK(strstr(plumb_trail_message(), "bad line 1"));
    CHECK_OK(plumb_comm_agree(c, PLUMB_OK));
}

/* Checks that every number of a round goes to exactly one rank. A rank that has asked for a number
 * and not waited for it must get only numbers of the next round in the next round. */
static void check_count(plumb_comm *c)
{
    enum { N = 300 };
    const int r = plumb_comm_rank(c);
    for (int round = 0; round < 3; round++) {
        double taken[N] = {0};
        int64_t number = -1, before = -1, n = round == 1 ? 0 : N, late = 0;
        CHECK_OK(plumb_comm_barrier(c));
        plumb_comm_count_begin(c, n);
        while (number < n) {
            CHECK_OK(plumb_comm_count_take(c, (late + r) % 2 == 0, &number));
            late += number < 0;
            CHECK((late + r) % 2 != 0 || number >= 0 || late > 0);
            if (number < 0)
                continue;
            CHECK(number > before && number <= n);
            before = number;
            if (number < n)
                taken[number]++;
            if (round == 2 && r == 1 && number > 5)
                break;
        }
        if (round == 2 && r == 1) /* asks for a number and does not wait for it */
            CHECK_OK(plumb_comm_count_take(c, false, &number));
        CHECK_OK(plumb_comm_allreduce_f64(c, taken, N, PLUMB_SUM));
        int64_t missing = 0;
        for (int64_t i = 0; i < n; i++) {
            CHECKF(taken[i] <= 1, "number %lld went to %g ranks", (long long)i, taken[i]);
            missing += taken[i] == 0;
        }
        CHECKF(missing <= (round == 2), "%lld numbers went to nobody", (long long)missing);
    }
    int64_t number;
    plumb_comm_count_begin(c, 1000000);
    CHECK_OK(plumb_comm_count_take(c, true, &number));
    CHECK(number >= 0 && number < plumb_comm_size(c));
    CHECK_OK(plumb_comm_barrier(c));
}

/* Checks that the largest raised value reaches all ranks without a collective. */
static void check_raise(plumb_comm *c)
{
    const int r = plumb_comm_rank(c), size = plumb_comm_size(c);
    const int64_t before = plumb_comm_raised(c);
    CHECK_OK(plumb_comm_barrier(c));
    if (r == size - 1)
        plumb_comm_raise(c, before + 5);
    const double start = plumb_now();
    while (plumb_comm_raised(c) < before + 5) {
        CHECK(plumb_now() - start < 60 * test_pace());
        usleep(1000);
    }
    CHECK(plumb_comm_raised(c) == before + 5);
    CHECK_OK(plumb_comm_barrier(c));
    plumb_comm_raise(c, 1); /* less than the present value */
    plumb_comm_raise(c, before + 10 + r);
    while (plumb_comm_raised(c) < before + 10 + size - 1) {
        CHECK(plumb_now() - start < 60 * test_pace());
        usleep(1000);
    }
    CHECK_OK(plumb_comm_barrier(c));
    CHECK(plumb_comm_raised(c) == before + 10 + size - 1);
}

/* Checks vectors at several offsets in memory of plumb_comm_alloc, which other ranks can read. */
static void check_alloc(plumb_comm *c)
{
    const int64_t n = 3 * 4096 + 5, room = n + 64;
    float *in[3] = {0};
    for (int i = 0; i < 3; i++) {
        CHECK_OK(plumb_comm_alloc(c, (void **)&in[i], room * (int64_t)sizeof(float)));
        CHECK((uintptr_t)in[i] % 256 == 0);
        for (int64_t k = 0; k < room; k++)
            CHECK(in[i][k] == 0.0f);
    }
    void *none;
    CHECK(plumb_comm_alloc(c, &none, 0) == PLUMB_ERR_ARG);
    check_vectors(c, in[0], n, 5);
    check_vectors(c, in[1] + 13, n, 5);
    check_vectors(c, in[2] + room - n - 1, n, 5);
    plumb_comm_free(c, in[1]);
    check_vectors(c, in[2] + 1, n, 5);
    CHECK_OK(plumb_comm_alloc(c, (void **)&in[1], (int64_t)5000001 * 4)); /* sent in pieces */
    check_vectors(c, in[1], 5000000, 2);
    memset(in[0], 7 * plumb_comm_rank(c), 4096);
    CHECK_OK(plumb_comm_broadcast(c, in[0], 4096, plumb_comm_size(c) - 1));
    for (int i = 0; i < 4096; i++)
        CHECK(((unsigned char *)in[0])[i] == 7 * (plumb_comm_size(c) - 1));
    for (int i = 0; i < 3; i++)
        plumb_comm_free(c, in[i]);
    plumb_comm_free(c, NULL);
}

static void contract(plumb_comm *c)
{
    const int size = plumb_comm_size(c);
    CHECK(plumb_comm_rank(c) >= 0 && plumb_comm_rank(c) < size);
    CHECK(plumb_comm_local_rank(c) >= 0 && plumb_comm_local_rank(c) < plumb_comm_local_size(c));
    CHECK(plumb_comm_local_size(c) == size); /* all ranks of this test run on one host */
    CHECK(strlen(plumb_comm_host(c)) > 0 && strlen(plumb_comm_name(c)) > 0);
    plumb_comm_phase(c, "contract");
    const int64_t lengths[] = {0, 1, 1000, 4096, 4097, 10001};
    for (int i = 0; i < 6; i++)
        check_allreduce(c, lengths[i]);
    check_same_bits(c);
    check_slots(c);
    check_broadcast(c);
    check_allgather(c);
    check_allgather_messages(c);
    check_alltoall(c);
    check_traffic(c);
    const int64_t sizes[] = {0, 1, 4095, 4096, 4097, 3 * 4096 + 5, 300001};
    for (int i = 0; i < 7; i++)
        check_tree(c, sizes[i], 16);
    for (int64_t n = 0; n < 40000; n = 3 * n + 4096)
        check_halves(c, n + n % 8192 / 2);
    const int leaves[] = {1, 2, 3, 5, 6, 11, 13};
    for (int i = 0; i < 7; i++)
        check_tree(c, 2 * 4096 + 3, leaves[i]);
    CHECK(plumb_comm_reduce_tree(c, NULL, 1, PLUMB_HOST) == PLUMB_ERR_ARG);
    CHECK(plumb_comm_allreduce_f64(c, NULL, 1, PLUMB_SUM) == PLUMB_ERR_ARG);
    check_alloc(c);
    check_agree(c);
    check_raise(c);
    check_count(c);
    CHECK_OK(plumb_comm_barrier(c));
}

/* Checks that the other ranks fail within seconds if the last rank does not call the collective.
 * The error names the missing rank, the phase and the collective. Later calls fail at once. */
static void last_is_late(plumb_comm *c)
{
    const int last = plumb_comm_size(c) - 1;
    const double wait = 0.4 * test_pace();
    plumb_comm_max_wait(c, wait);
    CHECK_OK(plumb_comm_barrier(c));
    plumb_comm_phase(c, "save");
    if (plumb_comm_rank(c) == last) {
        usleep((useconds_t)(3e6 * wait));
        CHECK(plumb_comm_barrier(c) != PLUMB_OK);
        return;
    }
    double x = 1;
    const double start = plumb_now();
    CHECK(plumb_comm_allreduce_f64(c, &x, 1, PLUMB_SUM) == PLUMB_ERR_COMM);
    CHECK(plumb_now() - start < 5 * test_pace());
    char who[64];
    snprintf(who, sizeof(who), "did not arrive within %g s: rank %d on ", wait, last);
    const char *said = plumb_trail_message();
    CHECKF(strstr(said, who) && strstr(said, "\"save\"") && strstr(said, "allreduce"), "%s", said);
    CHECKF(!strstr(strstr(said, who) + strlen(who), "rank"), "names one rank only: %s", said);
    /* fails at once: the communicator stays unusable after an error */
    CHECK(plumb_comm_barrier(c) == PLUMB_ERR_COMM);
}

/* Checks the error of the other ranks if rank 0 aborts while they wait for it. */
static void first_aborts(plumb_comm *c)
{
    plumb_comm_check_calls(c, false); /* rank 0 and the others call barriers at different places */
    plumb_comm_phase(c, "rollout");
    if (plumb_comm_rank(c) == 0) {
        CHECK_OK((plumb_comm_barrier)(c)); /* not the macro, which passes the place of the call */
        const plumb_status st = plumb_fail_at(PLUMB_ERR_IO, "f.c", 1, "disk full");
        CHECK(st == PLUMB_ERR_IO);
        plumb_comm_abort(c, 5);
        CHECK(plumb_comm_barrier(c) == PLUMB_ERR_COMM);
        return;
    }
    plumb_status st = (plumb_comm_barrier)(c); /* may succeed: rank 0 calls one barrier, too */
    if (st == PLUMB_OK)
        st = (plumb_comm_barrier)(c);
    CHECK(st == PLUMB_ERR_PEER);
    const char *said = plumb_trail_message();
    CHECKF(strstr(said, "rank 0") && strstr(said, "disk full") && strstr(said, "\"rollout\""), "%s",
           said);
}

/* Checks that ranks that pass different sizes get an error that says so. */
static void sizes_differ(plumb_comm *c)
{
    double x[4] = {0};
    plumb_comm_check_calls(c, false); /* otherwise this check would refuse the call first */
    plumb_comm_max_wait(c, 2 * test_pace());
    CHECK(plumb_comm_allreduce_f64(c, x, 1 + (plumb_comm_rank(c) == 1), PLUMB_SUM) ==
          PLUMB_ERR_COMM);
    CHECKF(strstr(plumb_trail_message(), "disagree"), "%s", plumb_trail_message());
}

#ifdef PLUMB_HAVE_MPI
static plumb_status elsewhere(plumb_comm *c, double *x)
{
    return plumb_comm_allreduce_f64(c, x, 1000, PLUMB_SUM);
}

static void mpi_late(plumb_comm *c, const char *mode)
{
    const bool places = !strcmp(mode, "mpi-places");
    const bool disagree = places || !strcmp(mode, "mpi-disagree");
    const int r = plumb_comm_rank(c), last = plumb_comm_size(c) - 1;
    CHECK_OK(plumb_comm_barrier(c));
    plumb_comm_phase(c, "save");
    if (r == last && !disagree) {
        sleep((unsigned)(20 * test_pace()));
        return;
    }
    double x[1000] = {0};
    plumb_status st;
    if (r == last && places)
        st = elsewhere(c, x);
    else
        st = r == last ? plumb_comm_broadcast(c, x, 8, 0)
                       : plumb_comm_allreduce_f64(c, x, 1000, PLUMB_SUM);
    const char *said = plumb_trail_message();
    char who[32], wait[48];
    snprintf(who, sizeof(who), "rank %d", last);
    snprintf(wait, sizeof(wait), "did not arrive within %g s:", MAX_WAIT_S * test_pace());
    CHECK(st == PLUMB_ERR_COMM);
    if (r == 0) {
        fprintf(stderr, "%s\n", said);
        CHECK(strstr(said, who) && strstr(said, "allreduce"));
        CHECK(places || strstr(said, "\"save\""));
        CHECK(!strstr(said, "rank 1"));
        CHECK(places     ? strstr(said, "disagree")
              : disagree ? strstr(said, "broadcast")
                         : strstr(said, wait));
        plumb_comm_abort(c, SEEN_EXIT);
    }
    sleep((unsigned)(20 * test_pace())); /* rank 0 ends all ranks before this sleep is over */
}
#endif

static int on_mpi(const char *mode)
{
#ifdef PLUMB_HAVE_MPI
    plumb_comm *c = NULL;
    if (!strcmp(mode, "mpi")) {
        /* plumb_comm_create chooses MPI because of mpirun's environment variables */
        CHECK_OK(plumb_comm_create(&c, 120));
        CHECK(!strcmp(plumb_comm_name(c), "mpi"));
        contract(c);
        if (plumb_comm_size(c) > 1) /* ranks of one host exchange messages through shared memory */
            CHECK(plumb_shared_reaches(plumb_mpi_of(c), (plumb_comm_rank(c) + 1) % 2));
        void *window;
        int64_t offset = 4096;
        CHECK_OK(plumb_comm_alloc(c, &window, 8192));
        CHECK((plumb_window_find(plumb_mpi_of(c), (char *)window + 4096, 4096, &offset) > 0) ==
              (plumb_comm_size(c) > 1));
        CHECK(offset == 4096);
        CHECK(plumb_window_find(plumb_mpi_of(c), (char *)window + 4096, 4097, &offset) == 0);
        plumb_comm_free(c, window);
        /* as if ranks 0, 1 and ranks 2, 3 were on two hosts: shared memory and MPI are used */
        for (int r = 0; r < plumb_comm_size(c); r++)
            if ((r ^ plumb_comm_rank(c)) & 2)
                plumb_mpi_of(c)->shared.ring[r] = NULL;
        contract(c);
        plumb_mpi_of(c)->shared.on = false;
        contract(c);
        plumb_comm_destroy(&c);
        return 0;
    }
    CHECK_OK(plumb_comm_mpi_create(&c, 10 * test_pace()));
    plumb_comm_check_calls(c, false);
    plumb_comm_max_wait(c, test_pace() * (!strcmp(mode, "mpi-late") ? MAX_WAIT_S : 10));
    if (!strcmp(mode, "mpi-abort")) {
        if (plumb_comm_rank(c) == plumb_comm_size(c) - 1)
            plumb_comm_abort(c, SEEN_EXIT);
        CHECK(plumb_comm_barrier(c) != PLUMB_OK); /* the abort ends the process first */
        return 0;
    }
    mpi_late(c, mode);
    return 1;
#else
    (void)mode;
    printf("built without MPI\n");
    return SKIP;
#endif
}

int main(int argc, char **argv)
{
    CHECK(argc > 1);
    if (!strcmp(argv[1], "single")) {
        plumb_comm *c;
        CHECK_OK(plumb_comm_single_create(&c));
        contract(c);
        plumb_comm_abort(c, 1); /* makes c unusable, but does not end the process */
        plumb_comm_destroy(&c);
        plumb_comm_destroy(&c);
    } else if (!strcmp(argv[1], "thread")) {
        CHECK(argc == 3);
        on_threads(atoi(argv[2]), contract);
    } else if (!strcmp(argv[1], "faults")) {
        plumb_comm *c[2];
        CHECK(plumb_comm_thread_create(c, 0) == PLUMB_ERR_ARG);
        for (int n = 2; n <= 5; n++) {
            on_threads(n, last_is_late);
            on_threads(n, first_aborts);
        }
        on_threads(2, sizes_differ);
        on_threads(2, places_differ);
        on_threads(3, places_differ);
    } else {
        return on_mpi(argv[1]);
    }
    return 0;
}
