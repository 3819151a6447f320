# Sourced by provision.sh: runs the steps on the target system, whose root folder is "/" for the running
# one, and identifies that system.
# shellcheck shell=bash

user=emotion-edge
cache=/var/cache/emotion-edge
wheels='' dry_run='' l4t=''

report() { printf '%-12s %s\n' "$1" "$2"; }
# did STEP TEXT: reports a change. A dry run has printed the commands instead.
did() { [[ $dry_run ]] || report "$@"; }
# stop CODE TEXT: exits. 2 is a usage error, 4 a problem of the environment.
stop() { echo "$2" >&2; exit "$1"; }

# take OPTION VALUE...: sets `value` to the value of an option.
take() {
    [[ ${2:-} ]] || stop 2 "$1 needs a value"
    # shellcheck disable=SC2034
    value=$2
}

# act COMMAND...: runs the command; a dry run prints it instead.
act() {
    if [[ $dry_run ]]; then
        printf '  +'
        printf ' %q' "$@"
        echo
    else
        "$@"
    fi
}

# on FOLDER COMMAND...: runs the command in that system. Mounts exist for this command only, so no
# clean-up is needed. `wheels` is at /mnt there.
on() {
    local target=$1
    shift
    if [[ $target == / ]]; then
        act "$@"
    elif [[ $dry_run ]]; then
        act chroot "$target" "$@"
    else
        unshare --mount bash -euc "$enter" "$target" "$wheels" "$@"
    fi
}

# shellcheck disable=SC2016
enter='
root=$0 wheels=$1
shift
mount -t proc proc "$root/proc"
mount -t tmpfs dev "$root/dev"
for node in null zero full random urandom; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs run "$root/run"
install -D /etc/resolv.conf "$root/run/systemd/resolve/stub-resolv.conf"
[ -L "$root/etc/resolv.conf" ] || {
    touch "$root/etc/resolv.conf"
    mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
}
[ -z "$wheels" ] || mount --bind "$wheels" "$root/mnt"
exec chroot "$root" env -i HOME=/root LC_ALL=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} "$@"'

# as_user FOLDER COMMAND...: runs the command as the user of the service with its cache folders.
as_user() {
    local target=$1
    shift
    on "$target" setpriv --reuid "$user" --regid "$user" --init-groups env HOME="$cache" \
        XDG_CACHE_HOME="$cache" NUMBA_CACHE_DIR="$cache/numba" "$@"
}

# put FILE FOLDER PLACE: copies the file unless it is there already. True if it was copied.
put() {
    local place=${2%/}$3
    cmp --silent -- "$1" "$place" && return 1
    act install -D -m 644 -- "$1" "$place"
}

# find_system FOLDER: sets `system` (ID of os-release), `system_name` and `l4t` such as 36.4.3, empty
# without a Jetson. Accepts only Debian, Ubuntu and supported versions of Jetson Linux.
find_system() {
    local at=${1%/}
    [[ -f $at/etc/os-release ]] ||
        stop 2 "$1 is no root folder of a Linux: it has no etc/os-release"
    system=$(sed -n 's/^ID=//p' "$at/etc/os-release" | tr -d '"')
    system_name=$(sed -n 's/^PRETTY_NAME=//p' "$at/etc/os-release" | tr -d '"')
    [[ $system == debian || $system == ubuntu ]] ||
        stop 2 "${1%/}/ has ${system_name:-$system}: Debian, Ubuntu or a Jetson's is needed"
    l4t=
    if [[ -f $at/etc/nv_tegra_release ]]; then
        l4t=$(sed -n 's/^# R\([0-9]*\) (release), REVISION: \([0-9.]*\).*/\1.\2/p' \
            "$at/etc/nv_tegra_release")
        check_l4t "$l4t"
    fi
}

# JetPack 6.0 (36.2 and 36.3) has TensorRT 8.6, which is too old; 7.0 and 7.1 (38) are for Thor only.
check_l4t() {
    [[ $1 =~ ^(36\.([4-9]|[1-9][0-9])|39)(\.|$) ]] ||
        stop 2 "Jetson Linux ${1:-unknown} is not supported: 36.4 or newer (JetPack 6.1, 6.2) or 39 (7.2) is"
}

# find_board FOLDER: sets `board` to the model in the device tree.
find_board() {
    board=$(tr -d '\0' <"${1%/}/proc/device-tree/model" 2>/dev/null) || true
    [[ $board == *Orin* ]] ||
        stop 2 "the board ${board:-without a device tree} is not supported: Orin Nano, Orin NX or AGX Orin is"
}
