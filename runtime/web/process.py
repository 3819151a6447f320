"""The process that serves one listener: started, fed through a socket pair, started again.

It inherits the listener, its end of the pair and stderr, nothing else. It ends when this process
does, since the pair is then closed.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from contextlib import suppress

import msgspec

from ..clock import Clock, MonotonicClock
from ..faults import FaultLog
from .wire import SETTINGS, Settings

log = logging.getLogger(__name__)

FIRST_DELAY_NS = 500_000_000
MAX_DELAY_NS = 30_000_000_000
SETTLED_NS = 20_000_000_000
"""A process that has run this long is started again without a delay."""
HANG_NS = 10_000_000_000
"""A process that reads nothing for this long is killed."""
BUFFER_BYTES = 1 << 20
"""Of the socket pair; the kernel may permit less. A page's picture takes up to 100 kB."""
CLOSE_TIMEOUT_S = 2.0
# The modules are found as in this process, also where it was started from a folder of sources.
START = (
    "import sys; sys.path[:] = sys.argv.pop(1).splitlines();"
    f" from {__package__}.server import main; main()"
)


class ServerProcess:
    """One process at a time, for one thread here. `send` never blocks."""

    def __init__(
        self,
        listener: socket.socket,
        settings: Settings,
        clock: Clock | None = None,
    ) -> None:
        """Nothing is started before `tick`. This object owns `listener`."""
        self.port = int(listener.getsockname()[1])
        self.dropped = 0
        """Messages that the process had no room for."""
        self._listener = listener
        self._settings = SETTINGS + msgspec.json.encode(settings)
        self._name = f"{settings.site} on port {self.port}"
        self._clock = clock or MonotonicClock()
        self._faults = FaultLog(log, f"{self._name} is served again", self._clock)
        self._process: subprocess.Popen[bytes] | None = None
        self._pair: socket.socket | None = None
        self._started_ns = self._due_ns = self._sent_ns = self._clock.now_ns()
        self._delay_ns = 0

    @property
    def fault(self) -> str:
        """Why nothing is served; "" for no reason."""
        return self._faults.fault

    @property
    def pid(self) -> int | None:
        """Of the present process."""
        return None if self._process is None else self._process.pid

    def tick(self) -> bool:
        """Start the process if it is due, and notice its end. Return whether it has just been
        started: what it has to know must be sent again."""
        now_ns = self._clock.now_ns()
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                if self.fault and now_ns - self._started_ns > FIRST_DELAY_NS:
                    self._faults.log_transition("", logging.INFO)
                return False
            self._forget(now_ns, code)
        if now_ns < self._due_ns:
            return False
        try:
            self._start()
        except OSError as error:
            self._wait_longer(now_ns)
            self._faults.log_transition(f"{self._name}: cannot be started: {error.strerror}")
            return False
        self._started_ns = self._sent_ns = now_ns
        return self.send(self._settings)

    def send(self, message: bytes) -> bool:
        """Send a message, or drop and count it. Return whether it was sent."""
        if self._pair is None:
            return False
        try:
            self._pair.send(message)
        except (BlockingIOError, InterruptedError):
            now_ns = self._clock.now_ns()
            if now_ns - self._sent_ns > HANG_NS and self._process is not None:
                self._process.kill()  # the next tick notices
        except OSError:  # too long, or the process has just ended
            pass
        else:
            self._sent_ns = self._clock.now_ns()
            return True
        self.dropped += 1
        return False

    def close(self) -> None:
        """End the process and stop listening. Takes `CLOSE_TIMEOUT_S` at most."""
        self._listener.close()
        if self._pair is not None:
            self._pair.close()
            self._pair = None
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # it keeps nothing
            with suppress(subprocess.TimeoutExpired):
                process.wait(CLOSE_TIMEOUT_S)

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
                ours.setblocking(False)
                fds = theirs.fileno(), self._listener.fileno()
                environment = {k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"}
                path = "\n".join(sys.path)
                self._process = subprocess.Popen(
                    [sys.executable, "-c", START, path, *map(str, fds), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=fds,
                    env=environment,
                    start_new_session=True,  # a Ctrl-C is for this process
                )
        except OSError:
            ours.close()
            raise
        self._pair = ours

    def _forget(self, now_ns: int, code: int) -> None:
        """Note that the process has ended with `code`."""
        if self._pair is not None:
            self._pair.close()
        self._process = self._pair = None
        if now_ns - self._started_ns >= SETTLED_NS:
            self._delay_ns = 0
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._faults.log_transition(f"{self._name}: its process has ended ({cause})")
        self._wait_longer(now_ns)

    def _wait_longer(self, now_ns: int) -> None:
        self._due_ns = now_ns + self._delay_ns
        self._delay_ns = min(max(2 * self._delay_ns, FIRST_DELAY_NS), MAX_DELAY_NS)
