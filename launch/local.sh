#!/bin/sh
# local.sh RANKS COMMAND [ARGS...] - runs plumb on this machine with RANKS MPI ranks.
#     ./launch/local.sh 2 align configs/quickstart/align.yaml
# The environment variable PLUMB names a program to run instead of ./build/plumb.
set -eu
cd "$(dirname "$0")/.."
if [ $# -lt 2 ]; then
    echo "usage: $0 RANKS COMMAND [CONFIG.yaml] [key=value ...]" >&2
    exit 2
fi
ranks=$1
shift
plumb=${PLUMB:-./build/plumb}
[ "$ranks" = 1 ] && exec "$plumb" "$@"
set -- "$plumb" "$@"
# More ranks than cores are allowed; this changes the speed, but not the results.
options="--bind-to none --oversubscribe --mca odls_base_sigkill_timeout 30"
[ "$(id -u)" -eq 0 ] && options="$options --allow-run-as-root"
# shellcheck disable=SC2086
exec mpirun -n "$ranks" $options "$@"
