"""
Completes values that are on this machine: takes, tags, variation sets, creators, jobs, models.

This runs at every press of Tab, so it loads little more than the store, and reads only the newest takes. It writes
nothing. If the store can't be read or a setting is wrong, it prints nothing at all: a message would appear in the
middle of the line that is being typed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from musicgen_cli.errors import MusicgenError
from musicgen_cli.text import one_line

if TYPE_CHECKING:
    from musicgen_cli.store import Artifact, Store

NEWEST = 200  # takes, jobs
HINT_CHARS = 60

_ID_PREFIX = "artifact_"

Candidates = Iterable[tuple[str, str]]  # values, each with a hint, which may be ""


def answer(kinds: str, words: Sequence[str]) -> None:
    """
    Print the values that complete the last word, one a line: the value, a tab and a hint.

    Args:
        kinds: Keys of KINDS, joined by commas; unknown ones have no values.
        words: The words after the program's name as far as they are typed; the last one may be empty.
    """
    try:
        seen = set()
        for kind in kinds.split(","):
            for value, hint in KINDS.get(kind, _nothing)(words):
                if value not in seen and _can_be_typed(value):
                    seen.add(value)
                    sys.stdout.write(f"{value}\t{_short(hint)}\n")
    except (MusicgenError, OSError):
        return


def _can_be_typed(value: str) -> bool:
    # Other programs can write to the store, too. A control character would change the line; a dash starts an option.
    return value.isprintable() and not value.startswith("-") and value == value.strip() != ""


def _short(hint: str) -> str:
    line = one_line(hint[: 2 * HINT_CHARS])
    return line if len(line) <= HINT_CHARS else line[: HINT_CHARS - 1] + "…"


def _nothing(_: Sequence[str]) -> Candidates:
    return ()


def _takes(words: Sequence[str]) -> Candidates:
    return _named_takes(words, _newest(words))


def _named_takes(words: Sequence[str], takes: Iterable[Artifact]) -> Candidates:
    # An id can be typed without the prefix that all ids share, and then completes without it.
    word = words[-1] if words else ""
    without_prefix = word != "" and not _ID_PREFIX.startswith(word) and not word.startswith(_ID_PREFIX)
    for i, take in enumerate(takes):
        if i == 0:
            yield "last", take.title
        yield take.id.removeprefix(_ID_PREFIX) if without_prefix else take.id, take.title


def _removed(words: Sequence[str]) -> Candidates:
    return _named_takes(words, islice(_open_store(words).removed(), NEWEST))


def _removable(words: Sequence[str]) -> Candidates:
    return _removed(words) if "--undo" in words[:-1] else _takes(words)


def _tags(words: Sequence[str]) -> Candidates:
    return ((tag, "") for take in _newest(words) for tag in take.tags)


def _sets(words: Sequence[str]) -> Candidates:
    return ((take.variation_set_id or "", take.prompt) for take in _newest(words))


def _creators(words: Sequence[str]) -> Candidates:
    return ((take.creator, "") for take in _newest(words))


def _makers(words: Sequence[str]) -> Candidates:
    return ((str(take.origin.get("model", "")), "") for take in _newest(words))


def _models(words: Sequence[str]) -> Candidates:
    from musicgen_cli.checkpoint.names import NANO, PUBLISHED

    yield "auto", "the best one on this machine"
    yield NANO, "comes with musicgen"
    yield from _pulled(words)
    yield from ((name, "not on this machine yet") for name in PUBLISHED)


def _here(words: Sequence[str]) -> Candidates:
    from musicgen_cli.checkpoint.names import NANO

    yield NANO, "comes with musicgen"
    yield from _pulled(words)


def _pulled(_: Sequence[str]) -> Candidates:
    from musicgen_cli import settings
    from musicgen_cli.checkpoint.names import installed_names

    return ((name, "on this machine") for name in installed_names(settings.models_dir()))


def _published(_: Sequence[str]) -> Candidates:
    from musicgen_cli.checkpoint.names import PUBLISHED

    return ((name, "") for name in PUBLISHED)


def _jobs(words: Sequence[str]) -> Candidates:
    """Read the files of jobs directly: the class Jobs loads far more, and may start a runner."""
    import json

    from musicgen_cli import foreign, settings
    from musicgen_cli.actions.jobs.folder import is_job_id, job_folder

    folder = job_folder(_store(words), settings.state_dir())
    files = [path for path in folder.iterdir() if path.suffix == ".json" and is_job_id(path.stem)]
    for i, path in enumerate(sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)[:NEWEST]):
        try:
            job = json.loads(foreign.read(path, 1 << 20, follow=False))
            hint = f"{job['state']}: {job['request']['prompt']}"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            hint = ""  # damaged, or just removed; `job show` reports it
        if i == 0:
            yield "last", ""
        yield path.stem, hint


KINDS: Mapping[str, Callable[[Sequence[str]], Candidates]] = {
    "takes": _takes,
    "removed": _removed,
    "removable": _removable,  # takes, or with `--undo` removed ones
    "tags": _tags,
    "sets": _sets,
    "creators": _creators,
    "makers": _makers,  # the models of stored takes
    "models": _models,  # all values of `--model`
    "here": _here,
    "pulled": _pulled,
    "published": _published,
    "jobs": _jobs,
}


def _newest(words: Sequence[str]) -> Iterator[Artifact]:
    return _open_store(words).newest(NEWEST)


def _open_store(words: Sequence[str]) -> Store:
    from musicgen_cli.store import Store

    return Store(_store(words), warn=lambda _: None)


def _store(words: Sequence[str]) -> Path:
    """Return the path of the store that the command being typed would use."""
    from musicgen_cli import settings

    named = None
    for i, word in enumerate(words[:-1]):
        if word == "--":
            break
        if word == "--store" and i + 2 < len(words):
            named = words[i + 1]
        elif word.startswith("--store="):
            named = word.removeprefix("--store=")
    return settings.load({"store": None if named is None else Path(named)}).store
