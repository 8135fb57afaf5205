/* create.c - creates the communicator that fits how this process was started.
 * Layer 1. Includes comm/ and base/ only. */
#include <stdlib.h>

#include "comm/comm_impl.h"

static long env_number(const char *name, long otherwise)
{
    const char *v = getenv(name);
    return v && v[0] ? strtol(v, NULL, 10) : otherwise;
}

/* Returns the number of processes that a launcher started together with this one, and 1 if no
 * environment variable says so. *name = the variable that was read. */
static long started_together(const char **name)
{
    /* The variable of Open MPI's own launcher is right wherever it is set, also under Slurm. The
     * other variables are those of srun, Hydra and launchers like it, Flux, jsrun and MVAPICH. A
     * Slurm batch script has SLURM_NTASKS as well, but it is process 0. */
    static const char *const other[] = {"SLURM_STEP_NUM_TASKS", "PMI_SIZE",
                                        "MPI_LOCALNRANKS",      "FLUX_JOB_SIZE",
                                        "JSM_NAMESPACE_SIZE",   "MV2_COMM_WORLD_SIZE"};
    *name = "OMPI_COMM_WORLD_SIZE";
    if (getenv(*name))
        return env_number(*name, 1);
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
        *name = other[i];
        if (env_number(*name, 1) > 1)
            return env_number(*name, 1);
    }
    *name = "SLURM_NTASKS";
    return env_number("SLURM_PROCID", 0) > 0 ? env_number(*name, 1) : 1;
}

/* Fails if a launcher started several processes but MPI knows of only one. Each process would
 * otherwise do the whole run, all of them in one folder. */
static plumb_status check_alone(void)
{
    const char *name;
    const long tasks = started_together(&name);
    PLUMB_REQUIRE(
        tasks <= 1, PLUMB_ERR_CONFIG,
        "%s says that %ld processes were started together, but MPI (%s) sees each as a single "
        "process, so each would do the whole run; start them with that library's mpirun, or under "
        "Slurm with srun --mpi=pmix; to start a single process, run env -u %s plumb ...",
        name, tasks, plumb_comm_library(), name);
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
    PLUMB_REQUIRE(started_together(&name) <= 1, PLUMB_ERR_UNSUPPORTED,
                  "started as one of %ld ranks (%s), but this plumb was built without MPI; rebuild "
                  "with -Dmpi=enabled or start it once, without mpirun",
                  env_number(name, 1), name);
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
#endif
