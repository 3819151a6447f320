"""The capture indicator on made-up LEDs, GPIO lines and screens."""

from __future__ import annotations

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
    """A monitor that is there after so many looks."""

    def __init__(self, looks: int = 0) -> None:
        self.looks = looks
        self.told: list[bool] = []

    @property
    def showing(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def show_camera(self, on: bool) -> None:
        self.told.append(on)


def poll(indicator: Indicator) -> str:
    """What is wrong, once the monitor has looked."""
    indicator.poll()
    return indicator.fault


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An LED behind a link, as the kernel has it, and a GPIO line."""
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


def open_file(root: Path, file: str) -> Indicator:
    return open_indicator(config.Indicator(kind="file", file=f"/{file}"), [], root)


@pytest.mark.parametrize(("file", "on"), [(LED, "255\n"), (GPIO, "1\n"), ("run/lamp/state", "1\n")])
def test_on_and_off(root: Path, file: str, on: str) -> None:
    """An LED as bright as it can be; off at the end, also after an error."""
    before = (root / file).read_text()
    indicator = open_file(root, file)
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


def test_not_turned_off_by_who_has_not_turned_it_on(root: Path) -> None:
    """A run that was refused leaves the LED to the one that works."""
    (root / LED).write_text("255\n")
    with open_file(root, LED):
        pass
    assert (root / LED).read_text() == "255\n"


def test_light_is_restored(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody else turns it off: it is turned on again. It is gone: said once, tried again."""
    with open_file(root, LED) as indicator:
        indicator.turn_on()
        (root / LED).write_text("0\n")
        assert poll(indicator) == ""
        assert (root / LED).read_text() == "255\n"
        (root / DEVICE).rename(root / "away")
        for _ in range(3):
            assert "No such file or directory" in poll(indicator)
            assert not indicator.lit
        (root / "away").rename(root / DEVICE)
        assert poll(indicator) == ""
        assert indicator.lit
    assert caplog.messages == [
        f"not capturing: indicator /{LED} cannot be turned on: No such file or directory",
        "indicator is back",
    ]


def test_other_cause_is_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is gone, and when it is back something else switches it: once each."""
    with open_file(root, LED) as indicator:
        indicator.turn_on()
        (root / DEVICE).rename(root / "away")
        gone = {poll(indicator) for _ in range(3)}
        (root / "away").rename(root / DEVICE)
        (root / DEVICE / "trigger").write_text("none [heartbeat]\n")
        switched = {poll(indicator) for _ in range(3)}
    assert caplog.messages == [*gone, *switched]
    assert len(caplog.messages) == 2


def test_led_that_comes_back_elsewhere(root: Path) -> None:
    """Its name leads to another device now."""
    with open_file(root, LED) as indicator:
        indicator.turn_on()
        (root / DEVICE).rename(root / "sys/devices/green2")
        (root / "sys/class/leds/green").unlink()
        link(root / "sys/class/leds/green", root / "sys/devices/green2")
        (root / LED).write_text("0\n")
        assert poll(indicator) == ""
        assert (root / LED).read_text() == "255\n"


def test_trigger_would_switch_it(root: Path) -> None:
    """At the start, and when somebody sets one later; the message says how to take it away."""
    indicator = open_file(root, LED)
    (root / DEVICE / "trigger").write_text(TRIGGERS)
    with pytest.raises(IndicatorError, match=r"its trigger 'heartbeat' would switch it: echo none"):
        indicator.turn_on()
    assert (root / LED).read_text() == "0\n"
    (root / DEVICE / "trigger").write_text("[none] heartbeat\n")
    indicator.turn_on()
    (root / DEVICE / "trigger").write_text(TRIGGERS)
    assert "heartbeat" in poll(indicator)
    assert not indicator.lit


def test_light_that_stays_off(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written must be what it says."""
    monkeypatch.setattr(
        "emotion_edge.runtime.service.indicator.write_number", lambda file, number: None
    )
    with pytest.raises(
        IndicatorError, match=f"/{GPIO} cannot be turned on: 1 was written, it says 0"
    ):
        open_file(root, GPIO).turn_on()


def test_one_that_cannot_be_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's reason is passed on."""

    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(IndicatorError, match=f"/{GPIO} cannot be turned on: Operation not permit"):
        open_file(root, GPIO).turn_on()


def test_one_that_cannot_be_turned_off(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Is said, and no reason to fail at the end."""
    with open_file(root, GPIO) as indicator:
        indicator.turn_on()
        (root / GPIO).unlink()
    assert caplog.messages == ["the indicator cannot be turned off: No such file or directory"]
    assert not (root / GPIO).exists()


def test_one_that_cannot_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some can be written alone: then writing again is the look."""
    monkeypatch.setattr("emotion_edge.runtime.service.indicator.read_bytes", lambda path: None)
    with open_file(root, GPIO) as indicator:
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
    """One line that names what was given, and what is allowed."""
    with pytest.raises(ConfigError, match=r"^indicator\.file is '.*': no file under /sys or /run"):
        open_indicator(config.Indicator(kind="file", file=file), [], root)


def test_link_that_leaves_sys_and_run(root: Path) -> None:
    """To a document, at the start or later: never written."""
    (root / "run/link").symlink_to(root / "home/letter.txt")
    with pytest.raises(ConfigError):
        open_file(root, "run/link")
    with open_file(root, "run/lamp/state") as indicator:
        indicator.turn_on()
        (root / "run/lamp/state").unlink()
        (root / "run/lamp/state").symlink_to(root / "home/letter.txt")
        assert "no file under /sys or /run" in poll(indicator)
    assert (root / "home/letter.txt").read_text() == "12"


@pytest.mark.parametrize("content", ["freeze mem disk\n", "[none] x\n", "12345678901", "1 2", "{}"])
def test_documents_are_not_written(root: Path, content: str) -> None:
    """What holds no number is something else."""
    (root / "run/lamp/state").write_text(content)
    with pytest.raises(IndicatorError, match="it is not a file that holds a number"):
        open_file(root, "run/lamp/state").turn_on()
    assert (root / "run/lamp/state").read_text() == content


def test_what_is_no_file(root: Path) -> None:
    """A folder and a pipe; neither is waited for."""
    make_unreadable(root / "run/folder")
    os.mkfifo(root / "run/pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(IndicatorError, match="it is not a file that holds a number"):
            open_file(root, f"run/{name}").turn_on()


def test_missing_file_is_not_made(root: Path) -> None:
    """It may come, so it is no wrong configuration; then it can be turned on."""
    indicator = open_file(root, "run/lamp/later")
    with pytest.raises(IndicatorError, match="No such file or directory"):
        indicator.turn_on()
    assert not (root / "run/lamp/later").exists()
    (root / "run/lamp/later").write_text("0")
    indicator.turn_on()
    assert indicator.lit


def test_screen(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sink that can be looked at; not on while no monitor shows it."""
    monkeypatch.setattr("emotion_edge.runtime.service.indicator.SCREEN_START_NS", 0)
    screen = FakeScreen()
    indicator = open_indicator(config.Indicator(kind="screen"), [screen])
    indicator.turn_on()
    seen = []
    for looks in (0, 10**6, 0):
        screen.looks = looks
        seen.append((poll(indicator), indicator.lit))
    why = "not capturing: the screen is the indicator, and no monitor shows it"
    assert seen == [("", True), (why, False), ("", True)]
    assert len(caplog.messages) == 2
    assert set(screen.told) == {True}
    indicator.turn_off()
    assert screen.told[-1] is False


def test_screen_shows_the_mark_before_lit() -> None:
    """What is waited for is the view with the camera on, not any view."""
    screen = FakeScreen()

    def show_camera(on: bool) -> None:
        screen.looks = 3  # drawn and flipped a little later
        screen.told.append(on)

    screen.show_camera = show_camera  # type: ignore[method-assign]
    clock = FakeClock()
    ScreenLight(screen, clock).turn_on()
    assert (screen.told, clock.now_ns()) == ([True], 3 * 50_000_000)


@pytest.mark.parametrize("kind", ["none", "file"])
def test_screen_beside_another_indicator(root: Path, kind: Literal["none", "file"]) -> None:
    """It says what the light says, though nobody waits for it."""
    screen = FakeScreen(10**6)
    settings = config.Indicator(kind=kind, file=f"/{LED}")
    with open_indicator(settings, [screen], root) as indicator:
        assert screen.told == []
        indicator.turn_on()
        assert indicator.lit
        assert screen.told == [True]
        if kind == "file":
            (root / DEVICE).rename(root / "away")
            assert poll(indicator) != ""
            assert screen.told[-1] is False
    assert screen.told[-1] is False


def test_light_that_appears_later(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Turned on by a later look, with a line when it failed and one when it is on."""
    with open_file(root, "run/lamp/later") as indicator:
        with pytest.raises(IndicatorError):
            indicator.turn_on()
        assert not indicator.lit
        assert "not capturing: indicator /run/lamp/later" in poll(indicator)
        (root / "run/lamp/later").write_text("0")
        assert poll(indicator) == ""
        assert indicator.lit
    assert (root / "run/lamp/later").read_text() == "0\n"
    assert len(caplog.messages) == 2


def test_fault_is_polled_by_one_thread(root: Path) -> None:
    """Asking what is wrong turns nothing on: any thread may."""
    with open_file(root, LED) as indicator:
        indicator.turn_on()
        (root / LED).write_text("0\n")
        assert list_faults([indicator]) == ()
        assert (root / LED).read_text() == "0\n"
        indicator.poll()
        assert (root / LED).read_text() == "255\n"


def test_screen_that_was_opened_just_now() -> None:
    """Is given three seconds from when it is asked first, once, however long that is after it was
    opened."""
    clock = FakeClock()
    ScreenLight(FakeScreen(50), clock).turn_on()
    assert clock.now_ns() == 50 * 50_000_000
    light = ScreenLight(FakeScreen(10**6), clock)
    clock.advance(60_000_000_000)  # engines are built
    begin_ns = clock.now_ns()
    for _ in range(2):
        with pytest.raises(IndicatorError, match="no monitor shows it"):
            light.turn_on()
        assert clock.now_ns() == begin_ns + 3_000_000_000


def test_screen_that_is_not_configured() -> None:
    """The indicator needs its sink."""
    with pytest.raises(ConfigError, match=r'indicator\.kind is "screen", and output\.sinks has no'):
        open_indicator(config.Indicator(kind="screen"), [])


def test_none(caplog: pytest.LogCaptureFixture) -> None:
    """Is always on."""
    with caplog.at_level(logging.DEBUG), open_indicator(config.Indicator(), []) as indicator:
        indicator.turn_on()
        assert indicator.lit
        assert poll(indicator) == ""
    assert not caplog.messages


def test_doctor_is_content(root: Path) -> None:
    """And has turned nothing on."""
    assert check_indicator(config.Indicator()).state == "ok"
    assert check_indicator(config.Indicator(kind="screen")).state == "ok"
    led = check_indicator(config.Indicator(kind="file", file=f"/{LED}"), root)
    assert (led.state, led.message) == ("ok", f"/{LED}")
    assert (root / LED).read_text() == "0\n"


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("/home/letter.txt", "no file under /sys or /run"),
        ("/run/none", "No such file or directory"),
        ("/run/lamp", "it is not a file that holds a number"),
    ],
)
def test_doctor_complains(root: Path, file: str, words: str) -> None:
    """In the words of the run that would be refused."""
    check = check_indicator(config.Indicator(kind="file", file=file), root)
    assert check.state == "fail"
    assert words in check.message
    assert file in check.message


def test_doctor_without_permission(root: Path) -> None:
    """LEDs belong to root on most systems."""
    settings = config.Indicator(kind="file", file=f"/{LED}")
    check = check_indicator(settings, root, may_write=lambda path: False)
    assert check.state == "fail"
    assert f"no permission to write /{LED}: a udev rule" in check.message
