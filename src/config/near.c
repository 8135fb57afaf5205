/* near.c - computes the edit distance of two names.
 * Layer 3. Includes config/near.h. */
#include "config/near.h"

#include <limits.h>
#include <string.h>

/* Computes the optimal string alignment distance; only three rows of the dynamic-programming table
 * are stored. */
int plumb_edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    const int n = (int)strnlen(a, LONGEST + 1), m = (int)strnlen(b, LONGEST + 1);
    if (n > LONGEST || m > LONGEST)
        return INT_MAX;
    int row[3][LONGEST + 1];
    int *before = row[0], *last = row[1], *now = row[2];
    for (int j = 0; j <= m; j++)
        last[j] = j;
    for (int i = 1; i <= n; i++) {
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int d = last[j - 1] + (a[i - 1] != b[j - 1]);
            d = last[j] + 1 < d ? last[j] + 1 : d;
            d = now[j - 1] + 1 < d ? now[j - 1] + 1 : d;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < d)
                d = before[j - 2] + 1;
            now[j] = d;
        }
        int *const free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[m];
}

bool plumb_is_near(int d, const char *key)
{
    const int len = (int)strnlen(key, 64);
    return d <= (len < 6 ? 1 : len / 3);
}
