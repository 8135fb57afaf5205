/* stop.c - the signal flag: a handler can reach nothing but a variable of the process.
 * Layer 5. Includes train/stop.h. */
#include "train/stop.h"

#include <signal.h>
#include <string.h>

static volatile sig_atomic_t asked;

static void note(int signal)
{
    (void)signal;
    asked = 1;
}

void plumb_stop_watch(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    sigemptyset(&action.sa_mask);
    action.sa_handler = note;
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    action.sa_flags = (int)((unsigned)SA_RESTART | SA_RESETHAND);
    sigaction(SIGTERM, &action, NULL);
}

plumb_status plumb_stop_agreed(bool *stop, plumb_comm *comm)
{
    double any = asked ? 1.0 : 0.0;
    PLUMB_TRY(plumb_comm_allreduce_f64(comm, &any, 1, PLUMB_MAX));
    *stop = any > 0;
    return PLUMB_OK;
}
