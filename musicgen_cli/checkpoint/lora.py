"""
LoRA adapters: small matrices that are added to the weights of a base model.

For a linear layer with the weight W, an adapter has A (r, inputs) and B (outputs, r), and the weight becomes
W + scale · B·A; for an embedding (codes, width), W + scale · (B·A)ᵀ. The scale is alpha / r, or alpha / √r. Source:
peft, tuners/lora/layer.py (`get_delta_weight`), tuners/lora/config.py and utils/save_and_load.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from musicgen_cli.checkpoint.stored_tensor import StoredTensor
from musicgen_cli.checkpoint.tensors import FloatArray, Tensors
from musicgen_cli.checkpoint.weight_files import ADAPTER_CONFIG
from musicgen_cli.errors import CheckpointError

_PREFIX = "base_model.model."
_MATRIX = re.compile(r"(.+)\.lora_(?:embedding_)?(A|B)(?:\.default)?(?:\.weight)?")
_REPLACEMENT = re.compile(r"(.+?)(?:\.base_layer|\.modules_to_save)?(?:\.default)?\.(weight|bias)")
# Options of peft that change what the matrices mean, and that are off unless somebody asks for them.
_OTHER_MEANINGS = (
    "use_dora", "use_qalora", "use_bdlora", "fan_in_fan_out", "lora_bias", "layer_replication", "target_parameters",
    "trainable_token_indices", "alora_invocation_tokens", "megatron_config", "velora_config", "monteclora_config",
    "kasa_config",
)  # fmt: skip
_INITIALISATIONS = (True, False, None, "gaussian", "eva", "orthogonal")  # the others change the base model's weights


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What an adapter_config.json says."""

    base: str  # the base model as the trainer named it
    alpha: float
    alphas: Mapping[str, float]  # of modules whose names end with the key
    is_rank_stabilised: bool

    def scale(self, module: str, rank: int) -> float:
        """Return the factor of a module's matrices."""
        alpha = next(
            (value for key, value in self.alphas.items() if module == key or module.endswith(f".{key}")), self.alpha
        )
        return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)


def parse_adapter_config(content: bytes, place: str) -> AdapterConfig:
    """
    Parse an adapter_config.json.

    Args:
        place: The folder or the repository, for messages.

    Raises:
        CheckpointError: It can't be read, or is of an adapter that isn't a plain LoRA.
    """
    try:
        config: dict[str, Any] = dict(json.loads(content))
    except (ValueError, TypeError, RecursionError) as err:
        raise CheckpointError(f"{ADAPTER_CONFIG} of {place} is not a JSON object") from err
    kind = config.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{place} is an adapter of the kind {str(kind)[:40]!r}; only LoRA can be merged")
    other = next((option for option in _OTHER_MEANINGS if config.get(option)), None)
    if other is None and config.get("init_lora_weights") not in _INITIALISATIONS:
        other = f"init_lora_weights {str(config['init_lora_weights'])[:20]!r}"
    if other:
        name = {"use_dora": "DoRA"}.get(other, f"LoRA with {other}")
        raise CheckpointError(f"{place} is an adapter of the kind {name}; only plain LoRA can be merged")
    base, alpha, alphas = config.get("base_model_name_or_path"), config.get("lora_alpha"), config.get("alpha_pattern")
    alphas = alphas or {}
    numbers = [alpha, *alphas.values()] if isinstance(alphas, dict) else [None]
    if not isinstance(base, str) or not all(type(number) in {int, float} for number in numbers) or alpha is None:
        raise CheckpointError(f"{ADAPTER_CONFIG} of {place} doesn't say its base model or its lora_alpha")
    if irregular := next((key for key in alphas if not re.fullmatch(r"[\w.]+", key)), None):
        raise CheckpointError(f"{ADAPTER_CONFIG} of {place} has a pattern that isn't supported: {irregular[:40]!r}")
    return AdapterConfig(base, float(alpha), alphas, bool(config.get("use_rslora")))


class AdaptedTensors(Tensors):
    """The tensors of a base model with those of an adapter merged into them, one at a time."""

    def __init__(self, base: Mapping[str, StoredTensor], adapter: Mapping[str, StoredTensor], config: AdapterConfig):
        """
        Find out what the adapter changes.

        Raises:
            CheckpointError: It has a tensor that is no part of a LoRA, or changes what the base model doesn't have.
        """
        matrices: dict[str, dict[str, str]] = {}
        replaced: dict[str, StoredTensor] = {}
        for key, stored in adapter.items():
            name = key.removeprefix(_PREFIX)
            if match := _MATRIX.fullmatch(name):
                matrices.setdefault(f"{match[1]}.weight", {})[match[2]] = key
            elif match := _REPLACEMENT.fullmatch(name):
                replaced[f"{match[1]}.{match[2]}"] = stored
            else:
                raise CheckpointError(f"{stored.file} has a tensor that is no part of a LoRA: {key[:80]!r}")
        for name in (*matrices, *replaced):
            if name not in base:
                raise CheckpointError(
                    f"the adapter changes {name[:80]!r}, which its base model {config.base!r} doesn't have"
                )
        if odd := next((name for name, pair in matrices.items() if len(pair) != 2), None):
            raise CheckpointError(f"the adapter has only one of the two matrices for {odd[:80]!r}")
        super().__init__({**base, **replaced})
        self._matrices, self._config, self._adapter = matrices, config, Tensors(adapter)

    def read(self, name: str, *shape: int) -> FloatArray:
        """Return one tensor as float32, with the adapter's product added to it; errors as for `Tensors.read`."""
        values = super().read(name, *shape)
        if (keys := self._matrices.get(name)) is None:
            return values
        outputs, inputs = shape[::-1] if "embedding" in keys["A"] else shape
        rank = (*self._adapter.shapes[keys["A"]], 0)[0]
        if rank < 1:
            raise CheckpointError(f"the adapter's matrices for {name!r} have the rank 0")
        product = self._adapter.read(keys["B"], outputs, rank) @ self._adapter.read(keys["A"], rank, inputs)
        product = product.T if "embedding" in keys["A"] else product
        merged: FloatArray = values + product * values.dtype.type(
            self._config.scale(name.removesuffix(".weight"), rank)
        )
        return merged
