/* test_create.c - checks which communicator plumb_comm_create makes under the environment variables
 * of several launchers.
 * Test. Includes comm/, harness.h. Covers src/comm/create.c, launcher.c. */
#include <string.h>

#include "comm/comm.h"
#include "harness.h"

int main(void)
{
    static const char *const names[] = {
        "OMPI_COMM_WORLD_SIZE", "PMIX_RANK",       "PMI_RANK",           "PMI_SIZE",
        "SLURM_PROCID",         "SLURM_NTASKS",    "FLUX_JOB_SIZE",      "SLURM_STEP_NUM_TASKS",
        "JSM_NAMESPACE_SIZE",   "MPI_LOCALNRANKS", "MV2_COMM_WORLD_SIZE"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
    plumb_comm *c;
    CHECK_OK(plumb_comm_create(&c, 1));
    CHECK(!strcmp(plumb_comm_name(c), "single") && plumb_comm_size(c) == 1);
    plumb_comm_destroy(&c);
    /* the variables of a batch script of Slurm, which is not a step of several ranks */
    setenv("SLURM_PROCID", "0", 1);
    setenv("SLURM_NTASKS", "4", 1);
    CHECK_OK(plumb_comm_create(&c, 1));
    plumb_comm_destroy(&c);
    const plumb_status refused =
        strcmp(plumb_comm_library(), "none") ? PLUMB_ERR_CONFIG : PLUMB_ERR_UNSUPPORTED;
    setenv("SLURM_PROCID", "1", 1); /* a rank of a step: a batch script always has PROCID 0 */
    CHECK(plumb_comm_create(&c, 1) == refused);
    CHECK(strstr(plumb_trail_message(), "SLURM_NTASKS"));
    unsetenv("SLURM_PROCID");
    static const char *const sizes[] = {"SLURM_STEP_NUM_TASKS", "PMI_SIZE", "FLUX_JOB_SIZE",
                                        "MPI_LOCALNRANKS"};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        setenv(sizes[i], "2", 1);
        CHECK(plumb_comm_create(&c, 1) == refused);
        CHECK(strstr(plumb_trail_message(), sizes[i]));
        unsetenv(sizes[i]);
    }
#ifdef PLUMB_HAVE_MPI
    /* variables of a PMI launcher that MPI does not use, so MPI starts with one rank */
    setenv("PMI_SIZE", "2", 1);
    setenv("PMI_RANK", "1", 1);
    CHECK(plumb_comm_create(&c, 1) == PLUMB_ERR_CONFIG && !c);
    CHECK(strstr(plumb_trail_message(), "--mpi=pmix") && strstr(plumb_trail_message(), "PMI_SIZE"));
#else
    setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
    CHECK(plumb_comm_create(&c, 1) == PLUMB_ERR_UNSUPPORTED);
    CHECK(strstr(plumb_trail_message(), "without MPI"));
#endif
    return 0;
}
