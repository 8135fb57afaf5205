#!/bin/sh
# quickstart.sh [RANKS] - runs all stages of plumb on small generated data, in a few minutes: SFT
# from random weights, a reward model from preference pairs, PSLE and two baselines on RANKS
# (default: 2) MPI ranks, evaluation on held-out prompts, report. The output is in runs/quickstart
# of the source tree; if plumb is installed, of the current folder.
set -eu
launch=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$launch/.." && pwd)
ranks=${1:-2}
out=runs/quickstart
started=$(date +%s)

say() { printf '\n== %s  (%s s)\n' "$*" "$(($(date +%s) - started))"; }

if [ -f "$top/meson.build" ]; then
    cd "$top"
    say "packages and build"
    ./launch/install.sh
    ./launch/build.sh build plumb plumb-world
    bin=./build
else
    bin=$(cd "$top/../../bin" && pwd)
fi

# An existing output folder is removed only if an earlier quickstart made it.
if [ -e "$out" ]; then
    if [ ! -e "$out/.made-by-quickstart" ]; then
        echo "$out exists and was not made by this script; move or rename it first" >&2
        exit 1
    fi
    rm -rf "$out"
fi
mkdir -p "$out"
: >"$out/.made-by-quickstart"

say "1/6 generating the data: prompts, good and bad answers, tokenizer"
"$bin/plumb-world" make "$out/world" 1

say "2/6 supervised fine-tuning from random weights"
"$launch/local.sh" "$ranks" sft configs/quickstart/sft.yaml

say "3/6 reward model from preference pairs"
"$launch/local.sh" "$ranks" reward configs/quickstart/reward.yaml

say "4/6 PSLE, 8 iterations on $ranks ranks"
"$launch/local.sh" "$ranks" align configs/quickstart/align.yaml

say "5/6 the baselines, with the same number of generated tokens"
for method in context_distillation raft; do
    "$launch/local.sh" "$ranks" align configs/quickstart/$method.yaml
done

say "6/6 held-out evaluation"
"$launch/local.sh" "$ranks" eval configs/quickstart/eval.yaml

say "done"
echo "report:           $out/psle/report.html"
echo "aligned model:    $out/psle/latest   (a Hugging Face checkpoint)"
echo "show rollouts:    $bin/plumb inspect input=$out/psle/rollouts/iteration-0008.h5"
