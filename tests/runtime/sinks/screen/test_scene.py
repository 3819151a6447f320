"""The content of the screen, and how often it changes."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from emotion_edge.runtime.messages import Estimate, RunInfo
from emotion_edge.runtime.sinks.screen.scene import (
    NOTHING,
    NUMBERS_NS,
    STALE_AFTER_NS,
    TICK_NS,
    UNSURE,
    WAITING,
    Scene,
    SceneBuilder,
)

from .. import estimates
from ..estimates import ESTIMATE, FRAME_NS, FUSED, LABELS

SECOND_NS = 1_000_000_000


def run(builder: SceneBuilder, estimate: Estimate, seconds: float) -> list[Scene]:
    """Set estimates at 30 Hz, and return the scene after every second one."""
    scenes = []
    for n in range(round(seconds * 30)):
        now_ns = n * FRAME_NS
        builder.set_estimate(replace(estimate, index=n, t_ns=now_ns), n + 1, now_ns)
        if n % 2 == 0:
            scenes.append(builder.make(now_ns))
    return scenes


def make() -> SceneBuilder:
    return SceneBuilder(LABELS, budget_ms=45.0)


def test_before_the_first_estimate() -> None:
    """It shows no estimate and no camera."""
    scene = make().make(0)
    assert (scene.headline, scene.label, scene.confidence) == (WAITING, None, "")
    assert not any(scene.shares.values())
    assert not scene.camera_on


@pytest.mark.parametrize(
    ("estimate", "number"), [(ESTIMATE, "DEMO  81 %"), (estimates.NOTHING, "DEMO")]
)
def test_demo_is_named(estimate: Estimate, number: str) -> None:
    """Beside the number, large, as long as it runs, also where there is no label."""
    builder = make()
    builder.set_info(RunInfo("demo", LABELS))
    assert builder.make(0).confidence == "DEMO"
    assert run(builder, estimate, 1)[-1].confidence == number
    builder.set_info(RunInfo("/dev/video0", LABELS))
    assert "DEMO" not in builder.make(SECOND_NS).confidence


def test_microphone_is_named() -> None:
    """Until it is known that there is none."""
    builder = make()
    assert builder.make(0).listening
    builder.set_info(RunInfo("/dev/video0", LABELS, has_audio=False))
    assert not builder.make(0).listening


def test_camera_state_is_independent_of_estimates() -> None:
    builder = make()
    builder.set_camera_on(True)
    assert builder.make(0).camera_on
    assert builder.make(9 * SECOND_NS).camera_on
    builder.set_camera_on(False)
    assert not run(builder, ESTIMATE, 1)[-1].camera_on


def test_estimate() -> None:
    """After a second every bar has arrived."""
    builder = make()
    scene = run(builder, ESTIMATE, 1.5)[-1]
    assert (scene.headline, scene.label, scene.confidence) == ("Happy", "happy", "81 %")
    assert scene.shares == pytest.approx(FUSED)
    assert scene.weights == pytest.approx({"face": 0.7, "voice": 0.3})
    assert scene.percents["happy"] == "81 %"
    assert (scene.weight_percents["face"], scene.weight_percents["voice"]) == ("70 %", "30 %")
    assert (scene.speed, scene.late) == ("30 fps   12 ms", False)
    assert builder.settled


def test_same_estimates_change_nothing() -> None:
    """Once the bars have arrived, all scenes are equal."""
    scenes = run(make(), ESTIMATE, 4)
    assert len(set(map(repr, scenes[30:]))) == 1


def test_bars_are_eased() -> None:
    """They approach their value and never exceed it."""
    builder = make()
    scenes = run(builder, ESTIMATE, 0.5)
    lengths = [scene.shares["happy"] for scene in scenes]
    assert lengths == sorted(lengths)
    assert 0 < lengths[1] < 0.6
    assert not builder.settled or lengths[-1] == FUSED["happy"]


def test_numbers_change_slowly() -> None:
    """At most four times a second, unless the label changes."""
    builder = make()
    seen: list[tuple[int, str]] = []
    for n in range(90):
        now_ns = n * FRAME_NS
        share = 0.5 + 0.005 * n
        estimate = replace(ESTIMATE, confidence=share, t_ns=now_ns, index=n)
        builder.set_estimate(estimate, n + 1, now_ns)
        number = builder.make(now_ns).confidence
        if not seen or seen[-1][1] != number:
            seen.append((now_ns, number))
    steps = [after - before for (before, _), (after, _) in itertools.pairwise(seen)]
    assert min(steps) >= NUMBERS_NS
    sad = replace(ESTIMATE, label="sad", confidence=0.4, t_ns=3 * SECOND_NS)
    builder.set_estimate(sad, 91, 90 * FRAME_NS)
    scene = builder.make(90 * FRAME_NS)
    assert (scene.headline, scene.confidence) == ("Sad", "40 %")


def test_speed_changes_slowly() -> None:
    """Once a second, although every latency differs."""
    builder = make()
    speeds = []
    for n in range(120):
        late = replace(ESTIMATE, t_ns=n * FRAME_NS, index=n, latency_us=10_000.0 + 500 * n)
        builder.set_estimate(late, n + 1, n * FRAME_NS)
        speeds.append(builder.make(n * FRAME_NS).speed)
    assert len(set(speeds)) == 4
    assert speeds[0] == "10 ms"
    assert builder.make(120 * FRAME_NS).late


def test_no_face_or_voice() -> None:
    scene = run(make(), estimates.NOTHING, 1)[-1]
    assert (scene.headline, scene.label, scene.confidence) == (NOTHING, None, "")
    assert not any(scene.shares.values())
    assert scene.percents.get("happy", "") == ""


def test_abstained() -> None:
    """No label is highlighted; the bars still show the probabilities."""
    scene = run(make(), replace(ESTIMATE, label=None, abstained=True), 1)[-1]
    assert (scene.headline, scene.label, scene.confidence) == (UNSURE, None, "")
    assert scene.percents["happy"] == "81 %"


def test_estimates_stop() -> None:
    """After two seconds the screen shows WAITING, and no old number."""
    builder = make()
    run(builder, ESTIMATE, 1)
    assert builder.make(STALE_AFTER_NS).headline == "Happy"
    now_ns = SECOND_NS + STALE_AFTER_NS
    for n in range(30):
        scene = builder.make(now_ns + n * TICK_NS)
    assert (scene.headline, scene.label, scene.speed) == (WAITING, None, "")
    assert not any(scene.shares.values())
    assert not any(scene.percents.values())
    builder.set_estimate(replace(ESTIMATE, index=31, t_ns=9 * SECOND_NS), 31, 9 * SECOND_NS)
    assert builder.make(9 * SECOND_NS).speed == "12 ms"  # not 0 fps


def test_other_labels() -> None:
    """Those of another bundle are used from its first estimate on, even if it has none of them; one
    may be called as a modality."""
    builder = make()
    nothing = replace(estimates.NOTHING, labels=("calm", "face"))
    assert set(run(builder, nothing, 0.1)[-1].shares) == {"calm", "face"}
    other = replace(
        ESTIMATE,
        label="calm",
        labels=("calm", "face"),
        probabilities={"calm": 0.75, "face": 0.25},
    )
    scene = run(builder, other, 1.5)[-1]
    assert builder.labels == ("calm", "face")
    assert (scene.headline, scene.percents["calm"]) == ("Calm", "75 %")
    assert scene.shares == pytest.approx({"calm": 0.75, "face": 0.25})
    assert scene.weights == pytest.approx({"face": 0.7, "voice": 0.3})


def test_invalid_numbers() -> None:
    """A faulty network gives empty bars."""
    broken = dict.fromkeys(LABELS, math.nan) | {"happy": math.inf, "sad": -1.0, "fear": 7.0}
    estimate = replace(ESTIMATE, probabilities=broken, confidence=math.nan, latency_us=math.nan)
    scene = run(make(), estimate, 1)[-1]
    assert (scene.confidence, scene.percents["angry"]) == ("-", "-")
    assert (scene.shares["happy"], scene.shares["sad"], scene.shares["fear"]) == (0, 0, 1)


def test_faults() -> None:
    """They are one line."""
    builder = make()
    builder.set_faults(("camera lost", "serial lost"))
    assert builder.make(0).fault == "camera lost, serial lost"
    builder.set_faults(())
    assert builder.make(0).fault == ""
