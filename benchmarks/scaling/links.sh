#!/bin/sh
# links.sh [RATE]... - weak and strong scaling of two ranks over links of given rates, on one machine.
#
# Makes two network namespaces with host names of their own, joined by one virtual cable, and starts
# one rank in each. For each RATE in the notation of tc (default: 500mbit 1gbit 4gbit), shapes both
# ends of the cable with a token bucket and runs scaling.py with the options in SCALING. The tables
# go to OUT.md (OUT: default runs/scaling/links), each rate's prediction to OUT-RATE.md, .json and
# .svg. Needs root, iproute2 and Open MPI's mpirun. Nothing else should run on the machine. The host
# names and the cable are removed at the end.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$here/../../runs/scaling/links}
[ $# -gt 0 ] || set -- 500mbit 1gbit 4gbit
[ "$(id -u)" -eq 0 ] || { echo "links.sh: must run as root (network namespaces)" >&2; exit 2; }
for need in ip tc nsenter unshare mpirun; do
    command -v $need >/dev/null || { echo "links.sh: $need is missing (packages iproute2, util-linux, openmpi-bin)" >&2; exit 2; }
done

work=$(mktemp -d "${TMPDIR:-/tmp}/plumb-links.XXXXXX")
holders=
close() {
    # shellcheck disable=SC2086
    [ -z "$holders" ] || kill $holders 2>/dev/null || true
    cp "$work/hosts.before" /etc/hosts
    rm -rf "$work"
}
cp /etc/hosts "$work/hosts.before"
trap close EXIT
trap 'exit 1' INT TERM

# A namespace exists as long as a process runs in it. The cable is removed with the namespaces.
for i in 1 2; do
    unshare --net --uts sleep infinity &
    eval "holder$i=$!"
    holders="$holders $!"
    echo "10.78.0.$i plumb-link$i" >>/etc/hosts
done
sleep 0.5
ip link add plumb1 netns "$holder1" type veth peer name plumb2 netns "$holder2"
inside() { # inside 1|2 COMMAND...: runs the command in the first or second namespace
    eval "holder=\$holder$1"
    shift
    nsenter -t "$holder" -n -u "$@"
}
for i in 1 2; do
    inside $i hostname "plumb-link$i"
    inside $i ip link set lo up
    inside $i ip addr add "10.78.0.$i/24" dev "plumb$i"
    inside $i ip link set "plumb$i" up
done

# mpirun runs in the first namespace. It starts its daemon in the second namespace with this script
# instead of ssh.
cat >"$work/agent" <<AGENT
#!/bin/sh
shift # drops the host name: there is only one other host
exec nsenter -t $holder2 -n -u sh -c "\$*"
AGENT
cat >"$work/launch" <<LAUNCH
#!/bin/sh
ranks=\$1
shift
exec nsenter -t $holder1 -n -u mpirun --allow-run-as-root -n "\$ranks" --host plumb-link1:1,plumb-link2:1 --bind-to none \\
    --mca plm_rsh_agent $work/agent --mca btl tcp,self --mca btl_tcp_if_include 10.78.0.0/24 --mca oob_tcp_if_include 10.78.0.0/24 "\$@"
LAUNCH
chmod +x "$work/agent" "$work/launch"

mkdir -p "$(dirname "$out")"
options=${SCALING:+"SCALING='$SCALING' "}
cat >"$out.md" <<HEAD
# Scaling over links of given rates

    ${options}benchmarks/scaling/links.sh $*

Two network namespaces of one machine, one rank in each, joined by a virtual cable with a token bucket at both ends. The columns are those of scaling.py
(benchmarks/scaling/README.md). The prediction is fitted to runs of a single rank and to a probe of the link, not to the rows with 2 ranks.
HEAD
for rate in "$@"; do
    for i in 1 2; do
        inside $i tc qdisc replace dev "plumb$i" root tbf rate "$rate" burst 1mb latency 100ms
    done
    echo "== $rate"
    # shellcheck disable=SC2086
    python3 "$here/scaling.py" --ranks 1,2 --launcher "$work/launch {ranks}" --out "$out-$rate" --work "$out.runs" ${SCALING:-}
    { printf '\n## %s\n\n' "$rate"; grep '^    [# ]' "$out-$rate.md" | grep -v '^    # launcher'; } >>"$out.md"
done
