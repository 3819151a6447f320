"""A search for better settings, by any number of processes and machines on one study.

In: a space, what judges a set of values, and the address of a database that all can reach.
Out: the best values so far. Each trial belongs to one process, and together they do as many as
were asked for. A process that is killed takes only its own trial with it, which is done again.
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
"""A trial that has not been heard of for two of these is given up for dead."""
NUM_RANDOM_TRIALS = 8
"""Trials at random points before the sampler has something to go by."""
NUM_STARTUP_TRIALS = 5
MIN_EPOCHS = 3
"""No trial is ended before so many epochs."""
OPEN_ATTEMPTS = 5

Report = Callable[[int, float | None], None]
"""Told the epochs done and the score; raises to end a trial that lags behind the others."""
Objective = Callable[[Mapping[str, float], Report], float]


@dataclass(frozen=True, slots=True)
class Range:
    """Where to look for one setting."""

    key: str
    """As after --set."""
    low: float
    high: float
    log: bool = False
    """Spread evenly over powers of ten."""


@dataclass(frozen=True, slots=True)
class BestTrial:
    """The state of a study."""

    values: dict[str, float]
    score: float
    number: int
    """Of the best trial."""
    num_trials: int
    """Finished or given up early, by all processes together."""


class _TrialsExhausted(Exception):
    """Another process has taken the last trial in the meantime."""


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
    """Try `num_trials` sets of values, those of others on this study counted in; more is better.

    The first is `start`. Each trial draws with `seed` and its own number, so no two processes draw
    alike. `purpose` says what is searched for: a study of another one is refused. Raises
    TrainingError when the database cannot be used, or no trial has come to an end.
    """
    # Its own lines would tell of trials that were only not needed as of failures.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = _open_storage(url)
    study = _open_study(storage, name, purpose, start)
    study_id = storage.get_study_id_from_name(name)

    def try_one(trial: optuna.Trial) -> float:
        # Optuna's own thread may come to its first heartbeat later than the process to its end,
        # and a trial that was never heard of is never given up.
        storage.record_heartbeat(
            storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        )
        # Numbers are given out one by one by the database, whoever asks.
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
                raise optuna.TrialPruned(f"behind the others after epoch {epoch}")

        try:
            score = objective(values, report)
        except DivergedError as error:
            log.info("trial %d: %s", trial.number, error)
            raise optuna.TrialPruned(str(error)) from error
        except optuna.TrialPruned as lag:
            log.info("trial %d: %s", trial.number, lag)
            raise
        log.info("trial %d: %.4f with %s", trial.number, score, values)
        return score

    while _count_trials(study) < num_trials:
        study.optimize(try_one, n_trials=1, catch=(_TrialsExhausted,))
    return _read_best(study)


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
        # Another process may have made it a moment ago and not have said so yet.
        found = study.user_attrs.get("purpose", purpose)
    except (optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise TrainingError(f"study {name!r}: {_first_line(error)}") from error
    if found != purpose:
        raise TrainingError(
            f"study {name!r} searches {found}, not {purpose}: choose another --study"
        )
    return study


def _open_storage(url: str) -> optuna.storages.RDBStorage:
    """Processes that start together may both find no tables and both make them: try again."""
    for attempt in range(OPEN_ATTEMPTS):
        try:
            with warnings.catch_warnings():
                # The heartbeat is called experimental, since version 2.9.
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.storages.RDBStorage(url, heartbeat_interval=HEARTBEAT_S)
        except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.IntegrityError) as error:
            if attempt == OPEN_ATTEMPTS - 1:
                raise TrainingError(f"{_hide(url)}: {_first_line(error)}") from error
            time.sleep(random.uniform(0.1, 0.5))
        except (
            ImportError,
            ValueError,
            RuntimeError,
            optuna.exceptions.OptunaError,
            sqlalchemy.exc.SQLAlchemyError,
        ) as error:
            raise TrainingError(f"{_hide(url)}: {_first_line(error)}") from error
    raise AssertionError("every attempt returns or raises")


def _hide(url: str) -> str:
    """The address without its password."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return "storage address (wanted such as sqlite:///study.db or postgresql://host/name)"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _count_trials(study: optuna.Study, below: int | None = None) -> int:
    """Trials that are done or being done, and those set aside to be done first."""
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
            f"study {study.study_name!r}: none of its {len(done)} trials has come to an end"
        )
    best = study.best_trial
    return BestTrial(dict(best.params), float(best.values[0]), best.number, len(done))
