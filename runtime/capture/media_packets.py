"""Decodes one track of a container, reading some packets ahead.

In: a PyAV container and the track. Out: decoded frames, each with the timestamps near it in the
file. Packets that cannot be decoded are counted and skipped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from typing import Any

import av

from .catching_up import CatchUp
from .media_container import MAX_PIXELS
from .media_joins import JoinFinder
from .media_timeline import Nearby

_PACKETS_AHEAD = 10
_BYTES_AHEAD = 4_000_000
"""At most this much is held, apart from two packets."""
_MAX_BYTES_AHEAD = 32_000_000
"""The same where a join of recordings is suspected."""
_OTHERS = 8
_PACKETS_FOR_KEYS = 1000
_MAX_DELAY = 40
"""Packets between a packet and its frame at most; H.264 permits 16 frames of two fields."""
_ENCRYPTED = ("encryption_info", "encryption_init_info")


class EncryptedError(Exception):
    """The track is encrypted."""


@dataclass(slots=True)
class PacketFaults:
    """Packets of one track that could not be decoded."""

    packets: int = 0
    corrupt: int = 0
    first_error: str = ""
    joins: int = 0
    """Places where the timestamps of all tracks jump together."""
    noted: int = 0
    """Those of `corrupt` that were counted elsewhere already."""

    def explain(self) -> str:
        """Return why a track without a decoded frame has none."""
        if self.corrupt:
            packets = "packet" if self.corrupt == 1 else "packets"
            return f"cannot be decoded ({self.corrupt} {packets}: {self.first_error})"
        return "has nothing in it" if not self.packets else "has no whole frame in it"

    def note(self, error: Exception) -> None:
        self.corrupt += 1
        if not self.first_error:
            self.first_error = getattr(error, "strerror", None) or str(error)


def time_ns(timestamp: int | None, time_base: Fraction | None) -> int | None:
    """Convert a timestamp to nanoseconds."""
    if timestamp is None or time_base is None:
        return None
    return round(timestamp * Fraction(time_base) * 1_000_000_000)


def duration_ns(frame: Any) -> int:
    """Return how long a frame or packet lasts, 0 where unknown."""
    return time_ns(getattr(frame, "duration", None), frame.time_base) or 0  # PyAV < 14 has none


@dataclass(slots=True)
class _Packet:
    number: int
    stamp_ns: int | None
    duration_ns: int
    packet: Any
    is_suspect: bool = False
    """Its timestamp may belong to a join."""

    def shift(self, by_ns: int) -> None:
        """Add to its timestamps."""
        if self.stamp_ns is not None and by_ns:
            self.stamp_ns += by_ns
            ticks = round(by_ns / (self.packet.time_base * 1_000_000_000))
            self.packet.pts += ticks
            if self.packet.dts is not None:
                self.packet.dts += ticks


@dataclass(slots=True)
class _Reader:
    """Reads the packets of a track ahead, and notes the times of another track between them."""

    container: Any
    tracks: list[Any]
    track: Any
    faults: PacketFaults
    joins: JoinFinder
    waiting: deque[_Packet] = field(default_factory=deque)
    _packets: Any = None
    _suspects: list[_Packet] = field(default_factory=list)
    _others: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_OTHERS * 64))
    _bytes: int = 0
    _ended: bool = False

    def take(self) -> _Packet | None:
        """Return the next packet of the track, None at the end."""
        while not self._ended and (
            len(self.waiting) < 3
            or (self.waiting[0].is_suspect and self._bytes < _MAX_BYTES_AHEAD)
            or (len(self.waiting) <= _PACKETS_AHEAD and self._bytes < _BYTES_AHEAD)
        ):
            self._read()
        if not self.waiting:
            return None
        taken = self.waiting.popleft()
        self._bytes -= taken.packet.size
        return taken

    def other_ns(self, number: int) -> list[int]:
        """Return the times of the other track's packets that follow packet `number`."""
        while self._others and self._others[0][0] < number - _MAX_DELAY:
            self._others.popleft()
        following = (t_ns for after, t_ns in self._others if after >= number)
        return list(islice(following, _OTHERS))

    def _read(self) -> None:
        packet = self._demux()
        if packet is None:
            self._ended = True
            return
        is_own = packet.stream_index == self.track.index
        self.faults.packets += is_own and bool(packet.size)
        stamp_ns = time_ns(packet.pts, packet.time_base)
        read = _Packet(self.faults.packets, stamp_ns, duration_ns(packet), packet)
        self._find_join(read)
        if is_own:
            self.waiting.append(read)
            self._bytes += packet.size
        elif read.stamp_ns is not None:
            self._others.append((read.number, read.stamp_ns))

    def _demux(self) -> Any | None:
        while True:
            if self._packets is None:
                self._packets = self.container.demux(self.tracks)
            try:
                return next(self._packets, None)
            except av.FFmpegError as error:
                self.faults.note(error)
                return None
            except IndexError:  # PyAV 18: a track that begins in the middle of a damaged file
                if self.waiting and not self.waiting[-1].packet.size:  # the last packet was read
                    return None
                self._packets = None

    def _find_join(self, read: _Packet) -> None:
        """Shift a packet's timestamps to where the recordings in the file are joined."""
        before_ns = self.joins.shift_ns
        read.shift(before_ns)
        if read.stamp_ns is None:
            return
        joined = self.joins.push(read.packet.stream_index, read.stamp_ns, read.duration_ns)
        if joined or self.joins.suspects:
            self._suspects.append(read)
            read.is_suspect = True
        if joined:
            self.faults.joins = self.joins.joins
            for each in self._suspects:
                each.shift(self.joins.shift_ns - before_ns)
            self._others.clear()
        if not self.joins.suspects:
            for each in self._suspects:
                each.is_suspect = False
            self._suspects.clear()


def decode_track(
    container: Any,
    track: Any,
    other: Any | None,
    faults: PacketFaults,
    catch_up: CatchUp | None = None,
) -> Iterator[tuple[Any, Nearby]]:
    """Yield the frames of `track`, each with the timestamps near it. `other`: the other track that
    is played. `catch_up` leaves out what is too late. Raises EncryptedError."""
    tracks = [track] if other is None else [track, other]
    reader = _Reader(container, tracks, track, faults, JoinFinder(len(tracks)))
    inside: deque[tuple[int, int]] = deque()  # numbers and timestamps of packets in the decoder
    is_video = track.type == "video"
    if is_video:
        # Measured on a 1280x720 H.264 clip: one thread needs 7 ms of CPU per frame and 71 MB in
        # all, two threads the same CPU and up to 9 MB more. Frames are decoded ahead, so the models
        # need the second core more.
        track.thread_type = "NONE"
        track.codec_context.thread_count = 1
        track.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    unsure: set[int] = set()  # packets of which the decoder may leave out the frame
    while (taken := reader.take()) is not None:
        if is_encrypted(taken.packet):
            raise EncryptedError
        if catch_up is not None and taken.packet.size:  # the last one is empty
            if catch_up.skips(track, taken.packet, taken.stamp_ns):
                catch_up.note(1 + len(inside))
                inside.clear()
                continue
            if catch_up.may_lose:
                unsure.add(taken.number)
        if is_video and taken.stamp_ns is not None:
            inside.append((taken.number, taken.stamp_ns))
        while inside and inside[0][0] < taken.number - _MAX_DELAY:
            inside.popleft()
        try:
            frames = taken.packet.decode()
        except av.FFmpegError as error:
            faults.note(error)
            continue
        stamps = [time_ns(frame.pts, frame.time_base) for frame in frames]
        for at, frame in enumerate(frames):
            number = _remove_own(inside, stamps[at], taken.number)
            if catch_up is not None:
                catch_up.note(_remove_left_out(inside, unsure, stamps[at]))
            ahead = [(stamps[n], duration_ns(frames[n])) for n in range(at + 1, len(frames))]
            ahead += [(each.stamp_ns, each.duration_ns) for each in reader.waiting]
            known = [(stamp, length_ns) for stamp, length_ns in ahead if stamp is not None]
            yield (
                frame,
                Nearby(
                    ahead=[stamp for stamp, _ in known],
                    durations=[length_ns for _, length_ns in known],
                    delayed=[stamp for _, stamp in inside],
                    other=reader.other_ns(number),
                    after_skipped=catch_up is not None and catch_up.left_out > 0,
                ),
            )


def _remove_own(inside: deque[tuple[int, int]], stamp_ns: int | None, newest: int) -> int:
    """Remove the packet of a frame and return its number, `newest` if that is unknown."""
    for entry in inside:
        if entry[1] == stamp_ns:
            inside.remove(entry)
            return entry[0]
    return newest


def _remove_left_out(inside: deque[tuple[int, int]], unsure: set[int], stamp_ns: int | None) -> int:
    """Remove the packets whose frames the decoder left out before the frame of `stamp_ns`, and
    return how many. Frames come in the order of display."""
    if stamp_ns is None or not unsure:
        return 0
    left_out = [each for each in inside if each[1] < stamp_ns and each[0] in unsure]
    for each in left_out:
        inside.remove(each)
    unsure.intersection_update([number for number, _ in inside])
    return len(left_out)


def find_key_gap(container: Any, track: Any) -> int:
    """Return the time between the first two key frames of `track` in nanoseconds, 0 if the second
    is not among its first packets. Reads ahead without decoding."""
    first_ns: int | None = None
    try:
        for packet in islice(container.demux(track), _PACKETS_FOR_KEYS):
            stamp_ns = time_ns(packet.pts, packet.time_base)
            if packet.is_keyframe and stamp_ns is not None:
                if first_ns is not None:
                    return max(0, stamp_ns - first_ns)
                first_ns = stamp_ns
    except (av.FFmpegError, IndexError):  # whoever decodes it says so
        pass
    return 0


def is_encrypted(packet: Any) -> bool:
    has_sidedata = getattr(packet, "has_sidedata", None)  # PyAV < 14 has none
    return has_sidedata is not None and any(map(has_sidedata, _ENCRYPTED))
