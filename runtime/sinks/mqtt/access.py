"""What a broker wants to see before it lets a device in: certificates, user and password.

In: names of files in the configuration. Out: an `Access`, whose files are read at each connection,
so that renewed certificates and passwords need no restart. Secrets come from files only, never from
a command line or a URL, and no message has them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ... import config

MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Access:
    """Files; None for those that are not configured."""

    tls: bool
    credentials: Path | None
    ca: Path | None
    cert: Path | None
    key: Path | None

    def read_login(self) -> tuple[str, str | None] | None:
        """Return user and password (None: none); None without a file. Raises OSError and
        ValueError."""
        if self.credentials is None:
            return None
        with self.credentials.open("rb") as file:
            lines = file.read(MAX_BYTES).decode().splitlines()
        if not 1 <= len(lines) <= 2 or not lines[0]:
            raise ValueError(
                f"{self.credentials}: wanted the user in the first line, the password in the second"
            )
        return lines[0], lines[1] if len(lines) == 2 else None


def make_access(
    settings: config.Mqtt, tls: bool, environment: Mapping[str, str] = os.environ
) -> Access:
    """Find the configured files. Raises ValueError for a combination that means nothing and for a
    file that cannot be read."""
    files: dict[str, Path | None] = {}
    for key in ("credentials_file", "ca_file", "cert_file", "key_file"):
        name = getattr(settings, key)
        if not name:
            files[key] = None
            continue
        if key != "credentials_file" and not tls:
            raise ValueError(f"mqtt.{key} is {name!r}, which only mqtts:// uses")
        file = files[key] = find_secret(name, environment)
        try:
            file.open("rb").close()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ValueError(f"mqtt.{key} is {name!r}: {reason}") from error
    if files["key_file"] is not None and files["cert_file"] is None:
        raise ValueError(f"mqtt.key_file is {settings.key_file!r}, but mqtt.cert_file is empty")
    access = Access(tls, *(files[key] for key in files))
    try:
        access.read_login()
    except UnicodeDecodeError as error:
        raise ValueError(f"mqtt.credentials_file is not UTF-8: {access.credentials}") from error
    return access


def find_secret(name: str, environment: Mapping[str, str]) -> Path:
    """Return a file: a name without a slash is a systemd credential, where there is one."""
    folder = environment.get("CREDENTIALS_DIRECTORY", "")
    if folder and "/" not in name and (credential := Path(folder, name)).is_file():
        return credential
    return Path(name)
