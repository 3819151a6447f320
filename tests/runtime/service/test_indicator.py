"""The capture indicator on synthetic LEDs, GPIO lines and screens."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Literal

import pytest

from emotion_edge.runtime import config
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import ConfigError
from emotion_edge.runtime.doctor.devices import check_indicator
from emotion_edge.runtime.health import list_faults
from emotion_edge.runtime.service.indicator import (
    Indicator,
    IndicatorError,
    ScreenLight,
    open_indicator,
)

from ..board.trees import link, make_unreadable, write_files

LED = "sys/class/leds/green/brightness"
DEVICE = "sys/devices/platform/leds/leds/green"
GPIO = "sys/class/gpio/gpio17/value"
TRIGGERS = "none rc-feedback [heartbeat] timer\n"


class FakeScreen:
    """A screen that shows the camera mark after a number of polls."""

    def __init__(self, polls: int = 0) -> None:
        self.polls = polls
        self.states: list[bool] = []

    @property
    def showing(self) -> bool:
        self.polls -= 1
        return self.polls < 0

    def show_camera(self, on: bool) -> None:
        self.states.append(on)


def poll(indicator: Indicator) -> str:
    """Poll once, and return the fault."""
    indicator.poll()
    return indicator.fault


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An LED behind a link, as in the kernel, a GPIO line, and other files."""
    write_files(
        tmp_path,
        {
            f"{DEVICE}/brightness": "0\n",
            f"{DEVICE}/max_brightness": "255\n",
            f"{DEVICE}/trigger": "[none] rc-feedback heartbeat timer\n",
            GPIO: "0\n",
            "run/lamp/state": "",
            "home/letter.txt": "12",
        },
    )
    link(tmp_path / "sys/class/leds/green", tmp_path / DEVICE)
    return tmp_path


def open_light(root: Path, file: str) -> Indicator:
    return open_indicator(config.Indicator(kind="file", file=f"/{file}"), [], root)


@pytest.mark.parametrize(("file", "on"), [(LED, "255\n"), (GPIO, "1\n"), ("run/lamp/state", "1\n")])
def test_on_and_off(root: Path, file: str, on: str) -> None:
    """An LED at its maximum; off at the end, after an error too."""
    before = (root / file).read_text()
    indicator = open_light(root, file)
    assert (root / file).read_text() == before
    assert not indicator.lit

    def use_and_fail() -> None:
        with indicator:
            indicator.turn_on()
            assert indicator.lit
            assert poll(indicator) == ""
            assert (root / file).read_text() == on
            raise KeyError

    with pytest.raises(KeyError):
        use_and_fail()
    assert (root / file).read_text() == "0\n"
    assert not indicator.lit


def test_not_turned_off_unless_turned_on(root: Path) -> None:
    """A refused run does not turn off the LED of another one."""
    (root / LED).write_text("255\n")
    with open_light(root, LED):
        pass
    assert (root / LED).read_text() == "255\n"


def test_light_is_restored(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If another program turns it off. A missing LED is logged once and tried again."""
    with open_light(root, LED) as indicator:
        indicator.turn_on()
        (root / LED).write_text("0\n")
        assert poll(indicator) == ""
        assert (root / LED).read_text() == "255\n"
        (root / DEVICE).rename(root / "away")
        for _ in range(3):
            assert os.strerror(errno.ENOENT) in poll(indicator)
            assert not indicator.lit
        (root / "away").rename(root / DEVICE)
        assert poll(indicator) == ""
        assert indicator.lit
    assert len(caplog.messages) == 2
    assert LED in caplog.messages[0]


def test_new_cause_is_logged(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A missing LED, and then one with a trigger: each once."""
    with open_light(root, LED) as indicator:
        indicator.turn_on()
        (root / DEVICE).rename(root / "away")
        missing = {poll(indicator) for _ in range(3)}
        (root / "away").rename(root / DEVICE)
        (root / DEVICE / "trigger").write_text("none [heartbeat]\n")
        triggered = {poll(indicator) for _ in range(3)}
    assert caplog.messages == [*missing, *triggered]
    assert len(caplog.messages) == 2


def test_led_of_another_device(root: Path) -> None:
    """Its name is a link to another device now."""
    with open_light(root, LED) as indicator:
        indicator.turn_on()
        (root / DEVICE).rename(root / "sys/devices/green2")
        (root / "sys/class/leds/green").unlink()
        link(root / "sys/class/leds/green", root / "sys/devices/green2")
        (root / LED).write_text("0\n")
        assert poll(indicator) == ""
        assert (root / LED).read_text() == "255\n"


def test_led_with_a_trigger(root: Path) -> None:
    """It would be switched by the kernel, from the start or later."""
    indicator = open_light(root, LED)
    (root / DEVICE / "trigger").write_text(TRIGGERS)
    with pytest.raises(IndicatorError, match="'heartbeat'"):
        indicator.turn_on()
    assert (root / LED).read_text() == "0\n"
    (root / DEVICE / "trigger").write_text("[none] heartbeat\n")
    indicator.turn_on()
    (root / DEVICE / "trigger").write_text(TRIGGERS)
    assert "heartbeat" in poll(indicator)
    assert not indicator.lit


def test_light_that_stays_off(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The written number is read back."""
    monkeypatch.setattr(
        "emotion_edge.runtime.service.indicator.write_number", lambda file, number: None
    )
    with pytest.raises(IndicatorError, match=f"/{GPIO} "):
        open_light(root, GPIO).turn_on()


def test_light_that_cannot_be_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file and the system's reason."""

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(IndicatorError, match=f"/{GPIO} .*{os.strerror(errno.EPERM)}"):
        open_light(root, GPIO).turn_on()


def test_light_that_cannot_be_turned_off(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and not raised."""
    with open_light(root, GPIO) as indicator:
        indicator.turn_on()
        (root / GPIO).unlink()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert not (root / GPIO).exists()


def test_write_only_light(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each poll writes it again."""
    monkeypatch.setattr("emotion_edge.runtime.service.indicator.read_bytes", lambda path: None)
    with open_light(root, GPIO) as indicator:
        indicator.turn_on()
        (root / GPIO).write_text("0\n")
        assert poll(indicator) == ""
        assert (root / GPIO).read_text() == "1\n"
        (root / GPIO).unlink()
        assert poll(indicator) != ""


@pytest.mark.parametrize(
    "file",
    [
        "",
        "home/letter.txt",
        "/home/letter.txt",
        "/sys/../home/letter.txt",
        "sys/class/gpio/gpio17/value",
        "/sys",
        "/",
        "/system/x",
    ],
)
def test_path_outside_sys_and_run(root: Path, file: str) -> None:
    """The error names the setting and the path."""
    with pytest.raises(ConfigError, match=rf"^indicator\.file is '{file}'"):
        open_indicator(config.Indicator(kind="file", file=file), [], root)


def test_link_out_of_sys_and_run(root: Path) -> None:
    """From the start or later: the document is never written."""
    (root / "run/link").symlink_to(root / "home/letter.txt")
    with pytest.raises(ConfigError):
        open_light(root, "run/link")
    with open_light(root, "run/lamp/state") as indicator:
        indicator.turn_on()
        (root / "run/lamp/state").unlink()
        (root / "run/lamp/state").symlink_to(root / "home/letter.txt")
        assert "indicator.file" in poll(indicator)
    assert (root / "home/letter.txt").read_text() == "12"


@pytest.mark.parametrize("content", ["freeze mem disk\n", "[none] x\n", "12345678901", "1 2", "{}"])
def test_file_without_a_number_is_not_written(root: Path, content: str) -> None:
    (root / "run/lamp/state").write_text(content)
    with pytest.raises(IndicatorError, match="number"):
        open_light(root, "run/lamp/state").turn_on()
    assert (root / "run/lamp/state").read_text() == content


def test_folder_and_pipe_are_refused(root: Path) -> None:
    make_unreadable(root / "run/folder")
    os.mkfifo(root / "run/pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(IndicatorError, match="number"):
            open_light(root, f"run/{name}").turn_on()


def test_missing_file_is_not_created(root: Path) -> None:
    """It may appear later, so it is not a usage error."""
    indicator = open_light(root, "run/lamp/later")
    with pytest.raises(IndicatorError, match=os.strerror(errno.ENOENT)):
        indicator.turn_on()
    assert not (root / "run/lamp/later").exists()
    (root / "run/lamp/later").write_text("0")
    indicator.turn_on()
    assert indicator.lit


def test_screen(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The indicator is on only while a monitor shows it."""
    monkeypatch.setattr("emotion_edge.runtime.service.indicator.SCREEN_START_NS", 0)
    screen = FakeScreen()
    indicator = open_indicator(config.Indicator(kind="screen"), [screen])
    indicator.turn_on()
    seen = []
    for polls in (0, 10**6, 0):
        screen.polls = polls
        seen.append((poll(indicator), indicator.lit))
    faults, lit = zip(*seen, strict=True)
    assert lit == (True, False, True)
    assert [bool(fault) for fault in faults] == [False, True, False]
    assert len(caplog.messages) == 2
    assert set(screen.states) == {True}
    indicator.turn_off()
    assert screen.states[-1] is False


def test_screen_shows_the_mark_before_lit() -> None:
    """It waits for the view with the camera mark, not for any view."""
    screen = FakeScreen()

    def show_camera(on: bool) -> None:
        screen.polls = 3  # drawn and flipped after a while
        screen.states.append(on)

    screen.show_camera = show_camera  # type: ignore[method-assign]
    clock = FakeClock()
    ScreenLight(screen, clock).turn_on()
    assert (screen.states, clock.now_ns()) == ([True], 3 * 50_000_000)


@pytest.mark.parametrize("kind", ["none", "file"])
def test_screen_beside_another_indicator(root: Path, kind: Literal["none", "file"]) -> None:
    """It shows the state of the light."""
    screen = FakeScreen(10**6)
    settings = config.Indicator(kind=kind, file=f"/{LED}")
    with open_indicator(settings, [screen], root) as indicator:
        assert screen.states == []
        indicator.turn_on()
        assert indicator.lit
        assert screen.states == [True]
        if kind == "file":
            (root / DEVICE).rename(root / "away")
            assert poll(indicator) != ""
            assert screen.states[-1] is False
    assert screen.states[-1] is False


def test_light_that_appears_later(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A later poll turns it on. The failure and its end are logged."""
    with open_light(root, "run/lamp/later") as indicator:
        with pytest.raises(IndicatorError):
            indicator.turn_on()
        assert not indicator.lit
        assert "/run/lamp/later" in poll(indicator)
        (root / "run/lamp/later").write_text("0")
        assert poll(indicator) == ""
        assert indicator.lit
    assert (root / "run/lamp/later").read_text() == "0\n"
    assert len(caplog.messages) == 2


def test_reading_the_fault_turns_nothing_on(root: Path) -> None:
    """Only `poll` does."""
    with open_light(root, LED) as indicator:
        indicator.turn_on()
        (root / LED).write_text("0\n")
        assert list_faults([indicator]) == ()
        assert (root / LED).read_text() == "0\n"
        indicator.poll()
        assert (root / LED).read_text() == "255\n"


def test_screen_has_time_to_start() -> None:
    """Three seconds, once, from the first `turn_on`, however long after its opening that is."""
    clock = FakeClock()
    ScreenLight(FakeScreen(50), clock).turn_on()
    assert clock.now_ns() == 50 * 50_000_000
    light = ScreenLight(FakeScreen(10**6), clock)
    clock.advance(60_000_000_000)  # engines are being built
    begin_ns = clock.now_ns()
    for _ in range(2):
        with pytest.raises(IndicatorError, match="screen"):
            light.turn_on()
        assert clock.now_ns() == begin_ns + 3_000_000_000


def test_screen_without_its_sink() -> None:
    with pytest.raises(ConfigError, match=r"indicator\.kind .* output\.sinks"):
        open_indicator(config.Indicator(kind="screen"), [])


def test_no_light_is_always_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), open_indicator(config.Indicator(), []) as indicator:
        indicator.turn_on()
        assert indicator.lit
        assert poll(indicator) == ""
    assert not caplog.messages


def test_doctor_accepts(root: Path) -> None:
    """Without turning anything on."""
    assert check_indicator(config.Indicator()).state == "ok"
    assert check_indicator(config.Indicator(kind="screen")).state == "ok"
    led = check_indicator(config.Indicator(kind="file", file=f"/{LED}"), root)
    assert (led.state, led.message) == ("ok", f"/{LED}")
    assert (root / LED).read_text() == "0\n"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("/home/letter.txt", "/sys or /run"),
        ("/run/none", os.strerror(errno.ENOENT)),
        ("/run/lamp", "number"),
    ],
)
def test_doctor_refuses(root: Path, file: str, text: str) -> None:
    """For the reason for which a run would be refused."""
    check = check_indicator(config.Indicator(kind="file", file=file), root)
    assert check.state == "fail"
    assert text in check.message
    assert file in check.message


def test_doctor_without_permission(root: Path) -> None:
    """On most systems LEDs belong to root."""
    settings = config.Indicator(kind="file", file=f"/{LED}")
    check = check_indicator(settings, root, may_write=lambda path: False)
    assert check.state == "fail"
    assert LED in check.message
    assert "udev" in check.message
