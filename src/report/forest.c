/* forest.c - draws a forest plot: means and their intervals, row by row.
 * Layer 4. Includes report/forest.h, report/axis.h, report/plot.h. */
#include "report/forest.h"

#include <math.h>

#include "report/axis.h"
#include "report/plot.h"

/* Sizes in units of the SVG's view box, which the page scales. */
enum { WIDTH = 520, LEFT = 150, RIGHT = 16, TOP = 6, BOTTOM = 42, ROW = 19, LABEL_RUNES = 21 };

static double px(const struct plumb_axis *a, double x)
{
    return LEFT + plumb_axis_share(a, x) * (WIDTH - LEFT - RIGHT);
}

/* Sets the axis to cover the start value, all means and all single values. A linear axis also
 * covers the intervals as far as plumb_axis_reach allows. Returns false if none of these values is
 * finite, even if an interval is. */
static bool make_axis(struct plumb_axis *out, const struct plumb_forest *f)
{
    struct plumb_axis a = plumb_axis_empty(), ends = a;
    plumb_axis_cover(&a, f->start);
    for (int64_t i = 0; i < f->n_rows; i++) {
        const struct plumb_forest_row *r = &f->row[i];
        plumb_axis_cover(&a, r->mean);
        for (int64_t k = 0; r->value && k < r->n; k++)
            plumb_axis_cover(&a, r->value[k]);
        plumb_axis_cover(&ends, r->lo);
        plumb_axis_cover(&ends, r->hi);
    }
    if (a.lo > a.hi)
        return false;
    if (a.lo > 0 && a.hi > 100 * a.lo) {
        plumb_axis_log(&a);
    } else {
        const bool positive = a.lo >= 0;
        plumb_axis_reach(&a, &ends);
        a.lo = positive ? fmax(a.lo, 0) : a.lo;
        a.hi = fmin(a.hi, f->most);
        plumb_axis_linear(&a, 5, false, true);
    }
    *out = a;
    return true;
}

static plumb_status put_axis(struct plumb_buf *out, const struct plumb_forest *f,
                             const struct plumb_axis *a, int bottom)
{
    char text[64];
    for (int i = 0; i < a->n; i++) {
        const double x = px(a, a->tick[i]);
        plumb_axis_text(text, sizeof(text), a->tick[i], a, false);
        PLUMB_TRY(plumb_buf_addf(
            out,
            "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>"
            "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
            x, x, TOP, bottom, x, bottom + 16, text));
    }
    if (isfinite(f->start))
        PLUMB_TRY(
            plumb_buf_addf(out,
                           "<line class=\"start\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\">"
                           "<title>start: %.5g</title></line>\n",
                           px(a, f->start), px(a, f->start), TOP, bottom, f->start));
    PLUMB_TRY(plumb_buf_addf(out, "<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">",
                             (LEFT + WIDTH - RIGHT) / 2, bottom + 35));
    PLUMB_TRY(plumb_html_text(out, f->x_label, INT64_MAX));
    return plumb_buf_addf(out, "%s</text>\n", a->log ? " (log)" : "");
}

static plumb_status put_row(struct plumb_buf *out, const struct plumb_forest_row *r,
                            const struct plumb_axis *a, double y)
{
    PLUMB_TRY(plumb_buf_addf(out, "<text class=\"name\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">",
                             LEFT - 8, y + 4));
    PLUMB_TRY(plumb_html_text(out, r->label, LABEL_RUNES));
    PLUMB_TRY(plumb_buf_add_text(out, "</text>"));
    for (int64_t k = 0; r->value && k < r->n; k++)
        if (isfinite(r->value[k]))
            PLUMB_TRY(plumb_buf_addf(out,
                                     "<circle class=\"ring\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>",
                                     px(a, r->value[k]), y));
    if (isfinite(r->lo) && isfinite(r->hi) && r->hi > r->lo)
        PLUMB_TRY(plumb_buf_addf(out, "<path class=\"line\" d=\"M%.1f %.1fH%.1f\"/>", px(a, r->lo),
                                 y, px(a, r->hi)));
    if (!isfinite(r->mean))
        return plumb_buf_add_text(out, "\n");
    PLUMB_TRY(plumb_buf_addf(out, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>",
                             px(a, r->mean), y));
    PLUMB_TRY(plumb_html_text(out, r->label, INT64_MAX));
    return plumb_buf_addf(out, ": %.5g (%.5g to %.5g)</title></circle>\n", r->mean, r->lo, r->hi);
}

plumb_status plumb_forest_svg(struct plumb_buf *out, const struct plumb_forest *f)
{
    struct plumb_axis a;
    const int bottom = TOP + (int)f->n_rows * ROW;
    PLUMB_TRY(plumb_buf_add_text(out, "<figure><figcaption><b>"));
    PLUMB_TRY(plumb_html_text(out, f->title, INT64_MAX));
    PLUMB_TRY(plumb_buf_add_text(out, "</b></figcaption>\n"));
    if (!make_axis(&a, f))
        return plumb_buf_add_text(out, "<p class=\"empty\">no finite value</p></figure>\n");
    PLUMB_TRY(plumb_buf_addf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH,
                             bottom + BOTTOM));
    PLUMB_TRY(plumb_html_text(out, f->title, INT64_MAX));
    PLUMB_TRY(plumb_buf_add_text(out, "\">\n"));
    PLUMB_TRY(put_axis(out, f, &a, bottom));
    PLUMB_TRY(plumb_buf_add_text(out, "<g class=\"s1\">\n"));
    for (int64_t i = 0; i < f->n_rows; i++)
        PLUMB_TRY(put_row(out, &f->row[i], &a, TOP + ((double)i + 0.5) * ROW));
    return plumb_buf_add_text(out, "</g></svg></figure>\n");
}
