"""`emotion-train models`."""

from __future__ import annotations

import pytest

from emotion_edge.training.__main__ import main
from emotion_edge.training.config import list_presets
from emotion_edge.training.models.fusion import AttentionFusion


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for every preset: network, parameters, MFLOPs and input."""
    assert main(["models"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert sorted(rows) == list_presets()
    num = sum(parameter.numel() for parameter in AttentionFusion().parameters())
    assert rows["fusion-attention"][:2] == ["AttentionFusion", f"{num:,}"]
    assert rows["voice-default"][3] == "64x300"
    face, toy = rows["face-default"], rows["toy-face"]
    assert face[0] == toy[0] == "FaceNet"
    assert face[1] == toy[1]  # the same network
    assert float(face[2]) == pytest.approx(4 * float(toy[2]), rel=0.1)  # on twice the side
    assert (face[3], toy[3]) == ("3x64x64", "3x32x32")
