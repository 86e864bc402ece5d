"""The torch engine on the CPU and, where there is one, on a GPU; tests/engine/suite.py tests it, too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="needs the extra torch")
pytest.importorskip("transformers", reason="needs the extra torch")

from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.engine import hardware
from musicgen_cli.engine.base import NullListener, Origin
from musicgen_cli.engine.decoding.sampling import SAMPLER_VERSION
from musicgen_cli.engine.torch.engine import TorchEngine
from musicgen_cli.errors import AbsentError, CheckpointError, MemoryNeededError, ModelAbsentError
from tests.support.clips import request
from tests.support.listeners import RaisingListener, RecordingListener
from tests.support.oracle import quiet  # noqa: F401  # a fixture

pytestmark = pytest.mark.oracle

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_clips_generated_at_once_are_the_bytes_they_are_alone(torch_engine: TorchEngine, nano: Checkpoint) -> None:
    """From many threads, in more slots, with many lengths, prompts and scales; some are cancelled on their way."""
    prompts = ["calm ambient piano", "", "piano " * 70]
    requests = [
        request(prompt=prompts[i % 3], seed=i, duration=0.5 + (i * 7 % 5) / 5, guidance_scale=1.0 + i % 3)
        for i in range(10)
    ]

    def generate(engine: TorchEngine, number: int) -> bytes | None:
        listener = RaisingListener(KeyboardInterrupt(), at=20) if number % 5 == 4 else NullListener()
        try:
            return engine.generate(requests[number], listener).wav
        except KeyboardInterrupt:
            return None

    wider = TorchEngine(nano, device="cpu", slots=6)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda number: generate(wider, number), range(10)))
    wider.close()

    assert (torch_engine.slots, wider.slots) == (4, 6)
    assert together == [generate(torch_engine, number) for number in range(10)]
    assert [number for number, wav in enumerate(together) if wav is None] == [4, 9]


def test_a_clip_names_what_it_takes_to_reproduce_it(torch_engine: TorchEngine, nano: Checkpoint) -> None:
    """Its origin, its seed, the digest of the weights, the sampler's version; and the license of the weights."""
    clip = torch_engine.generate(request(duration=1.23), NullListener())

    assert clip.info.frames == 39_360
    assert clip.origin == Origin("local", model="nano", engine="torch", precision="fp32", device="cpu")
    assert (clip.seed, clip.license) == (1, "MIT")
    assert clip.extra == {
        "checkpoint": nano.digest,
        "sampler": SAMPLER_VERSION,
        "runtime": f"torch {torch.__version__}",
        "processor": hardware.processor(),
    }


def test_the_listeners_chunks_add_up_to_the_wav(torch_engine: TorchEngine) -> None:
    """The first chunk comes with the 32nd step of 65 at the latest."""
    listener = RecordingListener()
    clip = torch_engine.generate(request(duration=1.23), listener)

    assert listener.pcm == clip.wav[44:]
    assert listener.chunk_steps[0] <= 32


def test_it_takes_no_more_threads_than_the_machine_allows(nano: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, as the ONNX engine; a lower number that is set already stays."""
    before = torch.get_num_threads()
    try:
        for threads, allowed in ((2, 1), (1, 2)):
            torch.set_num_threads(threads)
            monkeypatch.setattr(hardware, "cores", lambda allowed=allowed: allowed)
            TorchEngine(nano, device="cpu").close()

            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_bf16_runs_on_the_cpu(nano: Checkpoint) -> None:
    """And its clip isn't silent."""
    engine = TorchEngine(nano, device="cpu", precision="bf16")
    clip = engine.generate(request(), NullListener())
    engine.close()

    assert np.frombuffer(clip.wav[44:], "<i2").std() > 100
    assert clip.origin.precision == "bf16"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"device": "cuda"}, "torch finds no cuda", marks=pytest.mark.skipif("torch.cuda.is_available()")),
        pytest.param(
            {"device": "mps"}, "torch finds no mps", marks=pytest.mark.skipif("torch.backends.mps.is_available()")
        ),
    ],
)
def test_an_absent_device_is_refused(nano: Checkpoint, values: dict[str, Any], message: str) -> None:
    """It isn't silently replaced by another one."""
    with pytest.raises(AbsentError, match=message):
        TorchEngine(nano, **values)


def test_a_model_without_its_weights_is_refused(nano: Checkpoint) -> None:
    """The hint says how to get them."""
    without = Checkpoint("small", nano.directory, nano.config, None, nano.license)
    with pytest.raises(ModelAbsentError, match="which were not kept") as caught:
        TorchEngine(without, device="cpu")

    assert "--keep-weights" in str(caught.value.hint)


def test_a_model_that_does_not_fit_into_memory_is_refused_before_it_is_loaded(nano: Checkpoint) -> None:
    """The message says what is needed and what is free; more slots need more."""
    with pytest.raises(MemoryNeededError, match=r"'nano' needs about [67]\d\d\.\d MB of memory, 100\.0 MB is free"):
        TorchEngine(nano, device="cpu", free=lambda: 100_000_000)
    with pytest.raises(MemoryNeededError, match=r"'nano' needs about \d\.\d GB of memory"):
        TorchEngine(nano, device="cpu", slots=64, free=lambda: 100_000_000)


def test_a_missing_tensor_is_an_error(write: Any, nano_tensors: Mapping[str, Any]) -> None:
    """Although transformers would initialise it at random and only log that."""
    name = "decoder.model.decoder.layers.1.fc1.weight"
    folder = write(tensors={key: values for key, values in nano_tensors.items() if key != name})
    with pytest.raises(CheckpointError, match=f"has no tensor '{name}'"):
        TorchEngine(find_checkpoint(str(folder), folder), device="cpu")


def test_a_config_that_contradicts_the_tensors_is_an_error(write: Any, nano: Checkpoint) -> None:
    """Its message is one line, as that of every damaged checkpoint."""
    config = json.loads(json.dumps(nano.config))
    config["decoder"]["ffn_dim"] += 8
    folder = write(config=config)
    with pytest.raises(CheckpointError, match="transformers can't load mine") as caught:
        TorchEngine(find_checkpoint(str(folder), folder), device="cpu")

    assert "\n" not in str(caught.value)


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu_a_seed_gives_the_same_bytes(nano: Checkpoint, precision: str) -> None:
    """Alone and beside other clips; CUDA graphs and pages change nothing."""
    gpu = TorchEngine(nano, device="cuda", precision=precision)
    requests = [request(seed=i, duration=1.0 + i, prompt="piano " * (1 + 30 * i)) for i in range(6)]
    alone = [gpu.generate(each, NullListener()).wav for each in requests]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda each: gpu.generate(each, NullListener()).wav, requests))
    gpu.close()

    assert together == alone


@pytest.mark.cuda
@needs_gpu
def test_a_model_that_does_not_fit_onto_the_gpu_is_refused(nano: Checkpoint) -> None:
    """Before anything is loaded onto it."""
    with pytest.raises(MemoryNeededError, match=r"100\.0 MB is free"):
        TorchEngine(nano, device="cuda", free=lambda: 100_000_000)
