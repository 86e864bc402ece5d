"""
What is usual in each genre and mood.

A genre has tempi, moods, instruments, ways of playing and drum patterns; a mood has a pace, an energy and chord
progressions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Genre:
    """What a genre plays unless something else is named. One entry of each tuple is drawn; repeated ones more often."""

    tempo: tuple[int, int]  # beats a minute
    moods: tuple[str, ...]
    leads: tuple[str | None, ...]
    chords: tuple[str, ...]
    basses: tuple[str | None, ...]
    styles: tuple[str, ...]  # of chords: keys of composer.CHORD_STYLES
    lines: tuple[str, ...]  # of the bass: keys of composer.BASS_LINES
    kit: str = "acoustic"
    drums: float = 0.97  # probability that there are any
    swing: float = 0.0  # in sixteenths
    sevenths: bool = False  # seventh chords instead of triads
    electronic: bool = False
    patterns: tuple[Mapping[str, str], ...] = field(default=())  # of a bar: the sixteenths by drum


def _bars(*patterns: str) -> tuple[Mapping[str, str], ...]:
    """Parse drum patterns such as `K:x...x...x...x... S:....x.......x...`: a drum and its sixteenths."""
    return tuple(dict(piece.split(":") for piece in pattern.split()) for pattern in patterns)


_ROCK = _bars(
    "K:x.......x....... S:....x.......x... H:x.x.x.x.x.x.x.x.",
    "K:x.......x.x..... S:....x.......x... H:x.x.x.x.x.x.x.x.",
    "K:x.....x.x....... S:....x.......x... H:x.x.x.x.x.x.x.x.",
    "K:x..x......x..... S:....x.......x... R:x...x...x...x...",
)
_SOFT = _bars(
    "K:x.......x....... P:....x.......x... h:..x...x...x...x.",
    "K:x.......x....... P:....x.......x... h:x.x.x.x.x.x.x.x.",
    "K:x.........x..... P:....x.......x... H:x...x...x...x...",
)

GENRES: dict[str, Genre] = {
    "ambient": Genre(
        tempo=(60, 82),
        moods=("calm", "calm", "dreamy", "dark", "sad"),
        leads=("piano", "vibes", "flute", "mbox", None, None),
        chords=("pad", "pad", "pad", "strings", "choir"),
        basses=("sub", None, None),
        styles=("long",),
        lines=("long",),
        kit="soft",
        drums=0.0,
        patterns=_SOFT,
    ),
    "techno": Genre(
        tempo=(120, 143),
        moods=("energetic", "energetic", "dark"),
        leads=("saw", "pluck", "saw"),
        chords=("saw", "pluck", "pluck"),
        basses=("sbass",),
        styles=("stab", "broken16"),
        lines=("off", "rolling"),
        kit="electronic",
        electronic=True,
        patterns=_bars(
            "K:x...x...x...x... O:..x...x...x...x. S:....x.......x...",
            "K:x...x...x...x... O:..x...x...x...x. h:.x.x.x.x.x.x.x.x",
            "K:x...x...x...x... H:..x...x...x...x. P:....x.......x...",
        ),
    ),
    "house": Genre(
        tempo=(115, 130),
        moods=("happy", "energetic", "dreamy"),
        leads=("pluck", "piano", "saw", "vibes", None),
        chords=("piano", "organ", "pluck"),
        basses=("ebass", "sbass"),
        styles=("stab", "offbeat"),
        lines=("off", "syncopated"),
        kit="electronic",
        electronic=True,
        patterns=_bars(
            "K:x...x...x...x... O:..x...x...x...x. P:....x.......x...",
            "K:x...x...x...x... O:..x...x...x...x. P:....x.......x..x h:.x.x.x.x.x.x.x.x",
        ),
    ),
    "lofi": Genre(
        tempo=(68, 88),
        moods=("calm", "sad", "dreamy"),
        leads=("epiano", "vibes", "guitar", "piano", "flute", None),
        chords=("epiano", "epiano", "piano"),
        basses=("ubass",),
        styles=("comp", "half", "long"),
        lines=("lazy",),
        kit="soft",
        swing=0.3,
        sevenths=True,
        patterns=_bars(
            "K:x.........x..... S:....x.......x... H:x.x.x.x.x.x.x.x.",
            "K:x......x..x..... S:....x.......x... h:x.x.x.x.x.x.x.x.",
        ),
    ),
    "jazz": Genre(
        tempo=(88, 143),
        moods=("happy", "calm", "sad"),
        leads=("sax", "brass", "piano", "guitar", "vibes"),
        chords=("piano", "guitar", "organ"),
        basses=("ubass",),
        styles=("comp",),
        lines=("walking",),
        swing=0.4,
        sevenths=True,
        patterns=_bars(
            "R:x...x..xx...x..x h:....x.......x...",
            "R:x...x..xx...x..x P:....x.......x... K:x...............",
        ),
    ),
    "classical": Genre(
        tempo=(68, 115),
        moods=("calm", "happy", "sad", "dark"),
        leads=("piano", "violin", "flute", "piano"),
        chords=("piano", "strings", "harp"),
        basses=("pbass", None),
        styles=("broken8", "half"),
        lines=("half",),
        kit="taiko",
        drums=0.0,
        patterns=_bars("K:x............... T:............x...", "K:x.......x......."),
    ),
    "rock": Genre(
        tempo=(107, 150),
        moods=("energetic", "energetic", "dark", "happy"),
        leads=("dist", "dist", "organ", None),
        chords=("dist",),
        basses=("ebass",),
        styles=("riff",),
        lines=("eighths",),
        patterns=_ROCK,
    ),
    "folk": Genre(
        tempo=(88, 120),
        moods=("happy", "calm", "sad"),
        leads=("guitar", "flute", "violin", None),
        chords=("guitar",),
        basses=("ubass", None),
        styles=("broken8", "strum"),
        lines=("half",),
        drums=0.35,
        patterns=_SOFT,
    ),
    "chiptune": Genre(
        tempo=(115, 158),
        moods=("happy", "energetic", "dark"),
        leads=("chip",),
        chords=("chip",),
        basses=("cbass",),
        styles=("broken16", "broken8"),
        lines=("eighths", "octaves"),
        kit="chip",
        electronic=True,
        patterns=_bars(
            "K:x.......x....... S:....x.......x... H:..x...x...x...x.",
            "K:x.......x.x..... S:....x.......x... H:..x...x...x...x.",
        ),
    ),
    "cinematic": Genre(
        tempo=(63, 107),
        moods=("epic", "dark", "sad", "epic"),
        leads=("violin", "brass", "choir", "piano", "flute"),
        chords=("strings", "strings", "choir", "brass"),
        basses=("sub", "pbass"),
        styles=("half", "long"),
        lines=("long",),
        kit="taiko",
        drums=0.7,
        patterns=_bars(
            "K:x.......x.......",
            "K:x.....x.x.....x. T:............x...",
            "K:x..x..x.x..x..x. S:............x.x.",
        ),
    ),
    "hiphop": Genre(
        tempo=(78, 100),
        moods=("dark", "calm", "energetic"),
        leads=("piano", "pluck", "mbox", "flute", None),
        chords=("piano", "epiano", "strings"),
        basses=("sub",),
        styles=("comp", "half", "long"),
        lines=("lazy",),
        kit="electronic",
        swing=0.2,
        electronic=True,
        patterns=_bars(
            "K:x.....x...x..... S:....x.......x... H:x.x.x.x.x.x.x.x.",
            "K:x..x......x..... S:....x.......x... H:x.x.x.x.x.x.xhxh",
            "K:x......xx....... S:....x.......x... H:x.x.x.x.x.x.x.x.",
        ),
    ),
    "pop": Genre(
        tempo=(100, 125),
        moods=("happy", "happy", "sad", "energetic"),
        leads=("piano", "saw", "guitar", "pluck", "marimba"),
        chords=("piano", "guitar", "pluck"),
        basses=("ebass",),
        styles=("quarters", "half", "strum"),
        lines=("eighths", "syncopated", "half"),
        patterns=_ROCK,
    ),
    "synthwave": Genre(
        tempo=(94, 120),
        moods=("dreamy", "energetic", "sad"),
        leads=("saw", "pluck", "saw"),
        chords=("pad", "pad", "saw"),
        basses=("sbass",),
        styles=("long", "broken16"),
        lines=("eighths", "octaves"),
        kit="electronic",
        electronic=True,
        patterns=_ROCK[:3],
    ),
    "lullaby": Genre(
        tempo=(60, 86),
        moods=("calm", "calm", "sad", "dreamy"),
        leads=("mbox", "mbox", "vibes", "piano"),
        chords=("harp", "piano", "mbox"),
        basses=(None,),
        styles=("broken8",),
        lines=("long",),
        kit="soft",
        drums=0.0,
        patterns=_SOFT,
    ),
    "dnb": Genre(
        tempo=(150, 177),
        moods=("energetic", "dark", "dreamy"),
        leads=("pluck", "saw", "vibes", None),
        chords=("pad", "strings"),
        basses=("sbass", "sub"),
        styles=("long",),
        lines=("syncopated", "lazy"),
        kit="electronic",
        electronic=True,
        patterns=_bars(
            "K:x.........x..... S:....x.......x... H:x.x.x.x.x.x.x.x.",
            "K:x.....x...x..... S:....x....x..x... H:x.x.x.x.x.x.x.x.",
            "K:x.x.......x..... S:....x.......x..x H:x.x.x.x.x.x.x.x.",
        ),
    ),
    "reggae": Genre(
        tempo=(68, 94),
        moods=("happy", "calm", "happy"),
        leads=("brass", "organ", "guitar", "flute", None),
        chords=("organ", "guitar"),
        basses=("ebass", "sub"),
        styles=("offbeat",),
        lines=("lazy",),
        patterns=_bars(
            "K:........x....... S:........x....... H:x.x.x.x.x.x.x.x.",
            "K:x.......x....... S:........x....... h:x.x.x.x.x.x.x.x.",
        ),
    ),
    "latin": Genre(
        tempo=(94, 125),
        moods=("happy", "calm", "energetic", "dreamy"),
        leads=("flute", "guitar", "brass", "marimba", "piano"),
        chords=("guitar", "guitar", "piano"),
        basses=("ubass",),
        styles=("clave",),
        lines=("tumbao", "half"),
        kit="soft",
        sevenths=True,
        patterns=_bars(
            "K:x.....x.x.....x. P:x..x..x...x.x... h:x.x.x.x.x.x.x.x.",
            "K:x.......x....... P:x.....x.x...x... h:x.x.x.x.x.x.x.x.",
        ),
    ),
    "funk": Genre(
        tempo=(94, 120),
        moods=("happy", "energetic"),
        leads=("brass", "guitar", "organ", "sax"),
        chords=("guitar", "epiano", "brass"),
        basses=("ebass",),
        styles=("chank",),
        lines=("syncopated",),
        sevenths=True,
        patterns=_bars(
            "K:x..x......x..... S:....x.......x... H:x...x...x...x... h:.xxx.xxx.xxx.xxx",
            "K:x.....x...x..... S:....x.......x... H:x...x...x...x... h:.xxx.xxx.xxx.xxx",
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Mood:
    """What a mood determines."""

    energy: int  # density of notes, 0-2
    pace: float  # most likely tempo within the range of the genre, 0-1
    major: str  # chord progressions in major and in minor: keys of keys.PROGRESSIONS
    minor: str
    in_major: float  # probability of a major key


MOODS: dict[str, Mood] = {
    "calm": Mood(0, 0.2, "bright", "sad", 0.7),
    "happy": Mood(2, 0.6, "happy", "driving", 1.0),
    "dark": Mood(1, 0.4, "bright", "dark", 0.0),
    "sad": Mood(0, 0.15, "floating", "sad", 0.0),
    "energetic": Mood(2, 0.9, "bright", "driving", 0.35),
    "dreamy": Mood(0, 0.35, "floating", "sad", 0.75),
    "epic": Mood(1, 0.6, "bright", "driving", 0.15),
}
