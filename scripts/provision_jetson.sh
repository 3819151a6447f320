# Sourced by setup_jetson, build_image and flash: the steps for a Jetson. They follow NVIDIA's documents
# and the sources of jetson-utils, and have not yet run on a Jetson.
# shellcheck shell=bash
# shellcheck source-path=SCRIPTDIR source=provision.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/provision.sh"

# CUDA with its compiler (for pycuda and jetson-utils), TensorRT, and what jetson-utils links.
jetson_packages=(nvidia-cuda-dev nvidia-tensorrt-dev python3-libnvinfer git cmake g++ make
    libglew-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstreamer-plugins-bad1.0-dev
    libgstrtspserver-1.0-dev libjson-glib-dev libsoup2.4-dev gstreamer1.0-plugins-good)
jetson_utils=https://github.com/dusty-nv/jetson-utils
jetson_utils_sources=/usr/local/src/jetson-utils

# provision_jetson FOLDER: all steps that do not need the running board.
provision_jetson() {
    local all=("${packages[@]}" "${jetson_packages[@]}")
    [[ $wheels ]] || all+=("${compile_packages[@]}")
    install_packages "$1" "${all[@]}"
    create_user "$1"
    make_venv "$1" --system-site-packages
    install_program "$1" mic,screen,serial,signed,jetson
    install_files "$1"
    [[ ${without_jetson_utils:-} ]] || build_jetson_utils "$1"
    free_serial_port "$1"
    set_modeset "$1"
    leave_desktop "$1"
    enable_units "$1"
}

# build_jetson_utils FOLDER: builds the camera library for csi://. Branch v1 supports only Python 3.10
# of JetPack 6, master that of JetPack 7. Their lists of GPUs lack Orin, and CUDA 13 rejects the oldest
# in them. NumPy is hidden from the build, because the system's version is not the program's.
build_jetson_utils() {
    local target=$1 at=${1%/} branch=v1 stamp=${1%/}$program/jetson-utils
    [[ $l4t == 36.* ]] || branch=master
    if [[ -f $stamp && $(<"$stamp") == "$branch $l4t" ]]; then
        report jetson-utils "there already"
        return
    fi
    act rm -rf "$at$jetson_utils_sources"
    on "$target" git clone --quiet --depth 1 --branch "$branch" "$jetson_utils" \
        "$jetson_utils_sources" ||
        stop 4 "jetson-utils cannot be fetched: connect the network, or leave it out with --without-jetson-utils"
    # shellcheck disable=SC2016
    on "$target" bash -ec '
        cd "$0"
        sed -i "/-gencode arch=/d" CMakeLists.txt
        mkdir -p build/hidden
        echo "raise ImportError" >build/hidden/numpy.py
        cd build
        export PATH=/usr/local/cuda/bin:$PATH PYTHONPATH=$PWD/hidden
        cmake .. -DCUDA_NVCC_FLAGS="-gencode;arch=compute_87,code=sm_87" >cmake.log
        make -j "$(nproc)" >make.log
        make install >install.log
        ldconfig' "$jetson_utils_sources" ||
        stop 4 "jetson-utils could not be built, see $at$jetson_utils_sources/build; csi:// needs it, nothing else: --without-jetson-utils"
    [[ $dry_run ]] || echo "$branch $l4t" >"$stamp"
    did jetson-utils "$branch installed"
}

# free_serial_port FOLDER: disables the console on the pins of UARTA.
free_serial_port() {
    if [[ ! -e ${1%/}/etc/systemd/system/multi-user.target.wants/nvgetty.service ]]; then
        report serial "no console on it"
        return
    fi
    on "$1" systemctl --quiet disable nvgetty.service
    [[ $1 != / ]] || act systemctl stop nvgetty.service
    did serial "console (nvgetty) off"
}

# set_modeset FOLDER: makes NVIDIA's driver offer the monitor to programs other than X.
set_modeset() {
    local file=/etc/modprobe.d/emotion-edge.conf line="options nvidia_drm modeset=1"
    if [[ -f ${1%/}$file && $(<"${1%/}$file") == "$line" ]]; then
        report monitor "modeset is on already"
        return
    fi
    # shellcheck disable=SC2016
    act sh -c 'echo "$0" >"$1"' "$line" "${1%/}$file"
    did monitor "modeset on ($file), from the next boot on"
}

# leave_desktop FOLDER: disables the desktop, which owns the monitor and uses a gigabyte of memory.
leave_desktop() {
    local at=${1%/} unit
    if [[ $(readlink "$at/etc/systemd/system/default.target") == */multi-user.target ]]; then
        report desktop "off already"
        return
    fi
    on "$1" systemctl --quiet set-default multi-user.target
    for unit in gdm3 gdm lightdm; do
        [[ ! -e $at/lib/systemd/system/$unit.service ]] ||
            on "$1" systemctl --quiet disable "$unit.service"
    done
    did desktop "off, from the next boot on"
}

# set_power_mode FOLDER [NAME]: sets the mode by name, because numbers differ between boards. Modes with
# slow memory (7 W, 10 W, on an AGX 15 W) are not used: in them JetPack 7.2 may crash at boot with a
# monitor on. MAXN needs more cooling than many housings have. Clocks stay dynamic: no jetson_clocks.
set_power_mode() {
    local at=${1%/} wanted=(25W 15W) name modes number called id=
    [[ $board != *AGX* ]] || wanted=(30W 50W)
    [[ ! ${2:-} ]] || wanted=("$2")
    modes=$(list_power_modes "$at")
    for name in "${wanted[@]}"; do
        while read -r number called; do
            [[ $called != "$name" ]] || id=$number
        done <<<"$modes"
        [[ ! $id ]] || break
    done
    if [[ ! $id ]]; then
        [[ ! ${2:-} ]] || stop 2 "--power-mode $2: allowed: $(cut -d' ' -f2- <<<"${modes:-. none}" | paste -sd' ')"
        report power "left as it is: this board has neither ${wanted[*]}"
    elif is_power_mode "$at" "$id"; then
        report power "$name already"
    else
        # For some changes nvpmodel asks for a restart; it gets no answer.
        act nvpmodel -m "$id" </dev/null >/dev/null || true
        if [[ $dry_run ]] || is_power_mode "$at" "$id"; then
            did power "$name"
        else
            report power "$name needs a restart: sudo nvpmodel -m $id"
        fi
    fi
}

# list_power_modes FOLDER: prints number and name of each mode; a name may have spaces. Prints
# nothing without nvpmodel.
list_power_modes() {
    local mode='POWER_MODEL[[:space:]]+ID=0*([0-9]+)[[:space:]]+NAME=[[:space:]]*([^>]*[^>[:space:]])'
    [[ ! -f $1/etc/nvpmodel.conf ]] ||
        sed -nE "s/^[[:space:]]*<[[:space:]]*${mode}[[:space:]]*>.*/\1 \2/p" "$1/etc/nvpmodel.conf"
}

# is_power_mode FOLDER NUMBER: whether the mode is the current one, by a file with a line such as
# "pmode:0002 fmode:fan_mode_quiet".
is_power_mode() {
    local now
    now=$(sed -nE 's/^(.*[[:space:]])?pmode:[[:space:]]*0*([0-9]+)([[:space:]].*)?$/\2/p' \
        "$1/var/lib/nvpmodel/status" 2>/dev/null)
    [[ $now == "$2" ]]
}
