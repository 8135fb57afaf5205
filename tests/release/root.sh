# root.sh - shell functions for scripts that work in a minimal Debian 12 root file system. Other
# scripts source this file. Needs root, debootstrap and a network that reaches Debian's packages.

# root_base FOLDER - makes FOLDER/base, a minimal Debian 12 root file system (debootstrap) with the
# host's settings for apt. Does nothing if an earlier call has completed it.
root_base() {
    [ ! -e "$1/base/.complete" ] || return 0
    rm -rf "$1/base"
    debootstrap --variant=minbase bookworm "$1/base" >"$1/base.log" 2>&1 || { tail -n 20 "$1/base.log" >&2; exit 1; }
    # copies the host's settings for apt: mirrors, proxies, keys
    rm -f "$1/base/etc/apt/sources.list"
    for part in sources.list sources.list.d apt.conf.d; do
        [ ! -e "/etc/apt/$part" ] || cp -a "/etc/apt/$part" "$1/base/etc/apt/"
    done
    touch "$1/base/.complete"
}

# root_open BASE ROOT - copies the root file system BASE to ROOT and mounts /proc, /sys, /dev and
# others in it.
root_open() {
    # unmounts what an interrupted run has left, because it must not be removed together with ROOT
    for place in "$2/dev/shm" "$2/dev/pts" "$2/dev" "$2/sys" "$2/proc"; do
        ! mountpoint -q "$place" || umount "$place"
    done
    rm -rf --one-file-system "$2"
    cp -a "$1" "$2"
    cp /etc/resolv.conf "$2/etc/resolv.conf"
    # the host's name, as on an installed Debian; without it, every MPI_Init waits for a name server
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$(hostname)" >"$2/etc/hosts"
    mounted=$2
    mount -t proc proc "$2/proc"
    mount -t sysfs -o ro sysfs "$2/sys" # hwloc reads the topology from /sys
    mount --bind /dev "$2/dev"
    mount --make-private "$2/dev" # otherwise the next mount would also appear on the host
    mount -t tmpfs tmpfs "$2/dev/shm"
    # for tests that need a terminal
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$2/dev/pts"
}

mounted=
root_close() {
    [ -z "$mounted" ] || umount "$mounted/dev/shm" "$mounted/dev/pts" "$mounted/dev" "$mounted/sys" "$mounted/proc"
    mounted=
}

# root_run COMMAND - runs a shell command in the root file system that root_open has opened.
root_run() {
    chroot "$mounted" /usr/bin/env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive /bin/sh -ec "$1" </dev/null
}
