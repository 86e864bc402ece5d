"""Loads the tokenizer of a checkpoint, and has it say in a sentence what it can't do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer

from musicgen_cli.checkpoint.tokenizer_file import read_tokenizer
from musicgen_cli.errors import CheckpointError, short_reason


def load_tokenizer(path: Path) -> Tokenizer:
    """
    Load a tokenizer.json, without truncation and padding.

    Raises:
        CheckpointError: It is damaged or of an unsupported kind.
    """
    content = read_tokenizer(path)
    with explained(path):
        tokenizer = Tokenizer.from_buffer(content)
    # The defaults of transformers.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """
    Turn whatever the tokenizers library raises into a sentence about the file.

    Raises:
        CheckpointError: The block failed.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as err:  # tokenizers raises nothing narrower
        raise CheckpointError(f"{path} can't be read: {short_reason(err)}") from err
    except BaseException as err:
        if type(err).__name__ != "PanicException":  # of Rust, which Python programs aren't meant to catch
            raise
        raise CheckpointError(f"{path} can't be used: {short_reason(Exception(str(err)))}") from None
