"""scripts/flash with a fake Linux_for_Tegra and a fake USB bus. It has not yet written a board."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
INITRD_FLASH = "./tools/kernel_flash/l4t_initrd_flash.sh"
DISK = "./tools/kernel_flash/flash_l4t_t234_nvme_rootfs_ab.xml"
LOADER = "bootloader/generic/cfg/flash_t234_qspi.xml"
CONFIGS = ("jetson-orin-nano-devkit", "jetson-orin-nano-devkit-super", "jetson-agx-orin-devkit")

pytestmark = pytest.mark.skipif(
    not (SCRIPTS / "flash").exists(), reason="the scripts are not part of the installed package"
)


def write_program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def l4t(tmp_path: Path) -> Path:
    """NVIDIA's folder with a prepared system and tools that record their calls. Its name needs
    quoting."""
    folder = tmp_path / "my jetson" / "Linux_for_Tegra"
    rootfs = folder / "rootfs"
    for name in ("etc", "opt/emotion-edge"):
        (rootfs / name).mkdir(parents=True)
    (rootfs / "etc/os-release").write_text('ID=ubuntu\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n')
    (rootfs / "etc/nv_tegra_release").write_text(RELEASE)
    (rootfs / "opt/emotion-edge/installed").write_text("key\n")
    for name in (LOADER, DISK, *(f"{config}.conf" for config in CONFIGS)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name in ("tools/l4t_flash_prerequisites.sh", INITRD_FLASH):
        write_program(
            folder / name,
            f'echo "AB=${{ROOTFS_AB:-}} ${{0##*/}} $*" >>"{tmp_path}/calls"\n'
            f'[[ ! -e "{tmp_path}/fault" ]]',
        )
    return folder


def flash(
    l4t: Path, *arguments: str, usb: tuple[str, ...] = (), dry_run: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run scripts/flash with boards in recovery mode that have the USB product IDs `usb`."""
    programs = l4t.parent.parent / "bin"
    lines = [
        f"Bus 001 Device 00{n}: ID 0955:{number} NVIDIA Corp. APX" for n, number in enumerate(usb)
    ]
    write_program(programs / "lsusb", f"printf '%s\\n' {shlex.join(lines)}")
    return subprocess.run(
        [SCRIPTS / "flash", *(["--dry-run"] if dry_run else []), "--l4t", str(l4t), *arguments],
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def assert_refused(result: subprocess.CompletedProcess[str], code: int, *named: str) -> None:
    """It ends with `code` and one line on stderr that names these things."""
    assert result.returncode == code
    assert result.stderr.count("\n") == 1
    assert [text for text in named if text not in result.stderr] == []


def commands(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the commands that a dry run printed."""
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith("  + ")]
    return [shlex.join(shlex.split(line[4:])) for line in lines]


@pytest.mark.parametrize(
    ("board", "product", "config"),
    [
        ("orin-nano", "7523", "jetson-orin-nano-devkit"),
        ("orin-nano-super", "7623", "jetson-orin-nano-devkit-super"),
        ("orin-nx", "7323", "jetson-orin-nano-devkit"),
        ("orin-nx-super", "7423", "jetson-orin-nano-devkit-super"),
        ("agx-orin", "7023", "jetson-agx-orin-devkit"),
    ],
)
def test_commands_for_nvme(l4t: Path, board: str, product: str, config: str) -> None:
    """Make images of the loader and of the disk with two copies of the system, then write both."""
    result = flash(l4t, "--board", board, usb=(product,))
    images = f"env ROOTFS_AB=1 {INITRD_FLASH} --showlogs"
    of_disk = f"--no-flash --external-device nvme0n1p1 -c {DISK} --external-only --append"
    assert commands(result) == [
        f"cd '{l4t}'",
        "./tools/l4t_flash_prerequisites.sh",
        f"{images} -p '-c {LOADER}' --no-flash --network usb0 {config} internal",
        f"{images} {of_disk} --network usb0 {config} external",
        f"{INITRD_FLASH} --showlogs --network usb0 --flash-only",
    ]
    assert f"0955:{product}" in result.stdout


def test_commands_for_emmc(l4t: Path) -> None:
    """The eMMC of an AGX is written in one step, with the given size."""
    result = flash(l4t, "--board", "agx-orin-emmc", "--size", "20GiB", usb=("7223",))
    size = "-S 20GiB jetson-agx-orin-devkit internal"
    written = f"env ROOTFS_AB=1 {INITRD_FLASH} --showlogs --network usb0 {size}"
    assert commands(result)[2:] == [written]


def test_size_of_nvme(l4t: Path) -> None:
    """It applies to the disk, not to the loader."""
    made = commands(flash(l4t, "--board", "orin-nx", "--size", "48GiB"))
    assert ["-S 48GiB" in command for command in made] == [False, False, False, True, False]


def test_dry_run_needs_no_board_and_runs_nothing(l4t: Path) -> None:
    """Without a board it prints the commands, and calls no tool."""
    result = flash(l4t, "--board", "orin-nano")
    assert len(commands(result)) == 5
    assert result.stderr.count("\n") == 1
    assert not (l4t.parent.parent / "calls").exists()


@pytest.mark.parametrize("dry_run", [True, False])
def test_wrong_board_is_refused(l4t: Path, dry_run: bool) -> None:
    """A system for another module is never written."""
    result = flash(l4t, "--board", "orin-nx", usb=("7523",), dry_run=dry_run)
    assert_refused(result, 2, "--board orin-nx", "Orin Nano 8 GB", "0955:7523")
    assert not (l4t.parent.parent / "calls").exists()


def test_two_boards_are_refused(l4t: Path) -> None:
    """It is ambiguous which one would be written."""
    assert_refused(flash(l4t, "--board", "orin-nx", usb=("7323", "7323")), 4, "2 boards")


def test_running_board_does_not_count(l4t: Path) -> None:
    """A Jetson that has booted has another product ID (7020)."""
    assert_refused(flash(l4t, "--board", "agx-orin", usb=("7020",), dry_run=False), 4)


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("# R35 (release), REVISION: 4.1, GCID: 1\n", "35.4.1"),
        ("# R36 (release), REVISION: 3.0, GCID: 1\n", "36.3.0"),
        ("# R38 (release), REVISION: 2.0, GCID: 1\n", "38.2.0"),
        ("nonsense\n", "unknown"),
    ],
)
def test_other_versions_are_refused(l4t: Path, release: str, version: str) -> None:
    (l4t / "rootfs/etc/nv_tegra_release").write_text(release)
    assert_refused(flash(l4t, "--board", "orin-nano"), 2, version)


@pytest.mark.parametrize(
    "release", ["R36 (release), REVISION: 4.0", "R39 (release), REVISION: 2.0"]
)
def test_supported_versions(l4t: Path, release: str) -> None:
    (l4t / "rootfs/etc/nv_tegra_release").write_text(f"# {release}, GCID: 1\n")
    assert commands(flash(l4t, "--board", "orin-nano"))


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("rootfs/opt/emotion-edge/installed", "build_image jetson"),
        ("rootfs/etc/os-release", "etc/os-release"),
        ("rootfs/etc/nv_tegra_release", "apply_binaries.sh"),
        ("jetson-orin-nano-devkit-super.conf", "jetson-orin-nano-devkit-super.conf"),
        (DISK, "flash_l4t_t234_nvme_rootfs_ab.xml"),
    ],
)
def test_incomplete_folder_is_refused(l4t: Path, missing: str, named: str) -> None:
    (l4t / missing).unlink()
    assert_refused(flash(l4t, "--board", "orin-nano-super"), 2, named)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--board", "xavier"], ["--board xavier", "orin-nano"]),
        ([], ["--board", "orin-nano"]),
        (["--board"], ["--board"]),
        (["--board", "orin-nx", "--size", "48"], ["--size 48", "48GiB"]),
        (["--board", "orin-nx", "--format"], ["--format", "--l4t"]),
        (["--board", "orin-nx", "--l4t", "/nowhere"], ["--l4t /nowhere"]),
    ],
)
def test_usage_errors(l4t: Path, arguments: list[str], named: list[str]) -> None:
    assert_refused(flash(l4t, *arguments), 2, *named)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as NVIDIA's tools do")
def test_tools_are_called(l4t: Path) -> None:
    """In NVIDIA's folder, in order, until the first failure."""
    calls = l4t.parent.parent / "calls"
    assert flash(l4t, "--board", "orin-nx", usb=("7423",), dry_run=False).returncode == 0
    lines = calls.read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["AB=", "l4t_flash_prerequisites.sh"],
        ["AB=1", "l4t_initrd_flash.sh"],
        ["AB=1", "l4t_initrd_flash.sh"],
        ["AB=", "l4t_initrd_flash.sh"],
    ]
    calls.unlink()
    (l4t.parent.parent / "fault").touch()
    result = flash(l4t, "--board", "orin-nx", usb=("7423",), dry_run=False)
    assert result.returncode != 0
    assert "written" not in result.stdout
    assert len(calls.read_text().splitlines()) == 1
