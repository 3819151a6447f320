"""Cases of a fuzzer: how many, and within which bounds each must end."""

from __future__ import annotations

import random
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LIMIT_S = 60
"""Of one case. All take milliseconds, on the slowest machine less than a second."""
MEMORY_BYTES = 256 << 20
"""What a case may add to the memory of the tests."""
MAX_LETTERS = 2_000
"""Of a message."""

Case = Callable[[random.Random], None]
Fuzz = Callable[[int, Case], None]


@pytest.fixture
def fuzz(request: pytest.FixtureRequest, bounds: None) -> Fuzz:
    """Run a number of cases, or that of `--many`, each from a seed of its own that a failure
    names."""
    del bounds
    many = request.config.getoption("--many")

    def run(count: int, case: Case) -> None:
        for seed in range(many or count):
            signal.alarm(LIMIT_S)
            try:
                case(random.Random(seed))
            except BaseException as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}") from error
            finally:
                signal.alarm(0)

    return run


@pytest.fixture
def bounds() -> Iterator[None]:
    """An allocation of gigabytes fails, and so does what does not end."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    pages = int(Path("/proc/self/statm").read_text().split()[5])
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    before = signal.signal(signal.SIGALRM, give_up)
    yield
    signal.signal(signal.SIGALRM, before)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def assert_one_line(error: Exception) -> None:
    """The message can be shown anywhere."""
    message = str(error)
    assert message.isprintable()
    assert 0 < len(message) <= MAX_LETTERS
