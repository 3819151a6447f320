"""Selection of a bundle: transitions, the file, and the state folder."""

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


def test_new_bundle_that_starts() -> None:
    """It is on trial until it is marked good; the rollback target is the previous one."""
    on_trial = Selection().switch(A)
    assert on_trial == Selection(current=A, previous=SHIPPED, on_trial=True)
    started = on_trial.count_start().end_trial()
    assert started == Selection(current=A)
    assert started.switch(B) == Selection(current=B, previous=A, on_trial=True)


def test_new_bundle_that_fails() -> None:
    """It is rolled back after two starts, and later starts change nothing."""
    on_trial = Selection(current=A).switch(B)
    for times in range(MAX_FAILED_STARTS):
        assert fail_to_start(on_trial, times).abandon_failed().current == B
    abandoned = fail_to_start(on_trial).abandon_failed()
    assert abandoned == Selection(current=A, previous=SHIPPED, failed=B)
    assert fail_to_start(abandoned, 10) == abandoned


def test_rollback_target_was_marked_good() -> None:
    """A bundle that was replaced during its trial is no rollback target."""
    twice = Selection(current=A).switch(B).switch(C)
    assert (twice.current, twice.previous) == (C, A)
    back = Selection(current=A).switch(B).switch(A)
    assert (back.current, back.previous) == (A, SHIPPED)
    again = Selection(current=A, previous=B).switch(A)
    assert (again.current, again.previous) == (A, B)


def test_step_back() -> None:
    """The target is on trial again, except for the shipped bundle."""
    selection = Selection(current=A, previous=B, failed=C)
    back = selection.step_back()
    assert back == Selection(current=B, previous=A, on_trial=True, failed=C)
    assert back.step_back() == Selection(current=A, previous=B, on_trial=True, failed=C)
    shipped = Selection(current=A).step_back()
    assert shipped == Selection(current=SHIPPED, previous=A, on_trial=False)


def test_installing_again_clears_the_failure() -> None:
    """Only for the same bundle."""
    assert Selection(current=A, failed=B).switch(B).failed == SHIPPED
    assert Selection(current=A, failed=B).switch(C).failed == B


class History(RuleBasedStateMachine):
    """Install, roll back and start in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.selection = Selection()

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
            self.selection = self.selection.end_trial()

    @invariant()
    def is_consistent(self) -> None:
        selection = self.selection
        assert selection.failed_starts <= MAX_FAILED_STARTS
        assert selection.on_trial or selection.failed_starts == 0
        assert not (selection.on_trial and selection.current == SHIPPED)
        assert selection.previous != selection.current or selection.current == SHIPPED


TestHistory = History.TestCase


def test_file(tmp_path: Path) -> None:
    """A missing file selects the shipped bundle; an unknown key is ignored."""
    file = tmp_path / "selection.json"
    assert read_selection(file) == Selection()
    file.write_text(f'{{"format": 1, "current": "{A}", "on_trial": true, "later": 1}}')
    assert read_selection(file) == Selection(current=A, on_trial=True)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", ""),
        ("\0" * 100, ""),
        ("[]", ""),
        ('{"format": 1, "current": "../../etc"}', "current"),
        (f'{{"format": 1, "current": "{A}\\n"}}', "current"),
        (f'{{"format": 1, "current": "{A}0"}}', "current"),
        ('{"format": 1, "previous": 3}', "previous"),
        ('{"format": 1, "failed_starts": -1}', "failed_starts"),
        ('{"format": 2}', "format is 2"),
        ('{"format": 1, "x": "' + "y" * 5000 + '"}', ""),
    ],
)
def test_damaged_file(tmp_path: Path, text: str, name: str) -> None:
    """The message has the file and the key; a name cannot be a path."""
    file = tmp_path / "selection.json"
    file.write_text(text)
    with pytest.raises(BundleError, match=f"^{file}: .*{name}"):
        read_selection(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(BundleError, match=str(file)):
        read_selection(file)


def test_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd's, else the program's variable, else the service's if it exists, else the user's."""
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
    """A command finds the engines of the service."""
    monkeypatch.setattr(cache, "SYSTEM_CACHE", tmp_path)
    assert find_cache_folder({"XDG_CACHE_HOME": "/x"}) == tmp_path / "engines"
    assert find_cache_folder({"EMOTION_EDGE_CACHE": "/y"}) == Path("/y")


def test_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message names the variable to set."""

    def fail() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(bundle_selection, "SYSTEM_STATE", tmp_path / "none")
    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(BundleError, match="EMOTION_EDGE_STATE"):
        find_state_folder({})


def test_tests_have_their_own_folders() -> None:
    """No test touches those of a device or a user."""
    for folder in (find_state_folder(), find_cache_folder()):
        assert "pytest" in str(folder)
    assert "STATE_DIRECTORY" not in os.environ
