"""chart.py - draws the scaling efficiency over the number of ranks as an SVG. Needs the standard
library only."""
import html
import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 60, 180, 40, 50
COLOURS = ("#1b6ca8", "#c8553d", "#588157", "#7b5ea7")


def draw(series, title):
    """Returns the text of an SVG file. series: [(name, drawn dashed or not, [(ranks,
    efficiency)])]."""
    ranks = sorted({r for _, _, points in series for r, _ in points})
    top = max([1.0] + [e for _, _, points in series for _, e in points])
    first, last = math.log2(ranks[0]), math.log2(max(ranks[-1], 2 * ranks[0]))

    def x(r):
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log2(r) - first) / (last - first)

    def y(e):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * e / top

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="22" font-size="15">{html.escape(title)}</text>']
    for i in range(0, 11, 2):
        e = i / 10 * top
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(e):.1f}" y2="{y(e):.1f}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 8}" y="{y(e) + 4:.1f}" text-anchor="end">{e:.2f}</text>')
    for r in ranks:
        out.append(f'<text x="{x(r):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{r}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 12}" text-anchor="middle">ranks</text>')
    for k, (name, dashed, points) in enumerate(series):
        colour = COLOURS[k % len(COLOURS)]
        path = " ".join(f"{x(r):.1f},{y(e):.1f}" for r, e in sorted(points))
        dash = ' stroke-dasharray="6 4"' if dashed else ""
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        out += [f'<circle cx="{x(r):.1f}" cy="{y(e):.1f}" r="3" fill="{colour}"/>' for r, e in points]
        legend = TOP + 20 * k + 10
        out.append(f'<line x1="{WIDTH - RIGHT + 12}" x2="{WIDTH - RIGHT + 40}" y1="{legend}" y2="{legend}" stroke="{colour}" stroke-width="2"{dash}/>'
                   f'<text x="{WIDTH - RIGHT + 46}" y="{legend + 4}">{html.escape(name)}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"
