#!/usr/bin/env python3
"""curves.py PAGE FOLDER [NAME ...] - writes each chart of an HTML page of plumb to an SVG file of its own.

PAGE is the report.html of a run or of `plumb compare`. FOLDER gets one file per chart, named by the chart's title. With NAMEs,
only the charts with these file names are written. This script made the pictures of configs/README.md from three runs on the
quickstart's data. After ./launch/quickstart.sh:

  align="./launch/local.sh 2 align configs/quickstart/align.yaml samples=0"
  $align output_dir=runs/curves/healthy learning_rate=1e-4
  $align output_dir=runs/curves/fast learning_rate=1.6e-3
  $align output_dir=runs/curves/short reward.model= "reward.functions=[{name: length, max: 5}]"
  ./build/plumb compare "runs=[healthy=runs/curves/healthy, rate x 16=runs/curves/fast, pays for shortness=runs/curves/short]"
  \\
    compare.allow=reward output_dir=runs/curves/page
  ./configs/curves.py runs/curves/page/report.html configs/curves reward-plain-prompts kl-to-the-start completion-length entropy"""
import pathlib
import re
import sys

FIGURE = re.compile(r"<figure>(.*?)</figure>", re.S)
TITLE = re.compile(r"<b>(.*?)</b>")
KEY = re.compile(r'<span class="key (s\d+)[^"]*"><svg.*?</svg>(.*?)</span>', re.S)
CHART = re.compile(r'<svg viewBox="0 0 (\d+) (\d+)" role="img"[^>]*>\n(.*?)</svg>', re.S)
RULES = re.compile(r"(?<=[}\n])\.(?:s\d+|line|dot|tip|band|grid|axis|tick|label)(?: \.line)?\{[^}]*\}")
TOP = 44  # height of title and legend, in units of the SVG


def picture(figure, style):
    title, keys = TITLE.search(figure).group(1), KEY.findall(figure)
    width, height, chart = CHART.search(figure).groups()
    at, legend = 14, ""
    for name, label in keys:
        legend += (f'<g class="{name}"><path class="line" d="M{at} 34H{at + 26}"/></g>'
                   f'<text class="label" x="{at + 32}" y="38">{label}</text>\n')
        at += 48 + 7 * len(label)
    return title, (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {int(height) + TOP}" width="{width}" '
                   f'font-family="sans-serif" font-size="14">\n<style>{style}</style>\n'
                   f'<rect width="{width}" height="{int(height) + TOP}" fill="#fff"/>\n<text x="14" y="18">{title}</text>\n'
                   f'{legend}<g transform="translate(0 {TOP})">\n{chart}</g>\n</svg>\n')


def main(page, folder, *names):
    text, folder = pathlib.Path(page).read_text(encoding="utf-8"), pathlib.Path(folder)
    style = text[text.index("<style>"):text.index("</style>")]
    # the colours of the page's light theme
    colours = dict(re.findall(r"(--\w+):(#\w+)", style.split("@media")[0]))
    style = "".join(RULES.findall(style)).replace("--c:", "color:").replace("var(--c)", "currentColor")
    style = re.sub(r"var\((--\w+)\)", lambda m: colours[m.group(1)], style)
    folder.mkdir(parents=True, exist_ok=True)
    for figure in FIGURE.findall(text):
        if CHART.search(figure):
            title, svg = picture(figure, style)
            name = re.sub(r"\W+", "-", title.lower()).strip("-")
            if name in names or not names:
                (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
                print(f"{folder / name}.svg: {len(svg)} bytes")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: curves.py PAGE FOLDER [NAME ...]")
    main(*sys.argv[1:])
