"""The search: shared by processes, and robust to processes that die."""

from __future__ import annotations

import logging
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from emotion_edge.training.errors import DivergedError, TrainingError
from emotion_edge.training.search import study
from emotion_edge.training.search.study import BestTrial, Objective, Range, Report, search

SPACE = (Range("a.x", 0.0, 10.0), Range("a.y", 1e-5, 1e-2, log=True))
START = {"a.x": 5.0, "a.y": 1e-3}

SCRIPT = """
import os, pathlib, signal, sys
from emotion_edge.training.search.study import Range, search

folder, kill_at = pathlib.Path(sys.argv[1]), int(sys.argv[2])
space = (Range("a.x", 0.0, 10.0), Range("a.y", 1e-5, 1e-2, log=True))
count = 0

def objective(values, report):
    global count
    count += 1
    with (folder / "calls.txt").open("a") as file:
        file.write(f"{values['a.x']!r} {values['a.y']!r}\\n")
    if count == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return -(values["a.x"] - 2) ** 2

start = {"a.x": 5.0, "a.y": 1e-3}
best = search(objective, space, start, 12, f"sqlite:///{folder}/study.db", "s", "test")
(folder / f"best{os.getpid()}.txt").write_text(f"{best.num_trials} {best.score}")
"""


def start_script(folder: Path, kill_at: int = -1) -> subprocess.Popen[bytes]:
    (folder / "run.py").write_text(SCRIPT)
    return subprocess.Popen([sys.executable, str(folder / "run.py"), str(folder), str(kill_at)])


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/study.db"


def run(folder: Path, objective: Objective, num_trials: int, seed: int = 0) -> BestTrial:
    return search(objective, SPACE, START, num_trials, url_of(folder), "s", "test", seed)


def rate(values: Mapping[str, float], report: Report) -> float:
    return -((values["a.x"] - 2) ** 2)


def test_two_processes_share_a_study(tmp_path: Path) -> None:
    """Two processes together run the requested number of different trials, the start among them."""
    both = [start_script(tmp_path) for _ in range(2)]
    assert [process.wait(timeout=500) for process in both] == [0, 0]
    calls = (tmp_path / "calls.txt").read_text().splitlines()
    assert len(calls) == len(set(calls)) == 12
    assert "5.0 0.001" in calls
    best = run(tmp_path, rate, 12)  # no trial is left
    assert (tmp_path / "calls.txt").read_text().splitlines() == calls
    assert best.num_trials == 12
    assert best.score == max(-((float(call.split()[0]) - 2) ** 2) for call in calls)


def test_killed_process(tmp_path: Path) -> None:
    """Its trial fails when the heartbeat is too old, and another process runs it again."""
    assert start_script(tmp_path, kill_at=3).wait(timeout=500) == -signal.SIGKILL
    assert len((tmp_path / "calls.txt").read_text().splitlines()) == 3
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    seen: list[float] = []

    def objective(values: Mapping[str, float], report: Report) -> float:
        seen.append(values["a.x"])
        return rate(values, report)

    best = run(tmp_path, objective, 6)
    assert best.num_trials == 6
    assert len(seen) == 4


@pytest.mark.parametrize("ends_by", ["score", "death"])
def test_trials_of_others_are_waited_for(
    ends_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that another process still runs may be the best one. If it dies, it is run again."""
    run(tmp_path, rate, 1)
    other = optuna.load_study(study_name="s", storage=url_of(tmp_path))
    trial = other.ask()
    waits: list[float] = []

    def end_other(seconds: float) -> None:
        waits.append(seconds)
        if ends_by == "score":
            other.tell(trial, 1.0)
        else:
            other.tell(trial, state=TrialState.FAIL)

    monkeypatch.setattr(study.time, "sleep", end_other)
    best = run(tmp_path, rate, 4)
    assert waits == [study.POLL_S]
    assert best.num_trials == 4
    assert (best.score == 1.0) == (best.number == trial.number) == (ends_by == "score")


def test_interrupted_trial(tmp_path: Path) -> None:
    """Ctrl-C ends the process; the study can continue."""

    def interrupt(values: Mapping[str, float], report: Report) -> float:
        raise KeyboardInterrupt

    run(tmp_path, rate, 2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, interrupt, 3)
    assert run(tmp_path, rate, 3).num_trials == 3


def test_seeds(tmp_path: Path) -> None:
    """Equal seeds give equal values, other seeds others, all within the ranges."""
    drawn: list[list[tuple[float, ...]]] = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        rows: list[tuple[float, ...]] = []

        def objective(
            values: Mapping[str, float],
            report: Report,
            rows: list[tuple[float, ...]] = rows,
        ) -> float:
            rows.append(tuple(values.values()))
            return rate(values, report)

        (tmp_path / name).mkdir()
        run(tmp_path / name, objective, 11, seed)
        drawn.append(rows)
    assert drawn[0] == drawn[1]
    assert drawn[0][0] == drawn[2][0] == (5.0, 1e-3)
    assert set(drawn[0][1:]).isdisjoint(drawn[2])
    for x, y in (row for rows in drawn for row in rows):
        assert 0 <= x <= 10
        assert 1e-5 <= y <= 1e-2


def test_search_finds_the_optimum(tmp_path: Path) -> None:
    """Forty trials get closer to the optimum than the start and most random points."""
    best = run(tmp_path, rate, 40)
    assert best.values["a.x"] == pytest.approx(2.0, abs=0.25)
    assert best.score == -((best.values["a.x"] - 2) ** 2)


def test_poor_trials_are_pruned(tmp_path: Path) -> None:
    """A trial below the median of the others is pruned, and counts as a trial."""
    epochs: dict[float, int] = {}

    def objective(values: Mapping[str, float], report: Report) -> float:
        number = len(epochs)
        for epoch in range(1, 9):
            epochs[values["a.x"]] = epoch
            report(epoch, 0.1 if number == 7 else 0.5 + 0.01 * number)
        report(9, None)
        return 0.9

    assert run(tmp_path, objective, 8).num_trials == 8
    assert list(epochs.values()) == [8] * 7 + [study.MIN_EPOCHS]


def test_diverged_trial(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A diverged trial is pruned, and the search continues."""
    caplog.set_level(logging.INFO)

    def objective(values: Mapping[str, float], report: Report) -> float:
        if values["a.x"] > 3:
            raise DivergedError("the loss is nan in epoch 1")
        return rate(values, report)

    best = run(tmp_path, objective, 8)
    assert best.num_trials == 8
    assert best.values["a.x"] <= 3
    assert "the loss is nan in epoch 1" in caplog.text


def test_no_complete_trial(tmp_path: Path) -> None:
    """An error, because there is no best trial."""

    def objective(values: Mapping[str, float], report: Report) -> float:
        raise DivergedError("the loss is nan")

    with pytest.raises(TrainingError, match=r"study 's'.* 3 "):
        run(tmp_path, objective, 3)


def test_other_errors_end_the_search(tmp_path: Path) -> None:
    """An unreadable data set, for example, is not a poor trial."""

    def objective(values: Mapping[str, float], report: Report) -> float:
        raise TrainingError("no such folder")

    with pytest.raises(TrainingError, match="no such folder"):
        run(tmp_path, objective, 3)
    assert run(tmp_path, rate, 3).num_trials == 3


def test_study_of_another_purpose(tmp_path: Path) -> None:
    """Scores of different settings are not comparable."""
    run(tmp_path, rate, 1)
    with pytest.raises(TrainingError, match=r"study 's' .*test.*other"):
        search(rate, SPACE, START, 1, url_of(tmp_path), "s", "other")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:////nowhere/at/all.db", "sqlite:////nowhere/at/all.db: "),
        ("nonsense", "storage URL"),
        ("oracle9://me:secret@host/db", r"oracle9://me:\*\*\*@host/db: "),
        ("postgresql://me:secret@host/db", r"postgresql://me:\*\*\*@host/db: "),
    ],
)
def test_storage_that_cannot_be_used(
    url: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names the URL without its password."""
    monkeypatch.setattr(study.time, "sleep", lambda seconds: None)
    with pytest.raises(TrainingError, match=message) as error:
        search(rate, SPACE, START, 1, url, "s", "test")
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_optuna_is_recent_enough() -> None:
    """Before version 5, values were sampled before the number of a trial could seed them."""
    assert int(optuna.__version__.split(".")[0]) >= 5
