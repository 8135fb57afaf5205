/* range.h - the values that an option may have, as text: an interval or a list of words.
 * Layer 0. Includes nothing of plumb. */
#ifndef PLUMB_BASE_RANGE_H
#define PLUMB_BASE_RANGE_H

#include <stdbool.h>

/* Whether x is in an interval such as "[0, 1)"; a round bracket excludes its end. Every number is
 * in the empty text. NaN is in no interval. */
bool plumb_range_holds(const char *interval, double x);
/* Index of the word in a list such as "a|b|c"; -1 if the list does not have it. */
int plumb_range_word(const char *words, const char *word);
/* Number of words in the list. */
int plumb_range_words(const char *words);

#endif
