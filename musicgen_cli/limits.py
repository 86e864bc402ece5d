"""Ranges, defaults and rates: each number once, with its unit and its source."""

from __future__ import annotations

from dataclasses import dataclass

from musicgen_cli.text import number


@dataclass(frozen=True)
class Range:
    """A closed interval with a default, in one unit."""

    low: float
    high: float
    default: float
    unit: str = ""

    def __contains__(self, value: object) -> bool:
        """Tell whether `value` lies in the interval; False for NaN, on purpose."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def clamp(self, value: float) -> float:
        """Return the nearest value in the interval; an integer stays one if the bound is whole."""
        if value in self:
            return value
        bound = self.low if value < self.low else self.high
        return int(bound) if isinstance(value, int) and float(bound).is_integer() else bound

    def __str__(self) -> str:
        """Return the range as messages show it: `0.5-30 s`."""
        return f"{number(self.low)}-{number(self.high)}" + (f" {self.unit}" if self.unit else "")


# The fields of a request (the HTTP contract, `POST /predict`).
DURATION = Range(0.5, 600.0, default=10.0, unit="s")  # of new sound; a service may allow less
TEMPERATURE = Range(0.01, 2.0, default=1.0)
TOP_K = Range(0, 1000, default=250)  # 0 = off
TOP_P = Range(0.0, 1.0, default=0.9)  # 1 = off, 0 keeps the most likely token alone
GUIDANCE_SCALE = Range(1.0, 15.0, default=3.0)  # 1 = off
SEED = Range(0, 2**53 - 1, default=0)  # larger integers change silently in JavaScript clients
VARIATIONS = Range(1, 64, default=1)
BPM = Range(30, 300, default=120, unit="beats per minute")  # of a loop
BARS = Range(1, 64, default=4)  # of a loop
PROMPT_CHARS = 2_000
CLIENT_JOB_ID = r"[a-zA-Z0-9._:-]{1,256}"  # a pattern for re.fullmatch

# The sound of an answer.
SAMPLE_RATE = 32_000  # Hz
CHANNELS = 1
CODEC_STRIDE = 8 * 5 * 4 * 4  # samples per frame; audiocraft, encodec_large_nq4_s640.yaml
FRAMES_PER_SECOND = SAMPLE_RATE // CODEC_STRIDE  # 50

# The models' context length: they were trained on crops of 30 s (Copet et al. 2023, arXiv:2306.05284), 1500 frames.
# Caches and graphs are built for it, so changing it means building all graphs again.
CONTEXT_S = 30.0

# A take that is longer than the context is made in windows, each of which begins with the end of the one before it.
OVERLAP = Range(1.0, 25.0, default=12.0, unit="s")  # audiocraft's extend_stride of 18 s leaves 12 s of 30

# A sound that a take is made from.
SOURCE_LEAST_S, SOURCE_MOST_S = 0.5, 600.0
SOURCE_LEAST_RATE, SOURCE_MOST_RATE = 4_000, 192_000  # Hz
SOURCE_MOST_CHANNELS = 8
SOURCE_SENT_S = 100.0  # of a sound that is sent to a service, which then holds it at the model's rate
RECIPES = 64  # of takes that went on from each other, by which a model without an audio encoder makes them again
SOURCE_BYTES = 500_000_000  # of the file: ten minutes at 96 kHz in stereo, as 32-bit float, have 461 MB

# The wire.
DEFAULT_URL = "http://127.0.0.1:2006"
DEFAULT_PORT = 2006
REQUEST_BYTES = 64 * 1024  # a larger body gets status 413, unless it has a sound
SOUND_REQUEST_BYTES = 8 * 1024 * 1024  # of a body with sounds: 97 s of 32 kHz mono in 16 bits, as base64
ANSWER_BYTES = 32 * 1024 * 1024  # 30 s of 48 kHz stereo float is 15.4 MB as base64
ANSWER_BYTES_PER_S = 176_000  # for each second over 30: 32 kHz stereo in 16 bits, as base64 with some more
DETAIL_CHARS = 500  # at most, of a server's message that is quoted in an error
TIMEOUT_S = 600.0  # the deadline of one HTTP request, from connecting to the last byte
MAX_WAIT_S = 120.0  # how long to wait for a busy service, in all
RETRY_AFTER_S = Range(0, 60, default=1, unit="s")
BACKOFF_FIRST_S = 1.0
BACKOFF_MOST_S = 30.0
STARTING_S = 2.0  # a refused connection to loopback is tried again for this long
QUEUE = 16  # requests that may wait in the service

# The store.
TAG_BYTES = 128
MAX_TAGS = 64
LINE_BYTES = 65_536  # an index line with its LF
EXTRA_BYTES = 8 * 1024
WAV_BYTES = 0xFFFF_FFFF + 8  # the largest RIFF file: its size, less 8, is a 32-bit number
CREATOR = "agent_musicgen"
TAGS = ("type:audio", "format:wav", "phase:generation", "tool:musicgen_generate")

# An import.
SOUND_BYTES = 1_000_000_000  # of a sound, as a file and as a WAV: three hours at 44.1 kHz in stereo

# A batch.
ROW_BYTES = 256 * 1024  # a longer line is refused
BATCH_TAKES = 10_000_000  # more is a mistake in `--sweep`

# Jobs.
POLL_MS = Range(0, 30_000, default=10_000, unit="ms")  # of one poll; MCP clients time out soon after the upper bound

# A gallery.
EMBED_BYTES = 50_000_000  # of sound in one page; base64 makes them a third larger
