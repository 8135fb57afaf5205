#!/bin/sh
# local.sh RANKS COMMAND [ARGS...] - runs plumb on this machine with RANKS MPI ranks.
#     ./launch/local.sh 2 align configs/quickstart/align.yaml
# The program is $PLUMB, else build/plumb of this source tree (the command then runs at the top of
# the tree), else bin/plumb of this installation (the command then runs in the current folder).
set -eu
if [ $# -lt 2 ]; then
    echo "usage: $0 RANKS COMMAND [CONFIG.yaml] [key=value ...]" >&2
    exit 2
fi
ranks=$1
shift
top=$(cd "$(dirname "$0")/.." && pwd)
if [ -f "$top/meson.build" ]; then
    plumb=${PLUMB:-$top/build/plumb}
    cd "$top"
else
    plumb=${PLUMB:-$(cd "$top/../../bin" && pwd)/plumb}
fi
[ "$ranks" = 1 ] && exec "$plumb" "$@"
set -- "$plumb" "$@"
# The launcher must belong to the MPI library that plumb uses. The options allow more ranks than
# cores, which changes the speed but not the results.
case $("$plumb" doctor threads=1 | grep ' MPI  ') in
*MPICH*)
    mpirun=$(command -v mpirun.mpich || echo mpirun)
    options="-bind-to none"
    ;;
*)
    mpirun=$(command -v mpirun.openmpi || echo mpirun)
    options="--bind-to none --oversubscribe --mca odls_base_sigkill_timeout 30"
    [ "$(id -u)" -eq 0 ] && options="$options --allow-run-as-root"
    ;;
esac
# shellcheck disable=SC2086
exec "$mpirun" -n "$ranks" $options "$@"
