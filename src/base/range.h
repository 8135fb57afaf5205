/* range.h - tests if a value is in the range of an option, which is an interval of numbers or a
 * list of words.
 * Layer 0. Includes no other file of the project. */
#ifndef PLUMB_BASE_RANGE_H
#define PLUMB_BASE_RANGE_H

#include <stdbool.h>

/* Returns true if x is in an interval such as "[0, 1)", where a round bracket excludes the end. If
 * the text is empty, every x is in it, also NaN; otherwise NaN is in no interval. */
bool plumb_range_holds(const char *interval, double x);
/* Returns the index (from 0 on) of the word in a list such as "a|b|c"; -1 if the list does not have
 * it. */
int plumb_range_word(const char *words, const char *word);
/* Returns the number of words in such a list: 3 for "a|b|c". */
int plumb_range_words(const char *words);

#endif
