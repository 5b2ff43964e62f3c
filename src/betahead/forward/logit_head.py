"""From a model's last hidden states to logits: the part that the chunked log-probabilities take apart."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from betahead.forward.token_logps import at_least_float32

_USUAL_VOCAB = 2**15


@dataclass(frozen=True, eq=False, kw_only=True)
class LogitHead:
    """logits = softcap · tanh(scale · module(hidden) / softcap).

    Args:
        module: the output projection, adapters included.
        scale: of the logits.
        softcap: None for none.
    """

    module: nn.Module
    scale: float = 1.0
    softcap: float | None = None

    @property
    def linear(self) -> nn.Linear | None:
        """The module where it is nothing but a weight and a bias; None with adapters, quantization or hooks."""
        module = self.module
        return module if type(module) is nn.Linear and untouched(module) else None

    @property
    def vocab(self) -> int:
        """Size of the vocabulary; of a module that does not tell, a size that is usual."""
        weight = getattr(self.module, "weight", None)
        known = weight.shape[0] if isinstance(weight, Tensor) else _USUAL_VOCAB
        return int(getattr(self.module, "out_features", 0) or known)

    @property
    def without_adapters(self) -> "LogitHead":
        """The head that the module was before adapters were put around it, or a trained copy in its place."""
        # PEFT's layers are known by what they have, so that models without adapters can do without PEFT.
        around: Any = self.module
        if hasattr(around, "get_base_layer"):
            return replace(self, module=around.get_base_layer())
        return replace(self, module=getattr(around, "original_module", around))

    def logits(self, hidden: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens vocab"]:
        """The model's logits, float32 (float64 stays float64)."""
        return shaped_logits(at_least_float32(self.module(hidden)), self.scale, self.softcap)


def untouched(module: nn.Module) -> bool:
    """Whether a call is nothing but the module's own forward, so that its weight may be used directly."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
        # Weights that are kept elsewhere are fetched by a forward of the object's own.
        "forward" in vars(module),
    )
    return not any(hooks)


def shaped_logits(
    raw: Float[Tensor, "tokens vocab"], scale: float, softcap: float | None
) -> Float[Tensor, "tokens vocab"]:
    """Raw logits scaled and capped; the same tensor where there is nothing to do."""
    if scale != 1.0:
        raw = raw * scale
    return raw if softcap is None else torch.tanh(raw / softcap) * softcap


def logit_head_of(model: PreTrainedModel) -> LogitHead:
    """The output projection of a causal language model and what its family does to the logits afterwards."""
    config: Any = model.config.get_text_config()
    scale = getattr(model, "logit_scale", None)
    if scale is None:
        scale = getattr(config, "lm_head_multiplier", None)
    if scale is None:
        divisor = getattr(config, "logits_scaling", None)
        scale = 1.0 if divisor is None else 1.0 / divisor
    cap = getattr(config, "final_logit_softcapping", None)
    module = model.get_output_embeddings()
    assert module is not None, f"{type(model).__name__} has no output embeddings"
    return LogitHead(module=module, scale=float(scale), softcap=None if cap is None else float(cap))
