/* plot.c - draws line charts as SVG.
 * Layer 4. Includes base/, text/utf8.h, report/axis.h. */
#include "report/plot.h"

#include <math.h>
#include <string.h>

#include "report/axis.h"
#include "text/utf8.h"

/* Sizes in units of the SVG's view box, which the page scales. */
struct box {
    int width, height, left, right, top, bottom;
};
static const struct box whole = {520, 270, 62, 14, 10, 46}, panel = {230, 140, 42, 10, 8, 22};

struct frame {
    const struct box *box;
    struct plumb_axis x, y;
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
    const struct box *b = f->box;
    return b->left + plumb_axis_share(&f->x, x) * (b->width - b->left - b->right);
}

static double py(const struct frame *f, double y)
{
    const struct box *b = f->box;
    return b->height - b->bottom - plumb_axis_share(&f->y, y) * (b->height - b->top - b->bottom);
}

/* Returns true if y can be drawn: it is finite, and positive if the axis is logarithmic. */
static bool shows(const struct frame *f, double y)
{
    return isfinite(y) && (!f->y.log || y > 0);
}

static bool has_band(const struct plumb_plot_series *s, int64_t i)
{
    return s->lo && isfinite(s->y[i]) && isfinite(s->lo[i]) && isfinite(s->hi[i]);
}

/* Sets the axes of a chart to cover all points, and the bands as far as plumb_axis_reach allows.
 * The range of a logarithmic axis does not depend on the bands. Returns false if no y is finite. */
static bool make_frame(struct frame *f, const struct plumb_plot *plot)
{
    struct plumb_axis x = plumb_axis_empty(), y = x, band = x;
    double least = INFINITY; /* the smallest positive value */
    for (int s = 0; s < plot->n_series; s++) {
        const struct plumb_plot_series *p = &plot->series[s];
        for (int64_t i = 0; i < p->n; i++) {
            plumb_axis_cover(&x, p->x[i]);
            plumb_axis_cover(&y, p->y[i]);
            if (p->y[i] > 0)
                least = fmin(least, p->y[i]);
            if (!has_band(p, i))
                continue;
            plumb_axis_cover(&band, p->lo[i]);
            plumb_axis_cover(&band, p->hi[i]);
        }
    }
    if (y.lo > y.hi)
        return false;
    const bool small = plot->panels, positive = y.lo >= 0;
    *f = (struct frame){.box = small ? &panel : &whole, .percent = plot->percent};
    plumb_axis_linear(&x, small ? 4 : 7, true, false);
    if (plot->log_y && positive && y.hi > 100 * least) {
        y.lo = least;
        plumb_axis_log(&y);
    } else {
        plumb_axis_reach(&y, &band);
        if (plot->from_zero || plot->percent)
            y.lo = positive ? 0 : fmin(y.lo, 0);
        if (plot->percent)
            y.hi = 1;
        plumb_axis_linear(&y, small ? 4 : 5, false, !small);
    }
    f->x = x;
    f->y = y;
    return true;
}

static plumb_status put_axes(struct plumb_buf *out, const struct plumb_plot *plot,
                             const struct frame *f)
{
    const struct box *b = f->box;
    char text[64];
    for (int i = 0; i < f->y.n; i++) {
        const double y = py(f, f->y.tick[i]);
        plumb_axis_text(text, sizeof(text), f->y.tick[i], &f->y, f->percent);
        PLUMB_TRY(plumb_buf_addf(
            out,
            "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
            "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
            b->left, b->width - b->right, y, y, b->left - 6, y + 4, text));
    }
    for (int i = 0; i < f->x.n; i++) {
        const double x = px(f, f->x.tick[i]);
        plumb_axis_text(text, sizeof(text), f->x.tick[i], &f->x, false);
        PLUMB_TRY(plumb_buf_addf(
            out,
            "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>"
            "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
            x, x, b->height - b->bottom, b->height - b->bottom + 4, x, b->height - b->bottom + 17,
            text));
    }
    PLUMB_TRY(
        plumb_buf_addf(out, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n",
                       b->left, b->width - b->right, b->height - b->bottom, b->height - b->bottom));
    /* a figure with panels has the axis labels in its caption */
    if (plot->panels)
        return PLUMB_OK;
    PLUMB_TRY(plumb_buf_addf(out, "<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">",
                             (b->left + b->width - b->right) / 2, b->height - 8));
    PLUMB_TRY(plumb_html_text(out, plot->x_label, INT64_MAX));
    PLUMB_TRY(
        plumb_buf_addf(out,
                       "</text>\n<text class=\"label\" transform=\"translate(13 %d) rotate(-90)\" "
                       "text-anchor=\"middle\">",
                       (b->top + b->height - b->bottom) / 2));
    PLUMB_TRY(plumb_html_text(out, plot->y_label, INT64_MAX));
    return plumb_buf_addf(out, "%s</text>\n", f->y.log ? " (log)" : "");
}

/* Sets out to mean x, mean y, smallest y and largest y of the points of bin b that can be drawn
 * (`shows`). Returns false if the bin has no such point. */
static bool bin_of(const struct frame *f, const struct plumb_plot_series *s, int64_t bins,
                   int64_t b, double out[4])
{
    const int64_t begin = s->n * b / bins, end = s->n * (b + 1) / bins;
    double x = 0, y = 0, lo = INFINITY, hi = -INFINITY;
    int64_t n = 0;
    for (int64_t i = begin; i < end; i++) {
        if (!shows(f, s->y[i]))
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

/* Draws the band of a series between the smallest and the largest value of each bin: the lower edge
 * from left to right, then the upper edge from right to left. */
static plumb_status put_band(struct plumb_buf *out, const struct plumb_plot_series *s,
                             const struct frame *f, int64_t bins)
{
    double at[4];
    for (int edge = 2; edge <= 3; edge++) {
        for (int64_t i = 0; i < bins; i++) {
            if (bin_of(f, s, bins, edge == 2 ? i : bins - 1 - i, at))
                PLUMB_TRY(plumb_buf_addf(out, "%.1f,%.1f ", px(f, at[0]), py(f, at[edge])));
        }
    }
    return PLUMB_OK;
}

static plumb_status put_points(struct plumb_buf *out, const struct plumb_plot_series *s,
                               const struct frame *f, bool tips_only)
{
    for (int64_t i = 0; i < s->n; i++) {
        if (!shows(f, s->y[i]))
            continue;
        PLUMB_TRY(plumb_buf_addf(
            out, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"><title>",
            tips_only ? "tip" : "dot", px(f, s->x[i]), py(f, s->y[i]), tips_only ? "4" : "2.6"));
        PLUMB_TRY(plumb_html_text(out, s->label, INT64_MAX));
        PLUMB_TRY(plumb_buf_addf(out, " at %g: %.5g", s->x[i], s->y[i]));
        if (has_band(s, i) && s->hi[i] > s->lo[i])
            PLUMB_TRY(plumb_buf_addf(out, " (%.5g to %.5g)", s->lo[i], s->hi[i]));
        PLUMB_TRY(plumb_buf_add_text(out, "</title></circle>\n"));
    }
    return PLUMB_OK;
}

/* Draws the band given by lo and hi: one polygon for each unbroken sequence of points with a band.
 * A single point between two gaps becomes a narrow bar. */
static plumb_status put_own_band(struct plumb_buf *out, const struct plumb_plot_series *s,
                                 const struct frame *f)
{
    for (int64_t begin = 0, end; begin < s->n; begin = end + 1) {
        for (end = begin; end < s->n && has_band(s, end) && shows(f, s->y[end]); end++)
            ;
        if (end == begin)
            continue;
        const double half = end - begin == 1 ? 2 : 0; /* half of the bar's width */
        PLUMB_TRY(plumb_buf_add_text(out, "<polygon class=\"band\" points=\""));
        for (int64_t i = begin; i < end; i++)
            PLUMB_TRY(plumb_buf_addf(out, "%.1f,%.1f ", px(f, s->x[i]) - half, py(f, s->lo[i])));
        if (half > 0)
            PLUMB_TRY(
                plumb_buf_addf(out, "%.1f,%.1f ", px(f, s->x[begin]) + half, py(f, s->lo[begin])));
        for (int64_t i = end - 1; i >= begin; i--)
            PLUMB_TRY(plumb_buf_addf(out, "%.1f,%.1f ", px(f, s->x[i]) + half, py(f, s->hi[i])));
        if (half > 0)
            PLUMB_TRY(
                plumb_buf_addf(out, "%.1f,%.1f ", px(f, s->x[begin]) - half, py(f, s->hi[begin])));
        PLUMB_TRY(plumb_buf_add_text(out, "\"/>\n"));
    }
    return PLUMB_OK;
}

/* Writes the CSS classes of series `number`, 0 .. PLUMB_PLOT_SERIES - 1. */
static plumb_status put_class(struct plumb_buf *out, int number)
{
    return plumb_buf_addf(out, "s%d%s", number % PLUMB_PLOT_COLOURS + 1,
                          number < PLUMB_PLOT_COLOURS ? "" : " dashed");
}

static int64_t bins_of(const struct plumb_plot_series *s)
{
    return s->n > PLUMB_PLOT_POINTS ? PLUMB_PLOT_POINTS : s->n;
}

static plumb_status put_line(struct plumb_buf *out, const struct plumb_plot_series *s,
                             const struct frame *f, const char *style)
{
    bool pen_down = false;
    PLUMB_TRY(plumb_buf_addf(out, "<path class=\"%s\" d=\"", style));
    for (int64_t i = 0; i < bins_of(s); i++) {
        double at[4];
        const bool there = bin_of(f, s, bins_of(s), i, at);
        if (there)
            PLUMB_TRY(plumb_buf_addf(out, "%c%.1f %.1f", pen_down ? 'L' : 'M', px(f, at[0]),
                                     py(f, at[1])));
        pen_down = there;
    }
    return plumb_buf_add_text(out, "\"/>\n");
}

static plumb_status put_series(struct plumb_buf *out, const struct plumb_plot_series *s,
                               const struct frame *f, int number)
{
    const bool binned = s->n > PLUMB_PLOT_POINTS;
    PLUMB_TRY(plumb_buf_add_text(out, "<g class=\""));
    PLUMB_TRY(put_class(out, number));
    PLUMB_TRY(plumb_buf_add_text(out, "\">"));
    if (s->lo) {
        PLUMB_TRY(put_own_band(out, s, f));
    } else if (binned) {
        PLUMB_TRY(plumb_buf_add_text(out, "<polygon class=\"band\" points=\""));
        PLUMB_TRY(put_band(out, s, f, bins_of(s)));
        PLUMB_TRY(plumb_buf_add_text(out, "\"/>\n"));
    }
    PLUMB_TRY(put_line(out, s, f, "line"));
    if (!binned)
        PLUMB_TRY(put_points(out, s, f, s->n > 60));
    return plumb_buf_add_text(out, "</g>\n");
}

static plumb_status put_svg_head(struct plumb_buf *out, const struct box *b, const char *label)
{
    PLUMB_TRY(plumb_buf_addf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", b->width,
                             b->height));
    PLUMB_TRY(plumb_html_text(out, label, INT64_MAX));
    return plumb_buf_add_text(out, "\">\n");
}

static plumb_status put_legend(struct plumb_buf *out, const struct plumb_plot *plot)
{
    for (int s = 0; s < plot->n_series; s++) {
        PLUMB_TRY(plumb_buf_add_text(out, "<span class=\"key "));
        PLUMB_TRY(put_class(out, s));
        PLUMB_TRY(plumb_buf_add_text(out, "\"><svg viewBox=\"0 0 26 8\" aria-hidden=\"true\">"
                                          "<path class=\"line\" d=\"M0 4H26\"/></svg>"));
        PLUMB_TRY(plumb_html_text(out, plot->series[s].label, INT64_MAX));
        PLUMB_TRY(plumb_buf_add_text(out, "</span>"));
    }
    return PLUMB_OK;
}

/* Draws one panel per series. All panels show the same axes and the same grey lines of all series:
 * the first panel defines them with the id plot->panels, and the other panels refer to that id. */
static plumb_status put_panels(struct plumb_buf *out, const struct plumb_plot *plot,
                               const struct frame *f)
{
    PLUMB_TRY(plumb_buf_add_text(out, "<div class=\"panels\">\n"));
    for (int s = 0; s < plot->n_series; s++) {
        const struct plumb_plot_series *one = &plot->series[s];
        PLUMB_TRY(plumb_buf_add_text(out, "<div><span>"));
        PLUMB_TRY(plumb_html_text(out, one->label, INT64_MAX));
        PLUMB_TRY(plumb_buf_add_text(out, "</span>"));
        PLUMB_TRY(put_svg_head(out, f->box, one->label));
        if (s == 0) {
            PLUMB_TRY(plumb_buf_addf(out, "<g id=\"%s\">\n", plot->panels));
            PLUMB_TRY(put_axes(out, plot, f));
            for (int k = 0; k < plot->n_series; k++)
                PLUMB_TRY(put_line(out, &plot->series[k], f, "behind"));
            PLUMB_TRY(plumb_buf_add_text(out, "</g>\n"));
        } else {
            PLUMB_TRY(plumb_buf_addf(out, "<use href=\"#%s\"/>\n", plot->panels));
        }
        PLUMB_TRY(put_series(out, one, f, 0));
        PLUMB_TRY(plumb_buf_add_text(out, "</svg></div>\n"));
    }
    return plumb_buf_add_text(out, "</div>\n");
}

static plumb_status put_together(struct plumb_buf *out, const struct plumb_plot *plot,
                                 const struct frame *f)
{
    PLUMB_TRY(put_svg_head(out, f->box, plot->title));
    PLUMB_TRY(put_axes(out, plot, f));
    for (int s = 0; s < plot->n_series; s++)
        PLUMB_TRY(put_series(out, &plot->series[s], f, s));
    return plumb_buf_add_text(out, "</svg>\n");
}

plumb_status plumb_plot_svg(struct plumb_buf *out, const struct plumb_plot *plot)
{
    struct frame f;
    const bool any = make_frame(&f, plot);
    PLUMB_TRY(
        plumb_buf_addf(out, "<figure%s><figcaption><b>", plot->panels ? " class=\"full\"" : ""));
    PLUMB_TRY(plumb_html_text(out, plot->title, INT64_MAX));
    PLUMB_TRY(plumb_buf_add_text(out, "</b>"));
    if (plot->panels) {
        PLUMB_TRY(plumb_buf_add_text(out, "<span class=\"key\">"));
        PLUMB_TRY(plumb_html_text(out, plot->y_label, INT64_MAX));
        PLUMB_TRY(plumb_buf_add_text(out, any && f.y.log ? " (log), by " : ", by "));
        PLUMB_TRY(plumb_html_text(out, plot->x_label, INT64_MAX));
        PLUMB_TRY(plumb_buf_add_text(out, "</span>"));
    } else {
        PLUMB_TRY(put_legend(out, plot));
    }
    PLUMB_TRY(plumb_buf_add_text(out, "</figcaption>\n"));
    if (!any)
        PLUMB_TRY(plumb_buf_add_text(out, "<p class=\"empty\">no finite value recorded</p>"));
    else
        PLUMB_TRY(plot->panels ? put_panels(out, plot, &f) : put_together(out, plot, &f));
    if (plot->note) {
        PLUMB_TRY(plumb_buf_add_text(out, "<p class=\"note\">"));
        PLUMB_TRY(plumb_html_text(out, plot->note, INT64_MAX));
        PLUMB_TRY(plumb_buf_add_text(out, "</p>"));
    }
    return plumb_buf_add_text(out, "</figure>\n");
}
