#!/bin/sh
# debian.sh FOLDER - builds the Debian package of launch/debian from the last commit in a minimal Debian root
# file system, and installs it in a second one. There it runs `plumb doctor`, checks the man page and the
# shell completion, and runs the installed quickstart. Needs root, debootstrap and a network that reaches
# Debian's packages.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?usage: debian.sh FOLDER}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
. "$here/root.sh"
trap root_close EXIT
trap 'exit 1' INT TERM

root_base "$folder"
root_open "$folder/base" "$folder/build"
mkdir -p "$mounted/build/plumb"
git -C "$here/../.." archive HEAD | tar -x -C "$mounted/build/plumb"
cp -a "$mounted/build/plumb/launch/debian" "$mounted/build/plumb/debian"
root_run 'apt-get update -qq; apt-get install -y -qq --no-install-recommends dpkg-dev build-essential
    cd /build/plumb; apt-get build-dep -y -qq --no-install-recommends ./; dpkg-buildpackage -b -us -uc' >"$folder/debian.log" 2>&1 ||
    { tail -n 40 "$folder/debian.log" >&2; exit 1; }
cp "$mounted"/build/plumb_*.deb "$folder/"
root_close
rm -rf --one-file-system "$folder/build"

root_open "$folder/base" "$folder/installed"
cp "$folder"/plumb_*.deb "$mounted/root/"
root_run 'apt-get update -qq; apt-get install -y -qq --no-install-recommends /root/plumb_*.deb' >>"$folder/debian.log" 2>&1 ||
    { tail -n 40 "$folder/debian.log" >&2; exit 1; }
root_run 'plumb doctor threads=1; test -s /usr/share/man/man1/plumb.1.gz; test -s /usr/share/bash-completion/completions/plumb
    mkdir /root/work; cd /root/work; /usr/share/plumb/launch/quickstart.sh 2 | tail -n 8'
root_close
echo "debian: $(ls "$folder"/plumb_*.deb): built, installed, quickstart ran"
