"""Reads one camera of the virtual device with the V4L2 source and prints a report as JSON.

It runs in the virtual device with the installed program.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np

from emotion_edge.runtime.capture import v4l2_uapi as abi
from emotion_edge.runtime.capture.camera import CameraSettings
from emotion_edge.runtime.capture.reconnect import ReconnectingVideo
from emotion_edge.runtime.capture.v4l2_camera import V4l2Camera
from emotion_edge.runtime.capture.v4l2_device import RAW_FORMATS, Handle
from emotion_edge.runtime.clock import MonotonicClock
from emotion_edge.runtime.messages import VideoFrame


class FaultyHandle(Handle):
    """Refuses memory of the program, or requests longer rows than the frame needs."""

    refuse_userptr = False
    more_row_bytes = 0

    def ioctl(self, number: int, argument: Any) -> None:
        if number == abi.REQBUFS and argument.memory == abi.MEMORY_USERPTR and self.refuse_userptr:
            raise OSError(22, "refused by the test")
        if number == abi.S_FMT and self.more_row_bytes:
            pix = argument.fmt.pix
            probe = abi.Format.from_buffer_copy(argument)
            super().ioctl(number, probe)
            pix.bytesperline = probe.fmt.pix.bytesperline + self.more_row_bytes
        super().ioctl(number, argument)


def describe(frame: VideoFrame) -> dict[str, Any]:
    """Return what a test checks. A torn frame has more than one luma."""
    luma = frame.image[: frame.image.shape[0] * 2 // 3] if frame.image.ndim == 2 else frame.image
    luma = luma[..., 0] if luma.ndim == 3 else luma
    return {
        "index": frame.index,
        "t_ns": frame.t_ns,
        "late_ms": (time.monotonic_ns() - frame.t_ns) / 1e6,
        "least": int(luma.min()),
        "most": int(luma.max()),
    }


def control(device: str, setting: str) -> None:
    subprocess.run(["v4l2-ctl", "-d", device, f"--set-ctrl={setting}"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("device")
    parser.add_argument("--size", type=int, nargs=2, default=[640, 360])
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--format", help="use this V4L2 format only")
    parser.add_argument("--mmap", action="store_true")
    parser.add_argument("--more-row-bytes", type=int, default=0)
    parser.add_argument("--hold", type=int, default=0, help="number of frames to keep in use")
    parser.add_argument("--pause-s", type=float, default=0, help="pause after each frame")
    parser.add_argument("--fault", help="control of vivid to set after ten frames")
    parser.add_argument("--image", default="/tmp/image.npy", help="file for the last frame")
    parser.add_argument("--close-after-s", type=float, help="from another thread")
    args = parser.parse_args()
    if args.format:
        only = {args.format: RAW_FORMATS[args.format]}
        RAW_FORMATS.clear()
        RAW_FORMATS.update(only)
    FaultyHandle.refuse_userptr, FaultyHandle.more_row_bytes = args.mmap, args.more_row_bytes

    clock = MonotonicClock()
    cameras: list[V4l2Camera] = []

    def open_camera() -> V4l2Camera:
        settings = CameraSettings(*args.size, args.fps)
        camera = V4l2Camera(args.device, clock, settings, open_handle=FaultyHandle)
        cameras.append(camera)
        return camera

    source = ReconnectingVideo("camera", open_camera, clock)
    if args.close_after_s is not None:
        threading.Timer(args.close_after_s, source.close).start()
    frames: list[dict[str, Any]] = []
    held: list[VideoFrame] = []
    copies: list[tuple[VideoFrame, bytes]] = []
    began_s = time.monotonic()
    frame: VideoFrame | None = None
    while len(frames) < args.count:
        frame = source.read()
        if frame is None:
            break
        frames.append(describe(frame))
        if args.hold:
            held = [*held, frame][-args.hold :]
            copies = [*copies, (frame, frame.image.tobytes())][-args.hold :]
        if len(frames) == 10 and args.fault:
            control(args.device, args.fault)
        time.sleep(args.pause_s)
    report = {
        "seconds": time.monotonic() - began_s,
        "frames": frames,
        "path": [
            cameras[-1].path.copies_per_frame,
            cameras[-1].path.clock_domain,
            cameras[-1].path.zero_copy,
        ],
        "openings": len(cameras),
        "bad": sum(camera.corrupt_frames for camera in cameras),
        "stale": sum(camera.stale_frames for camera in cameras),
        "unchanged": all(frame.image.tobytes() == bytes_ for frame, bytes_ in copies),
    }
    if frame is not None:
        report |= {"format": frame.format, "strides": frame.image.strides}
        np.save(args.image, frame.image)
    source.close()
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
