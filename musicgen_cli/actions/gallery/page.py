"""
Takes → one HTML page, from the templates in `musicgen_cli/gallery`.

The page asks for nothing but the sounds: its policy names its own script and style by their hashes and forbids all
else. Whatever a template is filled with is escaped, unless it came out of a template.
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
from musicgen_cli.actions.library.reproduce import generate_command, tag_command
from musicgen_cli.limits import TAGS
from musicgen_cli.store import Artifact
from musicgen_cli.text import clock, number, one_line, printable

MARK = '<meta name="generator" content="musicgen-cli gallery">'  # tells our pages from others
BARS = 96
_HALF = 30  # of a full bar's height; the drawing is 64 high
_TAGS_SHOWN = 10
_FILES = Path(__file__).parent / "templates"


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Sound:
    """A take as the page shows it."""

    take: Artifact
    href: str  # of its sound
    peaks: Sequence[float]  # 0.0 to 1.0, BARS of them


@dataclass(frozen=True, slots=True)
class _Common:
    """What is found out once for all takes of a page."""

    tags: Mapping[str, int]  # that tell takes apart, the commonest first → their numbers
    loudest: float  # peak of all, which is drawn at full height


def page(sounds: Sequence[Sound], *, embedded: bool) -> bytes:
    """
    Write the page.

    Args:
        sounds: The newest take first. Takes of one variation set share a card, which stands where its newest would.
        embedded: The sounds are data URLs; else they lie beside the page.
    """
    cards: dict[str, list[Sound]] = {}
    for sound in sounds:
        set_id = sound.take.variation_set_id
        cards.setdefault(sound.take.id if set_id is None else f"set {set_id}", []).append(sound)
    loudest = max((peak for sound in sounds for peak in sound.peaks), default=0.0)
    common = _Common(_tags(sounds), loudest or 1.0)
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
        count=_count(sounds),
        tags=_tag_buttons(common.tags),
        cards=_join(_card(str(i), card, common) for i, card in enumerate(cards.values())),
        nothing="Nothing matches." if sounds else "No takes yet.",
        none=Html(" hidden" if sounds else ""),
    )
    return text.encode()


def _card(name: str, sounds: Sequence[Sound], common: _Common) -> Html:
    oldest_first = sounds[::-1]
    sounds = sorted(oldest_first, key=lambda sound: _index(sound.take, sys.maxsize))  # none: last
    takes = [sound.take for sound in sounds]
    is_set = len(takes) > 1
    is_same = len({take.prompt for take in takes}) == 1
    shared = [tag for tag in common.tags if is_set and all(tag in take.tags for take in takes)]
    facts = [takes[0].created[:10], *dict.fromkeys(_origin(take, "model") for take in takes)]
    facts += [f"{len(takes)} takes"] * is_set + shared

    def row(i: int, sound: Sound) -> Html:
        which = f"take {_index(sound.take, i) + 1}" if is_set else ""
        tags = [tag for tag in common.tags if tag in sound.take.tags and tag not in shared]
        own = [which, "" if is_same else _title(sound.take), _seed(sound.take), *tags]
        return _take(sound, common, which=which, own=_listed(own))

    return _fill(
        "card.html",
        kind=("set" if is_set else "one") + (" untitled" if not takes[0].prompt else ""),
        name=name,
        prompt=_title(takes[0]),
        facts=_listed(facts),
        takes=_join(row(i, sound) for i, sound in enumerate(sounds)),
    )


def _take(sound: Sound, common: _Common, *, which: str, own: str) -> Html:
    take = sound.take
    engine = [_origin(take, "engine"), _origin(take, "precision")]
    device = _origin(take, "device")
    facts = [
        f"{number(take.duration)} s",
        f"{number(take.sample_rate / 1000)} kHz",
        " ".join(filter(None, [_origin(take, "model"), *engine, device and f"on {device}"])),
        f"{take.license} weights" if take.license else "",
        f"by {take.creator}",
    ]
    again = generate_command(take)
    like = "Make it again" if take.seed is not None else "Make another like it: the seed isn't known"
    return _fill(
        "take.html",
        id=take.id,
        label=", ".join(filter(None, [_title(take), which, _seed(take)])),
        which=which,
        tags=" ".join(str(i) for tag, i in common.tags.items() if tag in take.tags),
        seconds=str(take.duration),
        length=clock(take.duration),
        bars=str(BARS),
        path=_path([peak / common.loudest for peak in sound.peaks]),
        own=own,
        facts=_listed(facts),
        commands=_join(
            _fill("command.html", what=what, command=_marked(command))
            for what, command in [(like, again), ("Tag it", tag_command(take))]
            if command
        ),
        href=sound.href,
        file_name=f"{file_name(take, TEMPLATE)}.wav",
    )


def _marked(command: str) -> Html:
    """Set off the options, so that a line breaks between them and not within."""
    return Html(re.sub(r"(?<= )--[a-z-]+", r"<i>\g<0></i>", _escaped(command)))


def _path(peaks: Sequence[float]) -> str:
    """Draw a bar for each peak, each from where the last one ended, in whole numbers: a thousand takes stay light."""
    drawn, end = "", 0
    for i, peak in enumerate(peaks):
        half = round(_HALF * peak**0.65)  # nearer to what is heard, so that quiet music isn't a line
        drawn += (f"m1 {-half - end}" if i else f"M.5 {-half}") + f"v{2 * half}"
        end = half
    return drawn.replace(" -", "-")


def _tags(sounds: Sequence[Sound]) -> dict[str, int]:
    """Give a number to each of the tags that tell takes apart, the commonest first."""
    counted = Counter(tag for sound in sounds for tag in sound.take.tags if tag not in TAGS)
    return {tag: i for i, (tag, _) in enumerate(counted.most_common())}


def _tag_buttons(tags: Mapping[str, int]) -> Html:
    buttons = [
        _fill("tag.html", tag=one_line(tag), rare=Html(" hidden" if i >= _TAGS_SHOWN else ""))
        for tag, i in tags.items()
    ]
    if len(tags) > _TAGS_SHOWN:
        buttons.append(_fill("more.html", count=str(len(tags) - _TAGS_SHOWN)))
    return _join(buttons)


def _count(sounds: Sequence[Sound]) -> str:
    seconds = sum(sound.take.duration for sound in sounds)
    takes = "1 take" if len(sounds) == 1 else f"{len(sounds)} takes"
    return f"{takes}, {clock(seconds)}" if sounds else takes


def _title(take: Artifact) -> str:
    return one_line(take.prompt).strip() or "No prompt"


def _index(take: Artifact, otherwise: int) -> int:
    return otherwise if take.variation_index is None else take.variation_index


def _seed(take: Artifact) -> str:
    return "" if take.seed is None else f"seed {take.seed}"


def _origin(take: Artifact, name: str) -> str:
    value = take.origin.get(name)
    return value if isinstance(value, str) else ""


def _listed(facts: Iterable[str]) -> str:
    return " · ".join(one_line(fact) for fact in facts if fact)


def _join(parts: Iterable[Html]) -> Html:
    return Html("".join(parts))


def _fill(file: str, /, **values: str) -> Html:
    """Fill a template; what isn't HTML is escaped, and what browsers, people or terminals obey in it is shown."""
    return Html(Template(_file(file)).substitute({name: _escaped(value) for name, value in values.items()}))


def _escaped(value: str) -> str:
    return value if isinstance(value, Html) else html.escape("\n".join(map(printable, value.split("\n"))))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _file(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")
