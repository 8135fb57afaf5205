#!/bin/sh
# quickstart.sh [RANKS] - the whole of plumb on a small world that it makes itself, in minutes:
# SFT from nothing, a reward model from preference pairs, PSLE and two baselines on RANKS (2) MPI
# ranks, evaluation on held-out prompts, report. Everything lands in runs/quickstart.
set -eu
cd "$(dirname "$0")/.."
ranks=${1:-2}
out=runs/quickstart
started=$(date +%s)

say() { printf '\n== %s  (%s s)\n' "$*" "$(($(date +%s) - started))"; }

say "packages and build"
./launch/install.sh
./launch/build.sh build plumb plumb-world

# Only what an earlier quickstart made is ever removed.
if [ -e "$out" ]; then
    if [ ! -e "$out/.made-by-quickstart" ]; then
        echo "$out exists and was not made by this script: move it away first" >&2
        exit 1
    fi
    rm -rf "$out"
fi
mkdir -p "$out"
: >"$out/.made-by-quickstart"

say "1/6 the small world: requests, good and bad answers, tokenizer"
./build/plumb-world make "$out/world" 1

say "2/6 supervised fine-tuning from random weights"
./launch/local.sh "$ranks" sft configs/quickstart/sft.yaml

say "3/6 reward model from preference pairs"
./launch/local.sh "$ranks" reward configs/quickstart/reward.yaml

say "4/6 PSLE, 8 iterations on $ranks ranks"
./launch/local.sh "$ranks" align configs/quickstart/align.yaml

say "5/6 the baselines, equal generated tokens"
for method in context_distillation raft; do
    ./launch/local.sh "$ranks" align configs/quickstart/$method.yaml
done

say "6/6 held-out evaluation"
./launch/local.sh "$ranks" eval configs/quickstart/eval.yaml

say "done"
echo "report:           $out/psle/report.html"
echo "aligned model:    $out/psle/latest   (a Hugging Face checkpoint)"
echo "rollouts, in words: ./build/plumb inspect input=$out/psle/rollouts/iteration-0008.h5"
