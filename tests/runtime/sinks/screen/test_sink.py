"""The screen sink's own thread, on a stand-in for the kernel's display driver."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import RunInfo, VideoFrame
from emotion_edge.runtime.sinks.screen import drm_uapi as abi
from emotion_edge.runtime.sinks.screen.accents import ACCENTS
from emotion_edge.runtime.sinks.screen.layout import SMALL, lay_out, measure_names
from emotion_edge.runtime.sinks.screen.scene import STALE_AFTER_NS, Scene
from emotion_edge.runtime.sinks.screen.sink import (
    HANG_TIMEOUT_NS,
    PREVIEW_PERIOD_NS,
    STALE_NS,
    ScreenSink,
)
from emotion_edge.runtime.sinks.screen.view import GREEN, ScreenView

from ..estimates import ESTIMATE, FRAME_NS, NOTICE
from .fake_card import FakeCard, FakeHandle, make_mode

LIMIT_S = 500.0


def wait_for(holds: Callable[[], bool]) -> bool:
    """Wait for the sink's thread to make it true, and return whether it did."""
    end_s = time.monotonic() + LIMIT_S
    pause = threading.Event()
    while not holds():
        if time.monotonic() > end_s:
            return False
        pause.wait(0.001)
    return True


class Kiosk:
    """A sink on a fake card and a fake clock, which each turn of the thread advances a little."""

    def __init__(self, root: Path) -> None:
        self.card = FakeCard(root)
        self.clock = FakeClock(STALE_AFTER_NS)
        self.sink = ScreenSink(
            "", NOTICE, 45.0, clock=self.clock, sys_root=root, open_handle=self.card.open
        )
        self.index = 0

    def publish(self, label: str = "happy", after_ns: int = FRAME_NS) -> None:
        self.clock.advance(after_ns)
        self.index += 1
        t_ns = self.clock.now_ns()
        self.sink.publish(replace(ESTIMATE, label=label, index=self.index, t_ns=t_ns))

    def shows(self, color: int) -> bool:
        shown = self.card.shown
        return shown is not None and bool((shown == color).any())

    def is_later(self, t_ns: int) -> bool:
        return self.clock.now_ns() > t_ns

    def push(self, holds: Callable[[], bool], label: str = "happy") -> bool:
        """Publish estimates until it holds."""

        def publish_and_poll() -> bool:
            self.publish(label)
            return holds()

        return wait_for(publish_and_poll)


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[Kiosk]:
    kiosk = Kiosk(tmp_path)
    yield kiosk
    kiosk.sink.close()
    assert kiosk.card.num_open == 0


def test_notice_before_any_estimate(kiosk: Kiosk) -> None:
    """The indicator relies on it: the first view is shown unprompted."""
    assert wait_for(lambda: kiosk.sink.showing)
    wanted = ScreenView(1280, 720, NOTICE).pixels
    np.testing.assert_array_equal(kiosk.card.shown, wanted)
    assert kiosk.sink.fault == ""


def test_camera_mark_is_shown_before_showing_is_true(
    kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of the camera's state must be on the monitor, not only requested."""
    assert wait_for(lambda: kiosk.sink.showing)
    plain = kiosk.card.shown
    wanted = ScreenView(1280, 720, NOTICE)
    wanted.draw(replace(Scene(), camera_on=True))
    seen: list[bool] = []
    flip = FakeHandle.read_events

    def record_and_flip(handle: FakeHandle, timeout_s: float) -> bytes:
        seen.append(kiosk.sink.showing)
        return flip(handle, timeout_s)

    with monkeypatch.context() as patch:
        patch.setattr(FakeHandle, "read_events", record_and_flip)
        kiosk.sink.show_camera(True)
        assert wait_for(lambda: kiosk.sink.showing)
    assert seen[:1] == [False]
    np.testing.assert_array_equal(kiosk.card.shown, wanted.pixels)
    kiosk.sink.show_camera(False)
    assert wait_for(lambda: kiosk.sink.showing)
    np.testing.assert_array_equal(kiosk.card.shown, plain)


def test_camera_mark_is_not_shown_without_a_monitor(kiosk: Kiosk) -> None:
    """It is shown on the next monitor."""
    assert wait_for(lambda: kiosk.sink.showing)
    kiosk.card.unplug()
    assert kiosk.push(lambda: kiosk.sink.fault != "")
    kiosk.sink.show_camera(True)
    kiosk.publish()
    assert not kiosk.sink.showing
    kiosk.card.plug()
    assert kiosk.push(lambda: kiosk.sink.showing)
    assert kiosk.shows(GREEN)


def test_newest_estimate(kiosk: Kiosk) -> None:
    """Its label's color is on the monitor, then the color of the next."""
    assert kiosk.push(lambda: kiosk.shows(ACCENTS["happy"]))
    assert kiosk.push(lambda: kiosk.shows(ACCENTS["sad"]), "sad")
    assert not kiosk.shows(ACCENTS["happy"])


def test_same_estimates_are_not_drawn(kiosk: Kiosk) -> None:
    """Once all bars have arrived, no page is flipped."""
    assert kiosk.push(lambda: kiosk.shows(ACCENTS["happy"]))
    for _ in range(40):
        turns = kiosk.clock.now_ns()
        kiosk.publish()
        assert wait_for(functools.partial(kiosk.is_later, turns + FRAME_NS))
    flips = kiosk.card.count(abi.PAGE_FLIP)
    for _ in range(5):
        turns = kiosk.clock.now_ns()
        kiosk.sink.publish(replace(ESTIMATE, index=kiosk.index))
        assert wait_for(functools.partial(kiosk.is_later, turns))
    assert kiosk.card.count(abi.PAGE_FLIP) - flips <= 1  # the latency


def test_monitor_is_replaced(kiosk: Kiosk) -> None:
    """Estimates go on meanwhile. The view is made for the mode of the new monitor."""
    assert wait_for(lambda: kiosk.sink.showing)
    kiosk.card.unplug()
    assert kiosk.push(lambda: kiosk.sink.fault != "")
    kiosk.card.plug(make_mode(800, 480, preferred=True))
    assert kiosk.push(lambda: kiosk.sink.showing)
    assert kiosk.push(lambda: kiosk.shows(ACCENTS["happy"]))
    assert kiosk.card.shown is not None
    assert kiosk.card.shown.shape == (480, 800)


def test_faults(kiosk: Kiosk) -> None:
    """They are shown, and removed at their end."""
    assert wait_for(lambda: kiosk.sink.showing)
    wanted = ScreenView(1280, 720, NOTICE)
    plain = wanted.pixels.copy()
    wanted.draw(replace(Scene(), fault="camera lost"))
    kiosk.sink.show_faults(("camera lost",))
    assert wait_for(lambda: np.array_equal(kiosk.card.shown, wanted.pixels))  # type: ignore[arg-type]
    kiosk.sink.show_faults(())
    assert wait_for(lambda: np.array_equal(kiosk.card.shown, plain))  # type: ignore[arg-type]


@pytest.mark.parametrize("early", [False, True])
def test_other_labels(kiosk: Kiosk, early: bool) -> None:
    """A new view is made for the labels of another bundle, even before its first estimate."""
    labels = ("calm", "tense")
    other = replace(
        ESTIMATE, label="calm", labels=labels, probabilities={"calm": 0.75, "tense": 0.25}
    )
    assert wait_for(lambda: kiosk.sink.showing)
    if early:
        kiosk.sink.begin(RunInfo("camera", labels))
    else:
        kiosk.sink.publish(other)
    view = ScreenView(1280, 720, NOTICE, labels)
    place = lay_out(1280, 720, 2, measure_names(labels), 1, SMALL, preview=False)
    x0, y0, x1, y1 = place.bars[1].name
    name = view.pixels[y0:y1, x0:x1]

    def shows_name() -> bool:
        shown = kiosk.card.shown
        return shown is not None and np.array_equal(shown[y0:y1, x0:x1], name)

    assert wait_for(shows_name)


def test_preview(kiosk: Kiosk) -> None:
    """It is shown once requested, by the sink's own thread, and removed without a frame."""
    image = np.full((480, 640, 3), (10, 200, 30), np.uint8)
    frames: list[VideoFrame | None] = [None]
    threads = []

    def newest() -> VideoFrame | None:
        threads.append(threading.current_thread().name)
        frame = frames[0]
        return frame and replace(frame, t_ns=kiosk.clock.now_ns())

    assert wait_for(lambda: kiosk.sink.showing)
    assert not kiosk.shows(0x1EC80A)
    frames[0] = VideoFrame(0, 0, image)
    kiosk.sink.show_preview(newest)
    assert kiosk.push(lambda: kiosk.shows(0x1EC80A))
    assert set(threads) == {"screen"}
    frames[0] = None
    kiosk.clock.advance(PREVIEW_PERIOD_NS)
    assert kiosk.push(lambda: not kiosk.shows(0x1EC80A))


def test_stale_preview_is_removed(kiosk: Kiosk) -> None:
    """The last frame before the loss of the camera."""
    image = np.full((480, 640, 3), (10, 200, 30), np.uint8)
    frame = VideoFrame(kiosk.clock.now_ns(), 0, image)
    kiosk.sink.show_preview(lambda: frame)
    assert wait_for(lambda: kiosk.shows(0x1EC80A))
    kiosk.clock.advance(STALE_NS)
    assert kiosk.push(lambda: not kiosk.shows(0x1EC80A))


def test_close(kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The monitor is black and released, the memory cleared. A second close is harmless, and so is
    a later estimate."""
    wiped: list[ScreenView] = []

    def wipe(view: ScreenView) -> None:
        wiped.append(view)

    monkeypatch.setattr(ScreenView, "wipe", wipe)
    assert kiosk.push(lambda: kiosk.shows(ACCENTS["happy"]))
    kiosk.sink.close()
    kiosk.sink.close()
    kiosk.publish()
    assert not kiosk.sink.showing
    assert kiosk.card.black_at_release == [True, True]
    assert len(wiped) == 1


def test_driver_that_hangs(
    kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An ioctl that hangs delays neither the pipeline nor the end of the run."""
    monkeypatch.setattr("emotion_edge.runtime.sinks.screen.sink.CLOSE_TIMEOUT_S", 0.01)
    assert wait_for(lambda: kiosk.sink.showing)
    hanging, over = threading.Event(), threading.Event()

    def hang(handle: FakeHandle, timeout_s: float) -> bytes:
        hanging.set()
        assert over.wait(LIMIT_S)
        return b""

    monkeypatch.setattr(FakeHandle, "read_events", hang)
    assert kiosk.push(hanging.is_set)
    assert kiosk.sink.showing  # it may only be slow
    kiosk.clock.advance(HANG_TIMEOUT_NS + 1)
    assert not kiosk.sink.showing
    assert kiosk.sink.fault != ""
    kiosk.publish()
    kiosk.sink.close()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    monkeypatch.undo()
    over.set()


def test_programming_error(kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the thread and is raised by `publish`. The monitor is released."""

    def fail(self: ScreenView, scene: object) -> None:
        raise RuntimeError("an error")

    assert wait_for(lambda: kiosk.sink.showing)
    assert kiosk.sink.failure is None
    monkeypatch.setattr(ScreenView, "draw", fail)
    kiosk.sink.show_faults(("anything",))
    assert wait_for(lambda: kiosk.sink.failure is not None)
    assert not kiosk.sink.showing
    assert wait_for(lambda: kiosk.card.num_open == 0)
    with pytest.raises(RuntimeError, match="an error"):
        kiosk.publish()


def test_wrong_card() -> None:
    """A usage error, before any thread starts."""
    before = threading.active_count()
    with pytest.raises(ValueError, match="/dev/video0"):
        ScreenSink("/dev/video0", NOTICE, 45.0)
    assert threading.active_count() == before
