"""What a process that serves gives up."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import socket
from emotion_edge.runtime.web.isolation import forbid_files
listener = socket.create_server(("127.0.0.1", 0))
if not forbid_files():
    print("not enforced")
else:
    for path in ("/dev/null", "/etc/hostname", "/proc/self/stat", "/tmp"):
        try:
            open(path)
            print("opened", path)
        except PermissionError:
            pass
    with socket.socketpair()[0]:
        print("sockets work")
"""


def test_no_file_can_be_opened() -> None:
    """Neither a device nor a model; what is open stays usable."""
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=500
    )
    if "not enforced" in done.stdout:
        pytest.skip("the kernel has no Landlock")
    assert (done.stdout, done.stderr) == ("sockets work\n", "")
