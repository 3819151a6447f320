"""Which bundle runs: what each event makes of a selection, and what a file may say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from emotion_edge.engines.bundles import selection as bundle_selection
from emotion_edge.engines.bundles.manifest import BundleError
from emotion_edge.engines.bundles.selection import (
    MAX_FAILED_STARTS,
    SHIPPED,
    Selection,
    find_state_folder,
    read_selection,
)
from emotion_edge.engines.tensorrt import cache
from emotion_edge.engines.tensorrt.cache import find_cache_folder

A, B, C = "a" * 16, "b" * 16, "c" * 16


def fail_to_start(selection: Selection, times: int = MAX_FAILED_STARTS) -> Selection:
    for _ in range(times):
        selection = selection.abandon_failed().count_start()
    return selection


def test_a_new_bundle_that_starts() -> None:
    """Is on trial until it has; the way back leads to the one before."""
    on_trial = Selection().switch(A)
    assert on_trial == Selection(current=A, previous=SHIPPED, on_trial=True)
    started = on_trial.count_start().end_trial()
    assert started == Selection(current=A)
    assert started.switch(B) == Selection(current=B, previous=A, on_trial=True)


def test_a_new_bundle_that_does_not() -> None:
    """Two starts, then the one before it, whatever is started how often from then on."""
    on_trial = Selection(current=A).switch(B)
    for times in range(MAX_FAILED_STARTS):
        assert fail_to_start(on_trial, times).abandon_failed().current == B
    given_up = fail_to_start(on_trial).abandon_failed()
    assert given_up == Selection(current=A, previous=SHIPPED, failed=B)
    assert fail_to_start(given_up, 10) == given_up


def test_way_back_leads_to_what_has_run() -> None:
    """Not to a bundle on trial that was replaced before it was over."""
    twice = Selection(current=A).switch(B).switch(C)
    assert (twice.current, twice.previous) == (C, A)
    back = Selection(current=A).switch(B).switch(A)
    assert (back.current, back.previous) == (A, SHIPPED)
    again = Selection(current=A, previous=B).switch(A)
    assert (again.current, again.previous) == (A, B)


def test_steps_back_and_forth() -> None:
    """By hand to anything, on trial again, but for the bundle that ships."""
    selection = Selection(current=A, previous=B, failed=C)
    back = selection.step_back()
    assert back == Selection(current=B, previous=A, on_trial=True, failed=C)
    assert back.step_back() == Selection(current=A, previous=B, on_trial=True, failed=C)
    shipped = Selection(current=A).step_back()
    assert shipped == Selection(current=SHIPPED, previous=A, on_trial=False)


def test_installed_again_is_no_failure() -> None:
    """Somebody wants another try."""
    assert Selection(current=A, failed=B).switch(B).failed == SHIPPED
    assert Selection(current=A, failed=B).switch(C).failed == B


class History(RuleBasedStateMachine):
    """Any events in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.selection = Selection()
        self.has_run = {SHIPPED}

    @rule(name=st.sampled_from([A, B, C]))
    def install(self, name: str) -> None:
        self.selection = self.selection.switch(name)

    @precondition(lambda self: self.selection.current != self.selection.previous)
    @rule()
    def step_back(self) -> None:
        self.selection = self.selection.step_back()

    @rule(is_good=st.booleans())
    def start(self, is_good: bool) -> None:
        was = self.selection
        self.selection = was.abandon_failed().count_start()
        if was.on_trial and was.failed_starts >= MAX_FAILED_STARTS:
            assert self.selection.current != was.current
        if is_good:
            self.has_run.add(self.selection.current)
            self.selection = self.selection.end_trial()

    @invariant()
    def is_sound(self) -> None:
        selection = self.selection
        assert selection.failed_starts <= MAX_FAILED_STARTS
        assert selection.on_trial or selection.failed_starts == 0
        assert not (selection.on_trial and selection.current == SHIPPED)
        assert selection.previous != selection.current or selection.current == SHIPPED


TestHistory = History.TestCase


def test_file(tmp_path: Path) -> None:
    """Missing: nothing was installed. A key of a later version is passed over."""
    file = tmp_path / "selection.json"
    assert read_selection(file) == Selection()
    file.write_text(f'{{"format": 1, "current": "{A}", "on_trial": true, "later": 1}}')
    assert read_selection(file) == Selection(current=A, on_trial=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "damaged"),
        ("\0" * 100, "damaged"),
        ("[]", "damaged"),
        ('{"format": 1, "current": "../../etc"}', "current"),
        (f'{{"format": 1, "current": "{A}\\n"}}', "current"),
        (f'{{"format": 1, "current": "{A}0"}}', "current"),
        ('{"format": 1, "previous": 3}', "previous"),
        ('{"format": 1, "failed_starts": -1}', "failed_starts"),
        ('{"format": 2}', "format is 2, allowed: 1"),
        ('{"format": 1, "x": "' + "y" * 5000 + '"}', "damaged"),
    ],
)
def test_damaged_file(tmp_path: Path, text: str, says: str) -> None:
    """One line with the file; a name can lead nowhere else."""
    file = tmp_path / "selection.json"
    file.write_text(text)
    with pytest.raises(BundleError, match=f"^{file}: .*{says}"):
        read_selection(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(BundleError, match="cannot be read"):
        read_selection(file)


def test_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd's first, then ours, then the service's if there is one, then the user's."""
    monkeypatch.setattr(bundle_selection, "SYSTEM_STATE", tmp_path / "lib")
    monkeypatch.setenv("HOME", "/home/somebody")
    user = {"XDG_STATE_HOME": "/x"}
    ours = {"EMOTION_EDGE_STATE": "/y", **user}
    assert find_state_folder({}) == Path("/home/somebody/.local/state/emotion-edge")
    assert find_state_folder(user) == Path("/x/emotion-edge")
    assert find_state_folder(ours) == Path("/y")
    assert find_state_folder({"STATE_DIRECTORY": "/a:/b", **ours}) == Path("/a")
    (tmp_path / "lib").mkdir()
    assert find_state_folder(user) == tmp_path / "lib"
    assert find_state_folder(ours) == Path("/y")


def test_cache_folder_of_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command finds what the service has built."""
    monkeypatch.setattr(cache, "SYSTEM_CACHE", tmp_path)
    assert find_cache_folder({"XDG_CACHE_HOME": "/x"}) == tmp_path / "engines"
    assert find_cache_folder({"EMOTION_EDGE_CACHE": "/y"}) == Path("/y")


def test_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user without one is told which variable to set."""

    def fail() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(bundle_selection, "SYSTEM_STATE", tmp_path / "none")
    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(BundleError, match="set EMOTION_EDGE_STATE"):
        find_state_folder({})


def test_tests_have_folders_of_their_own() -> None:
    """Neither a device's nor a user's."""
    for folder in (find_state_folder(), find_cache_folder()):
        assert "pytest" in str(folder)
    assert "STATE_DIRECTORY" not in os.environ
