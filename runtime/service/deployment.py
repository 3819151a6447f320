"""The service's configuration: what an operator's commands go by, so that they ask of the machine
what the service will.

Who a command is that root types on a device: the owner of the folder that it writes to.
"""

from __future__ import annotations

import argparse
import os
import pwd
from pathlib import Path

SERVICE_CONFIG = Path("/etc/emotion-edge/config.yaml")


def find_service_config() -> Path | None:
    """None where no service is installed."""
    return SERVICE_CONFIG if SERVICE_CONFIG.is_file() else None


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help=f"YAML configuration (default: {SERVICE_CONFIG} where there is one)",
    )


def add_set_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        metavar="a.b=v",
        action="append",
        default=[],
        dest="settings",
        help="override one setting of the configuration; may be repeated",
    )


def drop_privileges_to(folder: Path) -> None:
    """Where root runs this for a service with a user of its own: what is made shall be the
    service's, and what is read was brought by anybody. The groups of that user open the GPU."""
    if os.geteuid() != 0 or not folder.is_dir():
        return
    status = folder.stat()
    if status.st_uid == 0:
        return
    try:
        user = pwd.getpwuid(status.st_uid)
    except KeyError:  # a user of a container, say
        os.setgroups([])
        os.setgid(status.st_gid)
    else:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.environ["HOME"] = user.pw_dir
    os.setuid(status.st_uid)
