"""
Renders takes as one HTML page, from the templates beside this file.

The page loads nothing but the sounds: its Content-Security-Policy names its own script and style by their hashes and
forbids everything else. Every value that fills a template is escaped, except HTML that came from a template.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

from musicgen_cli.actions.library.export import TEMPLATE, file_name
from musicgen_cli.actions.library.made_from import source_s, story
from musicgen_cli.actions.library.reproduce import KEEPER, generate_command, tag_command
from musicgen_cli.limits import TAGS
from musicgen_cli.store import Artifact
from musicgen_cli.store.names import without_names
from musicgen_cli.text import clock, number, one_line, plural, printable

MARK = '<meta name="generator" content="musicgen-cli gallery">'  # marks the page of a gallery
BARS = 96  # of a waveform
_HALF = 30  # of the height of a full bar; the drawing is 64 high
_NO_PROMPT = "No prompt"  # the title of a take that has no name either
_TAGS_SHOWN = 10  # before `more`
_FILES = Path(__file__).parent / "templates"


class Html(str):
    """HTML, which is not escaped again."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class GalleryTake:
    """A take with what the page needs besides its record."""

    artifact: Artifact
    href: str  # of its sound
    peaks: Sequence[float]  # 0.0 to 1.0, BARS of them


@dataclass(frozen=True, slots=True)
class _Page:
    """What is computed once for all takes of a page."""

    tags: Mapping[str, int]  # as of `_tags`
    loudest: float  # the peak of all takes, which is drawn at full height


def render(takes: Sequence[GalleryTake], *, embedded: bool) -> bytes:
    """
    Render the page, as UTF-8.

    Args:
        takes: The newest first. Takes of one variation set share a card, which stands at the place of the newest.
        embedded: The sounds are data URLs; otherwise they are files beside the page.
    """
    cards: dict[str, list[GalleryTake]] = {}
    for take in takes:
        set_id = take.artifact.variation_set_id
        cards.setdefault(take.artifact.id if set_id is None else f"set {set_id}", []).append(take)
    loudest = max((peak for take in takes for peak in take.peaks), default=0.0)
    page = _Page(_tags(takes), loudest or 1.0)
    style, script = Html(_file("style.css")), Html(_file("script.js"))
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data:",  # the icon
        "media-src": "data:" if embedded else "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
    }
    text = _fill(
        "page.html",
        policy="; ".join(f"{name} {value}" for name, value in policy.items()),
        style=style,
        script=script,
        count=_count(takes),
        tags=_tag_buttons(page.tags),
        cards=_join(_card(str(i), card, page) for i, card in enumerate(cards.values())),
        nothing="Nothing matches." if takes else "No takes yet.",
        none=Html(" hidden" if takes else ""),
    )
    return text.encode()


def _card(name: str, takes: Sequence[GalleryTake], page: _Page) -> Html:
    oldest_first = takes[::-1]
    takes = sorted(oldest_first, key=lambda take: _index(take.artifact, sys.maxsize))  # without an index: last
    artifacts = [take.artifact for take in takes]
    is_set = len(takes) > 1
    have_same_prompt = len({_title(artifact) for artifact in artifacts}) == 1
    shared = [tag for tag in page.tags if is_set and all(tag in artifact.tags for artifact in artifacts)]
    facts = [artifacts[0].created[:10], *dict.fromkeys(_origin(artifact, "model") for artifact in artifacts)]
    facts += [f"{len(takes)} takes"] * is_set + shared

    def row(i: int, take: GalleryTake) -> Html:
        artifact = take.artifact
        label = f"take {_index(artifact, i) + 1}" if is_set else ""
        tags = [tag for tag in page.tags if tag in artifact.tags and tag not in shared]
        own = [
            label,
            _name(artifact) if is_set else "",
            "" if have_same_prompt else _title(artifact),
            _seed(artifact),
            *tags,
        ]
        return _take(take, page, label=label, own=_listed(own))

    return _fill(
        "card.html",
        kind=("set" if is_set else "one") + (" untitled" if not artifacts[0].title else ""),
        name=name,
        prompt=_title(artifacts[0]) if is_set else one_line(artifacts[0].title).strip() or _NO_PROMPT,
        facts=_listed(facts),
        takes=_join(row(i, take) for i, take in enumerate(takes)),
    )


def _take(take: GalleryTake, page: _Page, *, label: str, own: str) -> Html:
    artifact = take.artifact
    engine = [_origin(artifact, "engine"), _origin(artifact, "precision")]
    device = _origin(artifact, "device")
    facts = [
        f"{number(artifact.duration)} s",
        f"{number(artifact.sample_rate / 1000)} kHz",
        " ".join(filter(None, [_origin(artifact, "model"), *engine, device and f"on {device}"])),
        f"{artifact.license} weights" if artifact.license else "",
        f"by {artifact.creator}",
        *(f"{what} {detail}" for what, detail in story(artifact).items() if what != "windows"),
    ]
    reproduce = "Make it again" if artifact.seed is not None else "Make another like it: the seed isn't known"
    commands = [(reproduce, generate_command(artifact)), ("Tag it", tag_command(artifact))]
    return _fill(
        "take.html",
        id=artifact.id,
        label=", ".join(filter(None, [_title(artifact), label, _name(artifact), _seed(artifact)])),
        which=label,
        kept=" kept" if KEEPER in artifact.tags else "",
        tags=" ".join(str(i) for tag, i in page.tags.items() if tag in artifact.tags),
        seconds=str(artifact.duration),
        length=clock(artifact.duration),
        bars=str(BARS),
        path=_path([peak / page.loudest for peak in take.peaks]),
        seam=_seam(artifact),
        own=own,
        facts=_listed(facts),
        commands=_join(
            _fill("command.html", what=what, command=_with_options_marked(command))
            for what, command in commands
            if command
        ),
        href=take.href,
        file_name=f"{file_name(artifact, TEMPLATE)}.wav",
    )


def _with_options_marked(command: str) -> Html:
    """Mark up the options of a command, so that its lines break before them and not within."""
    return Html(re.sub(r"(?<= )--[a-z-]+", r"<i>\g<0></i>", _escaped(command)))


def _path(peaks: Sequence[float]) -> str:
    """Return an SVG path with a bar for each peak; relative whole numbers keep it short, for a page of many takes."""
    path, end = "", 0
    for i, peak in enumerate(peaks):
        half = round(_HALF * peak**0.65)  # near to loudness, so that quiet music is more than a line
        path += (f"m1 {-half - end}" if i else f"M.5 {-half}") + f"v{2 * half}"
        end = half
    return path.replace(" -", "-")


def _seam(artifact: Artifact) -> Html:
    """Return the mark in a waveform at which the new sound begins; nothing where all of it is new."""
    share = source_s(artifact.extra) / artifact.duration if artifact.duration else 0.0
    return _fill("seam.html", at=f"{BARS * share:.2f}") if 0 < share < 1 else Html("")


def _tags(takes: Sequence[GalleryTake]) -> dict[str, int]:
    """Return the tags with a number each, the most common first, without those that every generated take has."""
    counts = Counter(tag for take in takes for tag in without_names(take.artifact.tags) if tag not in TAGS)
    return {tag: i for i, (tag, _) in enumerate(counts.most_common())}


def _tag_buttons(tags: Mapping[str, int]) -> Html:
    buttons = [
        _fill("tag.html", tag=one_line(tag), rare=Html(" hidden" if i >= _TAGS_SHOWN else ""))
        for tag, i in tags.items()
    ]
    if len(tags) > _TAGS_SHOWN:
        buttons.append(_fill("more.html", count=str(len(tags) - _TAGS_SHOWN)))
    return _join(buttons)


def _count(takes: Sequence[GalleryTake]) -> str:
    """Say how many takes there are, and how long they are together."""
    count = plural(len(takes), "take")
    return f"{count}, {clock(sum(take.artifact.duration for take in takes))}" if takes else count


def _title(artifact: Artifact) -> str:
    return one_line(artifact.prompt or artifact.name or "").strip() or _NO_PROMPT


def _name(artifact: Artifact) -> str:
    """Return the name of a take that has a prompt as well."""
    return (artifact.name or "") if artifact.prompt else ""


def _index(artifact: Artifact, default: int) -> int:
    return default if artifact.variation_index is None else artifact.variation_index


def _seed(artifact: Artifact) -> str:
    return "" if artifact.seed is None else f"seed {artifact.seed}"


def _origin(artifact: Artifact, name: str) -> str:
    value = artifact.origin.get(name)
    return value if isinstance(value, str) else ""


def _listed(facts: Iterable[str]) -> str:
    return " · ".join(one_line(fact) for fact in facts if fact)


def _join(parts: Iterable[Html]) -> Html:
    return Html("".join(parts))


def _fill(file: str, /, **values: str) -> Html:
    """Fill a template; values that are not HTML are escaped, and control characters in them are shown as escapes."""
    return Html(Template(_file(file)).substitute({name: _escaped(value) for name, value in values.items()}))


def _escaped(value: str) -> str:
    return value if isinstance(value, Html) else html.escape("\n".join(map(printable, value.split("\n"))))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _file(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")
