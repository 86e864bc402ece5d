"""
What benchmarks/engine.py measures, each in a process of its own: started with a part's name, and then given orders.

An order is a line of JSON on stdin, {"do": method, …}; the answer is a line of JSON on stdout.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine import hardware
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern, num_frames, num_samples
from musicgen_cli.engine.decoding.sampling import Sampling, apply_guidance
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.registry import open_local

GUIDANCE, TOP_K, TOP_P = 3.0, 250, 0.9
HALF_SECOND = 0.5

Answer = dict[str, Any]


class Memory:
    """The memory's bandwidth: numpy's maximum of 1 GiB of float32, one thread for each core, best of five passes."""

    def __init__(self) -> None:
        self._parts = np.array_split(np.ones(1 << 28, np.float32), hardware.cores())

    def read(self) -> Answer:
        size, best = sum(part.nbytes for part in self._parts), 0.0
        with ThreadPoolExecutor(len(self._parts)) as pool:
            for _ in range(5):
                started = time.perf_counter()
                list(pool.map(np.max, self._parts))  # numpy lets go of Python's lock
                best = max(best, size / (time.perf_counter() - started))
        return {"bytes_s": best}


class Clock:
    """A listener that notes when it heard what."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, int]] = []  # when; steps made so far, of which several may be told at once
        self.sounds: list[tuple[float, float]] = []  # when; seconds of sound so far

    def step(self, done: int, total: int) -> None:  # noqa: ARG002  # what a listener is given
        self.steps.append((time.perf_counter(), done))

    def note(self, text: str) -> None: ...

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        before = self.sounds[-1][1] if self.sounds else 0.0
        self.sounds.append((time.perf_counter(), before + len(pcm) / (2 * sample_rate * channels)))

    def step_s(self) -> float:
        """Return the mean time of a step, leaving out those during which sound was made."""
        heard = [at for at, _ in self.sounds]
        pairs = zip(self.steps, self.steps[1:], strict=False)
        gaps = [(b - a, n - m) for (a, m), (b, n) in pairs if not any(a < at <= b for at in heard)]
        return sum(gap for gap, _ in gaps) / sum(steps for _, steps in gaps)

    def soon_s(self) -> float:
        """Return the time from the loop's start to half a second of sound."""
        there = next(at for at, seconds in self.sounds if seconds >= HALF_SECOND)
        at, done = self.steps[0]
        return there - at + done * self.step_s()


class Ours:
    """The engine of this project."""

    def __init__(self, model: str, precision: str) -> None:
        self._engine: Any = open_local(model, precision=precision, note=lambda text: print(text, file=sys.stderr))

    def clips(self, prompts: list[str], duration: float) -> Answer:
        """Make a clip of each prompt, all at once."""
        clocks = [Clock() for _ in prompts]
        requests = [GenerateRequest(prompt=text, duration=duration, seed=i) for i, text in enumerate(prompts)]
        started = time.perf_counter()
        with ThreadPoolExecutor(len(prompts)) as pool:
            clips = list(pool.map(self._engine.generate, requests, clocks))
        seconds = time.perf_counter() - started
        return {
            "seconds": seconds,
            "steps": clocks[0].steps[-1][1],
            "step_s": clocks[0].step_s(),
            "soon_s": clocks[0].soon_s(),
            "sha256": hashlib.sha256(clips[0].wav).hexdigest(),
        }

    def logits(self, prompt: str, steps: int, tokens: str, to: str) -> Answer:
        """
        Save the logits of both rows, shape (2, codebooks, steps, vocabulary).

        Args:
            tokens: A file of what is read, shape (codebooks, steps); where there is none, it is made: what this model
                reads as it samples a take.
        """
        model, decoder = self._engine.model, self._engine.shape.decoder
        pattern = DelayPattern(decoder.codebooks, decoder.channels, steps - decoder.codebooks // decoder.channels + 1)
        sampling = Sampling(1.0, TOP_K, TOP_P, GUIDANCE, do_sample=True, seed=0)
        take = Sequence(pattern, sampling, vocab=decoder.vocab)
        step = model.decoder_for(take, model.encode_text(self._engine.tokenize(prompt)))
        given = np.load(tokens) if Path(tokens).exists() else None
        read, made = [], []
        for at in range(steps):
            read.append(take.tokens[0] if given is None else given[:, at])
            made.append(step(np.stack([read[-1], read[-1]]), np.full(2, at)).copy())
            take.advance(made[-1])
        np.save(tokens, np.stack(read, axis=1))
        np.save(to, np.stack(made, axis=2))
        return {}

    def sound(self, codes: str, to: str) -> Answer:
        """Save what codes sound like, chunk by chunk."""
        values, stream = np.load(codes), self._engine.model.audio_stream()
        chunks = [stream.push(values[:, [frame]]) for frame in range(values.shape[1])]
        np.save(to, np.concatenate([*chunks, stream.end()], axis=1))
        return {}

    def peak(self) -> Answer:
        """Return the peak of this process's memory."""
        status = Path("/proc/self/status").read_text("ascii")
        return {"bytes": 1024 * int(status.split("VmHWM:")[1].split()[0])}


class Reference:
    """`generate()` of transformers, float32; or with the decoder's matrices brought to int8 by torch's one line."""

    def __init__(self, model: str, kind: str) -> None:
        import torch
        import transformers as hf

        hf.utils.logging.set_verbosity_error()
        hf.utils.logging.disable_progress_bar()
        warnings.simplefilter("ignore")
        torch.set_num_threads(hardware.cores())
        self._torch = torch
        self._model: Any = hf.MusicgenForConditionalGeneration.from_pretrained(model).eval()
        if kind == "one-liner":
            self._model.decoder = torch.ao.quantization.quantize_dynamic(
                self._model.decoder, {torch.nn.Linear}, dtype=torch.qint8
            )
        self._tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
        self._tokenizer.enable_padding()

    def clips(self, prompts: list[str], duration: float) -> Answer:
        """Make a clip of each prompt, all at once."""
        shape = Shape.of(self._model.config.to_dict())
        steps = num_frames(num_samples(duration, shape.codec.rate), shape.codec.hop) + shape.decoder.codebooks - 1
        started = time.perf_counter()
        encoded = self._tokenizer.encode_batch(prompts)
        self._model.generate(
            input_ids=self._torch.tensor([text.ids for text in encoded]),
            attention_mask=self._torch.tensor([text.attention_mask for text in encoded]),
            do_sample=True,
            guidance_scale=GUIDANCE,
            top_k=TOP_K,
            top_p=TOP_P,
            max_new_tokens=steps,
        )
        return {"seconds": time.perf_counter() - started, "steps": steps}

    def logits(self, prompt: str, steps: int, tokens: str, to: str) -> Answer:
        """Save the logits of both rows, with the text and without, for tokens that the engine has made."""
        ids, read = self._tokenizer.encode(prompt).ids, np.load(tokens)[:, :steps]
        with self._torch.no_grad():
            logits = self._model(
                input_ids=self._torch.tensor([ids, ids]),
                attention_mask=self._torch.tensor([[1] * len(ids), [0] * len(ids)]),  # the second's states become zero
                decoder_input_ids=self._torch.tensor(np.concatenate([read, read])),
            ).logits.numpy()
        np.save(to, logits.reshape(2, *read.shape, -1))
        return {}

    def sound(self, codes: str, to: str) -> Answer:
        """Save what codes sound like, in one piece."""
        with self._torch.no_grad():
            sound = self._model.audio_encoder.decode(self._torch.tensor(np.load(codes)[None, None]), [None])[0]
        np.save(to, sound[0].numpy())
        return {}


def divergence(exact: str, other: str) -> float:
    """
    Return the mean of KL(exact ‖ other) over steps and codebooks, in nats.

    Of the whole distribution that guidance makes, at temperature 1, before top-k and top-p.
    """
    log_p, log_q = (_log_softmax(apply_guidance(np.load(path), GUIDANCE).astype(np.float64)) for path in (exact, other))
    return float((np.exp(log_p) * (log_p - log_q)).sum(-1).mean())


def _log_softmax(scores: Any) -> Any:
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def build(folder: Path, words: set[str]) -> None:
    """
    Make a random model of exactly musicgen-small's shape, 2.4 GB, and a tokenizer of some words.

    The heads are drawn five times wider than at the start of a training, so that logits are spread like a trained
    model's; what a step costs doesn't depend on it.
    """
    import torch
    import transformers as hf

    hf.utils.logging.disable_progress_bar()

    text = hf.T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12)
    sound = hf.EncodecConfig(
        target_bandwidths=[2.2], sampling_rate=32_000, num_filters=64, upsampling_ratios=[8, 5, 4, 4],
        use_causal_conv=False, codebook_size=2048, use_conv_shortcut=False,
    )  # fmt: skip
    decoder = hf.MusicgenDecoderConfig(tie_word_embeddings=False)  # its defaults are musicgen-small's
    config = hf.MusicgenConfig(text_encoder=text.to_dict(), audio_encoder=sound.to_dict(), decoder=decoder.to_dict())
    torch.manual_seed(0)
    model = hf.MusicgenForConditionalGeneration(config)
    with torch.no_grad():
        for layer in model.audio_encoder.quantizer.layers:
            layer.codebook.embed.normal_()
        for head in model.decoder.lm_heads:
            head.weight.mul_(5)
    for name in ("decoder_start_token_id", "pad_token_id", "bos_token_id"):
        setattr(model.generation_config, name, 2048)
    known = ["<pad>", "</s>", "<unk>", *sorted(words)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        model.save_pretrained(making)
        tokenizer.save(str(making / "tokenizer.json"))
        making.rename(folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed
    part: Any = {"memory": Memory, "ours": Ours, "reference": Reference}[sys.argv[1]](*sys.argv[2:])
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(getattr(part, order.pop("do"))(**order)), file=answers, flush=True)


if __name__ == "__main__":
    main()
