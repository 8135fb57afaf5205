#!/usr/bin/env python3
"""layers.py ROOT - fails if a file includes a header of a layer that it may not include.

The rules are those of src/README.md: a folder includes only lower folders, the folders of kernels
do not include each other, and each foreign library has few folders that may include it."""
import pathlib
import re
import sys

ALLOW = {  # folder: other folders from which it may include headers
    "base": set(),
    "kernels": {"base"},
    "io": {"base"},
    "comm": {"base"},
    "align": {"base"},
    "backend": {"base", "kernels"},
    "op": {"base", "kernels", "backend"},
    "text": {"base", "io"},
    "config": {"base", "io"},
    "model": {"base", "kernels", "io", "backend", "op", "text"},
    "data": {"base", "io", "text", "config"},
    "report": {"base", "io", "text", "config"},
    "eval": {"base", "io", "align", "text", "config", "report", "train"},
    "train": {"base", "kernels", "io", "comm", "align", "backend", "op", "text", "config", "model", "data", "report"},
    "stage": {"base", "kernels", "io", "comm", "align", "backend", "op", "text", "config", "model", "data", "report", "train"},
    "app": {"base", "kernels", "io", "comm", "align", "backend", "op", "text", "config", "model", "data", "report", "eval", "train", "stage"},
}
ONLY_IN = {  # header of a foreign library: folders that may include it
    "mpi.h": {"comm"},
    "nccl.h": {"comm"},
    "hdf5.h": {"io"},
    "jansson.h": {"io"},
    "libfyaml.h": {"io"},
    "xxhash.h": {"io"},
    "zlib.h": {"io"},
    "pcre2.h": {"text"},
    "utf8proc.h": {"io", "text"},
    "cuda_runtime.h": {"kernels", "backend", "comm"},
    "cuda_runtime_api.h": {"kernels", "backend", "comm"},
    "cublasLt.h": {"kernels"},
    "hwloc.h": {"backend"},
}
PRIVATE = {  # header shared by a few files of the stages: files that may include it
    "stage/align_run.h": {"src/stage/align.c", "src/stage/setup.c", "src/stage/pause.c"},
}
INCLUDE = re.compile(r'\s*#\s*include\s+(["<])([^">]+)[">]')


def folder(path, root):
    parts = path.relative_to(root).parts
    return parts[1] if parts[0] == "src" else parts[0]


def main(root):
    files = [p for top in ("src", "kernels") for p in sorted((root / top).rglob("*")) if p.suffix in (".c", ".h", ".cu", ".cuh")]
    bad = 0
    for path in files:
        me = folder(path, root)
        device = path.relative_to(root).parts[1] if me == "kernels" else ""
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = INCLUDE.match(line)
            if not found:
                continue
            name = found.group(2)
            where = f"{path.relative_to(root)}:{number}"
            if name in ONLY_IN and me not in ONLY_IN[name]:
                print(f"{where}: {name} may be included only in {', '.join(sorted(ONLY_IN[name]))}")
                bad += 1
            if name in PRIVATE and str(path.relative_to(root)) not in PRIVATE[name]:
                print(f"{where}: {name} may be included only in {', '.join(sorted(PRIVATE[name]))}")
                bad += 1
            if found.group(1) != '"':
                continue
            head = name.split("/")[0] if "/" in name else "kernels"
            if me == "backend" and name == "cuda/cuda.h":
                continue  # declares the type to which the streams of the CUDA kernel table point
            if me == "config" and name == "align/param_list.h":
                continue  # a list without code, from which the options of the methods are made
            if me == "kernels" and head in ("ref", "cpu", "cuda"):
                if head != device:
                    print(f"{where}: kernels/{device} may not see kernels/{head}")
                    bad += 1
                continue
            if head != me and head not in ALLOW[me] and not (me == "app" and "/" not in name):
                print(f"{where}: {me} may not include {head}")
                bad += 1
    print(f"{len(files)} files, {bad} faults")
    return 1 if bad or not files else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
