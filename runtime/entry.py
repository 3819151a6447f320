"""The program `emotion-edge` as it is installed.

In: the command line. Out: the exit code. Ctrl-C ends it silently at any moment, also while Python
loads it or is torn down; in between, `run_guarded` decides. SIGUSR1, which asks a run for a trace,
ends none that is still loading.
"""

from __future__ import annotations

import signal


def main() -> int:
    """Run the command line and return its exit code."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # A shell that runs it in the background has it ignore SIGINT.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .__main__ import main as run_command_line

    return run_command_line()
