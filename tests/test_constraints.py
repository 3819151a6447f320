"""The pinned files that a device and an image install, by what constraints-*.txt says of itself."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

ROOT = Path(__file__).parent.parent
DEVICE_EXTRAS = ("mic", "screen", "serial", "signed", "web", "metrics", "mqtt")
ONLY_SOURCES = {"pyaudio", "pycuda"}
MACHINES = [
    (python, processor)
    for python in ((3, 10), (3, 12), (3, 13))
    for processor in ("x86_64", "aarch64")
]

if not (ROOT / "constraints-device.txt").is_file():
    pytest.skip("there are no sources beside the tests", allow_module_level=True)


@dataclass(frozen=True)
class Pin:
    """One pinned version, and the files that may be installed."""

    requirement: Requirement
    files: tuple[str, ...]
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    def applies(self, python: tuple[int, int], processor: str) -> bool:
        marker = self.requirement.marker
        return marker is None or marker.evaluate(environment(python, processor))

    def can_be_installed(self, python: tuple[int, int], processor: str) -> bool:
        tags = set(list_tags(python, processor))
        return any(
            name.endswith(".tar.gz") or not tags.isdisjoint(parse_wheel_filename(name)[3])
            for name in self.files
        )


def environment(python: tuple[int, int], processor: str) -> dict[str, str]:
    version = f"{python[0]}.{python[1]}"
    return {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "platform_machine": processor,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "extra": "",
    }


def list_tags(python: tuple[int, int], processor: str) -> Iterator[Tag]:
    """The tags of JetPack 6 and of anything newer."""
    names = [*(f"manylinux_2_{minor}" for minor in range(35, 16, -1)), "manylinux2014"]
    platforms = [f"{name}_{processor}" for name in names]
    yield from cpython_tags(python, platforms=platforms)
    yield from compatible_tags(python, platforms=platforms)


def read_pins(name: str) -> list[Pin]:
    pins, files = [], []
    for entry in (ROOT / name).read_text().replace("\\\n", "").splitlines():
        if entry.endswith((".whl", ".tar.gz")):
            files.append(entry.removeprefix("# "))
        elif "==" in entry:
            requirement, *hashes = entry.split("--hash=sha256:")
            digests = tuple(digest.strip() for digest in hashes)
            pins.append(Pin(Requirement(requirement), tuple(files), digests))
            files = []
    assert not files
    return pins


def read_needs(extras: tuple[str, ...]) -> list[Requirement]:
    """The program's own requirements, and those of the extras."""
    needs = map(Requirement, importlib.metadata.requires("emotion-edge") or [])
    return [
        need
        for need in needs
        if need.marker is None or any(need.marker.evaluate({"extra": name}) for name in extras)
    ]


@pytest.mark.parametrize("name", ["device", "jetson", "build", "image"])
def test_every_pin_has_one_version_and_a_hash_for_each_file(name: str) -> None:
    """A source is only what has no wheels."""
    for pin in read_pins(f"constraints-{name}.txt"):
        assert re.fullmatch(r"==[\w.]+", str(pin.requirement.specifier)), pin
        assert len(pin.files) == len(pin.hashes) == len(set(pin.hashes)) > 0, pin.name
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in pin.hashes)
        version = str(pin.requirement.specifier).removeprefix("==")
        for file in pin.files:
            if file.endswith(".whl"):
                found, of_file = parse_wheel_filename(file)[:2]
            else:
                assert pin.name in ONLY_SOURCES
                found, of_file = parse_sdist_filename(file)
            assert (found, str(of_file)) == (pin.name, version)


@pytest.mark.parametrize(("python", "processor"), MACHINES)
def test_everything_is_pinned_on_each_machine(python: tuple[int, int], processor: str) -> None:
    """What is needed, and what that needs as far as this environment's versions say so, with a file
    that this machine can install and at a version that is permitted."""
    names, extras = ["device"], DEVICE_EXTRAS
    if processor == "aarch64":
        names, extras = ["device", "jetson"], (*DEVICE_EXTRAS, "jetson")
    pins: dict[str, Pin] = {}
    for name in names:
        for pin in read_pins(f"constraints-{name}.txt"):
            if pin.applies(python, processor):
                assert pin.name not in pins
                pins[pin.name] = pin
    assert [name for name, pin in pins.items() if not pin.can_be_installed(python, processor)] == []
    for need in read_needs(extras):
        if canonicalize_name(need.name) == "emotion-edge":  # an extra of an extra, which is listed
            continue
        version = str(pins[canonicalize_name(need.name)].requirement.specifier)
        assert need.specifier.contains(version.removeprefix("==")), need
    for name, pin in pins.items():
        try:
            further = importlib.metadata.requires(name) or []
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if not pin.requirement.specifier.contains(installed):
            continue
        for need in map(Requirement, further):
            marker: Marker | None = need.marker
            if marker is None or marker.evaluate(environment(python, processor)):
                assert canonicalize_name(need.name) in pins, f"{name} needs {need}"
