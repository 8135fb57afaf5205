/* range.c - tests if a number is in an interval, and finds a word in a list.
 * Layer 0. Includes base/range.h. */
#include "base/range.h"

#include <stdlib.h>
#include <string.h>

bool plumb_range_holds(const char *interval, double x)
{
    if (!*interval)
        return true;
    char *at;
    const double lo = strtod(interval + 1, &at);
    const double hi = strtod(at + 1, &at);
    return (interval[0] == '[' ? x >= lo : x > lo) && (*at == ']' ? x <= hi : x < hi);
}

int plumb_range_word(const char *words, const char *word)
{
    const size_t len = strlen(word);
    int i = 0;
    for (const char *c = words; *c; i++) {
        const size_t n = strcspn(c, "|");
        if (n == len && !memcmp(c, word, n))
            return i;
        c += n + (c[n] == '|');
    }
    return -1;
}

int plumb_range_words(const char *words)
{
    int n = *words != '\0';
    for (const char *c = words; *c; c++)
        n += *c == '|';
    return n;
}
