/* rope.c - computes the tables of the rotary position embeddings.
 * Layer 4. Includes base/, model/net.h.
 *
 * Frequencies and angles are computed in float32, in the order of transformers' modeling_rope_utils
 * (only the bounds of YaRN's interpolation are double, as there). Positions below 2^24 are exact in
 * float32. The table therefore equals that of transformers up to the last bit of powf, cosf and
 * sinf. */
#include <math.h>
#include <stdlib.h>

#include "model/net.h"

/* Scales a frequency as Llama 3.1 does: a frequency whose wavelength is above original_max_pos /
 * low_freq_factor is divided by the factor, one whose wavelength is below original_max_pos /
 * high_freq_factor is kept, and those in between are interpolated. Source: transformers,
 * _compute_llama3_parameters. */
static float llama3(float inv_freq, const struct plumb_rope *o)
{
    const float factor = (float)o->factor;
    const float low = (float)o->low_freq_factor, high = (float)o->high_freq_factor;
    const float span = (float)o->original_max_pos;
    const float wavelength = (float)(2.0 * M_PI) / inv_freq;
    if (wavelength > span / low)
        return inv_freq / factor;
    if (wavelength < span / high)
        return inv_freq;
    const float blend = (span / wavelength - low) / (high - low);
    return (1.0f - blend) * inv_freq / factor + blend * inv_freq;
}

/* Returns the index, in general not an integer, of the column pair whose angle makes `turns` full
 * turns within original_max_pos positions. */
static double yarn_pair(double turns, const struct plumb_rope *o)
{
    return (double)o->columns * log(o->original_max_pos / (turns * 2.0 * M_PI)) /
           (2.0 * log(o->theta));
}

/* Returns the frequency of column pair i in YaRN. Without scaling the frequency is 1 / period.
 * Pairs that make at least beta_fast turns within original_max_pos positions keep this frequency.
 * For pairs with at most beta_slow turns it is divided by the factor. For the pairs in between it
 * is interpolated. Source: transformers, _compute_yarn_parameters; Peng et al. 2023,
 * arXiv:2309.00071. */
static float yarn(float period, int64_t i, const struct plumb_rope *o)
{
    double low = yarn_pair(o->beta_fast, o), high = yarn_pair(o->beta_slow, o);
    if (o->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, (double)(o->columns - 1));
    if (low == high)
        high += 0.001;
    const float ramp = ((float)i - (float)low) / (float)(high - low);
    const float kept = 1.0f - fminf(fmaxf(ramp, 0.0f), 1.0f);
    const float near = 1.0f / period, far = 1.0f / ((float)o->factor * period);
    return far * (1.0f - kept) + near * kept;
}

static float frequency(int64_t i, const struct plumb_rope *o, int64_t longest)
{
    const float period = powf((float)o->theta, (float)(2 * i) / (float)o->columns);
    const float inv_freq = 1.0f / period;
    const bool is_long = (double)longest > o->original_max_pos;
    switch (o->type) {
    case PLUMB_ROPE_LINEAR:
        return inv_freq / (float)o->factor;
    case PLUMB_ROPE_LLAMA3:
        return llama3(inv_freq, o);
    case PLUMB_ROPE_YARN:
        return yarn(period, i, o);
    case PLUMB_ROPE_LONGROPE:
        return 1.0f / ((is_long ? o->long_factor : o->short_factor)[i] * period);
    default:
        return inv_freq;
    }
}

void plumb_rope_table(float *table, const struct plumb_spec *s, const struct plumb_rope *o,
                      int64_t longest)
{
    const int64_t half = o->columns / 2;
    const float factor = (float)o->attention_factor;
    for (int64_t i = 0; i < half; i++) {
        const float inv_freq = frequency(i, o, longest);
        for (int64_t t = 0; t < s->max_pos; t++) {
            const float angle = (float)t * inv_freq;
            table[t * o->columns + i] = cosf(angle) * factor;
            table[t * o->columns + half + i] = sinf(angle) * factor;
        }
    }
}

int64_t plumb_rope_at(const struct plumb_spec *s, int i)
{
    int64_t at = 0;
    for (int k = 0; k < i; k++)
        at += s->max_pos * s->rope[k].columns;
    return at;
}

plumb_status plumb_rope_upload(plumb_model *m)
{
    const struct plumb_spec *s = &m->spec;
    const int64_t n = plumb_rope_at(s, s->n_rope);
    if (m->backend->dry || n == 0)
        return PLUMB_OK;
    float *table = malloc((size_t)n * sizeof *table);
    PLUMB_REQUIRE(table, PLUMB_ERR_NOMEM, "a rotation table of %lld floats", (long long)n);
    for (int i = 0; i < s->n_rope; i++)
        plumb_rope_table(table + plumb_rope_at(s, i), s, &s->rope[i], m->longest);
    const plumb_status st =
        m->backend->to_device(m->backend, m->rope, table, n * (int64_t)sizeof *table);
    free(table);
    return st;
}
