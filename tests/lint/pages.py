#!/usr/bin/env python3
"""pages.py ROOT - fails if a page of the project contradicts the sources.

Checks that every path in back quotes exists, that the table of file formats in src/README.md is
that of src/io/format.h, that the picture of the layers names every folder of src, and that the
newest release in CHANGELOG.md is the version in meson.build."""
import pathlib
import re
import sys

PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "src/README.md", "src/align/ADDING.md", "configs/README.md"]
TOP = ("src", "kernels", "launch", "configs", "tests", "benchmarks")
SHORT = re.compile(r"`((?:%s)/[\w./-]+)`" % "|".join(TOP))
FORMAT = re.compile(r'X\((\w+), "([^"]+)", "[^"]+", (\d+), (\d+),')
ROW = re.compile(r"^\| [^|]*`[^|]* \| `([^`]+)` \| ([\d, ]+) \| (\d+) \|$", re.M)


def paths(root):
    for page in PAGES:
        for number, line in enumerate((root / page).read_text().splitlines(), 1):
            for path in SHORT.findall(line):
                made_by_the_page = page.endswith("ADDING.md")
                if "FOLDER" not in path and not (root / path).exists() and not made_by_the_page:
                    yield f"{page}:{number}: `{path}` does not exist"


def formats(root):
    header = (root / "src/io/format.h").read_text().replace("\\\n", "\n")
    code = {text: (list(range(int(a), int(b) + 1)), int(b)) for _, text, a, b in FORMAT.findall(header)}
    page = {text: ([int(v) for v in read.split(",")], int(written)) for text, read, written in ROW.findall((root / "src/README.md").read_text())}
    if not code or code != page:
        yield f"src/README.md: the formats are {page}, src/io/format.h has {code}"


def layers(root):
    text = (root / "src/README.md").read_text()
    picture = text[text.index("## Layers"):text.index("## One iteration")]
    for folder in sorted(p.name for p in (root / "src").iterdir() if p.is_dir()) + ["kernels"]:
        if not re.search(r"\b%s\b" % folder, picture):
            yield f"src/README.md: the picture of the layers does not name {folder}"


def version(root):
    built = re.search(r"version: '([\d.]+)'", (root / "meson.build").read_text()).group(1)
    newest = re.search(r"^## ([\d.]+)", (root / "CHANGELOG.md").read_text(), re.M).group(1)
    if built != newest:
        yield f"CHANGELOG.md: the newest release is {newest}, meson.build has {built}"


def main(root):
    faults = [fault for check in (paths, formats, layers, version) for fault in check(root)]
    print("\n".join(faults + [f"{len(PAGES)} pages, {len(faults)} faults"]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
