"""Where the service is deployed: its configuration file, and the user that it runs as.

An operator's commands use the same configuration, and the same user where root runs them.
"""

from __future__ import annotations

import argparse
import os
import pwd
from pathlib import Path

SERVICE_CONFIG = Path("/etc/emotion-edge/config.yaml")


def find_service_config() -> Path | None:
    """Return the configuration file of the installed service; None without one."""
    return SERVICE_CONFIG if SERVICE_CONFIG.is_file() else None


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Add --config, for the configuration file."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help=f"YAML configuration (default: {SERVICE_CONFIG} where there is one)",
    )


def add_set_argument(parser: argparse.ArgumentParser) -> None:
    """Add --set, for single settings."""
    parser.add_argument(
        "--set",
        metavar="a.b=v",
        action="append",
        default=[],
        dest="settings",
        help="override one setting of the configuration; may be repeated. A text is taken as it is,"
        " anything else is YAML",
    )


def drop_privileges_to(folder: Path) -> None:
    """Become the owner of `folder`, when root runs a command for a service with its own user.

    New files then belong to the service, and untrusted files are not read as root. The groups of
    that user give access to the GPU.
    """
    if os.geteuid() != 0 or not folder.is_dir():
        return
    status = folder.stat()
    if status.st_uid == 0:
        return
    try:
        user = pwd.getpwuid(status.st_uid)
    except KeyError:  # such as a user of a container
        os.setgroups([])
        os.setgid(status.st_gid)
    else:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.environ["HOME"] = user.pw_dir
    os.setuid(status.st_uid)
