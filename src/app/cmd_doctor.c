/* cmd_doctor.c - prints versions, ranks, cores and limits, and checks that the parts work together.
 * Layer 6. May include everything. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "app/app.h"
#include "base/log.h"
#include "io/file.h"
#include "io/installed.h"
#include "io/versions.h"

static void row(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void row(const char *name, const char *fmt, ...)
{
    va_list ap;
    printf("  %-18s ", name);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

static void print_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
        if (limit.rlim_cur == RLIM_INFINITY)
            row("locked memory", "unlimited");
        else
            row("locked memory", "%llu KiB", (unsigned long long)limit.rlim_cur >> 10);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        row("open files", "%llu", (unsigned long long)limit.rlim_cur);
    const double page = (double)sysconf(_SC_PAGESIZE);
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * page;
    int64_t available;
    if (plumb_host_available(&available) == PLUMB_OK)
        row("memory", "%.1f MB, %.1f MB free (what `plumb plan` counts as free on a host)",
            1e-6 * memory, 1e-6 * (double)available);
    else
        row("memory", "%.1f MB, free: %s", 1e-6 * memory, plumb_trail_message());
    struct statvfs fs;
    if (statvfs(".", &fs) == 0)
        row("disk here", "%.1f GiB free", (double)fs.f_bavail * (double)fs.f_frsize / 0x1p30);
    if (statvfs("/dev/shm", &fs) == 0)
        row("/dev/shm", "%.1f GiB free (ranks of one host exchange through it)",
            (double)fs.f_bavail * (double)fs.f_frsize / 0x1p30);
}

static void print_mpi(void)
{
    const char *level = plumb_comm_thread_level(), *launcher = plumb_comm_launcher();
    if (!level)
        row("MPI", "%s, not started: one process without a launcher", plumb_comm_library());
    else
        row("MPI", "%s, thread level %s, started by %s", plumb_comm_library(), level,
            launcher ? launcher : "no launcher that plumb knows");
}

/* Returns the names of the instruction sets of this machine for which plumb has kernels. plumb uses
 * the last one unless the environment variable PLUMB_ISA names another. */
static const char *instruction_sets(void)
{
    static _Thread_local char text[64];
    struct plumb_kernels table;
    text[0] = '\0';
    for (int i = 0; plumb_kernels_isa[i]; i++)
        if (plumb_kernels_init_isa(&table, plumb_kernels_isa[i])) {
            strncat(text, " ", sizeof(text) - strlen(text) - 1);
            strncat(text, plumb_kernels_isa[i], sizeof(text) - strlen(text) - 1);
        }
    return text;
}

/* Sets *gflops to the speed of one linear layer on this rank, the best of ten runs. If the speed is
 * far below that of other ranks, the rank is probably bound to the wrong cores. */
static plumb_status measure(struct plumb_backend *b, double *gflops)
{
    enum { N = 256, OUT = 1024, IN = 1024 };
    struct plumb_arena arena = {.place = b->place, .name = "doctor"};
    float *x = NULL, *w = NULL, *y = NULL, *packed = NULL;
    plumb_status st = PLUMB_OK;
    for (int pass = 0; pass < 2 && st == PLUMB_OK; pass++) {
        PLUMB_TRY(plumb_arena_take_f32(&arena, &x, N * IN, "x"));
        PLUMB_TRY(plumb_arena_take_f32(&arena, &w, OUT * IN, "w"));
        PLUMB_TRY(plumb_arena_take_f32(&arena, &y, N * OUT, "y"));
        PLUMB_TRY(
            plumb_arena_take_f32(&arena, &packed, b->k.linear_packed_count(OUT, IN), "packed"));
        if (pass == 0)
            PLUMB_TRY(plumb_backend_arena_alloc(b, &arena));
    }
    PLUMB_TRY_GOTO(st, b->zero(b, x, N * IN * 4), done);
    PLUMB_TRY_GOTO(st, b->zero(b, w, OUT * IN * 4), done);
    PLUMB_TRY_GOTO(st, b->k.linear_pack(b->stream, packed, w, OUT, IN), done);
    double best = 1e30;
    for (int i = 0; i < 10; i++) {
        const double start = plumb_now();
        PLUMB_TRY_GOTO(st, b->k.linear_fwd(b->stream, y, x, packed, NULL, N, OUT, IN), done);
        PLUMB_TRY_GOTO(st, b->sync(b), done);
        const double spent = plumb_now() - start;
        best = spent < best ? spent : best;
    }
    *gflops = 2e-9 * N * OUT * IN / best;
done:
    plumb_backend_arena_release(b, &arena);
    return st;
}

plumb_status plumb_cmd_doctor(struct plumb_app *app)
{
    plumb_comm *comm = app->comm;
    const int rank = plumb_comm_rank(comm), world = plumb_comm_size(comm);
    double gflops = 0;
    PLUMB_TRY(plumb_comm_agree(comm, measure(app->backend, &gflops)));
    struct line {
        char text[256];
    } mine, *all = calloc((size_t)world, sizeof(*all));
    int64_t *count = calloc((size_t)world, sizeof(*count));
    plumb_status st = PLUMB_OK;
    if (!all || !count)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "report lines of %d ranks", world);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), done);
    memset(&mine, 0, sizeof(mine));
    snprintf(mine.text, sizeof(mine.text), "%s, local rank %d of %d, %d thread%s, %.0f GFLOP/s",
             plumb_comm_host(comm), plumb_comm_local_rank(comm), plumb_comm_local_size(comm),
             app->backend->threads, app->backend->threads == 1 ? "" : "s", gflops);
    PLUMB_TRY_GOTO(st,
                   plumb_comm_allgather(comm, all, (int64_t)(sizeof(*all) * (size_t)world), count,
                                        &mine, sizeof(mine)),
                   done);
    if (rank == 0) {
        struct utsname os;
        printf("plumb " PLUMB_VERSION "\n");
        row("built with", "C compiler %s", __VERSION__);
        if (uname(&os) == 0)
            row("system", "%s %s %s", os.sysname, os.release, os.machine);
        struct plumb_buf libraries = {0};
        if (plumb_io_versions(&libraries) == PLUMB_OK)
            row("libraries", "%s", plumb_buf_text(&libraries));
        plumb_buf_fini(&libraries);
        char installed[4096];
        if (plumb_installed_folder(installed, sizeof(installed)) == PLUMB_OK)
            row("installed files", "%s%s", installed,
                plumb_dir_exists(installed) ? "" : " (does not exist: plumb is not installed)");
        print_mpi();
        const bool gpu = app->backend->place == PLUMB_DEVICE;
        row("BLAS", gpu ? "cuBLASLt, algorithms of one class of equal bits for each product"
                        : "none needed: the matrix products are plumb's own, row by row the same");
        row("communicator", "%s, %d rank%s", plumb_comm_name(comm), world, world == 1 ? "" : "s");
        if (gpu) {
            row("device", "%s: %s", app->backend->name, app->backend->device);
            row("exchange", "%s", plumb_comm_device_name(comm));
        } else {
            row("device", "%s, kernels for%s", app->backend->name, instruction_sets());
        }
        print_limits();
        for (int r = 0; r < world; r++) {
            char name[32];
            snprintf(name, sizeof(name), "rank %d", r);
            row(name, "%s", all[r].text);
        }
        printf("all ranks answered and computed\n");
    }
done:
    free(all);
    free(count);
    return st;
}
