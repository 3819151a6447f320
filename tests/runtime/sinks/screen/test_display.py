"""Outputs and displays on a fake kernel driver."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.runtime.sinks.screen import drm_uapi as abi
from emotion_edge.runtime.sinks.screen.display import Display, Rect, parse_events
from emotion_edge.runtime.sinks.screen.drm import Handle, KmsError, Output, find_output

from .fake_card import CARD, CONNECTOR, CRTC, FakeCard, make_mode

WHOLE = Rect(0, 0, 1280, 720)


@pytest.fixture
def card(tmp_path: Path) -> FakeCard:
    return FakeCard(tmp_path)


@pytest.fixture
def handle(card: FakeCard) -> Iterator[Handle]:
    with closing(card.open(CARD)) as handle:
        yield handle


def make_pixels(seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.uint32]]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 1 << 24, (720, 1280), dtype=np.uint32)


def find(handle: Handle) -> Output:
    output = find_output(handle)
    assert output is not None
    return output


def test_output(card: FakeCard, handle: Handle) -> None:
    """The preferred mode, else the first one; the CRTC of the encoder's bit; None without a
    monitor or its modes."""
    output = find(handle)
    assert (output.connector_id, output.crtc_id) == (CONNECTOR, CRTC)
    assert (output.width, output.height) == (1280, 720)
    card.plug(make_mode(800, 480), make_mode(640, 480))
    assert find(handle).width == 800
    card.modes = []
    assert find_output(handle) is None
    card.unplug()
    assert find_output(handle) is None


def test_show(card: FakeCard, handle: Handle) -> None:
    """The first call sets the mode, later ones flip the page. The padding is not written."""
    with closing(Display(handle, find(handle))) as display:
        for seed in range(3):
            wanted = make_pixels(seed)
            display.show(wanted, [WHOLE])
            assert card.shown is not None
            np.testing.assert_array_equal(card.shown, wanted)
    assert card.lit == (1280, 720)
    assert (card.count(abi.SETCRTC), card.count(abi.PAGE_FLIP)) == (1, 2)


def test_only_changes_are_copied(card: FakeCard, handle: Handle) -> None:
    """The two buffers take turns: each also gets the changes of the other."""
    sketch = make_pixels()
    with closing(Display(handle, find(handle))) as display:
        display.show(sketch, [])
        display.show(sketch, [])
        wanted = sketch.copy()
        sketch[600:] = 0xFFFFFF  # not declared as a change
        for step in range(6):
            x, y = 100 * step, 50 * step
            wanted[y : y + 80, x : x + 150] = sketch[y : y + 80, x : x + 150] = step
            display.show(sketch, [Rect(x, y, x + 150, y + 80)])
            assert card.shown is not None
            np.testing.assert_array_equal(card.shown, wanted)


def test_buffers_are_black_afterwards(card: FakeCard, handle: Handle) -> None:
    """No pixel is left in memory that the kernel gives to the next program."""
    display = Display(handle, find(handle))
    display.show(make_pixels(), [])
    display.close()
    display.close()
    assert card.black_at_release == [True, True]
    assert card.count(abi.RMFB) == 2


def test_driver_without_flips(card: FakeCard, handle: Handle) -> None:
    """Every call sets the mode, and only one tries a flip."""
    card.failing[abi.PAGE_FLIP] = errno.EINVAL
    with closing(Display(handle, find(handle))) as display:
        for seed in range(3):
            wanted = make_pixels(seed)
            display.show(wanted, [WHOLE])
            assert card.shown is not None
            np.testing.assert_array_equal(card.shown, wanted)
    assert (card.count(abi.SETCRTC), card.count(abi.PAGE_FLIP)) == (3, 1)


def test_flip_that_never_ends(card: FakeCard, handle: Handle) -> None:
    """The wait ends after the limit."""
    card.silent = True
    with closing(Display(handle, find(handle), flip_limit_s=0.01)) as display:
        display.show(make_pixels(), [])
        with pytest.raises(KmsError, match=r"0\.01 s"):
            display.show(make_pixels(1), [WHOLE])


def test_another_program_has_the_display(card: FakeCard, handle: Handle) -> None:
    """The kernel's "Permission denied" is explained."""
    card.master_elsewhere = True
    with (
        closing(Display(handle, find(handle))) as display,
        pytest.raises(KmsError, match="another program has /dev/dri/card0"),
    ):
        display.show(make_pixels(), [])


@pytest.mark.parametrize(
    "number",
    [
        *(abi.GETRESOURCES, abi.GETCONNECTOR, abi.GETENCODER, abi.CREATE_DUMB, abi.ADDFB),
        *(abi.MAP_DUMB, abi.SETCRTC, abi.PAGE_FLIP),
    ],
)
def test_any_ioctl_may_fail(card: FakeCard, handle: Handle, number: int) -> None:
    """With a KmsError that names the device, and nothing left open."""
    card.failing[number] = errno.ENODEV

    def show_two() -> None:
        with closing(Display(handle, find(handle))) as display:
            display.show(make_pixels(), [])
            display.show(make_pixels(), [WHOLE])

    with pytest.raises(KmsError, match=f"{CARD} failed"):
        show_two()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count_connectors", 2**31),
        ("count_encoders", 100_000),
        ("count_modes", 2**32 - 1),
        ("pitch", 4 * 1280 - 4),
        ("pitch", 4 * 1280 + 2),
        ("pitch", 2**32 - 4),
        ("size", 1000),
        ("possible_crtcs", 0),
    ],
)
def test_impossible_numbers(card: FakeCard, handle: Handle, field: str, value: int) -> None:
    """Every number from the kernel is checked before use."""
    card.changes[field] = value
    with pytest.raises(KmsError):
        Display(handle, find(handle))


@pytest.mark.parametrize("size", [(0, 0), (16, 720), (20_000, 720)])
def test_impossible_sizes(card: FakeCard, handle: Handle, size: tuple[int, int]) -> None:
    """A monitor without a size, or of an unsupported one."""
    card.plug(make_mode(*size))
    with pytest.raises(KmsError, match=f"{size[0]}x{size[1]}"):
        find_output(handle)


def test_truncated_events() -> None:
    """Short, long, and of length 0, which would never end."""
    good = bytes(abi.VblankEvent(type=abi.EVENT_FLIP_COMPLETE, length=32, user_data=7))
    short = (2).to_bytes(4, "little") + (8).to_bytes(4, "little")
    assert [event.user_data for event in parse_events(short + good + good[:20])] == [7]
    assert not list(parse_events(bytes(32)))
    assert not list(parse_events(good[:31]))


def refuse(*_: object) -> int:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_invalid_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, without permission, or not a device."""
    with pytest.raises(KmsError, match="card0"):
        Handle(str(tmp_path / "card0"))
    (tmp_path / "card1").write_text("no device")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(KmsError, match="card1: join group video"):
            Handle(str(tmp_path / "card1"))
    with (
        pytest.raises(KmsError, match="card1 failed"),
        closing(Handle(str(tmp_path / "card1"))) as handle,
    ):
        find_output(handle)
