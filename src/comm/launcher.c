/* launcher.c - finds out from the environment which launcher started this process.
 * Layer 1. Includes comm/ only. */
#include "comm/launcher.h"

#include <stdlib.h>

#include "comm/comm.h"

static long env_number(const char *name, long otherwise)
{
    const char *v = getenv(name);
    return v && v[0] ? strtol(v, NULL, 10) : otherwise;
}

long plumb_launcher_tasks(const char **name)
{
    /* If the variable of Open MPI's own launcher is set, it is right, also under Slurm. The other
     * variables are those of srun, Hydra and launchers like it, Flux, jsrun and MVAPICH. A Slurm
     * batch script has SLURM_NTASKS as well, but it is process 0. */
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

const char *plumb_comm_launcher(void)
{
    /* SLURM_STEP_NUM_TASKS is set in the steps that srun starts, not in a batch script. */
    static const struct {
        const char *variable, *also, *text;
    } known[] = {
        {"OMPI_COMM_WORLD_SIZE", NULL, "mpirun of Open MPI"},
        {"SLURM_STEP_NUM_TASKS", "PMIX_RANK", "srun with PMIx"},
        {"SLURM_STEP_NUM_TASKS", "PMI_RANK", "srun with PMI"},
        {"SLURM_STEP_NUM_TASKS", NULL, "srun without PMI"},
        {"PMI_RANK", NULL, "mpirun of MPICH, or a launcher like it"},
        {"PMIX_RANK", NULL, "a launcher with PMIx"},
        {"FLUX_JOB_SIZE", NULL, "flux"},
        {"JSM_NAMESPACE_SIZE", NULL, "jsrun"},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (getenv(known[i].variable) && (!known[i].also || getenv(known[i].also)))
            return known[i].text;
    const char *name;
    return plumb_launcher_tasks(&name) > 1 ? "a launcher that plumb does not know" : NULL;
}
