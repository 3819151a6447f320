"""The page in a real browser: Chromium, driven by selenium. Skipped where either is missing:
apt-get install chromium chromium-driver (434 MB, too large for each build), pip install selenium.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from emotion_edge.engines.bundles import LABELS
from emotion_edge.runtime import config
from emotion_edge.runtime.messages import Estimate, FaceEstimate, RunInfo, VideoFrame
from emotion_edge.runtime.sinks.jsonl import encode_estimate
from emotion_edge.runtime.web.sink import WebSink

from ..sinks.estimates import ESTIMATE, FUSED, NOTHING
from .test_metrics import HEALTH
from .test_sink import BGR

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("chromium and chromedriver are not installed", allow_module_level=True)

OPTIONS = ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars")
FACES = (
    FaceEstimate("abcdef", (320.0, 180.0, 320.0), 0.9, "happy", 0.81, FUSED),
    FaceEstimate("ghijkl", (960.0, 360.0, 128.0), 0.9, None, 0.3, FUSED),
)
TWO = replace(ESTIMATE, index=41, faces=FACES, level="medium")
ONE_LINE_PX = 100
Browser = Any


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for name in OPTIONS:
        options.add_argument(f"--{name}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    with webdriver.Chrome(options=options, service=service) as browser:
        yield browser


def resize(browser: Browser, width: int, scheme: str = "light") -> None:
    """Show pages `width` pixels wide, in the colors of `scheme`."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def wait_for(browser: Browser, condition: str, **values: object) -> None:
    """Wait until the JavaScript `condition` holds, evaluated by the page at each frame."""
    arguments = ", ".join(values)
    script = (
        f"const done = arguments[arguments.length - 1], [{arguments}] = arguments;"
        f"const look = () => ({condition}) ? done() : requestAnimationFrame(look); look();"
    )
    browser.set_script_timeout(300)
    browser.execute_async_script(script, *values.values())


def read(browser: Browser) -> dict[str, Any]:
    """What the page shows."""
    shown: dict[str, Any] = browser.execute_script(
        """
        const text = (id) => document.getElementById(id).textContent;
        const rows = (id) => Object.fromEntries([...document.getElementById(id).children].map(
          (row) => [row.dataset.name, row.querySelector(".number").textContent]));
        const frame = document.getElementById("frame").getBoundingClientRect();
        return {
          index: document.body.dataset.index, label: text("label"), confidence: text("confidence"),
          names: [...document.getElementById("shares").children].map((row) => row.dataset.name),
          shares: rows("shares"), weights: rows("weights"), level: text("level"),
          latency: text("latency"), source: text("source"), notice: text("notice"),
          demo: !document.getElementById("demo").hidden, note: text("picture-note"),
          picture: !document.getElementById("picture").hidden, state: text("state"),
          faults: [...document.getElementById("faults").children].map((item) => item.textContent),
          boxes: [...document.querySelectorAll(".box")].map((box) => {
            const place = box.getBoundingClientRect();
            return [(place.x - frame.x) / frame.width, (place.y - frame.y) / frame.height,
                    place.width / frame.width, box.textContent];
          }),
        };
        """
    )
    return shown


def measure_label(browser: Browser) -> int:
    height: int = browser.execute_script("return document.getElementById('label').offsetHeight")
    return height


@pytest.fixture
def serve() -> Iterator[Callable[..., WebSink]]:
    """A function (settings) -> a sink whose page is served."""
    sinks: list[WebSink] = []

    def start(**settings: Any) -> WebSink:
        sink = WebSink(config.Web(**{"port": 0, **settings}), 45.0, encode_estimate)
        sinks.append(sink)
        return sink

    yield start
    for sink in sinks:
        sink.close()


class Publisher:
    """Publishes one estimate again and again, as a run does, so that it does not become stale."""

    def __init__(self, sink: WebSink) -> None:
        self.sink = sink

    def show(self, browser: Browser, estimate: Estimate) -> dict[str, Any]:
        """Publish until the page shows it. Returns what it shows then."""
        browser.set_script_timeout(300)
        for _ in range(10_000):
            self.sink.publish(replace(estimate))
            shown = read(browser)
            if shown["index"] == str(estimate.index):
                return shown
        raise AssertionError(read(browser))


def percent(share: float) -> str:
    return f"{round(100 * share)} %"


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1000, "dark"), (1920, "light")])
def test_the_page_shows_what_the_json_says(
    browser: Browser, serve: Callable[..., WebSink], width: int, scheme: str
) -> None:
    """Label, shares, weights, boxes, latency, level, faults and source; and that no image comes.
    Nothing is wider than the window, and the browser has nothing to complain about."""
    sink = serve()
    resize(browser, width, scheme)
    browser.get(sink.url)
    sink.begin(RunInfo("/dev/video0", LABELS))
    sink.show_frames(lambda: VideoFrame(0, 1, BGR))
    sink.show_health(replace(HEALTH, faults=("microphone is missing",)))
    wait_for(browser, "document.querySelector('#faults li')")
    shown = Publisher(sink).show(browser, TWO)
    line = json.loads(encode_estimate(TWO))
    assert shown["label"].lower() == line["label"]
    assert shown["confidence"] == percent(line["confidence"])
    assert shown["shares"] == {n: percent(p) for n, p in line["probabilities"].items()}
    assert shown["weights"] == {n: percent(p) for n, p in line["modalities"].items()}
    assert shown["latency"] == "12.3 of 45 ms"
    assert shown["level"] == line["level"]
    assert shown["faults"] == ["Microphone is missing"]
    assert (shown["source"], shown["demo"]) == ("/dev/video0", False)
    assert "not what a person feels" in shown["notice"]
    assert (shown["picture"], "web.picture is off" in shown["note"]) == (False, True)
    for (x, y, side), box in zip((face.box for face in FACES), shown["boxes"], strict=True):
        assert box[:3] == pytest.approx([x / 1280, y / 720, side / 1280], abs=0.01)
    assert [box[3] for box in shown["boxes"]] == ["Happy 81 %", "Not sure"]
    assert measure_label(browser) == ONE_LINE_PX
    widths = "return [document.documentElement.scrollWidth, window.innerWidth]"
    scroll_px, window_px = browser.execute_script(widths)
    assert scroll_px <= window_px == width
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    red = int(re.findall(r"\d+", ground)[0])
    assert (red < 64) if scheme == "dark" else (red > 192)
    complaints = [entry["message"] for entry in browser.get_log("browser")]
    assert [message for message in complaints if message.startswith(sink.url)] == []


def test_abstention_and_other_labels(browser: Browser, serve: Callable[..., WebSink]) -> None:
    """No label without a face and a voice, or when unsure; of another bundle its own 32."""
    sink = serve()
    resize(browser, 360)
    browser.get(sink.url)
    publisher = Publisher(sink)
    shown = publisher.show(browser, replace(NOTHING, index=1))
    assert (shown["label"], shown["confidence"]) == ("No face or voice", "")
    unsure = replace(ESTIMATE, index=2, label=None, abstained=True)
    assert publisher.show(browser, unsure)["label"] == "Not sure"
    many = {f"label <b>{n}": 1 / 32 for n in range(32)}
    shown = publisher.show(
        browser, replace(ESTIMATE, index=3, label="label <b>7", probabilities=many)
    )
    assert shown["label"] == "Label <b>7"
    assert measure_label(browser) == ONE_LINE_PX
    assert shown["names"] == list(many)
    assert browser.execute_script("return document.querySelectorAll('b').length") == 0
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360


def test_the_picture_of_the_demo(browser: Browser, serve: Callable[..., WebSink]) -> None:
    """Only when configured, and the page says so. A demo cannot be taken for a camera."""
    sink = serve(picture=True)
    resize(browser, 1920)
    browser.get(sink.url)
    clock = sink._clock
    sink.begin(RunInfo("demo", LABELS))
    sink.show_frames(lambda: VideoFrame(clock.now_ns(), 1, BGR))
    sink.show_health(HEALTH)
    publisher = Publisher(sink)
    for index in range(10_000):
        estimate = replace(TWO, index=index, t_ns=clock.now_ns())
        shown = publisher.show(browser, estimate)
        if shown["picture"] and len(shown["boxes"]) == 2 and shown["demo"]:
            break
    wait_for(browser, "document.getElementById('picture').naturalWidth === 640")
    assert "web.picture is on" in read(browser)["note"]


def test_the_page_survives_a_restart(browser: Browser, serve: Callable[..., WebSink]) -> None:
    """Of the program, and of the process that serves it, without being loaded again. Meanwhile it
    shows no old estimate."""
    sink = serve()
    port = int(sink.url.split(":")[2].strip("/"))
    browser.get(sink.url)
    browser.execute_script("window.loaded = 'once'")
    Publisher(sink).show(browser, replace(ESTIMATE, index=1))
    sink.close()
    wait_for(browser, "document.getElementById('state').textContent.startsWith('No connection')")
    shown = read(browser)
    assert (shown["label"], shown["index"], shown["boxes"]) == ("Waiting", "", [])
    again = serve(port=port)
    Publisher(again).show(browser, replace(ESTIMATE, index=2))
    assert browser.execute_script("return window.loaded") == "once"
    plotted = browser.execute_script("return points.length")
    assert plotted >= 2
