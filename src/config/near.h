/* near.h - names that were probably meant when another one was written.
 * Layer 3. Includes nothing. */
#ifndef PLUMB_CONFIG_NEAR_H
#define PLUMB_CONFIG_NEAR_H

#include <stdbool.h>

/* Insertions, deletions, changes and swaps of neighbours between two names; INT_MAX for names of
 * more than 63 characters. */
int plumb_edit_distance(const char *a, const char *b);
/* Whether distance d is close enough for a suggestion in place of a name like key. */
bool plumb_is_near(int d, const char *key);

#endif
