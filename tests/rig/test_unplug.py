"""Devices are unplugged and plugged in again: the service goes on, logs it once, and recovers."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from .device import Device, Recovered
from .machine import Machine

VIVID = "/sys/bus/platform/drivers/vivid"
CONNECTOR = "/sys/class/drm/card0-Virtual-1/status"
CAMERA_LOST = "camera /dev/emotion-edge-camera is missing"
LOST_S = 15
BACK_S = 30


def check_same_process(device: Device, before: int) -> None:
    """The process is the same, and it sends estimates."""
    device.wait_estimate(10)
    assert device.process == before
    assert device.show("NRestarts") == "0"


@pytest.mark.rig_core
def test_camera_unplugged(device: Device, recovered: Recovered) -> None:
    """The status line has the fault, for longer than the watchdog interval, until the camera is
    back."""
    before = device.process
    device.run(f"echo vivid.0 >{VIVID}/unbind")
    device.wait_status(CAMERA_LOST, LOST_S)
    device.run("sleep 13")
    assert CAMERA_LOST in device.show("StatusText")
    device.run(f"echo vivid.0 >{VIVID}/bind")
    recovered("camera plugged in again", device.wait_healthy(BACK_S))
    check_same_process(device, before)
    lost = [line for line in device.journal().splitlines() if "emotion-edge-camera lost" in line]
    assert 1 <= len(lost) == len(set(lost))  # each cause once: the stream ends, then no device
    assert device.count("emotion-edge-camera is back") == 1


@pytest.mark.parametrize("fault", ["disconnect=1", "inject_fatal_streaming_error=1"])
def test_stream_breaks(device: Device, recovered: Recovered, fault: str) -> None:
    """The driver ends the stream: the camera is reopened."""
    before = device.process
    device.run(f"v4l2-ctl -d /dev/video10 --set-ctrl={fault}")
    device.wait("the loss", lambda: device.count("emotion-edge-camera lost") >= 1, LOST_S)
    device.run("v4l2-ctl -d /dev/video10 --set-ctrl=disconnect=0", check=False)
    recovered(f"stream broken ({fault.split('=', maxsplit=1)[0]})", device.wait_healthy(BACK_S))
    check_same_process(device, before)


def test_buffers_are_dropped(device: Device) -> None:
    """A fifth of the frames is lost: there are fewer estimates and no fault."""
    before = device.process
    device.run("v4l2-ctl -d /dev/video10 --set-ctrl=percentage_of_dropped_buffers=20")
    for _ in range(10):
        device.wait_estimate(5)
    check_same_process(device, before)
    device.wait_healthy(10)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Raw frames with moving stripes."""
    clip = np.full((10, 480, 640, 2), 128, np.uint8)
    for number, image in enumerate(clip):
        image[..., 0] = (np.arange(640) // 64 + number) % 2 * 180 + 30
    file = tmp_path / "stripes.yuyv"
    clip.tofile(file)
    return file


def test_frozen_camera(device: Device, video: Path, recovered: Recovered) -> None:
    """A camera without frames is a fault until it goes on."""
    device.play_video(video)
    device.configure(
        ("/dev/emotion-edge-camera", "/dev/video0"), ("camera_fps: 15", "camera_fps: 10")
    )
    device.wait_ready()
    device.wait_healthy(30)
    before, restarts = device.process, device.show("NRestarts")
    device.run("systemctl kill --signal=STOP video")
    device.wait_status("camera /dev/video0 is missing", LOST_S)
    device.run("systemctl kill --signal=CONT video")
    recovered("frozen camera goes on", device.wait_healthy(BACK_S))
    assert (device.process, device.show("NRestarts")) == (before, restarts)


def test_microphone_unplugged(device: Device, recovered: Recovered) -> None:
    """Frames go on, and the status line has the fault, until the microphone is back."""
    before = device.process
    device.run("echo snd_aloop.0 >/sys/bus/platform/drivers/snd_aloop/unbind")
    device.wait_status("microphone hw:0,1 is missing", LOST_S)
    device.wait_estimate(10)
    device.run("echo snd_aloop.0 >/sys/bus/platform/drivers/snd_aloop/bind")
    recovered("microphone plugged in again", device.wait_healthy(BACK_S))
    check_same_process(device, before)


def test_monitor_unplugged(device: Device, recovered: Recovered) -> None:
    """The screen is the capture indicator: without it nothing is captured. When it is back, capture
    and drawing continue."""
    before = device.process
    device.run(f"echo off >{CONNECTOR}")
    device.wait_status("no monitor", LOST_S)
    device.run("sleep 13")
    device.run(f"echo on >{CONNECTOR}")
    recovered("monitor plugged in again", device.wait_healthy(BACK_S))
    check_same_process(device, before)
    assert len(set(device.machine.screen()[2])) > 20


def test_boots_without_monitor_camera_or_microphone(fresh: Machine) -> None:
    """The service becomes ready without any device, and uses each when it is plugged in."""
    fresh.start(fresh=True, kernel="systemd.mask=systemd-modules-load.service video=Virtual-1:d")
    device = Device(fresh)
    device.wait_ready(90)
    assert "is missing" in device.show("StatusText") or "not capturing" in device.show("StatusText")
    device.run(f"echo on >{CONNECTOR}; modprobe snd-aloop; modprobe vivid")
    device.wait_healthy(60)
    device.wait_estimate(10)


def test_serial_adapter_unplugged(fresh: Machine, tmp_path: Path, recovered: Recovered) -> None:
    """It has the same name when it is back, and estimates continue."""
    path = tmp_path / "usb"
    extra = [
        *("-device", "qemu-xhci", "-device", "usb-serial,chardev=usb"),
        *("-chardev", f"socket,id=usb,path={path},server=on,wait=off"),
    ]
    fresh.start(fresh=True, extra=extra)
    device = Device(fresh)

    def plug() -> tuple[socket.socket, threading.Event]:
        """Connect to the other end: the guest has the adapter as long as the connection lasts."""
        received = threading.Event()
        line = socket.socket(socket.AF_UNIX)
        line.connect(str(path))

        def listen() -> None:
            with suppress(OSError):
                while data := line.recv(4096):
                    if b'"label"' in data:
                        received.set()

        threading.Thread(target=listen, daemon=True).start()
        return line, received

    line, received = plug()
    device.wait("the adapter", lambda: "ttyUSB0" in device.run("ls /dev"), 20)
    name = device.run("ls /dev/serial/by-id/* | head -1")
    device.configure(("serial:/dev/emotion-edge-serial", f"serial:{name}"))
    device.wait_ready(90)
    assert received.wait(30), device.explain()
    before = device.process
    line.shutdown(socket.SHUT_RDWR)
    line.close()
    device.wait_status(f"serial {name}", LOST_S)
    device.run("sleep 3")
    line, received = plug()
    took_s = device.wait("estimates on it", lambda: received.wait(0.1), BACK_S)
    recovered("serial adapter plugged in again", took_s)
    assert device.process == before
    line.close()


def test_user_without_groups(device: Device) -> None:
    """The log names the missing group of each device."""
    for group in ("video", "dialout"):
        device.run(f"gpasswd --delete emotion-edge {group}")
    device.run("systemctl restart --no-block emotion-edge")
    device.wait("the reason", lambda: "group dialout" in device.journal("--lines 30"), 60)
    assert "group video" in device.journal("--lines 30")
