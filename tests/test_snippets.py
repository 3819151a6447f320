"""The Python in the documents runs, and the alarm of the README does what it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import emotion_edge
from emotion_edge.runtime.capture.demo import draw_face, synthesize_speech

from .runtime.media import write_video
from .runtime.sinks.estimates import ESTIMATE

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "runtime/README.md")
MAX_ALARM_LINES = 15

if not (ROOT / "README.md").is_file():
    pytest.skip("the documents are not beside the tests", allow_module_level=True)

SNIPPETS = {
    f"{name} {number}": code
    for name in DOCUMENTS
    for number, code in enumerate(
        re.findall(r"^```python\n(.*?)^```$", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)
    )
}
ALARM = SNIPPETS["README.md 0"]


def execute(code: str) -> None:
    exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippet_runs(
    name: str, null_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the demo as the camera, for a moment, without networks."""
    monkeypatch.chdir(tmp_path)
    images = [(n / 30, draw_face(n / 30)) for n in range(6)]
    write_video(tmp_path / "talk.mp4", images, synthesize_speech(0, 3200)[None])
    null = {"bundle": null_bundle, "engines_name": "null", "budget_ms": 10_000}

    def shorten(real: Callable[..., Any], **more: Any) -> Callable[..., Any]:
        def call(source: str | None = None, **given: Any) -> Any:
            return real("demo" if source == "camera" else source, **given, **null, **more)

        return call

    monkeypatch.setattr(emotion_edge, "stream", shorten(emotion_edge.stream, seconds=0.3))
    monkeypatch.setattr(emotion_edge, "open", shorten(emotion_edge.open, seconds=0.3))
    monkeypatch.setattr(emotion_edge, "analyze", shorten(emotion_edge.analyze))
    execute(SNIPPETS[name])


@pytest.mark.parametrize(
    ("angry", "alarms"),
    [
        ([0.7] * 3 * 30, 0),
        ([0.7] * 100, 1),
        ([0.7] * 200, 2),
        ([0.7] * 80 + [0.6] + [0.7] * 80, 0),
        ([None] * 10 + [0.61] * 91, 1),
    ],
)
def test_alarm(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    angry: list[float | None],
    alarms: int,
) -> None:
    """Once for each three seconds above 0.6, and not when there was a moment below or nobody."""
    assert len(ALARM.splitlines()) <= MAX_ALARM_LINES

    def stream(source: str) -> Iterator[emotion_edge.Estimate]:
        assert source == "camera"
        for index, value in enumerate(angry):
            probabilities = {} if value is None else {"angry": value, "happy": 1 - value}
            yield replace(ESTIMATE, t_ns=index * 10**9 // 30, probabilities=probabilities)

    monkeypatch.setattr(emotion_edge, "stream", stream)
    execute(ALARM)
    assert len(capsys.readouterr().out.splitlines()) == alarms
