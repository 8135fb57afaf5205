#!/usr/bin/env python3
"""images.py FOLDER [FILE]... - follows the steps of the Dockerfile and of the Apptainer definition in minimal
Debian root file systems, without Docker and Apptainer. For FROM and Bootstrap, it copies a root file system. It
runs RUN and %post in the copy. For COPY and %files, it copies files of the last commit. Without FILE, it uses
the two files for the CPU; those for CUDA start from images of a registry. Needs root, debootstrap and a network
that reaches Debian's packages."""
import io
import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Image:
    """A root file system in which commands are run."""

    def __init__(self, folder, name):
        self.root, self.env, self.folder, self.place = folder / name, {}, folder, "/"
        self.sh(f'root_open "{folder}/base" "{self.root}"')

    def sh(self, command, quiet=False):
        script = f'. "{HERE}/root.sh"; mounted="{self.root}"; {command}'
        done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
        with open(self.folder / "images.log", "a", encoding="utf-8") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode != 0:
            self.close()
            raise SystemExit(f"{command}\n{(done.stdout + done.stderr)[-3000:]}")
        return done.stdout

    def run(self, command):
        print("  RUN", command[:110], flush=True)
        exports = "".join(f"export {k}={shlex.quote(v)}; " for k, v in self.env.items())
        return self.sh("root_run " + shlex.quote(f"{exports}cd {self.place}; {command}"))

    def copy_source(self, target):
        archive = subprocess.run(["git", "-C", ROOT, "archive", "HEAD"], capture_output=True, check=True).stdout
        place = self.root / target.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        tarfile.open(fileobj=io.BytesIO(archive)).extractall(place)

    def close(self):
        subprocess.run(["sh", "-c", f'. "{HERE}/root.sh"; mounted="{self.root}"; root_close'], check=False)


def docker(path, folder):
    stages, image, entry = {}, None, None
    for line in path.read_text().replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            if base != "debian:12":
                raise SystemExit(f"{path}: starts from {base}, which only a registry has")
            image = stages[name or "last"] = Image(folder, f"docker-{name or 'last'}")
        elif word == "RUN":
            image.run(rest)
        elif word == "COPY" and rest.startswith("--from="):
            stage, source, target = re.match(r"--from=(\S+) (\S+) (\S+)", rest).groups()
            subprocess.run(["cp", "-a", f"{stages[stage].root}{source}/.", f"{image.root}{target}/"], check=True)
        elif word == "COPY":
            image.copy_source(rest.split()[1])
        elif word == "ENV":
            key, _, value = rest.partition("=")
            image.env[key] = value
        elif word == "WORKDIR":
            image.place = rest
            (image.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "ENTRYPOINT":
            entry = " ".join(re.findall(r'"([^"]+)"', rest))
        elif word and word != "#":
            raise SystemExit(f"{path}: images.py does not know the instruction {word}")
    return stages.values(), image, entry


def apptainer(path, folder):
    text = path.read_text()
    part = {name: body.strip() for name, body in re.findall(r"^%(\w+)\n((?:(?!%).*\n?)*)", text, re.M)}
    if "From: debian:12\n" not in text:
        raise SystemExit(f"{path}: starts from an image that only a registry has")
    unknown = set(part) - {"files", "post", "environment", "test", "runscript"}
    if unknown:
        raise SystemExit(f"{path}: images.py does not know the sections {unknown}")
    image = Image(folder, "apptainer")
    image.copy_source(part["files"].split()[1])
    for line in part["post"].splitlines():
        image.run(line.strip())
    image.env.update(re.findall(r"export (\w+)=(\S+)", part["environment"]))
    image.run(part["test"])
    return [image], image, part["runscript"].replace("exec ", "").replace(' "$@"', "")


def main():
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    files = [Path(p) for p in sys.argv[2:]] or [ROOT / "launch/docker/Dockerfile", ROOT / "launch/apptainer/plumb.def"]
    if os.geteuid() != 0:
        raise SystemExit("images.py: must run as root (debootstrap and chroot)")
    subprocess.run(["sh", "-ec", f'. "{HERE}/root.sh"; root_base "{folder}"'], check=True)
    for path in files:
        print(path.relative_to(ROOT), flush=True)
        images, last, entry = (apptainer if path.suffix == ".def" else docker)(path, folder)
        print(last.run(f"{entry} doctor threads=1"))
        for image in images:
            image.close()
            subprocess.run(["rm", "-rf", "--one-file-system", image.root], check=True)
    print("images: every step was followed")


main()
