"""Plays a file in lock-step, on the file's own time, so that the same file gives the same answers
(`--pace max`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .capture import merge_events, open_media
from .clock import MonotonicClock
from .config import Config
from .messages import AudioChunk, Sink, VideoFrame
from .perception import AudioOnlyTimer
from .session import Runtime, open_runtime, report_build_progress


def run_replay(config: Config, sinks: Sequence[Sink], seconds: float | None = None) -> Runtime:
    """Play a file or the demo as fast as it goes. All `t_ns` are on the file's own time; the
    clock only measures how long the work took."""
    clock = MonotonicClock()
    media = open_media(config.source.name)
    with open_runtime(config, clock, report_build_progress) as runtime:
        end_ns = None if seconds is None else round(seconds * 1e9)
        track_due_ns = 0
        timer = AudioOnlyTimer(0)
        for event in _with_turns(merge_events(media, to_last_frame=True), timer):
            t_ns = event if isinstance(event, int) else event.t_ns
            if end_ns is not None and t_ns >= end_ns:
                break
            if isinstance(event, AudioChunk):
                runtime.synchroniser.add_audio(event)
                continue
            frame = event if isinstance(event, VideoFrame) else None
            if frame is None:
                heard_ns = runtime.synchroniser.newest_audio_ns()
                if heard_ns is None or t_ns - heard_ns > runtime.synchroniser.MAX_SKEW_NS:
                    continue
            elif runtime.rate_limiter.accepts(t_ns):
                timer.note_frame(t_ns, t_ns)
                if t_ns >= track_due_ns:
                    runtime.face_tracker.track(frame)
                    track_due_ns = t_ns + runtime.face_tracker.period_ns
            else:
                continue
            now_ns = clock.now_ns()
            box = runtime.face_tracker.box_for(frame) if frame is not None else None
            window = runtime.synchroniser.window(t_ns, frame, box, wait=False)
            runtime.process(window, now_ns, now_ns, sinks)
    return runtime


def _with_turns(
    events: Iterator[VideoFrame | AudioChunk], timer: AudioOnlyTimer
) -> Iterator[VideoFrame | AudioChunk | int]:
    """With the times at which `timer` asks for an estimate of audio alone in between."""
    for event in events:
        while event.t_ns > (due_ns := timer.due_ns):
            yield due_ns
            timer.note_turn(due_ns)
        yield event
