"""
What is known of published models before anything is downloaded: sizes, safe conversions, and what can't be run.

The figures are those of the models' pages on the Hugging Face Hub in autumn 2026, and of their configs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from musicgen_cli.errors import CheckpointError

PUBLISHER = "facebook/musicgen-"

# The main branches of these hold pickle only; a pull request of each has the same weights as safetensors. Anybody who
# opened it can change it, so only the commit that is known is taken. Repository → (revision, its commit's beginning).
CONVERSIONS = {
    f"{PUBLISHER}medium": ("refs/pr/10", "4ef1664"),
    f"{PUBLISHER}large": ("refs/pr/18", "037a9f5a2a8a44bd6eaa38b1171f6fdfb1b0b1a9"),
}

# Repositories of the same publisher that hold other models in audiocraft's layout.
_OTHERS = {
    f"{PUBLISHER}style": "MusicGen Style, which listens to an excerpt",
    "facebook/audiogen-medium": "AudioGen, which makes sounds, not music",
}
_OTHER_FAMILIES = {"facebook/magnet-": "MAGNeT", "facebook/jasco-": "JASCO"}


@dataclass(frozen=True, slots=True)
class Published:
    """A model of facebook/musicgen-… that can be run."""

    width: int
    layers: int
    heads: int
    channels: int
    weights_bytes: int  # that a pull downloads
    is_melody: bool = False

    @property
    def config(self) -> Mapping[str, Any]:
        """Its config.json, as far as it differs from the defaults of transformers."""
        return {
            "model_type": "musicgen_melody" if self.is_melody else "musicgen",
            "text_encoder": {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "vocab_size": 32_128},
            "decoder": {
                "hidden_size": self.width,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "ffn_dim": 4 * self.width,
                "num_codebooks": 4 * self.channels,
                "audio_channels": self.channels,
            },
            "audio_encoder": {
                "sampling_rate": 32_000,
                "codebook_size": 2048,
                "num_filters": 64,
                "upsampling_ratios": [8, 5, 4, 4],
                "use_causal_conv": False,
                "use_conv_shortcut": False,
            },
        }


FIGURES = {
    "small": Published(1024, 24, 16, 1, 2_360_000_000),
    "medium": Published(1536, 48, 24, 1, 8_040_000_000),
    "large": Published(2048, 48, 32, 1, 13_720_000_000),
    "stereo-small": Published(1024, 24, 16, 2, 1_220_000_000),
    "stereo-medium": Published(1536, 48, 24, 2, 4_070_000_000),
    "stereo-large": Published(2048, 48, 32, 2, 6_920_000_000),
    # Of these only the number of shards is known; the sizes are reckoned from the configs.
    "melody": Published(1536, 48, 24, 1, 6_220_000_000, is_melody=True),
    "melody-large": Published(2048, 48, 32, 1, 10_480_000_000, is_melody=True),
    "stereo-melody": Published(1536, 48, 24, 2, 6_320_000_000, is_melody=True),
    "stereo-melody-large": Published(2048, 48, 32, 2, 10_610_000_000, is_melody=True),
}


def check_can_be_run(repository: str) -> None:
    """
    Refuse a repository that is known to hold another kind of model, before anything is downloaded.

    Raises:
        CheckpointError: It does; the message says which kind.
    """
    kind = _OTHERS.get(repository) or next(
        (name for prefix, name in _OTHER_FAMILIES.items() if repository.startswith(prefix)), None
    )
    if kind:
        raise CheckpointError(f"{repository} is {kind}; only MusicGen is supported")
