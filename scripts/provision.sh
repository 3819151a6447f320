# Sourced by setup_jetson, build_image and flash: the steps that provision a machine. Each step gets the
# root folder, does what is missing there, and reports it in one line. An interrupted step is repeated.
# shellcheck shell=bash
# shellcheck source-path=SCRIPTDIR source=target.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/target.sh"

checkout=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
program=/opt/emotion-edge
sources=(kernels engines calibration training runtime __init__.py pyproject.toml setup.py README.md
    LICENSE NOTICE constraints-build.txt constraints-device.txt constraints-jetson.txt)
packages=(python3 python3-venv libportaudio2 v4l-utils)
compile_packages=(gcc libc6-dev python3-dev portaudio19-dev)  # PyAudio has no wheel

list_installed() {
    awk '/^Package: /{name = $2} /^Status: .* installed$/{print name}' "${1%/}/var/lib/dpkg/status"
}

# install_packages FOLDER NAME...: installs missing packages with apt.
install_packages() {
    local target=$1 missing
    shift
    mapfile -t missing < <(printf '%s\n' "$@" | grep -vxFf <(list_installed "$target"))
    if ((${#missing[@]} == 0)); then
        report packages "there already"
        return
    fi
    on "$target" dpkg --configure -a
    on "$target" apt-get -qq -o DPkg::Lock::Timeout=300 update ||
        echo "apt could not bring its lists of packages up to date" >&2
    on "$target" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -y \
        --no-install-recommends install "${missing[@]}" ||
        stop 4 "apt could not install ${missing[*]}: see above, connect the network, run this again"
    did packages "installed ${missing[*]}"
}

# create_user FOLDER: the user and its groups, by systemd/emotion-edge.sysusers.
create_user() {
    local before
    before=$(cat "${1%/}/etc/passwd" "${1%/}/etc/group")
    put "$checkout/systemd/emotion-edge.sysusers" "$1" /etc/sysusers.d/emotion-edge.conf || true
    on "$1" systemd-sysusers emotion-edge.conf
    if [[ $before != "$(cat "${1%/}/etc/passwd" "${1%/}/etc/group")" ]]; then
        did user "$user made"
    elif [[ ! $dry_run ]]; then
        report user "$user is there already"
    fi
}

# hash_checkout FILE...: hashes their contents, whatever their dates.
hash_checkout() {
    (cd -- "$checkout" && find "$@" -type f ! -path '*/__pycache__/*' -print0 | sort -z |
        xargs -0 sha256sum | sha256sum | cut -c1-16)
}

# copy_sources FOLDER: copies the sources for a build. A build in the checkout itself would include
# files of earlier builds.
copy_sources() {
    mkdir -p -- "$1"
    (cd -- "$checkout" && tar -c --exclude=__pycache__ "${sources[@]}") | tar -x -C "$1"
}

# make_venv FOLDER [OPTION]: makes the virtual environment. pip comes last: without it, it is incomplete.
make_venv() {
    local target=$1 at=${1%/} wanted=false
    shift
    [[ $* != *--system-site-packages* ]] || wanted=true
    if [[ -x $at$program/venv/bin/pip ]] &&
        grep -q "include-system-site-packages = $wanted" "$at$program/venv/pyvenv.cfg"; then
        report venv "there already"
        return
    fi
    act rm -f "$at$program/installed"
    on "$target" python3 -m venv --clear "$@" "$program/venv"
    did venv "made"
}

# pip_install FOLDER ARGUMENT...: installs with pip, from `wheels` if it is set.
pip_install() {
    local target=$1 from=()
    shift
    if [[ $wheels && $target == / ]]; then
        from=(--no-index --find-links "$wheels")
    elif [[ $wheels ]]; then
        from=(--no-index --find-links /mnt)
    fi
    # Packages that are compiled need CUDA's compiler, if there is one.
    on "$target" env PATH=/usr/local/cuda/bin:/usr/bin:/bin "$program/venv/bin/pip" install --quiet \
        --disable-pip-version-check --no-cache-dir --no-compile "${from[@]}" "$@" ||
        stop 4 "pip failed, see above: connect the network or give --wheels DIR, and run this again"
}

# find_wheels DIR: checks the folder and sets `wheels`.
find_wheels() {
    compgen -G "$1/emotion_edge-*.whl" >/dev/null ||
        stop 2 "--wheels $1: it must have emotion_edge-*.whl and all that this needs"
    wheels=$(realpath -- "$1")
}

# install_requirements FOLDER EXTRAS: installs the pinned versions from the package index. pip refuses
# a file without the pinned hash. What has no wheel is built by the pinned setuptools, pycuda with the
# pinned NumPy. The extras of constraints-device.txt are installed whatever EXTRAS names of them.
install_requirements() {
    local part parts=(build device)
    [[ $2 != *jetson* ]] || parts+=(jetson)
    for part in "${parts[@]}"; do
        pip_install "$1" --require-hashes --no-deps --no-build-isolation \
            -r "$program/sources/constraints-$part.txt"
    done
}

# install_program FOLDER EXTRAS: installs from the wheels, else from the checkout with the package
# index. The stamp, written last, marks a complete installation.
install_program() {
    local target=$1 at=${1%/} extras=$2 stamp=${1%/}$program/installed what key
    if [[ $wheels ]]; then
        what="emotion-edge[$extras]"
        key="$what $(cat -- "$wheels"/emotion_edge-*.whl | sha256sum)"
    else
        what=$program/sources
        key="$extras $(hash_checkout "${sources[@]}")"
    fi
    if [[ -f $stamp && $(<"$stamp") == "$key" ]]; then
        report program "up to date"
        return
    fi
    act rm -f "$stamp"
    if [[ ! $wheels ]]; then
        act rm -rf "$at$what"
        act copy_sources "$at$what"
        install_requirements "$target" "$extras"
        pip_install "$target" --force-reinstall --no-deps --no-build-isolation "$what"
    elif compgen -G "$at$program/venv/lib/python3*/site-packages/emotion_edge-*" >/dev/null; then
        # First its requirements. Then the program itself, whose version may be unchanged.
        pip_install "$target" "$what"
        pip_install "$target" --force-reinstall --no-deps "$what"
    else
        pip_install "$target" "$what"
    fi
    act rm -rf "$at$program/sources"
    date_kernels "$at"
    compile_python "$target"
    for name in emotion-edge emotion-bench; do
        act ln -sfn "$program/venv/bin/$name" "$at/usr/local/bin/$name"
    done
    [[ $target != / ]] || act sync  # the stamp must reach the disk after the files
    [[ $dry_run ]] || echo "$key" >"$stamp"
    did program "installed in $program/venv"
}

# compile_python FOLDER: compiles ahead, because the user of the service cannot write there. Some
# libraries have files for other versions of Python, which is no error.
compile_python() { on "$1" "$program/venv/bin/python" -m compileall -q "$program/venv/lib" >/dev/null || true; }

# date_kernels FOLDER: Numba reuses compiled code while the date of the kernel's file is unchanged. It
# checks no other file, but compiles code of several into one. So all files of kernels/, subfolders
# included, get a date made of their contents, in whole seconds: copying a file system may lose more.
date_kernels() {
    local folder hash
    [[ ! $dry_run ]] || return 0
    for folder in "$1$program"/venv/lib/python3*/site-packages/emotion_edge/kernels; do
        hash=$(cd -- "$folder" && find . -name '*.py' -print0 | LC_ALL=C sort -z |
            xargs -0 sha256sum -- | sha256sum | cut -c1-7)
        find "$folder" -name '*.py' -exec touch -d "@$((16#$hash + 1000000000))" {} +
    done
}

# install_files FOLDER: installs units, device rules, folders, and the configuration unless it was
# edited.
install_files() {
    local at=${1%/} files=$checkout/systemd edited=/etc/emotion-edge/config.yaml changed=() unit
    for unit in emotion-edge emotion-edge-build; do
        ! put "$files/$unit.service" "$1" "/etc/systemd/system/$unit.service" || changed+=("$unit")
        ! put "$files/sandbox.conf" "$1" "/etc/systemd/system/$unit.service.d/10-sandbox.conf" ||
            changed+=("$unit's sandbox")
        [[ ! $l4t ]] ||
            ! put "$files/jetson.conf" "$1" "/etc/systemd/system/$unit.service.d/20-jetson.conf" ||
            changed+=("$unit's GPU")
    done
    ! put "$files/emotion-edge.rules" "$1" /etc/udev/rules.d/70-emotion-edge.rules ||
        changed+=("device rules")
    ! put "$files/emotion-edge.tmpfiles" "$1" /etc/tmpfiles.d/emotion-edge.conf ||
        changed+=(folders)
    on "$1" systemd-tmpfiles --create emotion-edge.conf
    # The configuration is unedited if it equals the default of the last installation.
    if [[ ! -f $at$edited ]] || cmp --silent -- "$at$edited" "$at$program/config.yaml"; then
        ! put "$files/config.yaml" "$1" "$edited" || changed+=(config.yaml)
    elif ! cmp --silent -- "$at$edited" "$files/config.yaml"; then
        report config "$edited was edited and is kept; $program/config.yaml is the new default"
    fi
    put "$files/config.yaml" "$1" "$program/config.yaml" || true
    if ((${#changed[@]})); then
        did files "installed: $(printf '%s, ' "${changed[@]}" | sed 's/, $//')"
    else
        report files "there already"
    fi
}

# compile_kernels FOLDER: compiles the kernels into the cache of the service. NUMBA_CPU_NAME selects
# another processor than this one.
compile_kernels() {
    as_user "$1" env ${NUMBA_CPU_NAME:+NUMBA_CPU_NAME="$NUMBA_CPU_NAME"} \
        "$program/venv/bin/emotion-edge" run --source demo --pace max --seconds 1 --output "null" \
        --set engines.name="null" || stop 1 "the program does not run, see above"
    did kernels "compiled in $cache/numba"
}

# enable_units FOLDER: starts the units at every boot.
enable_units() {
    on "$1" systemctl --quiet enable emotion-edge.service emotion-edge-build.service
    did units "start at every boot"
}

# provision_machine FOLDER EXTRAS: all steps for any Debian or Ubuntu.
provision_machine() {
    local all=("${packages[@]}")
    [[ $wheels ]] || all+=("${compile_packages[@]}")
    install_packages "$1" "${all[@]}"
    create_user "$1"
    make_venv "$1"
    install_program "$1" "$2"
    install_files "$1"
    enable_units "$1"
}
