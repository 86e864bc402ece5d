"""Keeps what was last computed from texts, as a prompt is mostly repeated at once, with other seeds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

_KEPT = 4

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """A function of a text that keeps its last few results; safe to call from many threads at once."""

    def __init__(self, compute: Callable[[str], Value]) -> None:
        self._compute = compute
        self._lock = threading.Lock()  # held while computing, so that no text is computed twice
        self._values: OrderedDict[str, Value] = OrderedDict()  # least recently used first

    def __call__(self, text: str) -> Value:
        """Return the value of a text, which is computed unless it is one of the last few."""
        with self._lock:
            if text in self._values:
                self._values.move_to_end(text)
            else:
                self._values[text] = self._compute(text)
                if len(self._values) > _KEPT:
                    self._values.popitem(last=False)
            return self._values[text]
