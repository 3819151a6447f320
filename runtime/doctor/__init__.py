"""`emotion-edge doctor`: checks of everything a run needs, with the remedy of each fault."""

from .report import run_checks, run_doctor

__all__ = ["run_checks", "run_doctor"]
