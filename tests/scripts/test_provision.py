"""The steps of scripts/provision*.sh on fake root folders, with recorded commands. The image of the
virtual device runs them for real."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from emotion_edge.runtime.doctor.host import L4T_VERSIONS

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
SYSTEMD = SCRIPTS.parent / "systemd"
RELEASE = "# R36 (release), REVISION: 4.3, GCID: 1\n"
POWER_MODES = """\
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< PM_CONFIG DEFAULT=1 >
"""

pytestmark = pytest.mark.skipif(
    not SYSTEMD.exists(), reason="the scripts are not part of the installed package"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The parts of the root folder of a Jetson that the steps read."""
    root = tmp_path / "a root"
    files = {
        "etc/os-release": 'ID=ubuntu\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
        "etc/nv_tegra_release": RELEASE,
        "etc/passwd": "root:x:0:0::/root:/bin/bash\n",
        "etc/group": "root:x:0:\n",
        "etc/nvpmodel.conf": POWER_MODES,
        "var/lib/nvpmodel/status": "pmode:0000\n",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit\0",
        "var/lib/dpkg/status": "Package: git\nStatus: install ok installed\n\n"
        "Package: cmake\nStatus: deinstall ok config-files\n",
        "etc/systemd/system/multi-user.target.wants/nvgetty.service": "",
        "lib/systemd/system/gdm3.service": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in ("usr/local/bin", "etc/modprobe.d"):
        (root / name).mkdir(parents=True)
    (root / "etc/systemd/system/default.target").symlink_to("/lib/systemd/system/graphical.target")
    return root


def run(root: Path, steps: str) -> subprocess.CompletedProcess[str]:
    """Run steps in a shell. Commands for the target system are only recorded in `commands`; they
    fail if they begin with `broken`."""
    setup = f"""set -euo pipefail
        source "{SCRIPTS}/provision_jetson.sh"
        root="{root}"
        on() {{ shift; echo "$*" >>"{root.parent}/commands"; [[ "$*" != ${{broken:-no}}* ]]; }}
        """
    (root.parent / "commands").write_text("")
    return subprocess.run(
        ["bash", "-c", setup + steps], capture_output=True, text=True, check=False, timeout=500
    )


def assert_refused(result: subprocess.CompletedProcess[str], code: int, *named: str) -> None:
    """It ends with `code` and one line on stderr that names these things."""
    assert result.returncode == code
    assert result.stderr.count("\n") == 1
    assert [text for text in named if text not in result.stderr] == []


def commands(root: Path) -> list[str]:
    return (root.parent / "commands").read_text().splitlines()


def test_missing_packages(root: Path) -> None:
    """Only they are installed. A removed package that left its configuration is missing."""
    run(root, 'install_packages "$root" git cmake gcc')
    assert commands(root)[0] == "dpkg --configure -a"
    assert commands(root)[-1].endswith("--no-install-recommends install cmake gcc")


def test_installed_packages(root: Path) -> None:
    """Nothing is run, so no network is needed."""
    assert run(root, 'install_packages "$root" git').returncode == 0
    assert commands(root) == []


def test_packages_without_network(root: Path) -> None:
    """Outdated lists of packages are no error; a failed installation is."""
    result = run(root, 'broken="apt-get -qq" install_packages "$root" gcc')
    assert result.returncode == 0
    assert_refused(run(root, 'broken="env DEBIAN" install_packages "$root" gcc'), 4, "gcc")


def test_files(root: Path) -> None:
    """They are installed at their places; a second run changes nothing."""
    result = run(root, 'find_system "$root"; install_files "$root"')
    assert result.returncode == 0, result.stderr
    for unit in ("emotion-edge", "emotion-edge-build"):
        folder = root / "etc/systemd/system"
        assert (folder / f"{unit}.service").read_text() == (SYSTEMD / f"{unit}.service").read_text()
        dropins = sorted(path.name for path in (folder / f"{unit}.service.d").iterdir())
        assert dropins == ["10-sandbox.conf", "20-jetson.conf"]
    assert (root / "etc/udev/rules.d/70-emotion-edge.rules").exists()
    assert (root / "etc/tmpfiles.d/emotion-edge.conf").exists()
    assert commands(root) == ["systemd-tmpfiles --create emotion-edge.conf"]
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    run(root, 'find_system "$root"; install_files "$root"')
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before


def test_jetson_drop_in_is_for_a_jetson(root: Path) -> None:
    (root / "etc/nv_tegra_release").unlink()
    run(root, 'find_system "$root"; install_files "$root"')
    assert not list(root.rglob("20-jetson.conf"))


def test_edited_configuration_is_kept(root: Path) -> None:
    """An unedited configuration is updated. An edited one stays, which is reported."""
    edited, shipped = root / "etc/emotion-edge/config.yaml", root / "opt/emotion-edge/config.yaml"
    run(root, 'install_files "$root"')
    assert edited.read_text() == shipped.read_text() == (SYSTEMD / "config.yaml").read_text()
    edited.write_text("profile: general\n")
    shipped.write_text("profile: general\n")
    run(root, 'install_files "$root"')
    assert edited.read_text() == (SYSTEMD / "config.yaml").read_text()
    edited.write_text("budget_ms: 60\n")
    result = run(root, 'install_files "$root"')
    assert edited.read_text() == "budget_ms: 60\n"
    assert "etc/emotion-edge/config.yaml" in result.stdout


def test_interrupted_environment_is_rebuilt(root: Path) -> None:
    """Without pip it is incomplete, and its program is no longer installed. It is also rebuilt when
    its kind changes."""
    venv = root / "opt/emotion-edge/venv"
    (venv / "bin").mkdir(parents=True)
    installed = root / "opt/emotion-edge/installed"
    installed.write_text("key\n")
    run(root, 'make_venv "$root" --system-site-packages')
    made = "python3 -m venv --clear --system-site-packages /opt/emotion-edge/venv"
    assert commands(root) == [made]
    assert not installed.exists()
    (venv / "bin/pip").touch(0o755)
    (venv / "pyvenv.cfg").write_text("include-system-site-packages = true\n")
    run(root, 'make_venv "$root" --system-site-packages')
    assert commands(root) == []
    run(root, 'make_venv "$root"')
    assert commands(root) == ["python3 -m venv --clear /opt/emotion-edge/venv"]


def test_program_from_wheels(root: Path, tmp_path: Path) -> None:
    """Once, without the network, and again when the wheel changes or after a failure of pip."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = wheels / "emotion_edge-0.1.0-py3-none-any.whl"
    wheel.write_text("one")
    (root / "opt/emotion-edge").mkdir(parents=True)
    steps = f'date_kernels() {{ :; }}; find_wheels "{wheels}"; install_program "$root" mic,serial'
    result = run(root, steps)
    assert result.returncode == 0, result.stderr
    pip = [command for command in commands(root) if "pip install" in command]
    assert len(pip) == 1
    assert pip[0].endswith("--no-index --find-links /mnt emotion-edge[mic,serial]")
    link = root / "usr/local/bin/emotion-edge"
    assert str(link.readlink()) == "/opt/emotion-edge/venv/bin/emotion-edge"
    run(root, steps)
    assert commands(root) == []

    (
        root / "opt/emotion-edge/venv/lib/python3.10/site-packages/emotion_edge-0.1.0.dist-info"
    ).mkdir(parents=True)
    wheel.write_text("two")
    assert_refused(run(root, f"broken='env PATH'; {steps}"), 4, "pip", "--wheels")
    assert run(root, steps).returncode == 0
    assert any("--force-reinstall --no-deps" in command for command in commands(root))


def test_program_from_the_checkout(root: Path) -> None:
    """From a copy without the tests, which is removed afterwards; once."""
    record = 'on() { ls "$root/opt/emotion-edge/sources" >>"$root/../copied"; }'
    steps = f'{record}; date_kernels() {{ :; }}; install_program "$root" mic'
    result = run(root, steps)
    assert result.returncode == 0, result.stderr
    copied = (root.parent / "copied").read_text().split()
    assert {"kernels", "runtime", "pyproject.toml", "setup.py"} <= set(copied)
    assert "tests" not in copied
    assert not (root / "opt/emotion-edge/sources").exists()
    (root.parent / "copied").unlink()
    run(root, steps)
    assert not (root.parent / "copied").exists()


@pytest.mark.parametrize(("extras", "pins"), [("mic", "bd"), ("mic,jetson", "bdj")])
def test_requirements_of_the_checkout_are_pinned(root: Path, extras: str, pins: str) -> None:
    """pip gets no requirement without a hash: the program itself comes without its requirements."""
    (root / "opt/emotion-edge").mkdir(parents=True)
    assert run(root, f'date_kernels() {{ :; }}; install_program "$root" {extras}').returncode == 0
    pip = [command for command in commands(root) if "pip install" in command]
    named = [re.findall(r"constraints-(\w)", command) for command in pip]
    assert ["".join(each) for each in named] == [*pins, ""]
    assert all("--require-hashes" in command for command in pip[:-1])
    assert all("--no-deps" in command and "--no-build-isolation" in command for command in pip)


def test_wheels_without_the_program(tmp_path: Path, root: Path) -> None:
    named = (f"--wheels {tmp_path}", "emotion_edge-*.whl")
    assert_refused(run(root, f'find_wheels "{tmp_path}"'), 2, *named)


def test_kernel_date_follows_the_content(root: Path) -> None:
    """Numba checks the date of one file only. So a change of any file changes the date of all, in
    subfolders too, and equal contents have equal dates on every machine."""
    kernels = root / "opt/emotion-edge/venv/lib/python3.10/site-packages/emotion_edge/kernels"
    (kernels / "cpu").mkdir(parents=True)

    def dates() -> set[int]:
        assert run(root, 'date_kernels "$root"').returncode == 0
        return {path.stat().st_mtime_ns for path in kernels.rglob("*.py")}

    (kernels / "reference.py").write_text("a")
    (kernels / "cpu" / "simd.py").write_text("b")
    first = dates()
    assert len(first) == 1
    assert next(iter(first)) % 1_000_000_000 == 0
    (kernels / "cpu" / "simd.py").write_text("c")
    second = dates()
    assert first.isdisjoint(second)
    (kernels / "cpu" / "simd.py").write_text("b")
    assert dates() == first


def test_desktop_console_and_monitor(root: Path) -> None:
    """Desktop and console off, modeset on; a second run changes nothing."""
    steps = 'free_serial_port "$root"; set_modeset "$root"; leave_desktop "$root"'
    assert run(root, steps).returncode == 0
    assert commands(root) == [
        "systemctl --quiet disable nvgetty.service",
        "systemctl --quiet set-default multi-user.target",
        "systemctl --quiet disable gdm3.service",
    ]
    assert "nvidia_drm modeset=1" in (root / "etc/modprobe.d/emotion-edge.conf").read_text()
    target = root / "etc/systemd/system/default.target"
    target.unlink()
    target.symlink_to("/lib/systemd/system/multi-user.target")
    (root / "etc/systemd/system/multi-user.target.wants/nvgetty.service").unlink()
    again = run(root, steps)
    assert commands(root) == []
    assert again.stdout.count("\n") == 3


@pytest.mark.parametrize(
    ("l4t", "branch"),
    [("R36 (release), REVISION: 4.3", "v1"), ("R39 (release), REVISION: 2.0", "master")],
)
def test_branch_of_jetson_utils(root: Path, l4t: str, branch: str) -> None:
    """v1 is for JetPack 6, master for JetPack 7; built once for each version of the system."""
    (root / "etc/nv_tegra_release").write_text(f"# {l4t}, GCID: 1\n")
    (root / "opt/emotion-edge").mkdir(parents=True)
    steps = 'find_system "$root"; build_jetson_utils "$root"'
    result = run(root, steps)
    assert result.returncode == 0, result.stderr
    assert f"--branch {branch} https://github.com/dusty-nv/jetson-utils" in commands(root)[0]
    run(root, steps)
    assert commands(root) == []


def test_jetson_utils_without_network(root: Path) -> None:
    steps = 'l4t=36.4.3; broken="git clone" build_jetson_utils "$root"'
    assert_refused(run(root, steps), 4, "--without-jetson-utils")


@pytest.mark.parametrize(
    ("model", "wanted", "number"),
    [
        ("Orin Nano", "", "1"),  # 25W
        ("Orin Nano", "15W", None),  # already set
        ("Orin Nano", "MAXN_SUPER", "2"),
        ("AGX Orin", "", None),  # it has neither 30W nor 50W
    ],
)
def test_power_mode(root: Path, model: str, wanted: str, number: str | None) -> None:
    """It is chosen by name, whatever its number."""
    program = f"""nvpmodel() {{
        echo "$2" >"{root}/set"
        echo "pmode:000$2" >"{root}/var/lib/nvpmodel/status"
    }}"""
    result = run(root, f'{program}; board="{model}"; set_power_mode "$root" {wanted}')
    assert result.returncode == 0, result.stderr
    assert ((root / "set").read_text().strip() if (root / "set").exists() else None) == number


def test_power_mode_that_needs_a_restart(root: Path) -> None:
    """nvpmodel asks for one and gets no answer; the command for it is reported."""
    program = "nvpmodel() { read -r answer && exit 3; return 1; }"
    result = run(root, f'{program}; board="Orin Nano"; set_power_mode "$root" <<<yes')
    assert result.returncode == 0, result.stderr
    assert "sudo nvpmodel -m 1" in result.stdout


MANY_MODES = """\
< POWER_MODEL ID=1 NAME=15W >
  < POWER_MODEL ID=0010 NAME=Kiosk at night >
# < POWER_MODEL ID=11 NAME=25W >
"""


@pytest.mark.parametrize(
    ("status", "wanted", "ran", "left"),
    [
        ("pmode:0010 fmode:fan_mode_quiet", "Kiosk at night", None, "pmode:0010"),
        ("pmode:0001", "Kiosk at night", "10", "pmode:0010"),
        ("pmode:0010", "15W", "1", "pmode:0001"),
        ("pmode:0010", "", "1", "pmode:0001"),  # 25W is commented out
        (None, "Kiosk at night", "10", "pmode:0010"),
    ],
)
def test_power_mode_of_two_digits(
    root: Path, status: str | None, wanted: str, ran: str | None, left: str
) -> None:
    """Mode 10 is not mode 1, a name may have spaces, and the current mode is not set again."""
    (root / "etc/nvpmodel.conf").write_text(MANY_MODES)
    file = root / "var/lib/nvpmodel/status"
    file.unlink() if status is None else file.write_text(f"{status}\n")
    program = f"""nvpmodel() {{
        echo "$2" >"{root}/ran"
        printf "pmode:%04d\\n" "$2" >"{file}"
    }}"""
    result = run(root, f'{program}; board="Orin Nano"; set_power_mode "$root" "{wanted}"')
    assert result.returncode == 0, result.stderr
    assert ((root / "ran").read_text().strip() if (root / "ran").exists() else None) == ran
    assert file.read_text().split()[0] == left
    assert result.stdout.split(maxsplit=1)[1].startswith(wanted or "15W")


def test_power_mode_without_a_configuration(root: Path) -> None:
    """Without a list of modes nothing is changed; a named mode is a usage error."""
    (root / "etc/nvpmodel.conf").unlink()
    result = run(root, 'board="Orin Nano"; set_power_mode "$root"')
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1
    assert run(root, 'board="Orin Nano"; set_power_mode "$root" 15W').returncode == 2


def test_unknown_power_mode(root: Path) -> None:
    steps = 'board="Orin Nano"; set_power_mode "$root" 60W'
    assert_refused(run(root, steps), 2, "--power-mode 60W", "15W 25W MAXN_SUPER")


@pytest.mark.parametrize(
    ("file", "text", "named"),
    [
        ("etc/os-release", "ID=fedora\nPRETTY_NAME=Fedora\n", "Fedora"),
        ("etc/nv_tegra_release", "# R35 (release), REVISION: 4.1,\n", "35.4.1"),
        ("proc/device-tree/model", "NVIDIA Jetson AGX Thor\0", "NVIDIA Jetson AGX Thor"),
        ("proc/device-tree/model", "", "device tree"),
    ],
)
def test_unsupported_systems(root: Path, file: str, text: str, named: str) -> None:
    (root / file).write_text(text)
    assert_refused(run(root, 'find_system "$root"; find_board "$root"'), 2, named)


@pytest.mark.parametrize(
    "l4t",
    ["35.6.1", "36.3.0", "36.4", "36.4.7", "36.5.0", "36.10.1", "37.0", "38.4", "39.2.0", "40.0"],
)
def test_supported_jetpack(root: Path, l4t: str) -> None:
    """The scripts and the doctor support the same versions."""
    version = tuple(map(int, l4t.split(".")))
    supported = any(low <= version < high for low, high in L4T_VERSIONS)
    assert (run(root, f"check_l4t {l4t}").returncode == 0) == supported


def test_kernels_are_compiled_as_the_service(root: Path) -> None:
    """As the user of the service, into its cache. A program that does not run is an error."""
    run(root, 'NUMBA_CPU_NAME=generic compile_kernels "$root"')
    command = commands(root)[0]
    assert command.startswith(
        "setpriv --reuid emotion-edge --regid emotion-edge --init-groups env "
    )
    assert "NUMBA_CACHE_DIR=/var/cache/emotion-edge/numba" in command
    assert "NUMBA_CPU_NAME=generic" in command
    assert_refused(run(root, 'broken=setpriv compile_kernels "$root"'), 1)
