/* rope.c - computes the table of the rotary position embedding.
 * Layer 4. Includes model/net.h.
 *
 * All operations are float32, in the order of transformers' modeling_rope_utils. Positions below
 * 2^24 are exact in float32. The table therefore equals that of transformers up to the last bit of
 * powf, cosf and sinf. */
#include <math.h>

#include "model/net.h"

/* Scales a frequency as Llama 3.1 does: wavelengths above one bound are divided by the factor,
 * those below another bound are kept, and those in between are interpolated. Source: transformers,
 * _compute_llama3_parameters. */
static float llama3(float inv_freq, const struct plumb_spec *s)
{
    const float factor = (float)s->rope.factor;
    const float low = (float)s->rope.low_freq_factor, high = (float)s->rope.high_freq_factor;
    const float span = (float)s->rope.original_max_pos;
    const float wavelength = (float)(2.0 * M_PI) / inv_freq;
    if (wavelength > span / low)
        return inv_freq / factor;
    if (wavelength < span / high)
        return inv_freq;
    const float blend = (span / wavelength - low) / (high - low);
    return (1.0f - blend) * inv_freq / factor + blend * inv_freq;
}

void plumb_rope_table(float *table, const struct plumb_spec *s)
{
    const int64_t half = s->d / 2;
    for (int64_t i = 0; i < half; i++) {
        float inv_freq = 1.0f / powf((float)s->rope_theta, (float)(2 * i) / (float)s->d);
        if (s->rope.type == PLUMB_ROPE_LINEAR)
            inv_freq /= (float)s->rope.factor;
        else if (s->rope.type == PLUMB_ROPE_LLAMA3)
            inv_freq = llama3(inv_freq, s);
        for (int64_t t = 0; t < s->max_pos; t++) {
            const float angle = (float)t * inv_freq;
            table[t * s->d + i] = cosf(angle);
            table[t * s->d + half + i] = sinf(angle);
        }
    }
}
