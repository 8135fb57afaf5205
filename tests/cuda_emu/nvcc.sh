#!/bin/sh
# nvcc.sh NVCC ROOT PTX GENCODE... - compiles every .cu file with the -gencode options of the
# product, and with warnings as errors.
# Checks that the result has machine code for every GPU of the options and PTX for newer GPUs. Checks
# that no kernel needs a larger stack than the memory plan has room for (src/backend/backend_cuda.c).
# Prints the largest registers, stack and spills of each file. Then counters.py compares the values
# of every kernel with the limits of benchmarks/results/cuda-counters.md.
set -eu
nvcc=$1 root=$2 ptx=$3
shift 3
if [ -z "$nvcc" ]; then
    echo "skipped: no nvcc on this machine"
    exit 77
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
compile() {
    "$nvcc" --threads 0 -std=c++17 -O3 -fmad=false --Werror all-warnings -Xcompiler -Wall,-Wextra,-Werror \
        -I "$root/src" -I "$root/kernels" -I "$root/tests" -keep -keep-dir "$out" -c -o "$out/object" "$@"
}
# most PATTERN: prints the largest number that the pattern matches in the output of ptxas, or 0 if there
# is none.
most() {
    sed -n "s/$1/\1/p" "$out/said" | sort -n | sed -n '$p' | grep . || echo 0
}
compile --dryrun "$@" "$root/kernels/cuda/context.cu" 2>"$out/steps"
kinds=
for option in "$@"; do
    case $option in
    *code=sm_*) kind=kind=elf,sm=${option##*code=sm_} ;;
    *) kind=kind=ptx,sm=$ptx ;;
    esac
    kinds="$kinds $kind"
    if ! grep -q "fatbinary.*$kind" "$out/steps"; then
        echo "nvcc packs no $kind: $(grep fatbinary "$out/steps")"
        exit 1
    fi
done
case $kinds in
*"kind=ptx"*) ;;
*) echo "the options hold no PTX: $*" && exit 1 ;;
esac
for file in "$root"/kernels/cuda/*.cu "$root"/tests/cuda_emu/*.cu; do
    name=$(basename "$file")
    if ! compile -Xptxas -v "$@" "$file" 2>"$out/said"; then
        cat "$out/said"
        exit 1
    fi
    case $file in
    "$root"/kernels/*) cp "$out/said" "$out/${name%.cu}.said" ;;
    esac
    stack=$(most '.* \([0-9]*\) bytes stack frame.*')
    echo "$name:$kinds; at most $(most '.*Used \([0-9]*\) registers.*') registers, $stack bytes of stack," \
        "$(most '.* \([0-9]*\) bytes spill stores.*') bytes of spills"
    if [ "$stack" -gt 768 ]; then
        echo "$name: a kernel needs $stack bytes of stack, expected at most 768"
        exit 1
    fi
done
version=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
"$root/tests/cuda_emu/counters.py" "$root/benchmarks/results/cuda-counters.md" nvcc "$version" "$ptx" "$out"
