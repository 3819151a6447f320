"""Hyperparameter search by any number of processes and machines that share one study.

In: a search space, an objective, and the URL of a database that all processes reach. Out: the best
values so far. Each trial belongs to one process, and all processes together run the requested
number. The trial of a killed process is run again by another.
"""

from __future__ import annotations

import logging
import random
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import optuna
import sqlalchemy
from optuna.trial import TrialState

from ..errors import DivergedError, TrainingError

log = logging.getLogger(__name__)

HEARTBEAT_S = 60
"""A trial without a heartbeat for twice this time counts as failed."""
NUM_RANDOM_TRIALS = 8
"""Trials at random points before the sampler models the results."""
NUM_STARTUP_TRIALS = 5
"""Complete trials before poor ones are pruned."""
MIN_EPOCHS = 3
"""No trial is pruned before this epoch."""
OPEN_ATTEMPTS = 5
POLL_S = 5.0
"""Time between two looks at the last trials of other processes."""

Report = Callable[[int, float | None], None]
"""Called with the epochs done and the score; raises to prune a poor trial."""
Objective = Callable[[Mapping[str, float], Report], float]
"""(values by key, report) -> score, more is better."""


@dataclass(frozen=True, slots=True)
class Range:
    """Search range of one setting."""

    key: str
    """Dotted key, as of --set."""
    low: float
    high: float
    log: bool = False
    """Sample on a logarithmic scale."""


@dataclass(frozen=True, slots=True)
class BestTrial:
    """The best trial of a study, and the number of trials."""

    values: dict[str, float]
    score: float
    number: int
    """Number of the best trial."""
    num_trials: int
    """Complete and pruned trials of all processes."""


class _TrialsExhausted(Exception):
    """Another process has started the last trial in the meantime."""


def search(
    objective: Objective,
    space: tuple[Range, ...],
    start: Mapping[str, float],
    num_trials: int,
    url: str,
    name: str,
    purpose: str,
    seed: int = 0,
) -> BestTrial:
    """Run trials until the study has `num_trials`, those of other processes included, and wait for
    the ends of theirs: every process returns the same trial. One that dies is run again.

    The first trial is `start`. Each trial samples with `seed` and its own number, so that no two
    processes sample alike. `purpose` describes the objective: a study of another one is refused.
    Raises TrainingError when the database cannot be used, or no trial is complete.
    """
    # Optuna logs surplus trials as failures.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = _open_storage(url)
    study = _open_study(storage, name, purpose, start)
    study_id = storage.get_study_id_from_name(name)

    def run_trial(trial: optuna.Trial) -> float:
        # The process may end before Optuna's thread records the first heartbeat, and a trial
        # without any heartbeat never counts as failed.
        storage.record_heartbeat(
            storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        )
        # The database numbers the trials of all processes.
        if _count_trials(study, below=trial.number) >= num_trials:
            raise _TrialsExhausted
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=NUM_RANDOM_TRIALS, seed=(seed * 100_003 + trial.number) % 2**32
        )
        values = {r.key: trial.suggest_float(r.key, r.low, r.high, log=r.log) for r in space}

        def report(epoch: int, score: float | None) -> None:
            if score is None:
                return
            trial.report(score, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned(f"pruned after epoch {epoch}")

        try:
            score = objective(values, report)
        except DivergedError as error:
            log.info("trial %d: %s", trial.number, error)
            raise optuna.TrialPruned(str(error)) from error
        except optuna.TrialPruned as reason:
            log.info("trial %d: %s", trial.number, reason)
            raise
        log.info("trial %d: %.4f with %s", trial.number, score, values)
        return score

    is_waiting = False
    while True:
        while _count_trials(study) < num_trials:
            study.optimize(run_trial, n_trials=1, catch=(_TrialsExhausted,))
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if not running:
            return _read_best(study)
        if not is_waiting:
            log.info("waiting for %d trials of other processes", len(running))
            is_waiting = True
        time.sleep(POLL_S)


def _open_study(
    storage: optuna.storages.RDBStorage, name: str, purpose: str, start: Mapping[str, float]
) -> optuna.Study:
    pruner = optuna.pruners.MedianPruner(NUM_STARTUP_TRIALS, MIN_EPOCHS)
    try:
        try:
            study = optuna.create_study(
                storage=storage, study_name=name, direction="maximize", pruner=pruner
            )
            study.set_user_attr("purpose", purpose)
            study.enqueue_trial(dict(start))
        except optuna.exceptions.DuplicatedStudyError:
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize",
                pruner=pruner,
                load_if_exists=True,
            )
        # A process that has just created the study may not have set its purpose yet.
        stored = study.user_attrs.get("purpose", purpose)
    except (optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise TrainingError(f"study {name!r}: {_first_line(error)}") from error
    if stored != purpose:
        raise TrainingError(
            f"study {name!r} searches {stored}, not {purpose}: choose another --study"
        )
    return study


def _open_storage(url: str) -> optuna.storages.RDBStorage:
    """Open the database; retry, because processes may try to create the tables at the same time."""
    for attempt in range(OPEN_ATTEMPTS):
        try:
            with warnings.catch_warnings():
                # The heartbeat has been experimental since version 2.9.
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.storages.RDBStorage(url, heartbeat_interval=HEARTBEAT_S)
        except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.IntegrityError) as error:
            if attempt == OPEN_ATTEMPTS - 1:
                raise TrainingError(f"{_hide_password(url)}: {_first_line(error)}") from error
            time.sleep(random.uniform(0.1, 0.5))
        except (
            ImportError,
            ValueError,
            RuntimeError,
            optuna.exceptions.OptunaError,
            sqlalchemy.exc.SQLAlchemyError,
        ) as error:
            raise TrainingError(f"{_hide_password(url)}: {_first_line(error)}") from error
    raise AssertionError("every attempt returns or raises")


def _hide_password(url: str) -> str:
    """Return the URL without its password."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return "storage URL (expected for example sqlite:///study.db or postgresql://host/name)"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _count_trials(study: optuna.Study, below: int | None = None) -> int:
    """Count complete, pruned and running trials, or with `below` all unfailed ones before it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    trials = study.get_trials(deepcopy=False)
    if below is None:
        return sum(t.state not in (TrialState.FAIL, TrialState.WAITING) for t in trials)
    return sum(t.state != TrialState.FAIL and t.number < below for t in trials)


def _read_best(study: optuna.Study) -> BestTrial:
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    if not any(trial.state == TrialState.COMPLETE for trial in done):
        raise TrainingError(
            f"study {study.study_name!r}: none of its {len(done)} trials is complete"
        )
    best = study.best_trial
    return BestTrial(dict(best.params), float(best.values[0]), best.number, len(done))
