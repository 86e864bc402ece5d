"""The package's engine, for measurements of what it makes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine.decoding.sampling import Sampling
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.onnx.engine import OnnxEngine


class RecordingEngine(OnnxEngine):
    """The package's engine, which also returns the codes of a clip."""

    def record(self, prompt: str, seed: int, seconds: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the codes and the samples of one clip, made with the default parameters."""
        request = GenerateRequest(prompt=prompt, duration=seconds, seed=seed)
        num_samples, pattern = self._plan(seconds)
        sequence = Sequence(pattern, Sampling.of(request, seed), vocab=self.shape.decoder.vocab)
        codes = self._scheduler.run(sequence, self.model.encode_text(self.tokenize(prompt)), lambda *_: None)
        stream = self.model.audio_stream()
        samples = np.concatenate([stream.push(codes), stream.end()], axis=1)[0, :num_samples]
        return codes, samples.astype(np.float64)
