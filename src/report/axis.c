/* axis.c - computes the ranges of axes, the ticks and the labels of the ticks.
 * Layer 4. Includes report/axis.h. */
#include "report/axis.h"

#include <math.h>
#include <stdio.h>

struct plumb_axis plumb_axis_empty(void)
{
    return (struct plumb_axis){.lo = INFINITY, .hi = -INFINITY};
}

void plumb_axis_cover(struct plumb_axis *a, double x)
{
    if (!isfinite(x))
        return;
    a->lo = fmin(a->lo, x);
    a->hi = fmax(a->hi, x);
}

void plumb_axis_reach(struct plumb_axis *a, const struct plumb_axis *ends)
{
    const double half = a->hi > a->lo ? (a->hi - a->lo) / 2 : INFINITY;
    const double lo = fmin(a->lo, ends->lo), hi = fmax(a->hi, ends->hi);
    a->lo = fmax(lo, a->lo - half);
    a->hi = fmin(hi, a->hi + half);
}

void plumb_axis_linear(struct plumb_axis *a, int wanted, bool whole, bool grow)
{
    if (!(a->hi > a->lo)) {
        const double pad = a->lo == 0 ? 1 : fabs(a->lo) * 0.1;
        a->lo -= whole ? 1 : pad;
        a->hi += whole ? 1 : pad;
    }
    const double raw = (a->hi - a->lo) / wanted;
    const double base = pow(10, floor(log10(raw)));
    const double m = raw / base;
    a->step = base * (m <= 1.0 ? 1 : m <= 2.0 ? 2 : m <= 5.0 ? 5 : 10);
    if (whole)
        a->step = fmax(1, round(a->step));
    const double first = (grow ? floor : ceil)(a->lo / a->step - (grow ? -1e-9 : 1e-9));
    const double last = (grow ? ceil : floor)(a->hi / a->step + (grow ? -1e-9 : 1e-9));
    a->n = 0;
    for (double t = first; t <= last && a->n < PLUMB_AXIS_TICKS; t += 1)
        a->tick[a->n++] = t * a->step;
    if (grow) {
        a->lo = first * a->step;
        a->hi = last * a->step;
    }
}

void plumb_axis_log(struct plumb_axis *a)
{
    const double lo = floor(log10(a->lo) + 1e-9), hi = ceil(log10(a->hi) - 1e-9);
    const double stride = ceil((hi - lo + 1) / 6);
    a->log = true;
    a->n = 0;
    for (double e = lo; e <= hi && a->n < PLUMB_AXIS_TICKS; e += stride)
        a->tick[a->n++] = pow(10, e);
    a->lo = pow(10, lo);
    a->hi = pow(10, hi);
}

double plumb_axis_share(const struct plumb_axis *a, double x)
{
    x = fmin(fmax(x, a->lo), a->hi);
    return a->log ? (log10(x) - log10(a->lo)) / (log10(a->hi) - log10(a->lo))
                  : (x - a->lo) / (a->hi - a->lo);
}

void plumb_axis_text(char *out, size_t size, double x, const struct plumb_axis *a, bool percent)
{
    double scale = 1, step = a->step;
    const char *unit = "";
    const double top = fmax(fabs(a->lo), fabs(a->hi));
    if (percent) {
        scale = 100;
        unit = "%";
    } else if (top >= 1e9) {
        scale = 1e-9;
        unit = "G";
    } else if (top >= 1e6) {
        scale = 1e-6;
        unit = "M";
    } else if (top >= 1e4) {
        scale = 1e-3;
        unit = "k";
    }
    if (a->log) {
        snprintf(out, size, "%.4g", x);
        return;
    }
    if (top != 0 && top < 1e-3 && fabs(x) > a->step * 1e-6) {
        const int e = (int)floor(log10(fabs(x)) + 1e-9);
        snprintf(out, size, "%.3ge%d", x / pow(10, e), e);
        return;
    }
    step *= scale;
    const int decimals =
        step >= 1 ? (fabs(step - round(step)) < 1e-9 ? 0 : 1) : (int)ceil(-log10(step) - 1e-9);
    x *= scale;
    if (fabs(x) < step * 1e-6)
        snprintf(out, size, percent ? "0%%" : "0");
    else
        snprintf(out, size, "%.*f%s", decimals, x, unit);
}
