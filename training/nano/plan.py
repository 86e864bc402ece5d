"""
What a piece is to be, and the concepts that describe it.

A plan is drawn in two steps: first what is *named* in the caption, from a wide choice, so that every combination
occurs; then the rest, from what is usual in the genre. So the model learns to follow what a prompt says, and to do the
usual where it says nothing. Where no genre is named, something quiet is usual. The order in which random numbers are
drawn is part of the result.

A *hue* is what the wording of a prompt decides where its meaning decides nothing: the tonic, the chord progression, the
arc of loudness. So prompts that mean the same to the model still sound different.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from training.nano import codes, pulse
from training.nano.keys import KEYS, Key
from training.nano.styles import GENRES, MOODS

UNKNOWN = "<unk>"  # any word outside of the vocabulary
HUES = (12, 8, 8)  # values of each hue

Voice = tuple[str, str]  # a role (lead, chord, broken, bass, kit) and a timbre
# The instruments that can be named, and the voices that each stands for.
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

_SOLO = (  # instruments that can play alone; `drums` can, too
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
    "brass",
    "choir",
    "marimba",
)
# What is usual if no genre is named, by the named mood: the genres, and the probability of drums.
_UNNAMED: dict[str | None, tuple[tuple[str, ...], float]] = {
    None: (("ambient", "classical", "folk", "lullaby", "cinematic"), 0.0),
    "calm": (("ambient", "classical", "folk", "lullaby", "ambient"), 0.0),
    "sad": (("classical", "ambient", "folk", "cinematic"), 0.0),
    "dreamy": (("ambient", "lullaby", "cinematic", "ambient"), 0.0),
    "dark": (("cinematic", "ambient", "cinematic"), 0.0),
    "happy": (("folk", "classical", "latin", "pop", "folk"), 0.3),
    "energetic": (("rock", "pop", "techno", "funk"), 0.95),
    "epic": (("cinematic",), 0.7),
}
_QUIET_MOODS = ("calm", "dreamy", "calm", "sad")
_SELF_ACCOMPANYING = ("piano", "guitar", "organ", "epiano", "mbox", "choir")
# Timbres for a role if the genre has only unwanted ones: a piece without any voice would be silent.
_SUBSTITUTES = {"lead": ("piano", "flute", "organ", "epiano"), "chord": ("piano", "organ", "epiano", "strings")}
_CAN_BREAK_CHORDS = ("piano", "guitar", "harp", "pluck", "chip", "mbox")


@dataclass(slots=True)
class Plan:
    """Everything about a piece but its notes. `lead`, `chord` and `bass` are timbres; None for no such voice."""

    genre: str  # of drums and bass
    flavour: str  # the genre of chords and melody; another one in a mixture
    mood: str
    beat_frames: int  # the tempo
    key: Key
    lead: str | None
    chord: str | None
    style: str  # of chords: a key of composer.CHORD_STYLES
    bass: str | None
    line: str  # of the bass: a key of composer.BASS_LINES
    kit: str | None
    hues: tuple[int, ...]  # below HUES
    solo: bool = False
    drone: bool = False  # one chord throughout
    jingle: int = 0  # bars of a phrase that comes to an end; 0 for a piece that goes on

    @property
    def voices(self) -> frozenset[Voice]:
        """The voices that play."""
        harmony = "broken" if self.style.startswith("broken") else "chord"
        named = (("lead", self.lead), (harmony, self.chord), ("bass", self.bass), ("kit", self.kit))
        return frozenset((role, timbre) for role, timbre in named if timbre)

    def has(self, instrument: str) -> bool:
        """Tell whether an instrument that can be named, or "drums", is among the voices."""
        if instrument == "drums":
            return self.kit is not None
        return not self.voices.isdisjoint(INSTRUMENTS[instrument])


def draw(seed: int, *, emphasize_hard: bool = False, emphasize_jingles: bool = False) -> tuple[Plan, list[str]]:
    """
    Draw a plan; return it and the concepts that its caption names.

    Args:
        emphasize_hard: Name keys, tempi and absent instruments more often, as the model learns them last.
        emphasize_jingles: Name jingles more often, and let all of them end after four bars.
    """
    rng = Random(seed)
    concepts: list[str] = []

    def happens(probability: float) -> bool:
        return rng.random() < probability

    hues = tuple(rng.randrange(count) for count in HUES)
    genre, flavour, mood, drums = _draw_genre(rng, concepts)
    usual, taste = GENRES[genre], GENRES[flavour]
    plan = Plan(
        genre=genre,
        flavour=flavour,
        mood=mood,
        beat_frames=_tempo(rng, usual.tempo, mood),
        key=Key(hues[0], "major" if happens(MOODS[mood].in_major) else "minor"),
        lead=rng.choice(taste.leads),
        chord=rng.choice(taste.chords),
        style=rng.choice(taste.styles),
        bass=rng.choice(usual.basses),
        line=rng.choice(usual.lines),
        kit=usual.kit if happens(drums) else None,
        hues=hues,
    )
    if happens(0.1):
        concepts += ["solo", _make_solo(rng, plan, concepts)]
    elif happens(0.06):
        _make_drone(rng, plan, concepts)
    elif concepts or not happens(0.3):  # the rest are prompts of unknown words alone
        _name_voices(rng, plan, concepts)
        _name_drums(rng, plan, concepts)
        if happens(0.3 if emphasize_jingles else 0.08):
            _make_jingle(rng, plan, concepts, only_long=emphasize_jingles)
    _fit_style(rng, plan)
    if not concepts:
        return plan, concepts
    factor = 2.0 if emphasize_hard else 1.0
    _name_absence(rng, plan, concepts, factor)
    _name_tempo(rng, plan, concepts, factor)
    _name_key(rng, plan, concepts, factor)
    _name_character(rng, plan, concepts)
    return plan, concepts


def _draw_genre(rng: Random, concepts: list[str]) -> tuple[str, str, str, float]:
    """Draw genre, flavour, mood, and the probability of drums; name some of them."""
    if rng.random() < 0.7:
        genre = flavour = rng.choice(list(GENRES))
        concepts.append(genre)
        if rng.random() < 0.08:
            flavour = rng.choice(list(GENRES))
            concepts.append(flavour)
        mood = rng.choice(GENRES[genre].moods)
        if rng.random() < 0.55:
            mood = rng.choice(list(MOODS)) if rng.random() < 0.35 else mood
            concepts.append(mood)
        return genre, flavour, mood, GENRES[genre].drums
    named = rng.choice(list(MOODS)) if rng.random() < 0.6 else None
    if named:
        concepts.append(named)
    genres, drums = _UNNAMED[named]
    genre = rng.choice(genres)
    return genre, genre, named or rng.choice(_QUIET_MOODS), drums


def caption(plan: Plan, concepts: Sequence[str], rng: Random) -> list[str]:
    """Return the hues, then the concepts in random order, some of them twice, among unknown words."""
    shuffled = list(dict.fromkeys(concepts))
    rng.shuffle(shuffled)
    share = rng.choice((0.0, 0.0, 0.4, 0.8)) if concepts else 0.9
    words: list[str] = []
    for concept in shuffled:
        while rng.random() < share * 0.6:
            words.append(UNKNOWN)
        words.append(concept)
        if rng.random() < 0.05:
            words.append(concept)  # `a piano piece for solo piano`
    while rng.random() < share * 0.8:
        words.append(UNKNOWN)
    return [*(hue(number, value) for number, value in enumerate(plan.hues)), *words]


def hue(number: int, value: int) -> str:
    """Return the concept of a value of a hue."""
    return f"hue{number}_{value}"


def _tempo(rng: Random, range_: tuple[int, int], mood: str) -> int:
    tempi = pulse.between(*range_)
    place = rng.triangular(0, 1, MOODS[mood].pace)
    return tempi[min(int(place * len(tempi)), len(tempi) - 1)]


def _make_solo(rng: Random, plan: Plan, concepts: Sequence[str]) -> str:
    """Let one instrument play alone; return its name."""
    instrument = rng.choice((*_SOLO, "drums"))
    plan.solo, plan.kit, plan.bass, plan.lead, plan.chord = True, None, None, None, None
    if instrument == "drums":
        if plan.genre not in concepts:
            plan.genre = plan.flavour = rng.choice(("rock", "rock", "funk", "jazz", "dnb"))
        plan.kit = GENRES[plan.genre].kit
        return instrument
    if instrument == "bass":
        plan.bass, plan.line = rng.choice(codes.BASSES[:4]), rng.choice(("walking", "syncopated", "octaves", "eighths"))
        return instrument
    if instrument == "harp":
        plan.chord, plan.style = "harp", "broken16"
        return instrument
    plan.lead = next(timbre for role, timbre in INSTRUMENTS[instrument] if role == "lead")
    if instrument in _SELF_ACCOMPANYING:
        plan.chord, plan.style = plan.lead, "broken8" if plan.lead in _CAN_BREAK_CHORDS else "half"
    return instrument


def _make_drone(rng: Random, plan: Plan, concepts: list[str]) -> None:
    """Let one chord sound throughout, sometimes of a named instrument."""
    plan.drone, plan.kit, plan.lead = True, None, None
    plan.bass = "sub" if rng.random() < 0.5 else None
    plan.chord, plan.style, plan.line = rng.choice(("pad", "pad", "strings", "choir", "organ")), "long", "long"
    concepts.append("drone")
    if rng.random() < 0.4:
        concepts.append(plan.chord)


def _make_jingle(rng: Random, plan: Plan, concepts: list[str], *, only_long: bool) -> None:
    """Let the piece come to an end after two (if allowed) or four bars, at a tempo that makes it last a few seconds."""
    plan.jingle = codes.BARS if only_long else rng.choice((codes.BARS, codes.BARS, codes.BARS // 2))
    plan.beat_frames = rng.choice(pulse.between(115, 177))
    plan.lead = plan.lead or rng.choice(("mbox", "brass", "flute", "piano"))
    concepts.append("jingle")


def _name_voices(rng: Random, plan: Plan, concepts: list[str]) -> None:
    """Name up to three instruments, some of them from the plan, and let them play."""
    taken: set[str] = set()
    for _ in range(rng.choices((0, 1, 2, 3), (0.33, 0.4, 0.2, 0.07))[0]):
        if rng.random() < 0.4:
            present = [name for name in INSTRUMENTS if plan.has(name)]
            instrument = rng.choice(present) if present else "bass"
            options = [voice for voice in INSTRUMENTS[instrument] if voice in plan.voices]
            role, timbre = rng.choice(options) if options else ("bass", rng.choice(codes.BASSES[:4]))
        else:
            instrument = rng.choice(list(INSTRUMENTS))
            role, timbre = rng.choice(INSTRUMENTS[instrument])
        place = "harmony" if role in {"chord", "broken"} else role
        if place in taken:
            continue
        taken.add(place)
        concepts.append(instrument)
        if role == "lead":
            plan.lead = timbre
        elif role == "bass":
            plan.bass = timbre
        else:
            plan.chord = timbre
            is_broken = plan.style.startswith("broken")
            if role == "broken" and not is_broken:
                plan.style = rng.choice(("broken8", "broken16"))
            elif role == "chord" and is_broken:
                plan.style = "half"
            if instrument == "arp":
                plan.style = "broken16"


def _fit_style(rng: Random, plan: Plan) -> None:
    """Change the style of the chords to one that suits their timbre."""
    if plan.chord in {"pad", "strings", "choir"}:
        plan.style = "half" if plan.style == "half" else "long"
    elif plan.chord == "dist":
        plan.style = "riff"
    elif plan.style == "riff":
        plan.style = "quarters"
    elif plan.chord in {"harp", "mbox"} and not plan.style.startswith("broken"):
        plan.style = "broken8"
    elif plan.style.startswith("broken") and plan.chord not in _CAN_BREAK_CHORDS:
        plan.style = "stab" if GENRES[plan.flavour].electronic else "half"
    elif plan.style == "long" and plan.chord in _CAN_BREAK_CHORDS and rng.random() < 0.5:
        plan.style = "broken8"


def _name_drums(rng: Random, plan: Plan, concepts: list[str]) -> None:
    draw = rng.random()
    if draw < 0.12:
        plan.kit = None
        concepts.append("no_drums")
    elif draw < 0.32:
        plan.kit = GENRES[plan.genre].kit
        concepts.append("drums")
    elif draw < 0.40:
        name = rng.choice(list(KITS))
        plan.kit = KITS[name]
        concepts.append(name)


def _name_absence(rng: Random, plan: Plan, concepts: list[str], factor: float) -> None:
    """Name an instrument that must not play, and remove it from the plan."""
    if rng.random() > 0.22 * factor:
        return
    present = [name for name in ABSENT if name not in concepts and name != "drums" and plan.has(name)]
    name = rng.choice(present) if present and rng.random() < 0.75 else rng.choice(ABSENT[1:])
    if any(plan.has(name) and set(INSTRUMENTS[name]) & set(INSTRUMENTS.get(other, ())) for other in concepts):
        return
    if name == "guitar" and "dist" in concepts:
        return
    unwanted = {timbre for role, timbre in INSTRUMENTS[name]} | ({"dist"} if name == "guitar" else set())
    if name == "bass":
        plan.bass = None

    def substitute(role: str, usual: Sequence[str | None]) -> str | None:
        for choice in (usual, _SUBSTITUTES[role]):
            if others := [timbre for timbre in choice if timbre not in unwanted]:
                return rng.choice(others)
        raise AssertionError(f"nothing is left to play instead of {name}")

    if plan.lead in unwanted:
        plan.lead = substitute("lead", GENRES[plan.flavour].leads)
    if plan.chord in unwanted:
        plan.chord = substitute("chord", GENRES[plan.flavour].chords)
        _fit_style(rng, plan)
    concepts.append(f"no_{name}")


def _name_tempo(rng: Random, plan: Plan, concepts: list[str], factor: float) -> None:
    draw = rng.random() / factor
    if draw < 0.22:
        if draw < 0.16:
            plan.beat_frames = rng.choice(pulse.BEAT_FRAMES)
        concepts.append(f"bpm_{plan.beat_frames}")
    elif draw < 0.42:
        word, tempi = rng.choice((("slow", SLOW), ("slow", SLOW), ("medium", MEDIUM), ("fast", FAST), ("fast", FAST)))
        plan.beat_frames = rng.choice(tempi)
        concepts.append(word)


def _name_key(rng: Random, plan: Plan, concepts: list[str], factor: float) -> None:
    draw = rng.random() / factor
    if draw < 0.26:
        plan.key = rng.choice(KEYS)
        concepts.append(f"key_{KEYS.index(plan.key)}")
    elif draw < 0.34:
        mode = rng.choice(("major", "minor"))
        plan.key = Key(plan.key.tonic, mode)
        concepts.append(mode)


def _name_character(rng: Random, plan: Plan, concepts: list[str]) -> None:
    """Name sometimes what the piece is: electronic or acoustic, dance music, or orchestral."""
    electronic = {"saw", "pluck", "pad", "chip"} & {plan.lead, plan.chord} or plan.kit in {"electronic", "chip"}
    acoustic = {"guitar", "piano", "violin", "flute"} & {plan.lead, plan.chord}
    if rng.random() < 0.15:
        if electronic and (GENRES[plan.genre].electronic or plan.genre == "ambient"):
            concepts.append("electronic")
        elif acoustic and not electronic and plan.genre in {"folk", "jazz", "classical", "latin", "pop"}:
            concepts.append("acoustic")
    if rng.random() < 0.1 and plan.genre in {"techno", "house", "funk", "pop"} and plan.kit:
        concepts.append("dance")
    if rng.random() < 0.3 and plan.genre == "cinematic" and plan.chord in {"strings", "brass"}:
        concepts.append("orchestra")
