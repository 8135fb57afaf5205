/* annotator.c - a simulated annotator: turns the true score of an answer into a score with noise,
 * with a changed sign for some prompts, or on another scale (enum world_shape).
 * Tool; includes base/ and io/. */
#include <math.h>
#include <string.h>

#include "io/file.h"
#include "world.h"

/* Numbers of random number streams. main.c uses other numbers for the data sets. */
enum { STREAM_NOISE = 101, STREAM_FLIP };
/* a record number has 40 bits in the key of a random number */
#define RECORDS 0xffffffffffull
/* An answer with right content has a true score above RIGHT, with or without polite words. A wrong
 * answer has a lower score. */
#define RIGHT 0.9
/* In shape `heavy`, the worth of an answer is e^(STEEP * true score). */
#define STEEP 2.0

bool world_shape_find(enum world_shape *out, const char *name)
{
    static const char *const names[] = {
        [WORLD_NATURAL] = "natural", [WORLD_EQUAL] = "equal", [WORLD_HEAVY] = "heavy"};
    for (int i = 0; i < (int)(sizeof names / sizeof names[0]); i++)
        if (strcmp(names[i], name) == 0) {
            *out = (enum world_shape)i;
            return true;
        }
    return false;
}

/* Returns the random number in (0, 1) that belongs to the annotator's seed, the stream and the hash
 * of a text. */
static double drawn(const struct world_annotator *a, uint32_t stream, uint64_t hash)
{
    struct world_draw d = world_draw_at(a->seed, stream, hash & RECORDS);
    const double u = world_uniform(&d);
    return u > 0 ? u : 0x1p-53;
}

double world_annotate(const struct world_annotator *a, const char *prompt, const char *answer,
                      double truth)
{
    const uint64_t request = plumb_hash(prompt, (int64_t)strlen(prompt), 0);
    double s = truth;
    if (a->shape == WORLD_EQUAL)
        s = truth > RIGHT ? 1 : 0;
    else if (a->shape == WORLD_HEAVY)
        s = exp(STEEP * truth);
    if (a->noise > 0)
        s -=
            a->noise *
            log(-log(drawn(a, STREAM_NOISE, plumb_hash(answer, (int64_t)strlen(answer), request))));
    return drawn(a, STREAM_FLIP, request) < a->flip ? 0.0 - s : s;
}
