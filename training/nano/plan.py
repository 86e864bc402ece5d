"""
What a piece is asked to be, and the concepts that ask for it.

A plan is drawn in two steps: what is *named*, from a wide choice, so that every combination is asked for sometimes; and
the rest, from what is usual in the genre. Named things alone are in the caption. So the model learns to obey what is
said, and to do the usual where nothing is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from training.nano import codes, pulse
from training.nano.keys import COMMON_TONICS, KEYS, Key
from training.nano.styles import GENRES, MOODS

UNKNOWN = "<unk>"  # any word without a meaning

# Each instrument that can be named → what plays it. A voice is a role and a timbre of it.
Voice = tuple[str, str]
INSTRUMENTS: dict[str, tuple[Voice, ...]] = {
    "piano": (("lead", "piano"), ("chord", "piano"), ("broken", "piano")),
    "epiano": (("lead", "epiano"), ("chord", "epiano")),
    "vibraphone": (("lead", "vibes"),),
    "mbox": (("lead", "mbox"), ("broken", "mbox")),
    "flute": (("lead", "flute"),),
    "violin": (("lead", "violin"),),
    "guitar": (("lead", "guitar"), ("chord", "guitar"), ("broken", "guitar")),
    "dist": (("chord", "dist"), ("lead", "dist")),
    "synth": (("lead", "saw"), ("lead", "pluck"), ("chord", "saw"), ("chord", "pluck"), ("broken", "pluck")),
    "arp": (("broken", "pluck"),),
    "chip": (("lead", "chip"), ("chord", "chip"), ("broken", "chip")),
    "brass": (("lead", "brass"), ("chord", "brass")),
    "sax": (("lead", "sax"),),
    "choir": (("chord", "choir"), ("lead", "choir")),
    "marimba": (("lead", "marimba"),),
    "organ": (("lead", "organ"), ("chord", "organ")),
    "pad": (("chord", "pad"),),
    "strings": (("chord", "strings"),),
    "harp": (("broken", "harp"),),
    "bass": tuple(("bass", name) for name in codes.BASSES),
    "synthbass": (("bass", "sbass"),),
    "subbass": (("bass", "sub"),),
    "upright": (("bass", "ubass"),),
}
KITS = {"electrokit": "electronic", "acoustickit": "acoustic", "softkit": "soft", "taiko": "taiko"}
ABSENT = ("drums", "bass", "piano", "guitar", "synth", "strings", "choir", "brass", "organ", "flute", "violin", "pad")
SLOW, MEDIUM, FAST = pulse.between(60, 82), pulse.between(94, 115), pulse.between(140, 180)

_SOLO = (
    "piano",
    "guitar",
    "violin",
    "flute",
    "mbox",
    "harp",
    "bass",
    "sax",
    "organ",
    "epiano",
    "dist",
    "synth",
    "vibraphone",
)
_ACCOMPANIES_ITSELF = ("piano", "guitar", "organ", "epiano", "mbox")
# What plays where a genre has nothing but what isn't wanted: a piece without any voice would be silence.
_IN_PLACE = {"lead": ("piano", "flute", "organ", "epiano"), "chord": ("piano", "organ", "epiano", "strings")}
_BREAKS_CHORDS = {
    "piano": "piano",
    "guitar": "guitar",
    "harp": "harp",
    "pluck": "pluck",
    "chip": "chip",
    "mbox": "mbox",
}


@dataclass(slots=True)
class Plan:
    """Everything about a piece but its notes."""

    genre: str  # of drums and bass
    flavour: str  # of chords and melody: the same, or another in a mixture
    mood: str
    beat_frames: int
    key: Key
    lead: str | None
    chord: str | None  # a timbre of chords, of broken ones if the style is one
    style: str
    bass: str | None
    line: str
    kit: str | None
    solo: bool = False

    @property
    def voices(self) -> frozenset[Voice]:
        """Who plays."""
        harmony = "broken" if self.style.startswith("broken") else "chord"
        named = (("lead", self.lead), (harmony, self.chord), ("bass", self.bass), ("kit", self.kit))
        return frozenset((role, timbre) for role, timbre in named if timbre)

    def has(self, instrument: str) -> bool:
        """Tell whether an instrument, as it can be named, is among the voices."""
        if instrument == "drums":
            return self.kit is not None
        return not self.voices.isdisjoint(INSTRUMENTS[instrument])


def draw(seed: int, *, insisting: bool = False) -> tuple[Plan, list[str]]:
    """
    Return a plan, and in any order the concepts that ask for it.

    Args:
        insisting: Name more often what a model is slowest to obey: keys, tempi, and what must not be there.
    """
    r = Random(seed)
    asked: list[str] = []

    def named(chance: float) -> bool:
        return r.random() < chance

    genre = flavour = r.choice(list(GENRES))
    if named(0.78):
        asked.append(genre)
        if named(0.08):
            flavour = r.choice(list(GENRES))
            asked.append(flavour)
    usual, taste = GENRES[genre], GENRES[flavour]
    mood = r.choice(usual.moods)
    if named(0.55):
        mood = r.choice(list(MOODS)) if named(0.35) else mood
        asked.append(mood)
    plan = Plan(
        genre=genre,
        flavour=flavour,
        mood=mood,
        beat_frames=_tempo(r, usual.tempo, mood),
        key=_key(r, mood),
        lead=r.choice(taste.leads),
        chord=r.choice(taste.chords),
        style=r.choice(taste.styles),
        bass=r.choice(usual.basses),
        line=r.choice(usual.lines),
        kit=usual.kit if r.random() < usual.drums else None,
    )
    if named(0.1):
        asked += ["solo", _alone(r, plan)]
    else:
        _name_voices(r, plan, asked)
        _name_drums(r, plan, asked)
    _fit_style(r, plan)
    more = 2.0 if insisting else 1.0
    _leave_out(r, plan, asked, more)
    _name_tempo(r, plan, asked, more)
    _name_key(r, plan, asked, more)
    _name_character(r, plan, asked)
    return plan, asked or [genre]


def caption(asked: Sequence[str], r: Random) -> list[str]:
    """Return concepts in any order, among words that say nothing."""
    shuffled = list(dict.fromkeys(asked))
    r.shuffle(shuffled)
    share = r.choice((0.0, 0.0, 0.4, 0.8))
    words: list[str] = []
    for concept in shuffled:
        while r.random() < share * 0.6:
            words.append(UNKNOWN)
        words.append(concept)
        if r.random() < 0.05:
            words.append(concept)  # `a piano piece for solo piano`
    if r.random() < share:
        words.append(UNKNOWN)
    return words


def _tempo(r: Random, range_: tuple[int, int], mood: str) -> int:
    tempi = pulse.between(*range_)
    place = r.triangular(0, 1, MOODS[mood].pace)
    return tempi[min(int(place * len(tempi)), len(tempi) - 1)]


def _key(r: Random, mood: str) -> Key:
    return Key(r.choice(COMMON_TONICS), "major" if r.random() < MOODS[mood].in_major else "minor")


def _alone(r: Random, plan: Plan) -> str:
    """Let one instrument play alone; return it."""
    instrument = r.choice(_SOLO)
    plan.solo, plan.kit, plan.bass, plan.lead, plan.chord = True, None, None, None, None
    if instrument == "bass":
        plan.bass, plan.line = r.choice(codes.BASSES[:4]), r.choice(("walking", "syncopated", "octaves", "eighths"))
        return instrument
    if instrument == "harp":
        plan.chord, plan.style = "harp", "broken16"
        return instrument
    _, plan.lead = INSTRUMENTS[instrument][-1 if instrument == "dist" else 0]
    if instrument in _ACCOMPANIES_ITSELF:
        plan.chord, plan.style = plan.lead, "broken8" if plan.lead in _BREAKS_CHORDS else "half"
    return instrument


def _name_voices(r: Random, plan: Plan, asked: list[str]) -> None:
    taken: set[str] = set()
    for _ in range(r.choices((0, 1, 2, 3), (0.33, 0.4, 0.2, 0.07))[0]):
        if r.random() < 0.4:
            there = [name for name in INSTRUMENTS if plan.has(name)]
            instrument = r.choice(there) if there else "bass"
            options = [voice for voice in INSTRUMENTS[instrument] if voice in plan.voices]
            role, timbre = r.choice(options) if options else ("bass", r.choice(codes.BASSES[:4]))
        else:
            instrument = r.choice(list(INSTRUMENTS))
            role, timbre = r.choice(INSTRUMENTS[instrument])
        place = "harmony" if role in {"chord", "broken"} else role
        if place in taken:
            continue
        taken.add(place)
        asked.append(instrument)
        if role == "lead":
            plan.lead = timbre
        elif role == "bass":
            plan.bass = timbre
        else:
            plan.chord = timbre
            breaking = plan.style.startswith("broken")
            if role == "broken" and not breaking:
                plan.style = r.choice(("broken8", "broken16"))
            elif role == "chord" and breaking:
                plan.style = "half"
            if instrument == "arp":
                plan.style = "broken16"


def _fit_style(r: Random, plan: Plan) -> None:
    """Let each timbre do what it can."""
    if plan.chord in {"pad", "strings", "choir"}:
        plan.style = "half" if plan.style == "half" else "long"
    elif plan.chord == "dist":
        plan.style = "riff"
    elif plan.style == "riff":
        plan.style = "quarters"
    elif plan.chord in {"harp", "mbox"} and not plan.style.startswith("broken"):
        plan.style = "broken8"
    elif plan.style.startswith("broken") and plan.chord not in _BREAKS_CHORDS:
        plan.style = "stab" if GENRES[plan.flavour].electronic else "half"
    elif plan.style == "long" and plan.chord in _BREAKS_CHORDS and r.random() < 0.5:
        plan.style = "broken8"


def _name_drums(r: Random, plan: Plan, asked: list[str]) -> None:
    chance = r.random()
    if chance < 0.12:
        plan.kit = None
        asked.append("no_drums")
    elif chance < 0.32:
        plan.kit = GENRES[plan.genre].kit
        asked.append("drums")
    elif chance < 0.40:
        name = r.choice(list(KITS))
        plan.kit = KITS[name]
        asked.append(name)


def _leave_out(r: Random, plan: Plan, asked: list[str], more: float) -> None:
    """Say of an instrument that it must not be there, and see to it."""
    if r.random() > 0.22 * more:
        return
    there = [name for name in ABSENT if name not in asked and name != "drums" and plan.has(name)]
    name = r.choice(there) if there and r.random() < 0.75 else r.choice(ABSENT[1:])
    if any(plan.has(name) and set(INSTRUMENTS[name]) & set(INSTRUMENTS.get(other, ())) for other in asked):
        return
    if name == "guitar" and "dist" in asked:
        return
    unwanted = {timbre for role, timbre in INSTRUMENTS[name]} | ({"dist"} if name == "guitar" else set())
    if name == "bass":
        plan.bass = None

    def another(role: str, usual: Sequence[str | None]) -> str | None:
        for among in (usual, _IN_PLACE[role]):
            if others := [timbre for timbre in among if timbre not in unwanted]:
                return r.choice(others)
        raise AssertionError(f"nothing is left to play instead of {name}")

    if plan.lead in unwanted:
        plan.lead = another("lead", GENRES[plan.flavour].leads)
    if plan.chord in unwanted:
        plan.chord = another("chord", GENRES[plan.flavour].chords)
        _fit_style(r, plan)
    asked.append(f"no_{name}")


def _name_tempo(r: Random, plan: Plan, asked: list[str], more: float) -> None:
    chance = r.random() / more
    if chance < 0.22:
        if chance < 0.16:
            plan.beat_frames = r.choice(pulse.BEAT_FRAMES)
        asked.append(f"bpm_{plan.beat_frames}")
    elif chance < 0.42:
        word, tempi = r.choice((("slow", SLOW), ("slow", SLOW), ("medium", MEDIUM), ("fast", FAST), ("fast", FAST)))
        plan.beat_frames = r.choice(tempi)
        asked.append(word)


def _name_key(r: Random, plan: Plan, asked: list[str], more: float) -> None:
    chance = r.random() / more
    if chance < 0.26:
        plan.key = r.choice(KEYS)
        asked.append(f"key_{KEYS.index(plan.key)}")
    elif chance < 0.34:
        mode = r.choice(("major", "minor"))
        plan.key = Key(plan.key.tonic, mode)
        asked.append(mode)


def _name_character(r: Random, plan: Plan, asked: list[str]) -> None:
    """Say sometimes that it is electronic or acoustic, where it is."""
    electronic = {"saw", "pluck", "pad", "chip"} & {plan.lead, plan.chord} or plan.kit in {"electronic", "chip"}
    acoustic = {"guitar", "piano", "violin", "flute"} & {plan.lead, plan.chord}
    if r.random() < 0.15:
        if electronic and (GENRES[plan.genre].electronic or plan.genre == "ambient"):
            asked.append("electronic")
        elif acoustic and not electronic and plan.genre in {"folk", "jazz", "classical", "latin", "pop"}:
            asked.append("acoustic")
    if r.random() < 0.1 and plan.genre in {"techno", "house", "funk", "pop"} and plan.kit:
        asked.append("dance")
    if r.random() < 0.3 and plan.genre == "cinematic" and plan.chord in {"strings", "brass"}:
        asked.append("orchestra")
