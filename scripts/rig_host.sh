# Sourced by build_image and test: packages of this machine, a Debian 12, for the virtual device of
# tests/rig.
# shellcheck shell=bash

rig_python=python3.11
# COMMAND:PACKAGE or FILE:PACKAGE.
rig_packages=(qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils ssh:openssh-client
    mmdebstrap:mmdebstrap cpio:cpio busybox:busybox-static depmod:kmod mke2fs:e2fsprogs gcc:gcc
    make:make /usr/include/portaudio.h:portaudio19-dev)

# find_rig_kernel: sets `kernel_package` and `kernel` for the virtual device.
find_rig_kernel() {
    kernel_package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: //p')
    kernel=${kernel_package#linux-image-}
}

# list_missing: prints the missing packages, one per line.
list_missing() {
    local entry kernel_package kernel
    for entry in "${rig_packages[@]}"; do
        [[ -e ${entry%:*} ]] || command -v "${entry%:*}" >/dev/null || echo "${entry#*:}"
    done
    "$rig_python" -c 'import ensurepip, venv' 2>/dev/null || printf 'python3-%s\n' venv dev
    find_rig_kernel
    [[ $kernel && -d /usr/src/linux-headers-$kernel ]] || echo linux-headers-amd64
}

# install_rig_host: installs missing packages where possible. Otherwise the tests are skipped with the
# reason.
install_rig_host() {
    local missing
    ((EUID == 0)) && grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release || return 0
    [[ $(apt-cache policy linux-image-amd64 2>/dev/null) ]] || apt-get -qq update || return 0
    mapfile -t missing < <(list_missing)
    ((${#missing[@]})) || return 0
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        "${missing[@]}" >/dev/null || echo "could not install: ${missing[*]}" >&2
}
