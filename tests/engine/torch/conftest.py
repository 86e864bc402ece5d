"""Fixtures of the torch engine's tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.checkpoint import Checkpoint
    from musicgen_cli.engine.torch.engine import TorchEngine


@pytest.fixture(scope="session")
def torch_engine(nano: Checkpoint) -> Iterator[TorchEngine]:
    """Load the bundled model into the torch engine, on the CPU."""
    from musicgen_cli.engine.torch.engine import TorchEngine

    engine = TorchEngine(nano, device="cpu")
    yield engine
    engine.close()
