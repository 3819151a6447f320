"""Who a command is that root types on a device: the owner of the folder that it writes to."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


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
