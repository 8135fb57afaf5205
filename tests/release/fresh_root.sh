#!/bin/sh
# fresh_root.sh FOLDER [clone|tarball|shared]... - runs the two commands of README where nothing is
# installed.
#
# Makes a minimal Debian 12 root file system with debootstrap in FOLDER/base, once. For each way named on
# the command line, copies it, puts the committed source into the copy, runs ./launch/quickstart.sh and
# ./launch/test.sh there, and prints their last lines. All output is in FOLDER/WAY.log. A release needs
# all three ways:
#     clone    a clone made with git, without the optional shared data
#     tarball  only the files of the commit: no .git folder
#     shared   a clone, with the shared data (PLUMB_SHARED, default ../shared) beside it
# None of these root file systems has git. Needs root, debootstrap, git and a network that reaches
# Debian's packages. The exit code is 1 if a command or a test failed. The root file systems are not
# removed.
set -eu
source=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:?usage: fresh_root.sh FOLDER [clone|tarball|shared]...}
shift
[ $# -gt 0 ] || set -- clone tarball shared
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
shared=${PLUMB_SHARED:-$source/../shared}
[ "$(id -u)" -eq 0 ] || { echo "fresh_root.sh: must run as root (debootstrap and chroot)" >&2; exit 2; }

. "$(dirname "$0")/root.sh"
trap root_close EXIT
trap 'exit 1' INT TERM

root_base "$folder"
failed=0
for way in "$@"; do
    root=$folder/$way
    log=$folder/$way.log
    rm -f "$log"
    root_open "$folder/base" "$root"
    mkdir -p "$root/home/plumb"
    case $way in
    clone | shared) git clone -q "file://$source" "$root/home/plumb/plumb" ;;
    tarball)
        mkdir "$root/home/plumb/plumb"
        git -C "$source" archive HEAD | tar -x -C "$root/home/plumb/plumb"
        ;;
    *) echo "fresh_root.sh: no way is called $way; expected clone, tarball or shared" >&2; exit 2 ;;
    esac
    [ "$way" != shared ] || cp -a "$shared/." "$root/home/plumb/shared"
    echo "== $way"
    for command in quickstart test; do
        began=$(date +%s)
        code=0
        root_run "cd /home/plumb/plumb && ./launch/$command.sh" >"$log.part" 2>&1 || code=$?
        echo "\$ ./launch/$command.sh" >>"$log"
        cat "$log.part" >>"$log"
        echo "   ./launch/$command.sh: exit code $code after $(($(date +%s) - began)) s; its last lines:"
        tail -n 8 "$log.part" | sed 's/^/      /'
        rm -f "$log.part"
        [ $code -eq 0 ] || failed=1
    done
    root_close
done
exit $failed
