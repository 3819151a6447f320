"""The documents: short enough to be read, and every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_LINES = {"README.md": 200, "ARCHITECTURE.md": 170}
MAX_FOLDER_LINES = 150
FOLDERS = ("runtime", "engines", "kernels", "training", "calibration", "tests", "systemd")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

if not (ROOT / "README.md").is_file():
    pytest.skip("the documents are not beside the tests", allow_module_level=True)

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (".", "scripts", *FOLDERS)
    for path in (ROOT / folder).glob("*.md")
)


def list_anchors(document: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", CODE_BLOCK.sub("", document.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    """Files exist, and headings too."""
    document = ROOT / name
    broken = []
    for link in LINK.findall(CODE_BLOCK.sub("", document.read_text())):
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = (document.parent / file).resolve() if file else document
        if not target.exists() or (anchor and anchor not in list_anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("name", [*MAX_LINES, *(f"{folder}/README.md" for folder in FOLDERS)])
def test_documents_are_short(name: str) -> None:
    """Each folder explains itself, within what a newcomer reads."""
    num_lines = len((ROOT / name).read_text().splitlines())
    assert num_lines <= MAX_LINES.get(name, MAX_FOLDER_LINES)


def test_named_files_exist() -> None:
    """A module or script that a document names by its path is there."""
    folders = "|".join((*FOLDERS, "scripts"))
    path = re.compile(rf"`((?:{folders})/[\w./]+\.(?:py|sh|yaml|md|png))`")
    missing = [
        f"{name}: {file}"
        for name in DOCUMENTS
        if name != "CHANGELOG.md"
        for file in path.findall((ROOT / name).read_text())
        if not (ROOT / file).exists()
    ]
    assert missing == []
