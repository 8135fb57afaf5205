/* launcher.h - finds out from the environment which launcher started this process.
 * Layer 1. Includes no other file. Used only inside comm/. */
#ifndef PLUMB_COMM_LAUNCHER_H
#define PLUMB_COMM_LAUNCHER_H

/* Returns the number of processes that a launcher started together with this one, and 1 if no
 * environment variable says so. *name = the variable that was read. */
long plumb_launcher_tasks(const char **name);

#endif
