#!/bin/sh
# nvcc.sh NVCC ROOT - compiles every .cu for the GPUs of the A100, H100 and B200,
# warnings as errors.
set -eu
nvcc=$1 root=$2
if [ -z "$nvcc" ]; then
    echo "skipped: no nvcc on this machine"
    exit 77
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
architectures=
for a in 80 90 100; do
    architectures="$architectures -gencode arch=compute_$a,code=sm_$a"
done
for file in "$root"/kernels/cuda/*.cu "$root"/tests/cuda_emu/*.cu; do
    # shellcheck disable=SC2086
    "$nvcc" --threads 0 -std=c++17 -O3 -fmad=false --Werror all-warnings -Xcompiler -Wall,-Wextra,-Werror \
        $architectures -I "$root/src" -I "$root/kernels" -I "$root/tests" -c "$file" -o "$out/object"
    echo "$(basename "$file"): sm_80, sm_90, sm_100"
done
