"""`emotion-edge bundle install|list|rollback|sign`: manage the bundles of models of a device.

In: a command and a bundle. Out: the changed bundle store, and lines on stdout. A run loads the
bundle that is selected here (`engines/bundles/startup.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from ...engines.base import EngineError
from ...engines.bundles import (
    MANIFEST,
    MAX_FAILED_STARTS,
    SHIPPED,
    SIGNATURE,
    SYSTEM_STATE,
    Bundle,
    BundleError,
    BundleStore,
    PublicKey,
    Selection,
    check_signature,
    describe_bundle,
    find_state_folder,
    load_bundle,
    load_private_key,
    load_public_key,
    open_archive,
    open_bundle_source,
)
from ...engines.plain_text import escape
from ...engines.storage import atomic_write
from ...engines.tensorrt import clean_name
from ..config import Config, ConfigError, load_config
from ..service import add_config_argument, add_set_argument, drop_privileges_to, find_service_config

RESTART = "restart the service to use it: sudo systemctl restart emotion-edge"

EPILOG = f"""\
FILE is an uncompressed tar archive of the files of a bundle, made by
  tar -cf FILE -C DIR .
DIR is the folder itself.

Bundles are stored in the folder "bundles" of the state folder: {SYSTEM_STATE} where there is one,
else EMOTION_EDGE_STATE or ~/.local/state/emotion-edge. As root the commands switch to the owner of
that folder before they use it, so that user must be able to read DIR. FILE is opened before.

An installed bundle is on trial until the service has run well with it for 25 s, or has ended in
order after results. Runs by hand do not count. After {MAX_FAILED_STARTS} failed starts the service
falls back to the previous bundle.

A key pair, with the private key for the maker of bundles and the public key for the device:
  openssl genpkey -algorithm ed25519 -out private.pem && chmod 600 private.pem
  openssl pkey -in private.pem -pubout -out public.pem
With `public_key: /etc/emotion-edge/public.pem` in the configuration only bundles signed with that
key, and the shipped one, are installed and run. A signed bundle whose version, a number in
bundle.json that its maker counts up, is lower than that of one installed before is refused without
--allow-downgrade. A rollback goes to the bundle that is kept for it, whatever its version."""


def add_bundle_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", required=True)
    install = actions.add_parser(
        "install", help="check a bundle, verify it on this machine, and select it"
    )
    install.add_argument("source", metavar="FILE|DIR", type=Path, help="what to install")
    install.add_argument(
        "--allow-downgrade",
        action="store_true",
        help="install a signed bundle although one of a higher version was installed before",
    )
    rollback = actions.add_parser(
        "rollback", help="select the previous bundle; again: back to the other one"
    )
    listing = actions.add_parser("list", help="list the installed bundles")
    for action in (install, rollback, listing):
        add_config_argument(action)
        add_set_argument(action)
    sign = actions.add_parser("sign", help=f"write {SIGNATURE} into a bundle")
    sign.add_argument("folder", metavar="DIR", type=Path, help="the bundle")
    sign.add_argument(
        "--key", metavar="PRIVATE.pem", type=Path, required=True, help="an Ed25519 private key"
    )


def run_bundle(args: argparse.Namespace) -> int:
    """Run one action. Raises BundleError, ConfigError and EngineError."""
    if args.action == "sign":
        return _sign(args.folder, args.key)
    # The requirements of the service, such as a signature, also apply to an installation.
    config = load_config(args.config or find_service_config(), args.settings)
    key = load_public_key(Path(config.public_key)) if config.public_key else None
    state = find_state_folder()
    with ExitStack() as stack:
        # Opened as root, who may read a file that the owner of the store may not.
        source = (
            stack.enter_context(open_bundle_source(args.source)) if args.action == "install" else -1
        )
        drop_privileges_to(state)
        store = BundleStore(state)
        if args.action == "list":
            return _list(store, key)
        if args.action == "rollback":
            # One level that runs is enough.
            name = store.roll_back(
                key, lambda bundle: _verify_one_level(config, bundle), _print_line
            )
            _print_line(f"{describe_bundle(name)} is selected")
        else:
            archive = stack.enter_context(open_archive(source, args.source))
            if not store.install(
                archive,
                key,
                lambda bundle: _verify_all_levels(config, bundle),
                _print_line,
                allow_downgrade=args.allow_downgrade,
            ):
                _print_line(f"{args.source}: is already the current bundle")
                return 0
            _print_line(
                f"{args.source}: installed as {describe_bundle(archive.sha256[:16])}, and selected"
            )
    if config.bundle:
        _print_line(f"but the configuration overrides it: bundle is {config.bundle!r}, not empty")
    _print_line(RESTART)
    return 0


def _verify_all_levels(config: Config, bundle: Bundle) -> None:
    _verify(config, bundle, 1 if config.level else len(bundle.manifest.levels))


def _verify_one_level(config: Config, bundle: Bundle) -> None:
    from ..quality import drop_unknown_level

    _verify(drop_unknown_level(config, bundle), bundle, 1)


def _verify(config: Config, bundle: Bundle, num_levels: int) -> None:
    """Open all that a run opens: build engines, check golden outputs, and run each network on the
    preprocessor's output.

    Raises EngineError, and ConfigError for a level that the bundle lacks.
    """
    from ...engines.face_detector import open_detector
    from ..session import open_networks, report_build_progress

    with ExitStack() as stack:
        levels, _, _ = open_networks(stack, config, bundle, report_build_progress, only_one=False)
    open_detector(bundle=bundle)
    if len(levels) < num_levels:
        raise EngineError(
            f"{bundle.path}: only {len(levels)} of {num_levels} levels can run on this machine"
        )


def _sign(folder: Path, key_file: Path) -> int:
    bundle = load_bundle(folder)
    key = load_private_key(key_file)
    if key_file.stat().st_mode & 0o077:
        _print_line(f"warning: others can read {key_file}: chmod 600 {key_file}")
    file = folder / SIGNATURE
    try:
        data = (folder / MANIFEST).read_bytes()
        if hashlib.sha256(data).hexdigest() != bundle.sha256:
            raise BundleError(f"{folder}: {MANIFEST} was changed while it was read: not signed")
        atomic_write(file, key.sign(data))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error
    _print_line(f"{bundle.manifest.name}: {file} written")
    return 0


def _list(store: BundleStore, key: PublicKey | None) -> int:
    """Print one line for each bundle, the shipped one first, a missing one too, then the faults."""
    remarks = []
    try:
        installed = store.list_names()
    except OSError as error:
        raise BundleError(f"{store.folder}: cannot be read: {error.strerror}; try sudo") from error
    try:
        selection = store.read_selection()
    except BundleError as error:
        selection = Selection()
        remarks.append(f"{error}; the shipped bundle is in use")
    rows = [("bundle", "name", "version", "date", "MB", "signed", "state")]
    for name in sorted({SHIPPED, *installed} | selection.in_use):
        folder = store.find_folder(name)
        states = _list_states(selection, name)
        try:
            manifest = store.load(name, None).manifest
            date = time.strftime("%Y-%m-%d", time.localtime(folder.stat().st_mtime))
        except (BundleError, OSError) as error:
            remarks.append(str(error))
            states.append("damaged" if folder.is_dir() else "missing")
            title, version, date, size = "?", "?", "?", "?"
        else:
            title, version = clean_name(manifest.name), str(manifest.version)
            size = f"{sum(entry.bytes for entry in manifest.files.values()) / 1e6:.1f}"
        signed = _describe_signature(folder, key) if name else "ships"
        rows.append((name or "-", title, version, date, size, signed, ", ".join(states)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        _print_line("  ".join(cells).rstrip())
    for remark in remarks:
        _print_line(remark)
    return 0


def _list_states(selection: Selection, name: str) -> list[str]:
    states = []
    if name == selection.current:
        states.append("current")
        if selection.on_trial:
            failed = selection.failed_starts
            states.append(f"on trial ({failed} starts so far)" if failed else "on trial")
    elif name == selection.previous:
        states.append("previous")
    if name and name == selection.failed:
        states.append("failed to start")
    return states


def _describe_signature(folder: Path, key: PublicKey | None) -> str:
    if key is None:
        return "not checked"
    try:
        check_signature(folder, (folder / MANIFEST).read_bytes(), key)
    except (BundleError, OSError):
        return "no"
    return "yes"


def _print_line(text: str) -> None:
    sys.stdout.write(f"{escape(text)}\n")
    sys.stdout.flush()
