"""Live runs whose camera, light or screen is not as it should be, in this process: what people are
shown first, what is waited for, and what systemd is told meanwhile."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from emotion_edge.engines.bundle_choice import Choice
from emotion_edge.runtime import app, monitor
from emotion_edge.runtime.app import LiveRun, StoppedEarly
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import Config
from emotion_edge.runtime.indicator import Indicator, IndicatorError
from emotion_edge.runtime.messages import Health, SourceError, VideoFrame
from emotion_edge.runtime.sources import Sources
from emotion_edge.runtime.sources.supervise import supervise_video

from .devices import SECOND, Camera, Microphone

if TYPE_CHECKING:
    from .conftest import Collector

pytestmark = pytest.mark.usefixtures("no_thread_left")
OUT = "the lamp cannot be turned on"


class Lamp:
    """A light that may be broken. What is done is noted in `events`, which others share."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.broken = False
        self.on = False
        self.tries = 0

    def turn_on(self) -> None:
        self.tries += 1
        if self.broken:
            raise IndicatorError(OUT)
        self.on = True
        self.events.append("light on")

    def turn_off(self) -> None:
        self.on = False
        self.events.append("light off")

    def is_on(self) -> bool:
        return self.on and not self.broken


class NotedCamera(Camera):
    """Notes its first picture and its end, and counts what is read of it."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events
        self.reads = 0

    def read(self) -> VideoFrame | None:
        if not self.reads:
            self.events.append("first picture")
        self.reads += 1
        return super().read()

    def close(self) -> None:
        self.events.append("camera closed")
        super().close()


class Stage:
    """A camera behind a lamp, and what happens in which order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.lamp = Lamp(self.events)
        self.camera = NotedCamera(self.events)
        monkeypatch.setattr(app, "open_indicator", lambda *_: Indicator(self.lamp))
        monkeypatch.setattr(app, "open_sources", self.open_sources)

    def open_sources(self, *_: object, **__: object) -> Sources:
        self.events.append("sources opened")
        return Sources(self.camera, None, "fake")


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The monitor looks often, and what is waited for is tried often."""
    monkeypatch.setattr(monitor, "PERIOD_NS", SECOND // 50)
    monkeypatch.setattr(app, "BLIND_TICK_NS", SECOND // 100)
    monkeypatch.setattr(app, "INDICATOR_PERIOD_NS", SECOND // 100)
    return Stage(monkeypatch)


class Systemd:
    """What the program tells it."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._seen: list[str] = []

    @property
    def messages(self) -> list[str]:
        while True:
            try:
                self._seen.append(self._listener.recv(4096).decode())
            except BlockingIOError:
                return self._seen

    def count_pings(self) -> int:
        return self.messages.count("WATCHDOG=1")


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Systemd]:
    """It wants a ping every millisecond, so that each look of the monitor may be one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "2000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield Systemd(listener)


# The light


def test_light_is_on_before_anything_is_read(
    configure: Callable[..., Config], collector: Collector, stage: Stage
) -> None:
    """And off when nothing is any more: the camera is closed before."""
    run = LiveRun(configure("camera"), [collector])
    collector.on_publish = lambda _: run.stop()
    run.run()
    assert stage.events[:3] == ["light on", "sources opened", "first picture"]
    assert stage.events[-1] == "light off"
    assert "camera closed" in stage.events
    assert not stage.lamp.on


def test_light_goes_off_after_a_failure_too(
    configure: Callable[..., Config], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the run, here sources that cannot be opened."""

    def fail(*_: object, **__: object) -> Sources:
        raise SourceError("no such camera")

    monkeypatch.setattr(app, "open_sources", fail)
    with pytest.raises(SourceError, match="no such camera"):
        LiveRun(configure("camera"), []).run()
    assert stage.events == ["light on", "light off"]


def test_no_light_no_picture(configure: Callable[..., Config], stage: Stage) -> None:
    """A light that cannot be turned on ends the run before any source is opened."""
    stage.lamp.broken = True
    with pytest.raises(IndicatorError, match=OUT):
        LiveRun(configure("camera"), []).run()
    assert stage.events == []
    assert stage.lamp.tries == 1


def test_light_is_waited_for(
    configure: Callable[..., Config],
    collector: Collector,
    stage: Stage,
    systemd: Systemd,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With `wait_for_devices`: ready, alive and saying so, but reading nothing until it is on; then
    as ever. The log has one line."""
    stage.lamp.broken = True
    run = LiveRun(configure("camera", "wait_for_devices=true"), [collector])
    collector.on_publish = lambda _: run.stop()
    before: list[list[str]] = []
    mended = threading.Event()
    try_on = stage.lamp.turn_on

    def mend_late() -> None:
        systemd.count_pings()  # its queue is short
        if stage.lamp.tries == 8:
            before.append([*stage.events, *systemd.messages])
            stage.lamp.broken = False
            mended.set()
        try_on()

    stage.lamp.turn_on = mend_late  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        run.run()
    assert mended.is_set()
    first, *others = before[0]
    assert first == f"READY=1\nSTATUS=not capturing: {OUT}"
    assert set(others) == {"WATCHDOG=1"}
    assert len(others) > 3
    assert "READY=1\nSTATUS=reading fake" in systemd.messages
    assert stage.events[:3] == ["light on", "sources opened", "first picture"]
    assert caplog.messages == [f"the camera is not read yet: {OUT}"]


def test_waiting_for_the_light_can_be_stopped(
    configure: Callable[..., Config], stage: Stage
) -> None:
    """By `stop`, from anywhere; nothing was opened, and nothing is turned off."""
    stage.lamp.broken = True
    run = LiveRun(configure("camera", "wait_for_devices=true"), [])
    stage.lamp.turn_on = lambda: refuse_and_stop(run)  # type: ignore[method-assign]
    with pytest.raises(StoppedEarly, match="waiting for the capture indicator"):
        run.run()
    assert stage.events == []


def refuse_and_stop(run: LiveRun) -> None:
    run.stop()
    raise IndicatorError(OUT)


def test_light_that_goes_out(
    configure: Callable[..., Config], collector: Collector, stage: Stage, systemd: Systemd
) -> None:
    """No further picture is read until it is on again, with the run alive and saying why; then it
    goes on where it was."""
    lamp, camera = stage.lamp, stage.camera
    dark: list[tuple[int, int, int]] = []
    """Each time the monitor has looked while it is dark: pictures read, estimates, pings."""

    def look(health: Health) -> None:
        if health.troubles:
            assert health.troubles == (OUT,)
            dark.append((camera.reads, len(collector.estimates), systemd.count_pings()))
            if len(dark) == 20:
                lamp.broken = False
        elif dark and len(collector.estimates) > dark[-1][1] + 3:
            run.stop()
        elif not dark and len(collector.estimates) > 3:
            lamp.broken = True

    run = LiveRun(configure("camera"), [collector], on_health=look)
    run.run()
    reads, estimates, pings = zip(*dark, strict=True)
    # One picture may be on its way just then: it is read to its end, and not taken.
    assert reads[-1] <= reads[0] + 1
    assert estimates[-1] <= estimates[0] + 1
    assert pings[-1] >= pings[0] + 5
    assert any(f"STATUS={OUT}; " in message for message in systemd.messages)
    assert camera.reads > reads[-1] + 3


def test_picture_that_comes_after_the_light_went_out(
    configure: Callable[..., Config], collector: Collector, stage: Stage
) -> None:
    """A camera may be awaited for hours: what it gives when the light is off is not looked at."""
    lamp = stage.lamp
    came = threading.Event()

    class LateCamera(NotedCamera):
        """Comes back once the monitor knows that it is dark."""

        def read(self) -> VideoFrame | None:
            if self.reads == 0:
                lamp.broken = True
                assert dark.wait(30)
                came.set()
            return super().read()

    dark = threading.Event()
    looks: list[int] = []

    def look(health: Health) -> None:
        if health.troubles:
            dark.set()
        if came.is_set():
            looks.append(len(collector.estimates))
            if len(looks) == 10:
                run.stop()

    stage.camera = LateCamera(stage.events)
    run = LiveRun(configure("camera"), [collector], on_health=look)
    run.run()
    assert stage.camera.reads == 1
    assert collector.estimates == []


# The camera


def wait_for_nothing(gone: threading.Event) -> Callable[[], Camera]:
    """A function that never opens a camera, and does not spin."""

    def open_device() -> Camera:
        gone.wait(0.02)
        raise SourceError("no such device")

    return open_device


class SilentCamera(Camera):
    """Is there, and gives nothing: hung, in a way that nobody has noticed."""

    def read(self) -> VideoFrame | None:
        self._stop.wait()
        return None


@pytest.mark.parametrize("kind", ["missing", "silent"])
def test_only_a_missing_camera_is_patiently_waited_for(
    configure: Callable[..., Config],
    collector: Collector,
    stage: Stage,
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """While one that is known to be missing is looked for, systemd is told that all is alive,
    though there never was an estimate. One that hangs gets no ping, so the program is restarted."""
    gone = threading.Event()
    missing = supervise_video("camera", wait_for_nothing(gone), FakeClock(), wait=True)
    video = missing if kind == "missing" else SilentCamera()
    monkeypatch.setattr(app, "open_sources", lambda *_, **__: Sources(video, None, "fake"))
    seen: list[Health] = []

    def look(health: Health) -> None:
        seen.append(health)
        systemd.count_pings()  # its queue is short
        if len(seen) == 25:
            run.stop()

    run = LiveRun(configure("camera"), [collector], on_health=look)
    run.run()
    assert collector.estimates == []
    if kind == "missing":
        assert seen[-1].troubles == ("camera is missing",)
        assert systemd.count_pings() > 5
        status = "STATUS=camera is missing; 0 fps, p99 0.0 ms, 0 misses, level high"
        assert status in systemd.messages
    else:
        assert seen[-1].troubles == ()
        assert systemd.count_pings() == 0


def test_missing_devices_of_a_configuration_are_waited_for(
    configure: Callable[..., Config],
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both settings reach those who open the sources."""
    asked: list[object] = []

    def note(*_: object, **options: object) -> Sources:
        asked.append((options["wait"], options["microphone_chunk_ms"]))
        return Sources(Camera(), None, "fake")

    monkeypatch.setattr(app, "open_sources", note)
    for settings in ([], ["wait_for_devices=true", "source.microphone_chunk_ms=40"]):
        LiveRun(configure("camera", *settings), [collector]).run(0.1)
    assert asked == [(False, 10.0), (True, 40.0)]


# The screen


class PictureScreen:
    """A sink that can show what the camera sees."""

    def __init__(self) -> None:
        self.newest: Callable[[], VideoFrame | None] | None = None
        self.troubles: list[tuple[str, ...]] = []

    def publish(self, estimate: object) -> None: ...

    def close(self) -> None: ...

    def show_picture(self, newest: Callable[[], VideoFrame | None]) -> None:
        self.newest = newest

    def show_troubles(self, troubles: tuple[str, ...]) -> None:
        self.troubles.append(troubles)


@pytest.mark.parametrize("wanted", [True, False])
def test_picture_on_the_screen(
    configure: Callable[..., Config], collector: Collector, stage: Stage, wanted: bool
) -> None:
    """The newest one, for the sinks that can show it, and only where it is wanted."""
    screen = PictureScreen()
    seen: list[VideoFrame | None] = []
    settings = ["screen.picture=true"] if wanted else []
    run = LiveRun(configure("camera", *settings), [collector, screen])

    def look(_: object) -> None:
        if screen.newest is not None:
            seen.append(screen.newest())
        run.stop()

    collector.on_publish = look
    run.run()
    assert (screen.newest is not None) == wanted
    if wanted:
        assert screen.newest is not None
        assert isinstance(seen[0], VideoFrame)
        assert screen.newest() is None  # after the end there is none
        assert not seen[0].image.any()


def test_screen_is_told_what_is_wrong(
    configure: Callable[..., Config],
    collector: Collector,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sink that shows troubles hears of the camera's, and of another sink's own."""
    screen = PictureScreen()
    collector.trouble = "serial /dev/ttyS9 is missing"  # type: ignore[attr-defined]
    missing = supervise_video("camera", wait_for_nothing(threading.Event()), FakeClock(), wait=True)
    monkeypatch.setattr(app, "open_sources", lambda *_, **__: Sources(missing, None, "fake"))

    def look(_: Health) -> None:
        run.stop()

    run = LiveRun(configure("camera"), [collector, screen], on_health=look)
    run.run()
    assert screen.troubles == [("camera is missing", "serial /dev/ttyS9 is missing")]


# The bundle


@pytest.fixture
def confirmed(monkeypatch: pytest.MonkeyPatch) -> list[Choice]:
    """The bundles that have stood their trial."""
    found: list[Choice] = []

    def confirm(choice: Choice) -> None:
        found.append(choice)

    monkeypatch.setattr(Choice, "confirm", confirm)
    return found


def test_orderly_end_confirms_the_bundle(
    configure: Callable[..., Config], stage: Stage, confirmed: list[Choice]
) -> None:
    """Also of a run that was too short for the monitor to say so."""
    runtime = LiveRun(configure("camera"), []).run(0.1)
    assert confirmed == [runtime.choice]


def test_failure_does_not_confirm_the_bundle(
    configure: Callable[..., Config],
    stage: Stage,
    confirmed: list[Choice],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither of a thread, nor of what was to be opened, nor of the light."""
    sources = Sources(Camera(3), Microphone(), "fake")
    monkeypatch.setattr(app, "open_sources", lambda *_, **__: sources)
    with pytest.raises(SourceError, match="unplugged"):
        LiveRun(configure("camera"), []).run()
    stage.lamp.broken = True
    with pytest.raises(IndicatorError):
        LiveRun(configure("camera"), []).run()
    assert confirmed == []
