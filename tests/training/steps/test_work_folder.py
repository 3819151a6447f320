"""Results of steps: keyed by what they depend on, made once, made again when incomplete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_edge.training.config import FaceNetwork
from emotion_edge.training.errors import TrainingError
from emotion_edge.training.steps.work_folder import RESULT, hash_content, keep_result


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros(4, np.uint8), np.zeros((2, 2), np.uint8)),
        (np.zeros(4, np.uint8), np.zeros(1, np.float32)),
        (np.array([0.0, 1.0]), np.array([0.0, 2.0])),
        (FaceNetwork(dropout=0.3), FaceNetwork(dropout=0.2)),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        (["a", "b"], ["ab"]),
        ([["a"], ["b"]], [["a", "b"]]),
        (1, "1"),
        ("", None),
    ],
)
def test_different_content_has_another_hash(one: Any, other: Any) -> None:
    """Shape, type and nesting count, not only the bytes."""
    assert hash_content(one) == hash_content(one)
    assert hash_content(one) != hash_content(other)
    assert hash_content({"a": 1, "b": 2}) == hash_content({"b": 2, "a": 1})


def test_results_are_made_once(tmp_path: Path) -> None:
    """A complete result is read; one that was interrupted is made again; a damaged one is named."""
    calls = []

    def make() -> dict[str, Any]:
        calls.append(1)
        return {"calls": len(calls), "sizes": (1, 2)}

    def interrupt() -> dict[str, Any]:
        (tmp_path / "a" / "half.pt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep_result(tmp_path / "a", interrupt)
    first = keep_result(tmp_path / "a", make)
    assert first == {"calls": 1, "sizes": [1, 2]}, "as the second call reads it"
    assert keep_result(tmp_path / "a", make) == first
    (tmp_path / "a" / RESULT).write_text("{")
    with pytest.raises(TrainingError, match="damaged"):
        keep_result(tmp_path / "a", make)
    assert len(calls) == 1
