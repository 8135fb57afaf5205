/* reward.c - the texts for the reasons of missing scores.
 * Layer 4. Includes data/reward.h. */
#include "data/reward.h"

const char *plumb_missing_text(enum plumb_missing m)
{
    static const char *const text[PLUMB_MISSING_COUNT] = {
#define X(name, words) [name] = words,
        PLUMB_MISSING_LIST(X)
#undef X
    };
    return text[m];
}
