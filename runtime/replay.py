"""A replay (`--pace max`): a file or the demo in, estimates out to the sinks, as fast as possible.

One thread processes frames and audio in the order of their timestamps. All `t_ns` are the file's
own time, so the same file gives the same estimates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .capture import merge_events, open_media
from .clock import MonotonicClock
from .config import Config
from .messages import AudioChunk, Sink, VideoFrame
from .perception import AudioOnlyTimer
from .session import Runtime, open_runtime, report_build_progress


def run_replay(config: Config, sinks: Sequence[Sink], seconds: float | None = None) -> Runtime:
    """Replay until the end of the media or for `seconds` of its time. Raises ConfigError,
    EngineError and SourceError. The clock only measures how long the work takes."""
    clock = MonotonicClock()
    media = open_media(config.source)
    with open_runtime(config, clock, report_build_progress) as runtime:
        end_ns = None if seconds is None else round(seconds * 1e9)
        track_due_ns = 0
        timer = AudioOnlyTimer(0)
        for event in _add_audio_only_turns(merge_events(media, to_last_frame=True), timer):
            t_ns = event if isinstance(event, int) else event.t_ns
            if end_ns is not None and t_ns >= end_ns:
                break
            if isinstance(event, AudioChunk):
                runtime.synchroniser.add_audio(event)
                continue
            frame = event if isinstance(event, VideoFrame) else None
            if frame is None:
                audio_ns = runtime.synchroniser.newest_audio_ns()
                if audio_ns is None or t_ns - audio_ns > runtime.synchroniser.MAX_SKEW_NS:
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
            voice_due = runtime.pipeline.is_voice_due(t_ns)
            window = runtime.synchroniser.window(t_ns, frame, box, voice_due)
            runtime.process(window, now_ns, now_ns, sinks)
    return runtime


def _add_audio_only_turns(
    events: Iterator[VideoFrame | AudioChunk], timer: AudioOnlyTimer
) -> Iterator[VideoFrame | AudioChunk | int]:
    """Yield `events`, and between them each time at which `timer` wants an audio-only estimate."""
    for event in events:
        while event.t_ns > (due_ns := timer.due_ns):
            yield due_ns
            timer.note_turn(due_ns)
        yield event
