/* near.h - tests whether a misspelt name is probably meant to be another name.
 * Layer 3. Includes nothing. */
#ifndef PLUMB_CONFIG_NEAR_H
#define PLUMB_CONFIG_NEAR_H

#include <stdbool.h>

/* Returns the smallest number of edits that turn one name into the other. An edit inserts, deletes
 * or changes a character, or swaps two neighbours. Returns INT_MAX for a name of more than 63
 * characters. */
int plumb_edit_distance(const char *a, const char *b);
/* Returns true if a name at edit distance d from key may be suggested instead of key. */
bool plumb_is_near(int d, const char *key);

#endif
