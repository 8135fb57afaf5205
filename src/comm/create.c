/* create.c - creates an MPI communicator if a launcher started this process, else a communicator of
 * one rank.
 * Layer 1. Includes comm/ and base/ only. */
#include <stdlib.h>
#include <string.h>

#include "comm/comm_impl.h"
#include "comm/launcher.h"

/* Fails if a launcher started several processes but MPI knows of only one. Otherwise each process
 * would execute the complete run, and all of them would write to the same folder. */
static plumb_status check_alone(void)
{
    const char *name, *library = plumb_comm_library();
    const long tasks = plumb_launcher_tasks(&name);
    PLUMB_REQUIRE(
        tasks <= 1, PLUMB_ERR_CONFIG,
        "%s says that %ld processes were started together (by %s), but MPI (%s) sees each as a "
        "single process, so each would do the whole run: the launcher does not belong to this "
        "library; start them with that library's mpirun, or under Slurm with srun --mpi=%s; to "
        "start a single process, run env -u %s plumb ...",
        name, tasks, plumb_comm_launcher(), library, strstr(library, "MPICH") ? "pmi2" : "pmix",
        name);
    return PLUMB_OK;
}

plumb_status plumb_comm_create(plumb_comm **out, double timeout_s)
{
    /* The environment only tells whether a launcher started this process; MPI gives the rank. srun
     * --mpi=pmix and similar launchers set PMIX_RANK or PMI_RANK, mpirun sets OMPI_*. */
#ifdef PLUMB_HAVE_MPI
    if (getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMIX_RANK") || getenv("PMI_RANK")) {
        PLUMB_TRY(plumb_comm_mpi_create(out, timeout_s));
        const plumb_status st = plumb_comm_size(*out) == 1 ? check_alone() : PLUMB_OK;
        if (st != PLUMB_OK)
            plumb_comm_destroy(out);
        return st;
    }
#else
    const char *name;
    const long tasks = plumb_launcher_tasks(&name);
    PLUMB_REQUIRE(tasks <= 1, PLUMB_ERR_UNSUPPORTED,
                  "started as one of %ld ranks (%s), but this plumb was built without MPI; rebuild "
                  "with -Dmpi=enabled or start it once, without mpirun",
                  tasks, name);
    (void)timeout_s;
#endif
    PLUMB_TRY(check_alone());
    return plumb_comm_single_create(out);
}

#ifndef PLUMB_HAVE_MPI
const char *plumb_comm_library(void)
{
    return "none";
}

const char *plumb_comm_thread_level(void)
{
    return NULL;
}
#endif
