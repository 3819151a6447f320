"""What the screen says, and that it says it calmly."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from emotion_edge.runtime.messages import Estimate
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

from .screen_estimates import ESTIMATE, FRAME_NS, FUSED, LABELS

SECOND_NS = 1_000_000_000


def run(maker: SceneBuilder, estimate: Estimate, seconds: float, start_ns: int = 0) -> list[Scene]:
    """Estimates at 30 Hz, drawn at every second one."""
    scenes = []
    for n in range(round(seconds * 30)):
        now_ns = start_ns + n * FRAME_NS
        index = start_ns // FRAME_NS + n
        maker.set_estimate(replace(estimate, index=index, t_ns=now_ns), index + 1, now_ns)
        if n % 2 == 0:
            scenes.append(maker.make(now_ns))
    return scenes


def make() -> SceneBuilder:
    return SceneBuilder(LABELS, budget_ms=45.0)


def test_before_the_first_estimate() -> None:
    """Nothing is claimed, not even that the camera is on, until it is said."""
    scene = make().make(0)
    assert (scene.headline, scene.label, scene.confidence) == (WAITING, None, "")
    assert not any(scene.shares.values())
    assert not scene.camera_on


def test_camera_is_on_before_anything_is_seen() -> None:
    """When it is said, and as long: estimates prove nothing, neither with pictures nor without."""
    maker = make()
    maker.set_camera_on(True)
    assert maker.make(0).camera_on
    assert maker.make(9 * SECOND_NS).camera_on
    maker.set_camera_on(False)
    assert not run(maker, ESTIMATE, 1)[-1].camera_on


def test_estimate() -> None:
    """After a second every bar is where it belongs."""
    maker = make()
    scene = run(maker, ESTIMATE, 1.5)[-1]
    assert (scene.headline, scene.label, scene.confidence) == ("Happy", "happy", "81 %")
    assert scene.shares == pytest.approx({**FUSED, "face": 0.7, "voice": 0.3})
    assert scene.percents["happy"] == "81 %"
    assert (scene.percents["face"], scene.percents["voice"]) == ("70 %", "30 %")
    assert (scene.speed, scene.late) == ("30 fps   12 ms", False)
    assert maker.settled


def test_same_estimates_change_nothing() -> None:
    """Once the bars have arrived, all scenes are equal: nothing is drawn."""
    scenes = run(make(), ESTIMATE, 4)
    assert len(set(map(repr, scenes[30:]))) == 1


def test_bars_are_eased() -> None:
    """A third of the way or more with each drawing, never beyond."""
    maker = make()
    scenes = run(maker, ESTIMATE, 0.5)
    lengths = [scene.shares["happy"] for scene in scenes]
    assert lengths == sorted(lengths)
    assert 0 < lengths[1] < 0.6
    assert not maker.settled or lengths[-1] == FUSED["happy"]


def test_numbers_are_quiet() -> None:
    """They change four times a second at most, unless the label does."""
    maker = make()
    seen: list[tuple[int, str]] = []
    for n in range(90):
        now_ns = n * FRAME_NS
        share = 0.5 + 0.005 * n
        estimate = replace(ESTIMATE, confidence=share, t_ns=now_ns, index=n)
        maker.set_estimate(estimate, n + 1, now_ns)
        number = maker.make(now_ns).confidence
        if not seen or seen[-1][1] != number:
            seen.append((now_ns, number))
    steps = [after - before for (before, _), (after, _) in itertools.pairwise(seen)]
    assert min(steps) >= NUMBERS_NS
    sad = replace(ESTIMATE, label="sad", confidence=0.4, t_ns=3 * SECOND_NS)
    maker.set_estimate(sad, 91, 90 * FRAME_NS)
    scene = maker.make(90 * FRAME_NS)
    assert (scene.headline, scene.confidence) == ("Sad", "40 %")


def test_speed_is_quiet() -> None:
    """Once a second, though every latency differs."""
    maker = make()
    speeds = []
    for n in range(120):
        late = replace(ESTIMATE, t_ns=n * FRAME_NS, index=n, latency_us=10_000.0 + 500 * n)
        maker.set_estimate(late, n + 1, n * FRAME_NS)
        speeds.append(maker.make(n * FRAME_NS).speed)
    assert len(set(speeds)) == 4
    assert speeds[0] == "10 ms"
    assert maker.make(120 * FRAME_NS).late


def test_no_face_or_voice() -> None:
    """Said calmly."""
    nobody = replace(ESTIMATE, label=None, probabilities={}, face=None, voice=None, modalities={})
    nobody = replace(nobody, confidence=0.0, abstained=True)
    scene = run(make(), nobody, 1)[-1]
    assert (scene.headline, scene.label, scene.confidence) == (NOTHING, None, "")
    assert not any(scene.shares.values())
    assert scene.percents.get("happy", "") == ""


def test_abstained() -> None:
    """No label stands out; the bars still say what it looked like."""
    scene = run(make(), replace(ESTIMATE, label=None, abstained=True), 1)[-1]
    assert (scene.headline, scene.label, scene.confidence) == (UNSURE, None, "")
    assert scene.percents["happy"] == "81 %"


def test_estimates_that_stop() -> None:
    """After two seconds it waits: no number of before is left standing."""
    maker = make()
    run(maker, ESTIMATE, 1)
    assert maker.make(STALE_AFTER_NS).headline == "Happy"
    now_ns = SECOND_NS + STALE_AFTER_NS
    for n in range(30):
        scene = maker.make(now_ns + n * TICK_NS)
    assert (scene.headline, scene.label, scene.speed) == (WAITING, None, "")
    assert not any(scene.shares.values())
    assert not any(scene.percents.values())
    maker.set_estimate(replace(ESTIMATE, index=31, t_ns=9 * SECOND_NS), 31, 9 * SECOND_NS)
    assert maker.make(9 * SECOND_NS).speed == "12 ms"  # and not 0 fps


def test_other_labels() -> None:
    """Those of another bundle are taken over from its first estimate."""
    maker = make()
    other = replace(ESTIMATE, label="calm", probabilities={"calm": 0.75, "tense": 0.25})
    scene = run(maker, other, 1.5)[-1]
    assert maker.labels == ("calm", "tense")
    assert (scene.headline, scene.percents["calm"]) == ("Calm", "75 %")
    assert set(scene.shares) == {"calm", "tense", "face", "voice"}


def test_numbers_that_are_none() -> None:
    """A network that went wrong: empty bars, no crash."""
    broken = dict.fromkeys(LABELS, math.nan) | {"happy": math.inf, "sad": -1.0, "fear": 7.0}
    estimate = replace(ESTIMATE, probabilities=broken, confidence=math.nan, latency_us=math.nan)
    scene = run(make(), estimate, 1)[-1]
    assert (scene.confidence, scene.percents["angry"]) == ("-", "-")
    assert (scene.shares["happy"], scene.shares["sad"], scene.shares["fear"]) == (0, 0, 1)


def test_faults() -> None:
    """In one line."""
    maker = make()
    maker.set_faults(("camera lost", "serial lost"))
    assert maker.make(0).fault == "camera lost, serial lost"
    maker.set_faults(())
    assert maker.make(0).fault == ""
