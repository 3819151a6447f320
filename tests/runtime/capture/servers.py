"""Servers on the loopback interface: files and live streams over HTTP, a stream over RTSP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"


@dataclass
class Page:
    """What a path of the server answers."""

    data: bytes
    is_live: bool = False
    """Send no length, and `data` in pieces as `allow` is released."""
    content_type: str = "application/octet-stream"
    user: str = ""
    """"name:password" that it wants, encoded in base64."""
    allow: threading.Semaphore | None = None


@dataclass
class Server:
    address: str
    pages: dict[str, Page]
    requests: list[str] = field(default_factory=list)


@contextmanager
def serve_http(pages: dict[str, Page], port: int = 0) -> Iterator[Server]:
    """Serve `pages` by path, without the query. `port` 0: a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append(self.path)
            page = pages.get(self.path.partition("?")[0])
            if page is None:
                self.send_error(404)
                return
            if page.user and self.headers.get("Authorization") != f"Basic {page.user}":
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="x"')
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", page.content_type)
            if not page.is_live:
                self.send_header("Content-Length", str(len(page.data)))
            self.end_headers()
            with suppress(OSError):  # the client has gone
                for at in range(0, len(page.data), 1 << 14):
                    if page.allow is not None:
                        page.allow.acquire()
                    self.wfile.write(page.data[at : at + (1 << 14)])
                    self.wfile.flush()

        def log_message(self, *_: object) -> None: ...

    http = ThreadingHTTPServer((HOST, port), Handler)
    http.daemon_threads = True
    server = Server(f"{HOST}:{http.server_port}", pages)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


_SDP = f"""v=0\r
o=- 0 0 IN IP4 {HOST}\r
s=test\r
c=IN IP4 {HOST}\r
t=0 0\r
m=video 0 RTP/AVP 33\r
a=control:track1\r
"""
_TS_PACKETS = 7 * 188


@contextmanager
def serve_rtsp(stream: bytes, user: str = "") -> Iterator[Server]:
    """Send an MPEG transport stream as RTP in the connection of RTSP itself, to every client."""
    listener = socket.create_server((HOST, 0))
    server = Server(f"{HOST}:{listener.getsockname()[1]}", {})
    clients: list[threading.Thread] = []

    def answer(client: socket.socket) -> None:
        with client, suppress(OSError), client.makefile("rwb") as wire:
            while line := wire.readline():
                method, url, _ = line.decode().split()
                server.requests.append(f"{method} {url}")
                headers = {}
                while header := wire.readline().strip():
                    name, _, value = header.decode().partition(": ")
                    headers[name.lower()] = value
                body, extra, status = "", "Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n", "200 OK"
                if user and method != "OPTIONS" and headers.get("authorization") != f"Basic {user}":
                    status, extra = "401 Unauthorized", 'WWW-Authenticate: Basic realm="x"\r\n'
                elif method == "DESCRIBE":
                    body, extra = _SDP, "Content-Type: application/sdp\r\n"
                elif method == "SETUP":
                    extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
                elif method == "PLAY":
                    extra = "Session: 1\r\n"
                length = f"Content-Length: {len(body)}\r\n" if body else ""
                number = headers["cseq"]
                head = f"RTSP/1.0 {status}\r\nCSeq: {number}\r\n{extra}{length}\r\n"
                wire.write((head + body).encode())
                wire.flush()
                if method == "PLAY":
                    for count, at in enumerate(range(0, len(stream), _TS_PACKETS)):
                        payload = stream[at : at + _TS_PACKETS]
                        rtp = b"\x80\x21" + count.to_bytes(2, "big") + bytes(4) + b"test" + payload
                        wire.write(b"$\0" + len(rtp).to_bytes(2, "big") + rtp)
                    wire.flush()
                    return

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                clients.append(threading.Thread(target=answer, args=(client,), daemon=True))
                clients[-1].start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
