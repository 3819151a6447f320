"""The Dockerfile, without building it, and the health check of its image."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parent.parent
CHECK = ROOT / "scripts" / "check_health"

if not (ROOT / "Dockerfile").is_file():
    pytest.skip("there are no sources beside the tests", allow_module_level=True)

STEPS = [
    step.split(maxsplit=1)
    for step in (ROOT / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    if step and not step.startswith("#")
]


def list_copied() -> list[str]:
    copies = [rest.split()[:-1] for name, rest in STEPS if name == "COPY"]
    return [source for sources in copies if "--from=build" not in sources for source in sources]


def test_everything_that_is_copied_exists_and_is_sent() -> None:
    """`.dockerignore` lets through what the Dockerfile copies, and nothing else."""
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"]
    for source in list_copied():
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in sent), source
    for pattern in sent:
        assert any(fnmatch(source, pattern) for source in list_copied()), pattern


def test_every_folder_of_the_package_is_copied() -> None:
    folders = re.findall(r'^    "(\w+)",$', (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert set(folders) <= set(list_copied())


def test_image_runs_as_a_user_who_owns_only_the_cache() -> None:
    """The last stage has the user, the health check and the command, in that order."""
    last = STEPS[max(n for n, (name, _) in enumerate(STEPS) if name == "FROM") :]
    names = [name for name, _ in last]
    assert dict(last)["USER"] not in {"root", "0"}
    assert names.index("USER") < names.index("HEALTHCHECK") < names.index("ENTRYPOINT")
    assert "--chown" not in str(last)


def test_base_is_an_argument() -> None:
    assert STEPS[0] == ["ARG", "BASE=debian:bookworm-slim"]
    assert {rest.split()[0] for name, rest in STEPS if name == "FROM"} == {"${BASE}"}


def test_libraries_are_installed_by_their_hashes() -> None:
    runs = [rest for name, rest in STEPS if name == "RUN"]
    installs = [part for run in runs for part in re.findall(r"pip install.*?(?=&&|;|$)", run)]
    assert len(installs) == 5
    own = [part for part in installs if "--require-hashes" not in part]
    assert [re.sub(r"\s+", " ", part).strip() for part in own] == [
        "pip install -q --no-deps --no-build-isolation ."
    ]


class Growing(BaseHTTPRequestHandler):
    """Counts its own answers."""

    count = 0

    def do_GET(self) -> None:
        Growing.count += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"emotion_edge_pictures_total %d.0\n" % Growing.count)

    def log_message(self, *_: object) -> None: ...


def test_sbom_names_what_wheels_bundle(tmp_path: Path) -> None:
    """The codecs under the GPL above all, and the FFmpeg that is built with them."""
    files = ["av.libs/libx264-d6533a8d.so.165", "av.libs/libavcodec-5e6b81c2.so.62.28"]
    files += ["opencv_python_headless.libs/libavcodec-57aca189.so.62.28"]
    files += ["gone.libs/liba-00000000.so"]
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    names = ("av", "opencv-python-headless")
    document = {"components": [{"name": name, "bom-ref": f"{name}==1"} for name in names]}
    runpy.run_path(str(ROOT / "scripts" / "make_sbom"))["add_bundled"](document, tmp_path)
    found = {
        (part["name"], inner["name"], inner["version"], "licenses" in inner)
        for part in document["components"]
        for inner in part["components"]
    }
    assert found == {
        ("av", "libavcodec", "62.28", True),
        ("av", "libx264", "165", True),
        ("opencv-python-headless", "libavcodec", "62.28", False),
    }


def check(port: int) -> int:
    program = f"import runpy, time; time.sleep = lambda s: None; runpy.run_path({str(CHECK)!r}, "
    program += "run_name='__main__')"
    command = [sys.executable, "-c", program, str(port)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


def test_healthy_while_estimates_come() -> None:
    with HTTPServer(("127.0.0.1", 0), Growing) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            assert check(server.server_port) == 0
        finally:
            server.shutdown()
            thread.join()
    assert check(server.server_port) == 1
