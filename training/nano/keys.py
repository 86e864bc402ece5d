"""Keys, their scales and degrees, and chord progressions by mood."""

from __future__ import annotations

from dataclasses import dataclass

TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MODES = ("major", "minor")

Triad = tuple[int, str]  # pitch class of the root; "major" or "minor"

_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
DEGREES: dict[str, dict[str, Triad]] = {
    "major": {
        "I": (0, "major"),
        "ii": (2, "minor"),
        "iii": (4, "minor"),
        "IV": (5, "major"),
        "V": (7, "major"),
        "vi": (9, "minor"),
        "bVII": (10, "major"),
    },
    "minor": {
        "i": (0, "minor"),
        "III": (3, "major"),
        "iv": (5, "minor"),
        "v": (7, "minor"),
        "V": (7, "major"),
        "VI": (8, "major"),
        "VII": (10, "major"),
    },
}
# A seventh chord without its root is the triad a third higher; the bass plays the root.
_UPPER_TRIADS = {"I": "iii", "ii": "IV", "IV": "vi", "vi": "I", "iii": "V"} | {
    "i": "III",
    "iv": "VI",
    "VI": "i",
    "v": "VII",
}

PROGRESSIONS = {
    "happy": ("I V vi IV", "I IV V I", "I vi IV V", "IV V I vi", "I IV I V", "I iii IV V"),
    "bright": ("I V vi IV", "vi IV I V", "I bVII IV I", "I IV vi V", "IV I V vi"),
    "floating": ("I iii IV I", "IV I IV I", "I ii I IV", "IV iii ii I", "I bVII IV I"),
    "jazz": ("ii V I vi", "I vi ii V", "iii vi ii V", "IV V iii vi", "I IV ii V"),
    "sad": ("i VI III VII", "i iv V i", "i VI iv V", "i v VI VII", "i iv VI V"),
    "dark": ("i i VI V", "i iv i V", "iv i V i", "i VI i V", "i VI V V"),
    "driving": ("i VI VII i", "i VII VI VII", "i i VI VII", "i III VII VI", "i VI III VII"),
    "jazz sad": ("i iv V i", "i VI iv V", "iv VII III VI", "i iv VII III"),
}


@dataclass(frozen=True, slots=True)
class Key:
    """A tonic and a mode."""

    tonic: int  # pitch class
    mode: str  # of MODES

    @property
    def name(self) -> str:
        """The usual name, such as `C# minor`."""
        return f"{TONICS[self.tonic]} {self.mode}"

    def triad(self, degree: str) -> Triad:
        """Return the triad on a degree."""
        offset, quality = DEGREES[self.mode][degree]
        return (self.tonic + offset) % 12, quality

    def scale(self, degree: str) -> frozenset[int]:
        """Return the pitch classes that fit a degree: the scale, adapted to the notes of its chord."""
        notes = {(self.tonic + offset) % 12 for offset in _SCALES[self.mode]}
        chord = pitch_classes(self.triad(degree))
        # A note of the chord that isn't in the scale replaces its neighbours, which would be dissonant beside it.
        borrowed = set(chord) - notes
        return frozenset(
            (notes | borrowed) - {(note + step) % 12 for note in borrowed for step in (-1, 1)} | set(chord)
        )


KEYS = tuple(Key(tonic, mode) for mode in MODES for tonic in range(12))


def pitch_classes(triad: Triad) -> tuple[int, int, int]:
    """Return root, third and fifth."""
    root, quality = triad
    return root, (root + (4 if quality == "major" else 3)) % 12, (root + 7) % 12


def upper_triad(degree: str) -> str:
    """Return the degree whose triad, over the root of this one, makes a seventh chord; or the same degree if none."""
    return _UPPER_TRIADS.get(degree, degree)
