"""The service's configuration: what an operator's commands go by, so that they ask of the machine
what the service will."""

from __future__ import annotations

import argparse
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
