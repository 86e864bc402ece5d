"""The checks of sounds that clients send, before their requests wait."""

from __future__ import annotations

from musicgen_cli import limits
from musicgen_cli.audio.source_file import check_sound
from musicgen_cli.engine import wire
from musicgen_cli.engine.base import Inputs


def check_sounds(inputs: Inputs) -> None:
    """
    Check that the sounds of a request are WAVs that can be used; it takes time, but hardly any memory.

    Raises:
        InvalidValueError: One can't be used; the message names the member of the request.
    """
    for name, wav in ((wire.SOUND, inputs.continue_wav), (wire.MELODY, inputs.melody_wav)):
        if wav is not None:
            check_sound(wav, name, limits.SOURCE_SENT_S)
