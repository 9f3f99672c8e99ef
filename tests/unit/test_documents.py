"""The README and docs/*.md: their links lead somewhere, and they name all that there is to name."""

import re
from pathlib import Path

import msgspec
import pytest

from queue_run.application.config import JOB_ONLY, SOCKET_ONLY, Config
from queue_run.cli import SUMMARIES
from queue_run.settings import Settings, variable_name
from tests.processes import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
#: Code within a line that looks like a link: `Queue[Mail](__name__)`.
CALL = re.compile(r"`[^`\n]*\]\([^`\n]*`")
#: What stands in the address of a heading of GitHub, beside blanks.
SHOWN = re.compile(r"[^\w\- ]")


def prose(page: Path) -> str:
    """The text of a page without its examples."""
    return CALL.sub("", FENCE.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """The addresses of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {SHOWN.sub("", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """The links of a page to files of ours."""
    return [link for link in LINK.findall(prose(page)) if "://" not in link]


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


def test_the_pages_are_found() -> None:
    assert len(PAGES) > 20
    assert sum(len(links(page)) for page in PAGES) > 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [link for link in links(page) if not leads_somewhere(page, link)] == []


@pytest.mark.parametrize(
    "index", [DOCS / "index.md", ROOT / "README.md"], ids=lambda page: page.name
)
def test_every_page_is_listed(index: Path) -> None:
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    # What the protocols of others say, and ours, are for readers who come from the index.
    also = (
        {DOCS / "protocol.md", DOCS / "websocket-document.md"}
        if index.name == "README.md"
        else set()
    )
    assert set(DOCS.glob("*.md")) - listed - also - {DOCS / "index.md"} == set()


@pytest.mark.parametrize("field", msgspec.structs.fields(Settings), ids=lambda field: field.name)
def test_every_setting_has_a_line_with_its_default(field: msgspec.structs.FieldInfo) -> None:
    line = re.search(
        rf"^\| `{variable_name(field.name)}` \| ([^|]*) \| .+ \|$",
        (DOCS / "settings.md").read_text(),
        re.MULTILINE,
    )
    assert line, f"docs/settings.md has no line for {variable_name(field.name)}"
    assert line[1].startswith(shown(field.default)), line[1]


def shown(default: object) -> str:
    """How the page begins to write a default."""
    if default == "":
        return "empty"
    text = f"{default:g}" if isinstance(default, float) else str(default)
    return f"`{text.lower() if isinstance(default, bool) else text}`"


@pytest.mark.parametrize("option", Config.__struct_fields__)
def test_every_option_of_a_file_is_explained(option: str) -> None:
    pages = {"handlers.md"} if option not in JOB_ONLY else set()
    pages |= {"jobs.md"} if option not in SOCKET_ONLY else set()
    for name in pages:
        text = (DOCS / name).read_text()
        assert f"Config({option}=" in text or f"| `{option}` |" in text, f"{name} lacks {option}"


@pytest.mark.parametrize("command", SUMMARIES)
def test_every_command_is_shown(command: str) -> None:
    assert any(f"queue-run {command}" in page.read_text() for page in PAGES)


#: A path of ours, and the name of a test.
PATH = re.compile(r"`((?:queue_run|push_server|worker|tests|benchmarks|docs)/[\w/.]*)`")
TEST = re.compile(r"`(test_\w+)`")


def test_what_contributors_are_sent_to_is_there() -> None:
    text = (DOCS / "contributing.md").read_text()
    paths, names = set(PATH.findall(text)), set(TEST.findall(text))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    tests = "\n".join(path.read_text() for path in (ROOT / "tests" / "unit").rglob("test_*.py"))
    assert [name for name in sorted(names) if f"def {name}(" not in tests] == []
    assert len(paths) > 30
    assert len(names) >= 4


def test_the_drawings_show_files_that_are_there() -> None:
    drawings = "\n".join(FENCE.findall((DOCS / "contributing.md").read_text()))
    shown = set(re.findall(r"(?<![\w/])[a-z_0-9]+/[a-z_0-9/]+\.py", drawings)) - {"sockets/chat.py"}
    assert [
        name for name in sorted(shown) if not list(ROOT.glob(f"*/{name}")) + list(ROOT.glob(name))
    ] == []
    assert len(shown) > 25
