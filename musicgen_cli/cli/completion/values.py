"""
What completes from this machine: takes, tags, variation sets, creators, jobs, models.

It is asked at each press of a key, so it loads the store and nothing else, and looks at the newest takes alone. It
writes nothing. Where there is no answer, such as with a store that can't be read or a wrong setting, there are no
values and no message: it would land in the middle of the line that is being typed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from musicgen_cli.errors import MusicgenError
from musicgen_cli.text import one_line

if TYPE_CHECKING:
    from musicgen_cli.store import Artifact

NEWEST = 200  # takes, jobs
HINT_CHARS = 60

_ID_START = "artifact_"

Found = Iterable[tuple[str, str]]  # values, each with a hint or ""


def answer(kinds: str, words: Sequence[str]) -> None:
    """
    Print what could stand in the place of the last word: a value, a tab and a hint on each line.

    Args:
        kinds: Of KINDS, joined by commas; an unknown one has no values.
        words: What is typed so far without the program's name; the last one may be empty.
    """
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # what a script reads is a TextIO
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
    # Another program may have written the store; a control character would act on the line, a dash be an option.
    return value.isprintable() and not value.startswith("-") and value == value.strip() != ""


def _short(hint: str) -> str:
    line = one_line(hint[: 2 * HINT_CHARS])
    return line if len(line) <= HINT_CHARS else line[: HINT_CHARS - 1] + "…"


def _nothing(_: Sequence[str]) -> Found:
    return ()


def _takes(words: Sequence[str]) -> Found:
    # An id can be typed without what all ids start with, and completes so once there is a digit that tells.
    word = words[-1] if words else ""
    in_short = word != "" and not _ID_START.startswith(word) and not word.startswith(_ID_START)
    for i, take in enumerate(_newest(words)):
        if i == 0:
            yield "last", take.prompt
        yield take.id.removeprefix(_ID_START) if in_short else take.id, take.prompt


def _tags(words: Sequence[str]) -> Found:
    return ((tag, "") for take in _newest(words) for tag in take.tags)


def _sets(words: Sequence[str]) -> Found:
    return ((take.variation_set_id or "", take.prompt) for take in _newest(words))


def _creators(words: Sequence[str]) -> Found:
    return ((take.creator, "") for take in _newest(words))


def _makers(words: Sequence[str]) -> Found:
    return ((str(take.origin.get("model", "")), "") for take in _newest(words))


def _models(words: Sequence[str]) -> Found:
    from musicgen_cli.checkpoint.names import NANO, PUBLISHED

    yield "auto", "the best one on this machine"
    yield NANO, "comes with musicgen"
    yield from _pulled(words)
    yield from ((name, "not on this machine yet") for name in PUBLISHED)


def _here(words: Sequence[str]) -> Found:
    from musicgen_cli.checkpoint.names import NANO

    yield NANO, "comes with musicgen"
    yield from _pulled(words)


def _pulled(_: Sequence[str]) -> Found:
    from musicgen_cli import settings
    from musicgen_cli.checkpoint.names import installed_names

    return ((name, "on this machine") for name in installed_names(settings.models_dir()))


def _published(_: Sequence[str]) -> Found:
    from musicgen_cli.checkpoint.names import PUBLISHED

    return ((name, "") for name in PUBLISHED)


def _jobs(words: Sequence[str]) -> Found:
    """Read the jobs' files as they are: a proper look would start a runner, and load what checks them."""
    import json

    from musicgen_cli import settings
    from musicgen_cli.actions.jobs.folder import is_job_id, job_folder

    folder = job_folder(_store(words), settings.state_dir())
    files = [path for path in folder.iterdir() if path.suffix == ".json" and is_job_id(path.stem)]
    for i, path in enumerate(sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)[:NEWEST]):
        try:
            job = json.loads(path.read_bytes())
            hint = f"{job['state']}: {job['request']['prompt']}"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            hint = ""  # damaged or pruned just now; `job show` tells
        if i == 0:
            yield "last", ""
        yield path.stem, hint


KINDS: Mapping[str, Callable[[Sequence[str]], Found]] = {
    "takes": _takes,
    "tags": _tags,
    "sets": _sets,
    "creators": _creators,
    "makers": _makers,  # the models of what is stored
    "models": _models,  # all that can be given
    "here": _here,
    "pulled": _pulled,
    "published": _published,
    "jobs": _jobs,
}


def _newest(words: Sequence[str]) -> Iterator[Artifact]:
    from musicgen_cli.store import Store

    return Store(_store(words), warn=lambda _: None).newest(NEWEST)


def _store(words: Sequence[str]) -> Path:
    """Return the store that the command being typed would use."""
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
