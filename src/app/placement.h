/* placement.h - logs where the ranks run, and the environment variables that set up network
 * libraries. Layer 6. Includes app.h. */
#ifndef PLUMB_APP_PLACEMENT_H
#define PLUMB_APP_PLACEMENT_H

#include "app/app.h"

/* Sets *sharing to the number of ranks that may run on this rank's cores, including this rank.
 * Collective. */
plumb_status plumb_placement_sharing(int *sharing, plumb_comm *comm);

/* Rank 0 logs the table of ranks, hosts, cores, GPUs and network devices, a warning for each fault
 * in the placement (plumb_topology_faults), and the environment variables that set up network
 * libraries. Logs no table for one rank on a CPU. Collective. */
plumb_status plumb_placement_say(const struct plumb_app *app);

#endif
