"""A torch device: which one is used, one computation at a time, its errors, and exact convolutions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from musicgen_cli.errors import AbsentError, EngineError, MemoryNeededError, short_reason


def select_device(name: str) -> torch.device:
    """
    Return the device with a name: auto (CUDA where there is one, else the CPU), cpu, cuda or mps.

    Raises:
        AbsentError: There is no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(name):
        raise AbsentError(f"torch finds no {name} on this machine", hint="`--device cpu` always works")
    return torch.device(name)


class ExclusiveDevice:
    """A device on which one thread computes at a time, as a device has one queue of work."""

    def __init__(self, device: torch.device) -> None:
        self.torch_device = device
        self._lock = threading.Lock()

    @contextmanager
    def computing(self, task: str) -> Iterator[None]:
        """Compute alone and without gradients, and turn what PyTorch raises into an EngineError that names the task."""
        with self._lock, torch.inference_mode():
            try:
                yield
            except torch.OutOfMemoryError as err:
                raise MemoryNeededError(
                    f"the device does not have enough memory to {task}", hint="a smaller model needs less"
                ) from err
            except RuntimeError as err:
                raise EngineError(f"torch couldn't {task}: {short_reason(err)}") from err


@contextmanager
def exact_cudnn() -> Iterator[None]:
    """Make cuDNN compute in float32, not in TF32, and deterministically."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
