/* plot.c - line charts as SVG.
 * Layer 5. Includes base/, text/utf8.h. */
#include "train/plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "text/utf8.h"

/* The drawing's own units; the page scales it. */
enum { WIDTH = 520, HEIGHT = 270, LEFT = 62, RIGHT = 14, TOP = 10, BOTTOM = 46 };
#define MAX_TICKS 12

struct axis {
    double lo, hi;
    bool log;
    int n;
    double tick[MAX_TICKS];
    double step; /* between ticks; decides the digits */
};

struct frame {
    struct axis x, y;
    bool percent;
};

static plumb_status put_escaped(struct plumb_buf *out, uint32_t rune)
{
    char bytes[4];
    const bool control = (rune < 0x20 && rune != '\n' && rune != '\t') ||
                         (rune >= 0x7F && rune < 0xA0) || (rune >= 0x202A && rune <= 0x202E) ||
                         (rune >= 0x2066 && rune <= 0x2069);
    switch (control ? ' ' : rune) {
    case '&':
        return plumb_buf_add_text(out, "&amp;");
    case '<':
        return plumb_buf_add_text(out, "&lt;");
    case '>':
        return plumb_buf_add_text(out, "&gt;");
    case '"':
        return plumb_buf_add_text(out, "&quot;");
    case '\'':
        return plumb_buf_add_text(out, "&#39;");
    default:
        return plumb_buf_add(out, bytes, plumb_utf8_put(bytes, control ? ' ' : rune));
    }
}

plumb_status plumb_html_text(struct plumb_buf *out, const char *text, int64_t max_runes)
{
    struct plumb_buf valid = {0};
    plumb_status st = text ? plumb_utf8_lossy(&valid, text, (int64_t)strlen(text)) : PLUMB_OK;
    const char *s = plumb_buf_text(&valid), *end = s + valid.len;
    for (int64_t n = 0; s < end && !st; n++) {
        if (n == max_runes) {
            st = plumb_buf_add_text(out, "\u2026");
            break;
        }
        st = put_escaped(out, plumb_utf8_at(s));
        s += plumb_utf8_size(*s);
    }
    plumb_buf_fini(&valid);
    return st;
}

static double px(const struct frame *f, double x)
{
    return LEFT + (x - f->x.lo) / (f->x.hi - f->x.lo) * (WIDTH - LEFT - RIGHT);
}

static double py(const struct frame *f, double y)
{
    const struct axis *a = &f->y;
    const double t = a->log ? (log10(y) - log10(a->lo)) / (log10(a->hi) - log10(a->lo))
                            : (y - a->lo) / (a->hi - a->lo);
    return HEIGHT - BOTTOM - t * (HEIGHT - TOP - BOTTOM);
}

/* Ticks at 1, 2 or 5 times a power of ten; whole = integers only; grow: the ends move to ticks. */
static void axis_linear(struct axis *a, int wanted, bool whole, bool grow)
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
    for (double t = first; t <= last && a->n < MAX_TICKS; t += 1)
        a->tick[a->n++] = t * a->step;
    if (grow) {
        a->lo = first * a->step;
        a->hi = last * a->step;
    }
}

static void axis_log(struct axis *a)
{
    const double lo = floor(log10(a->lo) + 1e-9), hi = ceil(log10(a->hi) - 1e-9);
    const double stride = ceil((hi - lo + 1) / 6);
    a->n = 0;
    for (double e = lo; e <= hi && a->n < MAX_TICKS; e += stride)
        a->tick[a->n++] = pow(10, e);
    a->lo = pow(10, lo);
    a->hi = pow(10, hi);
}

static bool has_band(const struct plumb_plot_series *s, int64_t i)
{
    return s->lo && isfinite(s->y[i]) && isfinite(s->lo[i]) && isfinite(s->hi[i]);
}

static bool make_frame(struct frame *f, const struct plumb_plot *plot)
{
    struct axis *x = &f->x, *y = &f->y;
    *f = (struct frame){.percent = plot->percent};
    x->lo = y->lo = INFINITY;
    x->hi = y->hi = -INFINITY;
    bool any = false;
    for (int s = 0; s < plot->n_series; s++) {
        for (int64_t i = 0; i < plot->series[s].n; i++) {
            x->lo = fmin(x->lo, plot->series[s].x[i]);
            x->hi = fmax(x->hi, plot->series[s].x[i]);
            if (!isfinite(plot->series[s].y[i]))
                continue;
            y->lo = fmin(y->lo, plot->series[s].y[i]);
            y->hi = fmax(y->hi, plot->series[s].y[i]);
            if (has_band(&plot->series[s], i)) {
                y->lo = fmin(y->lo, plot->series[s].lo[i]);
                y->hi = fmax(y->hi, plot->series[s].hi[i]);
            }
            any = true;
        }
    }
    if (!any)
        return false;
    axis_linear(x, 7, true, false);
    y->log = plot->log_y && y->lo > 0 && y->hi > 100 * y->lo;
    if (y->log) {
        axis_log(y);
        return true;
    }
    if (plot->from_zero || plot->percent) {
        y->lo = fmin(y->lo, 0);
        y->hi = fmax(y->hi, plot->percent ? 1 : 0);
    }
    axis_linear(y, 5, false, true);
    return true;
}

/* 12k, 3.5M; as many decimals as the distance between ticks needs. */
static void tick_text(char *out, size_t size, double x, const struct axis *a, bool percent)
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
    if (a->log || (top != 0 && top < 1e-3)) {
        snprintf(out, size, "%.4g", x);
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

static plumb_status put_axes(struct plumb_buf *out, const struct plumb_plot *plot,
                             const struct frame *f)
{
    char text[64];
    for (int i = 0; i < f->y.n; i++) {
        const double y = py(f, f->y.tick[i]);
        tick_text(text, sizeof(text), f->y.tick[i], &f->y, f->percent);
        PLUMB_TRY(plumb_buf_addf(
            out,
            "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
            "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
            LEFT, WIDTH - RIGHT, y, y, LEFT - 7, y + 4, text));
    }
    for (int i = 0; i < f->x.n; i++) {
        const double x = px(f, f->x.tick[i]);
        tick_text(text, sizeof(text), f->x.tick[i], &f->x, false);
        PLUMB_TRY(plumb_buf_addf(
            out,
            "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>"
            "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
            x, x, HEIGHT - BOTTOM, HEIGHT - BOTTOM + 4, x, HEIGHT - BOTTOM + 17, text));
    }
    PLUMB_TRY(plumb_buf_addf(out,
                             "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n",
                             LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM));
    PLUMB_TRY(plumb_buf_addf(out, "<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">",
                             (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8));
    PLUMB_TRY(plumb_html_text(out, plot->x_label, INT64_MAX));
    PLUMB_TRY(
        plumb_buf_addf(out,
                       "</text>\n<text class=\"label\" transform=\"translate(13 %d) rotate(-90)\" "
                       "text-anchor=\"middle\">",
                       (TOP + HEIGHT - BOTTOM) / 2));
    PLUMB_TRY(plumb_html_text(out, plot->y_label, INT64_MAX));
    return plumb_buf_addf(out, "%s</text>\n", f->y.log ? " (log)" : "");
}

/* Bin b of a series: mean place, mean, smallest and largest finite value; false = none. */
static bool bin_of(const struct plumb_plot_series *s, int64_t bins, int64_t b, double out[4])
{
    const int64_t begin = s->n * b / bins, end = s->n * (b + 1) / bins;
    double x = 0, y = 0, lo = INFINITY, hi = -INFINITY;
    int64_t n = 0;
    for (int64_t i = begin; i < end; i++) {
        if (!isfinite(s->y[i]))
            continue;
        x += s->x[i];
        y += s->y[i];
        lo = fmin(lo, s->y[i]);
        hi = fmax(hi, s->y[i]);
        n++;
    }
    if (!n)
        return false;
    out[0] = x / (double)n;
    out[1] = y / (double)n;
    out[2] = lo;
    out[3] = hi;
    return true;
}

/* The lower edge from left to right, the upper one back. */
static plumb_status put_band(struct plumb_buf *out, const struct plumb_plot_series *s,
                             const struct frame *f, int64_t bins)
{
    double at[4];
    for (int edge = 2; edge <= 3; edge++) {
        for (int64_t i = 0; i < bins; i++) {
            if (bin_of(s, bins, edge == 2 ? i : bins - 1 - i, at))
                PLUMB_TRY(plumb_buf_addf(out, "%.1f,%.1f ", px(f, at[0]), py(f, at[edge])));
        }
    }
    return PLUMB_OK;
}

static plumb_status put_points(struct plumb_buf *out, const struct plumb_plot_series *s,
                               const struct frame *f, bool tips_only)
{
    for (int64_t i = 0; i < s->n; i++) {
        if (!isfinite(s->y[i]))
            continue;
        PLUMB_TRY(plumb_buf_addf(
            out, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"><title>",
            tips_only ? "tip" : "dot", px(f, s->x[i]), py(f, s->y[i]), tips_only ? "4" : "2.6"));
        PLUMB_TRY(plumb_html_text(out, s->label, INT64_MAX));
        PLUMB_TRY(plumb_buf_addf(out, " at %g: %.5g</title></circle>\n", s->x[i], s->y[i]));
    }
    return PLUMB_OK;
}

/* The series' own band, there and back, in one piece per unbroken run of points. */
static plumb_status put_own_band(struct plumb_buf *out, const struct plumb_plot_series *s,
                                 const struct frame *f)
{
    for (int64_t begin = 0, end; begin < s->n; begin = end + 1) {
        for (end = begin; end < s->n && has_band(s, end); end++)
            ;
        if (end - begin < 2)
            continue;
        PLUMB_TRY(plumb_buf_add_text(out, "<polygon class=\"band\" points=\""));
        for (int64_t i = begin; i < end; i++)
            PLUMB_TRY(plumb_buf_addf(out, "%.1f,%.1f ", px(f, s->x[i]), py(f, s->lo[i])));
        for (int64_t i = end - 1; i >= begin; i--)
            PLUMB_TRY(plumb_buf_addf(out, "%.1f,%.1f ", px(f, s->x[i]), py(f, s->hi[i])));
        PLUMB_TRY(plumb_buf_add_text(out, "\"/>\n"));
    }
    return PLUMB_OK;
}

/* Classes of series number 0 .. PLUMB_PLOT_SERIES - 1. */
static plumb_status put_class(struct plumb_buf *out, int number)
{
    return plumb_buf_addf(out, "s%d%s", number % PLUMB_PLOT_COLOURS + 1,
                          number < PLUMB_PLOT_COLOURS ? "" : " dashed");
}

static plumb_status put_series(struct plumb_buf *out, const struct plumb_plot_series *s,
                               const struct frame *f, int number)
{
    const bool binned = s->n > PLUMB_PLOT_POINTS;
    const int64_t bins = binned ? PLUMB_PLOT_POINTS : s->n;
    bool pen_down = false;
    PLUMB_TRY(plumb_buf_add_text(out, "<g class=\""));
    PLUMB_TRY(put_class(out, number));
    PLUMB_TRY(plumb_buf_add_text(out, "\">"));
    if (s->lo) {
        PLUMB_TRY(put_own_band(out, s, f));
    } else if (binned) {
        PLUMB_TRY(plumb_buf_add_text(out, "<polygon class=\"band\" points=\""));
        PLUMB_TRY(put_band(out, s, f, bins));
        PLUMB_TRY(plumb_buf_add_text(out, "\"/>\n"));
    }
    PLUMB_TRY(plumb_buf_add_text(out, "<path class=\"line\" d=\""));
    for (int64_t i = 0; i < bins; i++) {
        double at[4];
        const bool there = bin_of(s, bins, i, at);
        if (there)
            PLUMB_TRY(plumb_buf_addf(out, "%c%.1f %.1f", pen_down ? 'L' : 'M', px(f, at[0]),
                                     py(f, at[1])));
        pen_down = there;
    }
    PLUMB_TRY(plumb_buf_add_text(out, "\"/>\n"));
    if (!binned)
        PLUMB_TRY(put_points(out, s, f, s->n > 60));
    return plumb_buf_add_text(out, "</g>\n");
}

plumb_status plumb_plot_svg(struct plumb_buf *out, const struct plumb_plot *plot)
{
    struct frame f;
    const bool any = make_frame(&f, plot);
    PLUMB_TRY(plumb_buf_add_text(out, "<figure><figcaption><b>"));
    PLUMB_TRY(plumb_html_text(out, plot->title, INT64_MAX));
    PLUMB_TRY(plumb_buf_add_text(out, "</b>"));
    for (int s = 0; s < plot->n_series; s++) {
        PLUMB_TRY(plumb_buf_add_text(out, "<span class=\"key "));
        PLUMB_TRY(put_class(out, s));
        PLUMB_TRY(plumb_buf_add_text(out, "\"><i></i>"));
        PLUMB_TRY(plumb_html_text(out, plot->series[s].label, INT64_MAX));
        PLUMB_TRY(plumb_buf_add_text(out, "</span>"));
    }
    PLUMB_TRY(plumb_buf_add_text(out, "</figcaption>\n"));
    if (!any) {
        PLUMB_TRY(plumb_buf_add_text(out, "<p class=\"empty\">no finite value recorded</p>"));
    } else {
        PLUMB_TRY(plumb_buf_addf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"",
                                 WIDTH, HEIGHT));
        PLUMB_TRY(plumb_html_text(out, plot->title, INT64_MAX));
        PLUMB_TRY(plumb_buf_add_text(out, "\">\n"));
        PLUMB_TRY(put_axes(out, plot, &f));
        for (int s = 0; s < plot->n_series; s++)
            PLUMB_TRY(put_series(out, &plot->series[s], &f, s));
        PLUMB_TRY(plumb_buf_add_text(out, "</svg>\n"));
    }
    if (plot->note) {
        PLUMB_TRY(plumb_buf_add_text(out, "<p class=\"note\">"));
        PLUMB_TRY(plumb_html_text(out, plot->note, INT64_MAX));
        PLUMB_TRY(plumb_buf_add_text(out, "</p>"));
    }
    return plumb_buf_add_text(out, "</figure>\n");
}
