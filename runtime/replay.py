"""Plays a file in lock-step, on the file's own time, so that the same file gives the same answers
(`--pace max`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .app import BLIND_TICK_NS
from .build_report import report_build
from .clock import MonotonicClock
from .config import Config
from .messages import AudioChunk, Sink, VideoFrame
from .opening import Runtime, open_runtime
from .sources import open_media
from .sources.playback import merge_events


def run_replay(config: Config, sinks: Sequence[Sink], seconds: float | None = None) -> Runtime:
    """Play a file or the demo as fast as it goes. All `t_ns` are on the file's own time; the
    clock only measures how long the work took."""
    clock = MonotonicClock()
    media = open_media(config.source.name)
    with open_runtime(config, clock, report_build) as runtime:
        end_ns = None if seconds is None else round(seconds * 1e9)
        search_due_ns = 0
        for event in _with_ticks(merge_events(media), media.has_video):
            t_ns = event if isinstance(event, int) else event.t_ns
            if end_ns is not None and t_ns >= end_ns:
                break
            if isinstance(event, AudioChunk):
                runtime.synchroniser.add_audio(event)
                continue
            frame = event if isinstance(event, VideoFrame) else None
            if frame is not None and not runtime.pacer.wants(t_ns):
                continue
            if frame is not None and t_ns >= search_due_ns:
                runtime.finder.search(frame)
                search_due_ns = t_ns + runtime.finder.period_ns
            now_ns = clock.now_ns()
            box = runtime.finder.box_in(frame) if frame is not None else None
            window = runtime.synchroniser.window(t_ns, frame, box, wait=False)
            runtime.process(window, now_ns, now_ns, sinks)
    return runtime


def _with_ticks(
    events: Iterator[VideoFrame | AudioChunk], has_video: bool
) -> Iterator[VideoFrame | AudioChunk | int]:
    """Without pictures, a time every `BLIND_TICK_NS` stands in for them."""
    due = BLIND_TICK_NS
    for event in events:
        while not has_video and event.t_ns >= due:
            yield due
            due += BLIND_TICK_NS
        yield event
