"""Tiny models of many families, what makes their gradients comparable, and float64 that no layer narrows."""

from collections.abc import Callable, Mapping
from typing import Any

import tiny
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

# Records are up to 24 tokens a row: a window of 5 is shorter than any of them.
WINDOW = 5

_LLAMA_LIKE: dict[str, Any] = {
    "vocab_size": tiny.VOCAB,
    "hidden_size": tiny.HIDDEN,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
_ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2, sliding layers": ("qwen2", {"use_sliding_window": True, **_ALTERNATING}),
    "llama": ("llama", {"tie_word_embeddings": False}),
    "mistral, window shorter than the row": ("mistral", {"sliding_window": WINDOW, "head_dim": 4}),
    "gemma2, softcaps and alternating windows": (
        "gemma2",
        {
            "head_dim": 4,
            "query_pre_attn_scalar": 7,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
            "attn_implementation": "eager",
            **_ALTERNATING,
        },
    ),
    "qwen3": ("qwen3", {"head_dim": 8}),
    "gpt2, absolute positions": (
        "gpt2",
        {
            "n_embd": tiny.HIDDEN,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 64,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "scale_attn_by_inverse_layer_idx": True,
        },
    ),
    "cohere, logit scale": ("cohere", {"logit_scale": 0.3}),
    "granite, logits scaling": (
        "granite",
        {"logits_scaling": 3.0, "attention_multiplier": 0.4, "residual_multiplier": 0.7, "embedding_multiplier": 2.0},
    ),
    "qwen3 moe": ("qwen3_moe", {"head_dim": 4, "decoder_sparse_step": 1, **_EXPERTS}),
}


def made(kind: str, seed: int = 0, **settings: Any) -> PreTrainedModel:
    """A causal language model of a model type; the same seed gives the same weights."""
    attention = settings.pop("attn_implementation", "sdpa")
    # The experts' fused kernel knows no float64.
    experts = {"experts_implementation": "eager"} if "num_experts" in settings else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = AutoConfig.for_model(kind, **(_LLAMA_LIKE | settings))
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, **experts)
        for parameter in model.parameters():
            # Biases and norms start at 0 and 1, where much cancels.
            if parameter.ndim == 1:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def family(name: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """The tiny model of a row of the table."""
    kind, settings = FAMILIES[name]
    return made(kind, seed, **(settings | changes))


class Wide(TorchFunctionMode):
    """float64 stays float64 inside: layers compute norms and softmax in float32 only for half precision's sake."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if args and isinstance(args[0], Tensor) and args[0].dtype == torch.float64:
            if func is Tensor.float:
                return args[0]
            if given.get("dtype") is torch.float32:
                given["dtype"] = torch.float64
            if func is Tensor.to:
                args = tuple(torch.float64 if one is torch.float32 else one for one in args)
        return func(*args, **given)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """The gradient of every parameter, zeros where there is none, and a fresh start."""
    found = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return found


def assert_gradients_agree(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], tolerance: float) -> None:
    """Every tensor's entries differ by no more than the tolerance times its largest.

    A gradient that is zero by mathematics is rounding only, and is measured by the model's largest: a key's bias
    shifts all scores of a query alike, unless positions turn it.
    """
    assert found.keys() == wanted.keys()
    most = max(float(gradient.abs().max()) for gradient in wanted.values())
    assert most > 0
    for name, gradient in wanted.items():
        largest = float(gradient.abs().max())
        scale = largest if largest > 1e-6 * most else most
        assert float((found[name] - gradient).abs().max()) <= tolerance * scale, name
