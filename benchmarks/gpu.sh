#!/bin/sh
# gpu.sh - runs plumb's tests and benchmarks on a machine with an NVIDIA GPU, without a network.
#
#   benchmarks/gpu.sh pack DIR        on a machine with nvcc and plumb's libraries: copies into DIR
#                                     this script, the programs for sm_80, sm_90 and sm_100, and
#                                     every library that they need except glibc, cuBLASLt and the
#                                     driver; also writes DIR.tar.xz, the same but much smaller.
#                                     With PLUMB_GPU_BIN it takes the programs from there.
#   gpu.sh [checks|bench|all] [OUT]   on the machine with the GPU: runs from DIR, or from a checkout
#                                     if nvcc, meson and the libraries are there (then it builds
#                                     for that GPU). Writes log.txt, results.json and results.md
#                                     to OUT (default: results), after every part.
#
# Each of the commands `checks` and `bench` takes at most 280 s. `bench` adds to the results of
# `checks` in the same OUT; no part takes more than 120 s. The parts, in this order:
#   checks   the candidates of cuBLASLt with their classes and times; tensor cores, attention,
#            kernels (each in a process of its own), backend, generation, models; compute-sanitizer
#   bench    PSLE twice: log-prob gap, the same bytes; row invariance; decoding, training, products
#
# The exit code is 0 if every part passed, or was skipped for a reason that the table gives.
# Variables:
#   PLUMB_GPU_SECONDS  270          time limit of the checks, and the same for the benchmarks
#   PLUMB_GPU_SHAPES   0.1b 1.1b 8b.4
#   PLUMB_GPU_DTYPES   bfloat16
#   PLUMB_GPU_TINY     empty        1 selects small sizes for the emulated GPU of tests/cuda_emu
#   PLUMB_GPU_BIN      empty        folder of the programs
set -eu

here=$(cd "$(dirname "$0")" && pwd)
programs='plumb plumb-world benchmarks/bench_gpu benchmarks/bench_decode benchmarks/bench_train'
for p in kernels mma attention_bf16 fused backend gemm_cache op head parity generate; do
    programs="$programs tests/cuda_emu/test_gpu_$p"
done
tab=$(printf '\t')

die() {
    printf 'gpu.sh: %s\n' "$*" >&2
    exit 2
}

# ---- building and packing ----------------------------------------------------------------------

# build ROOT FOLDER CAPABILITIES: builds every program for GPUs of these compute capabilities,
# without MPI and NCCL (one rank).
build() {
    options="-Dcuda=enabled -Dgpu=$3 -Dmpi=disabled -Dnccl=disabled -Demulator=disabled"
    if [ -f "$2/build.ninja" ]; then
        # shellcheck disable=SC2086
        meson configure "$2" $options
    else
        # shellcheck disable=SC2086
        meson setup "$2" "$1" $options
    fi
    # shellcheck disable=SC2086
    ninja -C "$2" $programs
}

# Lists the libraries of a program that a machine with only a GPU driver does not have.
libraries() {
    given='libc|libm|libdl|librt|libpthread|libresolv|ld-linux.*|libcuda|libcublas.*'
    LD_LIBRARY_PATH=${CUDA_HOME:-/usr/local/cuda}/lib64 ldd "$1" | awk '/=> \//{print $3}' |
        grep -v -E "/($given)\.so"
}

pack() {
    root=$(cd "$here/.." && pwd)
    dir=$1
    [ ! -e "$dir" ] || [ -f "$dir/packed.txt" ] || die "$dir is there, and no pack"
    command -v xz >/dev/null || die "no xz: install it (on Debian the package xz-utils)"
    from=${PLUMB_GPU_BIN:-}
    if [ -z "$from" ]; then
        command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
        command -v nvcc >/dev/null || die "no nvcc: pack where CUDA's compiler is"
        build "$root" "$root/build-gpu" 80,90,100
        from=$dir.programs
        rm -rf "$from"
        mkdir -p "$from"
        for p in $programs; do
            ln -s "$root/build-gpu/$p" "$from/"
        done
    fi
    rm -rf "$dir"
    mkdir -p "$dir/bin" "$dir/lib" "$dir/base" "$dir/tests/fixtures"
    for p in $programs; do
        strip -o "$dir/bin/$(basename "$p")" "$from/$(basename "$p")"
        libraries "$from/$(basename "$p")"
    done | sort -u | while read -r file; do
        case $file in
        # the script uses these only on a machine without them
        */libstdc++.so* | */libgcc_s.so*) cp -L "$file" "$dir/base" ;;
        *) cp -L "$file" "$dir/lib" ;;
        esac
    done
    cp -R "$root/tests/fixtures/model" "$dir/tests/fixtures"
    cp "$0" "$dir/gpu.sh"
    {
        echo "commit $(git -C "$root" rev-parse --short=12 HEAD 2>/dev/null || echo unknown)"
        readelf -d "$from/plumb" |
            sed -n 's/.*NEEDED.*\[\(libcublasLt[^]]*\)\].*/cublas \1/p'
        nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\),.*/nvcc \1/p'
    } >"$dir/packed.txt"
    [ "$from" != "$dir.programs" ] || rm -rf "$from"
    # All programs contain the same GPU code. With a dictionary larger than a program, xz stores
    # this code only once.
    XZ_OPT=${XZ_OPT:---lzma2=preset=6,dict=192MiB} tar -cJf "$dir.tar.xz" -C "$(dirname "$dir")" "$(basename "$dir")"
    du -sh "$dir" "$dir.tar.xz"
    [ "$(wc -c <"$dir.tar.xz")" -le 40000000 ] || die "$dir.tar.xz has more than 40 MB"
}

# ---- programs and libraries on this machine --------------------------------------------------------

# Prints the folder of a library of this name; searches the folders of CUDA and of Python packages.
find_library() {
    at=$(ldconfig -p 2>/dev/null | sed -n "s|.* => \(/.*/\)$1\$|\1|p" | head -n 1)
    if [ -z "$at" ]; then
        at=$(find "${CUDA_HOME:-/usr/local/cuda}/" /usr/local /opt /usr/lib "$HOME" -maxdepth 9 \
            -name "$1" 2>/dev/null | head -n 1)
        at=${at%"$1"}
    fi
    printf '%s' "$at"
}

find_sanitizer() {
    command -v compute-sanitizer 2>/dev/null && return
    find /usr/local/cuda*/bin /usr/local/cuda*/compute-sanitizer /opt/nvidia -maxdepth 4 \
        -name compute-sanitizer -type f 2>/dev/null | head -n 1
}

# Sets bin (folder of the programs), commit and PLUMB_SOURCE_ROOT. If the script runs from a packed
# folder, also sets libs.
find_programs() {
    libs=
    PLUMB_SOURCE_ROOT=$(cd "$here/.." && pwd)
    commit=$(git -C "$here" rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
    if [ -n "${PLUMB_GPU_BIN:-}" ]; then
        bin=$PLUMB_GPU_BIN
    elif [ -f "$here/packed.txt" ]; then
        PLUMB_SOURCE_ROOT=$here
        bin=$here/bin
        commit=$(sed -n 's/^commit //p' "$here/packed.txt")
        name=$(sed -n 's/^cublas //p' "$here/packed.txt")
        [ -z "$name" ] || blas=$(find_library "$name")
        [ -z "$name" ] || [ -n "$blas" ] || die "no $name on this machine: it is part of CUDA $(
            sed -n 's/^nvcc //p' "$here/packed.txt") and of the Python package nvidia-cublas"
        mkdir -p "$work/lib"
        [ -z "$name" ] || ln -s "$blas$name" "$work/lib/$name"
        libs=$here/lib:$work/lib
        ldconfig -p 2>/dev/null | grep -q 'libstdc++\.so\.6' || libs=$libs:$here/base
    else
        command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
        for tool in nvcc meson ninja; do
            command -v $tool >/dev/null || die "no $tool here: bring a folder made by 'gpu.sh pack'"
        done
        capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
        build "$PLUMB_SOURCE_ROOT" "$PLUMB_SOURCE_ROOT/build-gpu-$capability" "$capability" \
            >>"$out/log.txt" 2>&1 || die "the build failed, see $out/log.txt"
        mkdir "$work/bin"
        for p in $programs; do
            ln -s "$PLUMB_SOURCE_ROOT/build-gpu-$capability/$p" "$work/bin/"
        done
        bin=$work/bin
    fi
    export PLUMB_SOURCE_ROOT
}

# ---- parts ---------------------------------------------------------------------------------------

# part check|bench SECONDS NAME COMMAND...: runs the command, with the time that is left as limit.
# Records "name, kind, status, seconds" and the result lines in the command's output.
part() {
    kind=$1 limit=$2 name=$3
    shift 3
    [ -z "${PLUMB_GPU_TINY:-}" ] || limit=$((10 * limit)) # an emulated GPU is slow
    left=$((deadline - $(date +%s)))
    if [ "$left" -lt 5 ]; then
        note "$name" "$kind" 'not run: out of time' 0
        write_results
        return
    fi
    [ "$limit" -le "$left" ] || limit=$left
    printf '\n== %s\n$ %s\n' "$name" "$*" >>"$out/log.txt"
    began=$(date +%s)
    code=0
    LD_LIBRARY_PATH=$libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
        timeout -k 5 "$limit" "$@" >"$work/part.log" 2>&1 || code=$?
    took=$(($(date +%s) - began))
    cat "$work/part.log" >>"$out/log.txt"
    grep "^=$tab" "$work/part.log" >>"$out/results.tsv" || :
    case $code in
    0) note "$name" "$kind" passed "$took" ;;
    77) note "$name" "$kind" "$(tail -n 1 "$work/part.log")" "$took" ;;
    124 | 137) note "$name" "$kind" "FAILED: stopped after $limit s" "$took" ;;
    *) note "$name" "$kind" "FAILED: exit code $code, $(
        grep -v "^=$tab" "$work/part.log" | tail -n 1 | cut -c 1-160 | tr '\t' ' ')" "$took" ;;
    esac
    write_results
}

note() {
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$out/parts.tsv"
    printf '%-44s %s (%s s)\n' "$1" "$3" "$4"
}

# gpu.sh part PART...: runs a part that consists of several programs.
sanitize() {
    tool=$(find_sanitizer)
    if [ -z "$tool" ]; then
        echo "skipped: no compute-sanitizer on this machine"
        exit 77
    fi
    # shellcheck disable=SC2086
    "$tool" --tool "$1" --error-exitcode 86 "$bin/test_gpu_kernels" $sanitized
    exec "$tool" --tool "$1" --error-exitcode 86 "$bin/test_gpu_attention_bf16" 0
}

# Runs the check of every kernel in a separate process, and names those that fail.
each_kernel() {
    failed=
    for k in ${kernels:-$("$bin/test_gpu_kernels" list)}; do
        code=0
        "$bin/test_gpu_kernels" "$k" || code=$?
        [ "$code" -eq 0 ] || failed="$failed $k"
    done
    [ -z "$failed" ] || { echo "kernels that fail:$failed" && exit 1; }
}

# Measures the products of a model shape with every candidate algorithm of cuBLASLt. Turns the
# program's log into result lines.
probe() {
    code=0
    "$bin/bench_gpu" part=probe device=cuda dtype="$1" shape="$2" pins="$out/pins-$1-$2.txt" \
        >"$work/probe.log" 2>&1 || code=$?
    cat "$work/probe.log"
    sed -n -e 's/.*debug: \(.* rows\): \(candidate .*\), \(class [0-9]*\), \([0-9.]*\) us$/=\tprobe\t\1, \2\t\4\tus\t\3/p' \
        -e 's/.*debug: \(.*\): \(.* candidates\), \(.* classes\), \(class .* taken\), \([0-9.]*\) times the floor$/=\tprobe\t\1\t\5\ttimes the fastest\t\2, \3, \4/p' \
        "$work/probe.log"
    return "$code"
}

value_of() { # value_of FILE KEY: prints the value of KEY in the last line of FILE that has it
    sed -n "s|.*\"$2\": *\([-+.0-9eE]*\).*|\1|p" "$1" | tail -n 1
}

# Runs PSLE with the plumb program: a few steps of SFT and of a reward model, then one iteration.
psle() {
    world=$work/world run=$work/psle
    rm -rf "$world" "$run"
    "$bin/plumb-world" make "$world" 1
    sed -i -e "s/\"hidden_size\": [0-9]*/\"hidden_size\": $1/" \
        -e "s/\"num_hidden_layers\": [0-9]*/\"num_hidden_layers\": $2/" \
        -e "s/\"intermediate_size\": [0-9]*/\"intermediate_size\": $3/" \
        -e "s/\"head_dim\": [0-9]*/\"head_dim\": $4/" \
        -e "s/\"num_attention_heads\": [0-9]*/\"num_attention_heads\": $5/" "$world/config.json"
    prompts=$6 new=$7 dtype=$8
    few="device=cuda dtype=$dtype pins=$out/pins-psle-$dtype-$1.txt global_batch_size=4 micro_batch_size=4 log_every=1 checkpoint.every=0"
    # shellcheck disable=SC2086
    "$bin/plumb" sft model="$world" output_dir="$run/sft" train.init=random max_steps=2 \
        data.train="$world/sft.jsonl" learning_rate=1e-3 $few
    # shellcheck disable=SC2086
    "$bin/plumb" reward model="$run/sft/latest" output_dir="$run/reward" max_steps=1 \
        data.train="$world/pairs.jsonl" $few
    for time in psle again; do
        "$bin/plumb" align model="$run/sft/latest" output_dir="$run/$time" device=cuda dtype="$dtype" method.name=psle \
            method.principles="$world/principles/kind_and_helpful.txt" \
            reward.model="$run/reward/latest" data.prompts="$world/prompts.jsonl" \
            iterations=1 prompts_per_iteration="$prompts" \
            group_size=4 slots=256 max_new_tokens="$new" global_batch_size=$((prompts / 2)) \
            micro_batch_size=$((prompts / 4)) learning_rate=1e-4 log_level=debug \
            pins="$out/pins-psle-$dtype-$1.txt" 2>&1 | tee "$work/align.log"
        [ -f "$run/$time/latest/model.safetensors" ] || exit 1
    done
    same=0
    cmp "$run/psle/latest/model.safetensors" "$run/again/latest/model.safetensors" || same=1
    metrics=$run/psle/metrics.jsonl
    gap=$(value_of "$metrics" logprob_max_diff)
    what="$dtype, hidden $1, $2 layers, $prompts prompts x 4 answers"
    printf '=\tinvariance\tlargest log-prob gap, %s\t%s\tnats\tsampling against training\n' \
        "$what" "$gap"
    printf '=\tinvariance\tfiles of weights that differ in two runs, %s\t%s\tfiles\t\n' "$what" "$same"
    sed -n "s/.*memory at the end: \([0-9]*\) bytes planned, \([0-9]*\) taken.*/=\tmemory\tpsle, $what, planned\t\1\tbytes\ttaken \2/p
        s/.*memory of the GPU: \([-0-9]*\) bytes taken by the driver.*margin \([0-9]*\).*/=\tmemory\tpsle, $what, taken by the driver\t\1\tbytes\tmargin \2/p" "$work/align.log"
    for k in rollout reward reference train save iteration; do
        printf '=\tpsle time\t%s, %s\t%.6g\ts\t\n' "$k" "$what" "$(value_of "$metrics" "time/$k")"
    done
    printf '=\tpsle time\trollout rate, %s\t%.6g\ttokens/s\t\n' "$what" \
        "$(value_of "$metrics" rollout/tokens_per_second)"
    case $gap in
    0 | 0.0) [ "$same" -eq 0 ] || { echo "two runs wrote other weights" && exit 1; } ;;
    *) echo "the log-probs of sampling and training differ by $gap" && exit 1 ;;
    esac
}

checks() {
    deadline=$(($(date +%s) + seconds))
    part check 20 device "$bin/bench_gpu" part=device device=cuda
    for t in $dtypes; do
        part check 60 "products of $largest, $t" "$0" part probe "$t" "$largest"
    done
    part check 30 'tensor core instructions' "$bin/test_gpu_mma"
    part check 60 'attention in bfloat16' "$bin/test_gpu_attention_bf16"
    part check 20 'fused kernels' "$bin/test_gpu_fused"
    part check 100 kernels "$0" part each_kernel
    part check 30 'recorded decode steps' "$bin/test_gpu_generate"
    part check 60 'models against transformers' "$bin/test_gpu_parity"
    part check 20 backend "$bin/test_gpu_backend"
    part check 60 'classes of products' "$bin/test_gpu_gemm_cache"
    part check 20 'checked operations' "$bin/test_gpu_op"
    part check 20 'fused head' "$bin/test_gpu_head"
    part check 90 'compute-sanitizer racecheck' "$0" part sanitize racecheck
    part check 90 'compute-sanitizer memcheck' "$0" part sanitize memcheck
}

benches() {
    deadline=$(($(date +%s) + seconds))
    for t in $dtypes; do
        # shellcheck disable=SC2086
        part check 90 "psle, sampling against training, $t" "$0" part psle $psle_small "$t"
        part check 60 "row invariance, $t" "$bin/bench_gpu" part=rows device=cuda dtype="$t" \
            shape="$largest" rows="$rows" pins="$out/pins-$t-$largest.txt"
        on="device=cuda dtype=$t $ceilings"
        # shellcheck disable=SC2086
        part bench 30 "ceilings, $t" "$bin/bench_gpu" part=ceilings $on
        for s in $shapes; do
            pins=$out/pins-$t-$s.txt
            # shellcheck disable=SC2086
            part bench 120 "decode, $t, $s" "$bin/bench_decode" $on $decode shape="$s" pins="$pins"
            # shellcheck disable=SC2086
            part bench 120 "training, $t, $s" "$bin/bench_train" $on $train shape="$s" pins="$pins"
        done
        # shellcheck disable=SC2086
        part bench 60 "cost of row-invariant products, $t" "$bin/bench_gpu" part=gemm $on \
            shape="$largest" rows="$gemm_rows" pins="$out/pins-$t-$largest.txt"
        # shellcheck disable=SC2086
        part bench 90 "one iteration of psle, $t" "$0" part psle $psle_large "$t"
    done
}

# ---- results -------------------------------------------------------------------------------------

write_json() {
    awk -F '\t' -v device="$device" -v commit="$commit" -v emulated="$emulated" '
    function text(s) { gsub(/\\/, "\\\\", s); gsub(/"/, "\\\"", s); return "\"" s "\"" }
    function pair(name, s) { return "\"" name "\": " text(s) }
    BEGIN { printf "{\n  %s,\n  %s,\n", pair("device", device), pair("commit", commit)
            printf "  \"emulated\": %s,\n  \"parts\": [", emulated }
    FNR == 1 { file++; comma = "" }
    FNR == 1 && file == 2 { printf "\n  ],\n  \"results\": [" }
    { printf "%s\n    {", comma; comma = "," }
    file == 1 { printf "%s, %s, %s, ", pair("part", $1), pair("kind", $2), pair("status", $3)
                printf "\"seconds\": %d}", $4 }
    file == 2 { printf "%s, %s, ", pair("part", $2), pair("what", $3)
                printf "\"value\": %s, ", $4 ~ /^[-+.0-9eE]+$/ ? $4 : "null"
                printf "%s, %s}", pair("unit", $5), pair("note", $6) }
    END { if (file < 2) printf "\n  ],\n  \"results\": ["; print "\n  ]\n}" }
    ' "$out/parts.tsv" "$out/results.tsv" >"$out/results.json"
}

write_table() {
    {
        printf '# %s\n\n' "$device"
        [ "$emulated" = false ] || printf 'EMULATED: these are not results of a GPU.\n\n'
        printf 'Commit %s, %s. Raw log: log.txt.\n\n' "$commit" "$(date -u +%Y-%m-%d)"
        printf '| part | kind | result | seconds |\n|---|---|---|---|\n'
        awk -F '\t' '{ printf "| %s | %s | %s | %s |\n", $1, $2, $3, $4 }' "$out/parts.tsv"
        printf '\n| | what | value | unit | |\n|---|---|---|---|---|\n'
        awk -F '\t' '{ printf "| %s | %s | %s | %s | %s |\n", $2, $3, $4, $5, $6 }' "$out/results.tsv"
    } >"$out/results.md"
}

# Called after every part, so that no result is lost if the machine is taken away.
write_results() {
    write_json
    write_table
}

# ---- main ------------------------------------------------------------------------------------

sizes() {
    seconds=${PLUMB_GPU_SECONDS:-270} dtypes=${PLUMB_GPU_DTYPES:-bfloat16}
    sanitized='add_fwd rmsnorm_fwd rmsnorm_bwd rope_fwd act_bwd gather_bwd logprob_fwd logprob_bwd sample_fwd'
    if [ -n "${PLUMB_GPU_TINY:-}" ]; then
        shapes=tiny kernels='add_fwd rmsnorm_fwd' rows=20 ceilings='copy=65536 matrix=32'
        decode='batch=1,3 prompt=3 short=2 long=4 repeat=1 graphs=1,0' gemm_rows=32
        train='steps=1 sequences=2 length=6' psle_small='32 1 64 8 4 4 3' psle_large=$psle_small
    else
        shapes=${PLUMB_GPU_SHAPES:-0.1b 1.1b 8b.4} kernels='' rows=1500 ceilings=''
        decode='batch=1,32,256 prompt=128 short=16 long=80 repeat=2 graphs=1,0' gemm_rows=8192
        train='steps=3 sequences=16 length=512' psle_small='128 4 512 32 4 16 32'
        psle_large='768 12 2048 64 12 128 128'
    fi
    largest=${shapes##* }
}

# Sets device (its name) and emulated, or exits if there is no GPU.
look_at_device() {
    said=$(LD_LIBRARY_PATH=$libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$bin/bench_gpu" part=device \
        device=cuda 2>&1) || die "the GPU does not answer: $said"
    device=$(printf '%s\n' "$said" | sed -n 's/^device: //p')
    emulated=false
    case $device in
    *'(emulated)') emulated=true ;;
    esac
    if [ "$emulated" = true ]; then
        case $(cd "$out" && pwd) in
        */benchmarks/results*) die "an emulated GPU has no results: choose another folder than $out" ;;
        esac
    fi
    {
        echo "$device"
        what=name,driver_version,compute_cap,memory.total,clocks.max.sm,clocks.max.mem
        nvidia-smi --query-gpu=$what --format=csv 2>&1 || :
        uname -a
    } >>"$out/log.txt"
    echo "$device, commit $commit"
}

sizes
case ${1:-all} in
pack)
    [ $# -eq 2 ] || die "usage: gpu.sh pack DIR"
    pack "$2"
    exit
    ;;
part) # called by this script itself, with the variables of the run in the environment
    shift
    "$@"
    exit
    ;;
checks | bench | all) ;;
*) die "'$1', expected pack, checks, bench or all" ;;
esac
out=${2:-results}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# `bench` keeps the results of an earlier run of `checks` in OUT.
if [ "${1:-all}" != bench ] || [ ! -f "$out/parts.tsv" ]; then
    for f in parts.tsv results.tsv log.txt; do
        : >"$out/$f"
    done
fi
find_programs
export bin work libs kernels sanitized out
look_at_device
case ${1:-all} in
checks) checks ;;
bench) benches ;;
all) checks && benches ;;
esac
echo "$out/results.md, results.json, log.txt"
! grep -q -e 'FAILED' -e "${tab}check${tab}not run" "$out/parts.tsv"
