"""A replay (`--pace max`): a file or the demo in, estimates out to the sinks, as fast as possible.

One thread processes frames and audio in the order of their timestamps. All `t_ns` are the file's
own time, so the same file gives the same estimates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .capture import Media, merge_events, open_media, show_source
from .clock import MonotonicClock
from .config import Config
from .messages import AudioChunk, RunObserver, Sink, VideoFrame
from .perception import EstimateTimer, find_shown
from .session import Runtime, open_runtime, report_build_progress


def run_replay(
    config: Config,
    sinks: Sequence[Sink],
    seconds: float | None = None,
    *,
    observers: Sequence[RunObserver] = (),
) -> Runtime:
    """Replay until the end of the media or for `seconds` of its time. `observers` are the sinks
    that begin when everything else is open. Raises ConfigError, EngineError, SourceError and
    OutputError. The clock only measures how long the work takes."""
    clock = MonotonicClock()
    media = open_media(config.source)
    with open_runtime(config, clock, report_build_progress) as runtime:
        info = runtime.describe(show_source(config.source.name), has_audio=media.has_audio)
        for observer in observers:
            observer.begin(info)
        end_ns = None if seconds is None else round(seconds * 1e9)
        track_due_ns = 0
        searched: VideoFrame | None = None
        for t_ns, frame in _find_moments(media, runtime):
            if end_ns is not None and t_ns >= end_ns:
                break
            if frame is not None and frame is not searched and t_ns >= track_due_ns:
                searched = frame
                runtime.face_tracker.track(frame)
                track_due_ns = t_ns + runtime.face_tracker.period_ns
            now_ns = clock.now_ns()
            faces = runtime.face_tracker.faces_for(frame) if frame is not None else ()
            voice_due = runtime.pipeline.is_voice_due(t_ns)
            window = runtime.synchroniser.window(t_ns, frame, faces, voice_due)
            runtime.process(window, now_ns, now_ns, sinks)
    return runtime


def _find_moments(media: Media, runtime: Runtime) -> Iterator[tuple[int, VideoFrame | None]]:
    """Yield the time of each estimate and the frame that is shown then, None without one. All
    audio up to that time is in the synchroniser."""
    timer, synchroniser = EstimateTimer(), runtime.synchroniser
    timer.note_audio(0)
    shown: VideoFrame | None = None

    def find_turns(until_ns: int) -> Iterator[tuple[int, VideoFrame | None]]:
        while timer.due_ns < until_ns:
            audio_ns = synchroniser.fresh_audio_ns(timer.due_ns)
            t_ns = timer.time_turn(timer.due_ns if audio_ns is not None else until_ns, audio_ns)
            if t_ns is not None:
                yield t_ns, find_shown(shown, t_ns)

    for event in merge_events(media):
        yield from find_turns(event.t_ns)
        if isinstance(event, AudioChunk):
            synchroniser.add_audio(event)
        elif runtime.rate_limiter.accepts(event.t_ns):
            shown = event
            t_ns = timer.time_frame(event.t_ns, event.t_ns, event.shown_ns)
            if t_ns is not None:
                yield t_ns, event
    yield from find_turns((synchroniser.newest_audio_ns() or 0) + 1)
