"""The machine: its sensors and its description.

`open_board` detects a Jetson or a PC; `Board.read` returns the sensors; `describe_machine` returns
what a benchmark depends on. The readers of /sys files serve other folders too.
"""

from .linux import measures_processor, read_governor
from .machine import describe_machine, is_jetson, name_jetpack, open_board, read_l4t
from .status import MB, Board, BoardStatus
from .sysfs import list_names, read_bytes, read_name, read_number, read_text

__all__ = [
    "MB",
    "Board",
    "BoardStatus",
    "describe_machine",
    "is_jetson",
    "list_names",
    "measures_processor",
    "name_jetpack",
    "open_board",
    "read_bytes",
    "read_governor",
    "read_l4t",
    "read_name",
    "read_number",
    "read_text",
]
