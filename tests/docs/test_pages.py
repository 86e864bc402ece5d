"""The commands of README and docs/ are run, page by page, as a new user would type them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.tables import PACKAGE
from tests.support.pages import PAGES, RUN_LANGUAGES, TOP, Block, PageError, blocks, run, text_of

BLOCKS = [block for page in PAGES for block in blocks(page)]
RUN_PAGES = [page for page in PAGES if any(block.is_run for block in blocks(page))]
SKIPPED = [block for block in BLOCKS if block.skip_reason]

_NOTES = re.compile(r"not run: \S.*|ci: (user|developer)|background|")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@pytest.mark.parametrize("page", RUN_PAGES)
def test_every_command_of_a_page_succeeds(page: str, tmp_path: Path) -> None:
    """A new user can type the page from top to bottom."""
    page_blocks = blocks(page)

    assert run(page_blocks, tmp_path) == [block.line for block in page_blocks if block.is_run]


@pytest.mark.parametrize("block", SKIPPED, ids=str)
def test_what_is_not_run_says_why(block: Block) -> None:
    """A block that needs what a test hasn't got is listed with its reason."""
    pytest.skip(f"{block}: {block.skip_reason}")


def test_every_note_before_a_block_is_known() -> None:
    """A misspelt note would have a block run, or not run, by mistake."""
    commands = [block for block in BLOCKS if block.language in RUN_LANGUAGES]

    assert {f"{block}: {block.note}" for block in commands if not _NOTES.fullmatch(block.note)} == set()


def test_every_fence_names_a_language_that_is_run_or_shown() -> None:
    """A block of commands under another name than `sh` would never be run."""
    shown = {"text", "json", "toml", "ini", "nginx", "make", "crontab", "powershell"}

    assert {str(block) for block in BLOCKS if block.language not in RUN_LANGUAGES | shown} == set()


def test_the_two_commands_of_ci_are_in_the_readme() -> None:
    """`.ci/run` finds one block for users and one for developers."""
    assert [block.note for block in BLOCKS if block.note.startswith("ci: ")] == ["ci: user", "ci: developer"]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """Each relative link names a file of the repository, and a heading that it has."""
    assert [link for link in _LINK.findall(_prose(page)) if not _exists(page, link)] == []


def test_every_file_that_the_architecture_names_exists() -> None:
    """A path is given from the top of the package, or of the repository."""
    paths = set(re.findall(r"`([\w/]+\.(?:py|toml|md))`", text_of("docs/architecture.md"))) - {"cli/commands/NAME.py"}

    assert {path for path in paths if "/" in path and not ((TOP / path).exists() or (PACKAGE / path).exists())} == set()


def test_a_command_that_fails_is_found(tmp_path: Path) -> None:
    """The blocks after it are not run, and the message tells which was the last that ended."""
    page = [Block("page", 1, "sh", "true\n"), Block("page", 5, "sh", "false\n"), Block("page", 9, "sh", "true\n")]

    with pytest.raises(PageError, match="exit code 1; the last block that ended: 1"):
        run(page, tmp_path)


def test_a_page_is_typed_into_one_shell_with_an_empty_home(tmp_path: Path) -> None:
    """What a block sets is there in the next one; nothing of this machine is."""
    text = 'a=1\necho "$HOME" > home\n', 'test "$a" = 1\ntest "$(ls)" = home\ntest -z "${MUSICGEN_STORE-}"\n'
    page = [Block("page", i, "sh", each) for i, each in enumerate(text)]

    assert run(page, tmp_path) == [0, 1]
    assert (tmp_path / "work" / "home").read_text() == f"{tmp_path}\n"


def _prose(page: str) -> str:
    """Return a page without its code blocks and inline code."""
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def _exists(page: str, link: str) -> bool:
    if re.match(r"https?:", link):
        return True
    path, _, anchor = link.partition("#")
    target = (TOP / page).parent / path if path else TOP / page
    return target.exists() and (not anchor or anchor in _anchors(target))


def _anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = _HEADING.findall(re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
