"""Lines and frames for a serial port: the frozen bytes, and their reader scripts/read_serial."""

from __future__ import annotations

import binascii
import json
import os
import runpy
import select
import subprocess
import sys
import tty
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_edge.engines.bundles import LABELS, are_labels
from emotion_edge.runtime.messages import Estimate
from emotion_edge.runtime.sinks.serial_format import (
    encode_frame,
    encode_line,
    encode_name_frames,
    encode_names_line,
    stuff_bytes,
)

from . import estimates
from .estimates import FUSED, NOTHING

READER = Path(__file__).parents[3] / "scripts/read_serial"
ESTIMATE = replace(estimates.ESTIMATE, t_ns=1_234_567_890, index=7, confidence=0.81234567)
Decode = Callable[[bytes], dict[str, Any] | None]
OPTIMISTS = ("hopeful", "Très gai", "日本")
THREE = replace(
    ESTIMATE,
    label="Très gai",
    labels=OPTIMISTS,
    probabilities=dict(zip(OPTIMISTS, (0.1, 0.8, 0.1), strict=True)),
)

needs_reader = pytest.mark.skipif(
    not READER.exists(), reason="the scripts are not part of the installed package"
)


@pytest.fixture(scope="module")
def make_reader() -> Callable[[], Any]:
    reader: Callable[[], Any] = runpy.run_path(str(READER))["FrameReader"]
    return reader


@pytest.fixture(scope="module")
def decode_frame(make_reader: Callable[[], Any]) -> Decode:
    decode: Decode = make_reader().decode
    return decode


share = st.floats(0, 1)
any_estimate = st.builds(
    lambda t_ns, label, latency_us, confidence, shares, face, voice: replace(
        ESTIMATE,
        t_ns=t_ns,
        label=label,
        latency_us=latency_us,
        confidence=confidence,
        probabilities=dict(zip(LABELS, shares, strict=True)),
        modalities={"face": face, "voice": voice},
    ),
    st.integers(0, 2**63 - 1),
    st.sampled_from((None, *LABELS)),
    st.floats(0, 1e8),
    share,
    st.lists(share, min_size=7, max_size=7),
    share,
    share,
)


any_labels = st.lists(
    st.text(min_size=1, max_size=32).filter(lambda name: are_labels([name, "-"])),
    min_size=2,
    max_size=32,
    unique=True,
).map(tuple)


@st.composite
def other_estimates(draw: st.DrawFn) -> Estimate:
    """An estimate of a bundle with any other labels."""
    labels = draw(any_labels.filter(lambda names: names != LABELS))
    shares = draw(st.lists(share, min_size=len(labels), max_size=len(labels)))
    return replace(
        draw(any_estimate),
        labels=labels,
        label=draw(st.sampled_from((None, *labels))),
        probabilities=dict(zip(labels, shares, strict=True)),
    )


def test_line_has_the_frozen_keys() -> None:
    """Other programs read them: order, names, units and digits stay."""
    line = encode_line(ESTIMATE)
    assert line.endswith(b"}\n")
    assert list(json.loads(line).items()) == [
        ("t_ms", 1234),
        ("label", "happy"),
        ("confidence", 0.812),
        ("probabilities", list(FUSED.values())),
        ("face", 0.7),
        ("voice", 0.3),
        ("latency_ms", 12.3),
    ]


def test_frame_has_the_frozen_bytes() -> None:
    """Every field by hand, stuffed: no 0 byte except the last."""
    fields = bytes.fromhex("01037b00d2040000bb1f6400c8002c01a41f90019001f401581bb80b")
    assert binascii.crc_hqx(fields, 0xFFFF) == 0x7A66
    stuffed = "0401037b03d2040104bb1f6402c8112c01a41f90019001f401581bb80b667a00"
    assert encode_frame(ESTIMATE).hex() == stuffed


def test_crc_is_the_documented_one() -> None:
    """The published check value of CRC-16/CCITT-FALSE."""
    assert binascii.crc_hqx(b"123456789", 0xFFFF) == 0x29B1


@pytest.mark.parametrize(
    ("data", "stuffed"),
    [
        ("", "01"),
        ("00", "0101"),
        ("0000", "010101"),
        ("11220033", "0311220233"),
        ("1100", "021101"),
    ],
)
def test_stuffing(data: str, stuffed: str) -> None:
    """Lengths replace zeros, at the ends too."""
    assert stuff_bytes(bytes.fromhex(data)).hex() == stuffed


def test_abstention() -> None:
    fields = json.loads(encode_line(NOTHING))
    assert (fields["label"], fields["probabilities"], fields["face"]) == (None, [], 0)
    assert encode_frame(NOTHING)[1:3] == b"\x01\xff"


def test_numbers_that_are_not_finite() -> None:
    """A faulty network does not make a line unreadable. NumPy's scalars are accepted."""
    wrong = dict.fromkeys(LABELS, float("nan")) | {"sad": float("inf")}
    estimate = replace(ESTIMATE, probabilities=wrong, confidence=float(np.float32(0.5)))
    line = json.loads(encode_line(estimate), parse_constant=pytest.fail)
    assert line["probabilities"] == [None] * 7
    assert line["confidence"] == 0.5
    assert len(encode_frame(estimate)) == 32


@given(any_estimate)
def test_sizes(estimate: Estimate) -> None:
    """The sizes for which a reader may reserve memory."""
    line = encode_line(estimate)
    assert len(line) <= 200
    assert line.count(b"\n") == 1
    frame = encode_frame(estimate)
    assert len(frame) == 32
    assert frame.index(0) == 31


@needs_reader
@given(estimate=any_estimate)
def test_reader_decodes_every_field(decode_frame: Decode, estimate: Estimate) -> None:
    """To half of the last digit."""
    fields = decode_frame(encode_frame(estimate)[:-1])
    assert fields is not None
    assert fields["t_ms"] == estimate.t_ns // 1_000_000 % 2**32
    assert fields["label"] == estimate.label
    assert fields["latency_ms"] == pytest.approx(min(estimate.latency_us / 1e3, 6553.5), abs=0.051)
    numbers = [fields["confidence"], *fields["probabilities"], fields["face"], fields["voice"]]
    expected = [
        estimate.confidence,
        *estimate.probabilities.values(),
        *estimate.modalities.values(),
    ]
    assert numbers == pytest.approx(expected, abs=0.000_051)


@given(other_estimates())
def test_sizes_with_other_labels(estimate: Estimate) -> None:
    """The sizes for which a reader may reserve memory, and no end within a line or frame."""
    labels = estimate.labels
    for data, end, most in (
        (encode_line(estimate), b"\n", 600),
        (encode_names_line(labels), b"\n", 4300),
        (encode_frame(estimate), b"\0", 138),
        *((frame + b"\0", b"\0", 138) for frame in encode_name_frames(labels)[:-1].split(b"\0")),
    ):
        assert len(data) <= most
        assert data.index(end) == len(data) - 1
    assert len(encode_name_frames(labels)[:-1].split(b"\0")) == len(labels)


@needs_reader
@given(estimate=other_estimates(), order=st.randoms(use_true_random=False))
def test_reader_learns_other_labels(
    make_reader: Callable[[], Any], estimate: Estimate, order: Random
) -> None:
    """An estimate is skipped until all names have come, in any order; then every field is read, and
    names that come again change nothing."""
    decode = make_reader().decode
    names = encode_name_frames(estimate.labels)[:-1].split(b"\0")
    order.shuffle(names)
    frame = encode_frame(estimate)[:-1]
    for name in names[:-1]:
        assert decode(name) is None
        assert decode(frame) is None
    assert decode(names[-1]) == json.loads(encode_names_line(estimate.labels))
    assert decode(names[0]) is None
    fields = decode(frame)
    assert fields is not None
    assert fields["label"] == estimate.label
    assert fields["t_ms"] == estimate.t_ns // 1_000_000 % 2**32
    numbers = [fields["confidence"], *fields["probabilities"], fields["face"], fields["voice"]]
    wanted = [estimate.confidence, *estimate.probabilities.values(), *estimate.modalities.values()]
    assert numbers == pytest.approx(wanted, abs=0.000_051)


@needs_reader
def test_reader_at_a_change_of_the_bundle(make_reader: Callable[[], Any]) -> None:
    """After an update the labels are others: no estimate gets the names of the bundle before."""
    decode = make_reader().decode
    for name in encode_name_frames(("yes", "no", "maybe"))[:-1].split(b"\0"):
        decode(name)
    assert decode(encode_frame(THREE)[:-1]) is None
    for name in encode_name_frames(OPTIMISTS)[:-1].split(b"\0"):
        decode(name)
    fields = decode(encode_frame(THREE)[:-1])
    assert (fields["label"], fields["probabilities"]) == ("Très gai", [0.1, 0.8, 0.1])
    assert decode(encode_frame(ESTIMATE)[:-1])["label"] == "happy"


def test_other_labels_have_the_frozen_bytes() -> None:
    """Version 2 by hand; the seven labels in another order are other labels too."""
    table = binascii.crc_hqx("hopeful\0Très gai\0日本\0".encode(), 0xFFFF).to_bytes(2, "little")
    fields = (
        bytes.fromhex("0200") + table + bytes.fromhex("03017b00d2040000bb1f581bb80be803401fe803")
    )
    crc = binascii.crc_hqx(fields, 0xFFFF).to_bytes(2, "little")
    assert encode_frame(THREE) == stuff_bytes(fields + crc) + b"\0"
    name = bytes.fromhex("0201") + table + bytes.fromhex("0300") + b"hopeful"
    crc = binascii.crc_hqx(name, 0xFFFF).to_bytes(2, "little")
    assert encode_name_frames(OPTIMISTS).startswith(stuff_bytes(name + crc) + b"\0")
    turned = replace(ESTIMATE, labels=LABELS[::-1])
    assert len(encode_frame(turned)) != len(encode_frame(ESTIMATE))
    assert json.loads(encode_line(turned))["probabilities"] == list(FUSED.values())[::-1]


@needs_reader
@settings(derandomize=True)  # one corruption in 65536 passes a CRC of 16 bits
@given(estimate=any_estimate, bit=st.integers(0, 31 * 8 - 1))
def test_reader_refuses_corruption(decode_frame: Decode, estimate: Estimate, bit: int) -> None:
    """Any flipped bit is detected, unless it changes no field."""
    frame = encode_frame(estimate)[:-1]
    damaged = bytearray(frame)
    damaged[bit // 8] ^= 1 << bit % 8
    parts = bytes(damaged).split(b"\0")  # a new 0 byte ends a frame
    assert all(decode_frame(part) in (None, decode_frame(frame)) for part in parts)


@needs_reader
@given(data=st.binary(max_size=80).map(lambda data: data.replace(b"\0", b"\1")))
def test_reader_refuses_noise(decode_frame: Decode, data: bytes) -> None:
    """Any bytes before the first frame."""
    assert decode_frame(data) is None


@needs_reader
def test_reader_refuses_another_version(decode_frame: Decode) -> None:
    """A later format may give the same bytes another meaning."""
    fields = bytes([3, *bytes(27)])
    crc = binascii.crc_hqx(fields, 0xFFFF).to_bytes(2, "little")
    assert decode_frame(stuff_bytes(fields + crc)) is None
    first = bytes([1, *bytes(27)])
    crc = binascii.crc_hqx(first, 0xFFFF).to_bytes(2, "little")
    assert decode_frame(stuff_bytes(first + crc)) is not None


@needs_reader
@pytest.mark.parametrize(
    ("name", "encode", "noise"),
    [
        ("json", encode_line, b'abilities":[0.1]}\n\n[3]\n'),
        ("binary", encode_frame, b"\x01\x02\x03\0\0"),
    ],
)
def test_reader_on_a_line(name: str, encode: Callable[[Estimate], bytes], noise: bytes) -> None:
    """The program skips truncated data and prints each estimate at once."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    command = [sys.executable, str(READER), os.ttyname(theirs), "--format", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            printed = select.poll()
            printed.register(process.stdout, select.POLLIN)
            # It discards the line's content when it opens it, so send until it prints.
            os.write(ours, noise + encode(ESTIMATE))
            while not printed.poll(100):
                os.write(ours, noise + encode(ESTIMATE))
            fields = json.loads(process.stdout.readline())
        finally:
            process.kill()
    os.close(ours)
    os.close(theirs)
    assert (fields["t_ms"], fields["label"], fields["latency_ms"]) == (1234, "happy", 12.3)
    assert fields["probabilities"] == list(FUSED.values())


@needs_reader
@pytest.mark.parametrize(
    "line", [b"[" * 200_000, b"9" * 10_000, b'{"a":' * 50_000, b"\xff", b"", b"null"]
)
def test_reader_skips_nonsense(line: bytes) -> None:
    """Whatever noise makes a line of, it is no estimate."""
    assert runpy.run_path(str(READER))["decode_line"](line) is None


@needs_reader
@pytest.mark.parametrize("arguments", [["/dev/nonesuch"], ["/dev/null"], ["/tmp", "--baud", "-4"]])
def test_reader_without_a_port(arguments: list[str]) -> None:
    """One line names it."""
    command = [sys.executable, str(READER), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert arguments[0] in done.stderr


@needs_reader
def test_reader_without_a_reader() -> None:
    """As after `| head -1`: no message."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, str(READER), os.ttyname(theirs)]
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        try:
            ended = None
            while ended is None:
                os.write(ours, encode_line(ESTIMATE))
                with suppress(subprocess.TimeoutExpired):
                    ended = process.wait(0.05)
            assert process.stderr is not None
            assert (ended, process.stderr.read()) == (0, b"")
        finally:
            process.kill()
    os.close(ours)
    os.close(theirs)
