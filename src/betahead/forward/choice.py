"""Which road a model's pairs take, and why: found before training, from the model and from what the data would save."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft import PeftModel
from torch import nn

from betahead.data.collate import PairCollator
from betahead.data.pack import PackedCollator
from betahead.data.passes import PairTokens, packed_tokens
from betahead.errors import BetaHeadError, ConfigError
from betahead.forward.attention import LAYOUT, KernelError, unsharing_attention
from betahead.forward.layout import KERNELS, Kernel, TrunkLayout
from betahead.forward.modes import evaluating
from betahead.forward.roads import scores_without_gradient
from betahead.forward.shared import base_of
from betahead.types import bundled, on_device

ForwardKind = Literal["auto", "shared", "separate"]
FORWARD_KINDS: tuple[ForwardKind, ...] = ("auto", "shared", "separate")

# A model may mix full and sliding layers; any other kind carries state, or sees more than the prompt and one answer.
_SHAREABLE_LAYERS = frozenset({"full_attention", "sliding_attention", "attention"})
_CAPACITY = ("expert_capacity", "moe_capacity_factor", "capacity_factor")

# How far both roads may differ on random tokens, as a share of the log-probability.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
_HALF_TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Road:
    """How pairs go through a model.

    Args:
        kind: `shared` (each prompt once) or `separate` (a padded row per answer).
        ratio: tokens of the plain road over those of the shared one, padding left out; None without data.
        reason: why the plain road was taken although the shared one was possible to ask for; None otherwise.
        declined: why the attention of the shared road goes by masks on a GPU, as words that follow "varlen"; None where
            it does not, or was asked to.
    """

    kind: Literal["shared", "separate"]
    ratio: float | None = None
    reason: str | None = None
    declined: str | None = None

    def line(self) -> str:
        """What a log says of it, in one line."""
        saved = "" if self.ratio is None else f"; sharing prompts saves {1 - 1 / self.ratio:.0%} of the tokens"
        if self.kind == "shared":
            return f"prompt and both answers in one row{saved} (ratio {self.ratio:.2f})" if saved else "one row a pair"
        return f"a row per answer{', because ' + self.reason if self.reason else ''}"

    def collator(self, pad_token_id: int) -> PairCollator | PackedCollator:
        """What makes batches for this road."""
        return PackedCollator() if self.kind == "shared" else PairCollator(pad_token_id=pad_token_id)


def check_forward(kind: Any, kernel: Any) -> None:
    """Refuse a road or a kernel that does not exist, or a kernel that the road would not use.

    Raises:
        ConfigError: names the setting, its value and the choices.
    """
    for key, value, choices in (("kind", kind, FORWARD_KINDS), ("attention", kernel, KERNELS)):
        if value not in choices:
            raise ConfigError(f"`forward.{key}` must be one of {', '.join(choices)}, but is {value!r} instead.")
    if kind == "separate" and kernel != "auto":
        raise ConfigError(
            "`forward.attention` must be auto with `forward.kind` separate, which uses the attention of the model, but "
            f"is {kernel} instead."
        )


def token_ratio(pairs: Sequence[PairTokens]) -> float:
    """(2P + C + R) / (P + C + R) over all pairs: what a prompt that is read once saves."""
    return 1.0 + sum(pair.prompt for pair in pairs) / packed_tokens(pairs)


def road_for(
    model: nn.Module,
    kind: ForwardKind,
    *,
    pairs: Sequence[PairTokens] | None = None,
    kernel: Kernel = "auto",
) -> Road:
    """The road of a model: the one asked for, or with `auto` the shared one wherever it gives the same numbers.

    Whether it does is seen by scoring two short random pairs by both roads; to be called in the autocast context that
    pairs will be scored in, where the kernel is tried, while the numbers are compared at the precision of the weights.

    How many tokens sharing saves does not matter: what is not padded and not scored counts too, as geometry f of bench/
    measures.

    Args:
        model: the policy, with or without adapters.
        kind: `auto`, `shared` or `separate`.
        pairs: lengths of the pairs to come, for the ratio that the road's line tells; they decide nothing.
        kernel: what carries the attention of the shared road out.

    Raises:
        ConfigError: when the shared road was asked for and the model cannot take it, or a kernel that cannot serve it.
    """
    ratio = token_ratio(pairs) if pairs else None
    if kind == "separate":
        return Road(kind="separate", ratio=ratio)
    layouts: list[TrunkLayout] = []
    try:
        reason = why_not_shared(model) or _difference(model, kernel, layouts)
    except KernelError:
        unsharing_attention(base_of(model))
        raise
    if reason is None:
        return Road(kind="shared", ratio=ratio, declined=_declined(layouts, base_of(model).device))
    unsharing_attention(base_of(model))
    if kind == "shared":
        raise ConfigError(f"`forward.kind` must be auto or separate for this model, but is shared instead; {reason}.")
    return Road(kind="separate", ratio=ratio, reason=reason)


def why_not_shared(model: nn.Module) -> str | None:
    """None where nothing in the model's making speaks against sharing prompts; otherwise what does, as a clause."""
    if isinstance(model, PeftModel) and any(
        getattr(config, "is_prompt_learning", False) for config in model.peft_config.values()
    ):
        return "prompt-learning adapters put tokens of their own before every row"
    inner: Any = base_of(model)
    config: Any = inner.config.get_text_config()
    kinds = ", ".join(sorted(set(getattr(config, "layer_types", None) or ()) - _SHAREABLE_LAYERS))
    capacity = next((name for name in _CAPACITY if getattr(config, name, None) is not None), None)
    name = type(inner).__name__
    against = {
        f"its layers of kind {kinds} cannot keep one answer out of the other": kinds,
        f"{name} is recurrent, so an answer would read the one before it": getattr(inner, "_is_stateful", False),
        f"its experts have a capacity (`{capacity}`), so tokens of one pair push out those of another": capacity,
        f"the attention of {name} cannot be called by name": not getattr(inner, "_supports_attention_backend", False),
        "its attention is computed in a way of its own (`reorder_and_upcast_attn`)": getattr(
            config, "reorder_and_upcast_attn", False
        ),
    }
    return next((reason for reason, holds in against.items() if holds), None)


def _declined(layouts: Sequence[TrunkLayout], device: torch.device) -> str | None:
    """Why `auto` left the kernel for many sequences, where the device would have it."""
    reasons = sorted({reason for layout in layouts for reason in layout.declined})
    return "; it ".join(reasons) if reasons and device.type == "cuda" else None


def _difference(model: nn.Module, kernel: Kernel, layouts: list[TrunkLayout]) -> str | None:
    """None where both roads agree on two short pairs of random tokens; otherwise how they do not, as a clause."""
    kind = base_of(model).device.type
    if torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            wrong = _difference_here(model, "auto", [])
        if wrong is not None:
            return wrong
    return _difference_here(model, kernel, layouts)


@torch.no_grad()
def _difference_here(model: nn.Module, kernel: Kernel, layouts: list[TrunkLayout]) -> str | None:
    inner: Any = base_of(model)
    weights: torch.Tensor = inner.get_input_embeddings().weight
    kind = weights.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weights.dtype
    draw = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        return torch.randint(weights.shape[0], (count,), generator=draw).tolist()

    records = [
        {"prompt_ids": ids(p), "chosen_ids": ids(c), "rejected_ids": ids(r), "ppl_mask": [False] + [True] * (p - 1)}
        for p, c, r in ((6, 3, 5), (4, 5, 2))
    ]

    def watch(module: nn.Module, positional: Any, keywords: dict[str, Any]) -> None:
        if LAYOUT in keywords:
            layouts.append(keywords[LAYOUT])

    watched = inner.get_decoder().register_forward_pre_hook(watch, with_kwargs=True)
    with evaluating(model):
        try:
            found = [
                scores_without_gradient(model, bundled(on_device(collate(records), weights.device)), kernel=kernel)[0]
                for collate in (PairCollator(pad_token_id=0), PackedCollator())
            ]
        except KernelError:
            raise
        except BetaHeadError as error:
            return str(error).split(", because ")[-1].rstrip(".")
        except Exception as error:  # whatever a model says that takes no packed rows
            sentence = " ".join(str(error).split())
            return f"{type(inner).__name__} does not take packed rows ({type(error).__name__}: {sentence[:120]})"
        finally:
            watched.remove()
    plain, shared = (torch.cat([logps.chosen, logps.rejected]).double() for logps in found)
    if not bool((plain + shared).isfinite().all()):
        roads = "on either road" if not bool(plain.isfinite().all()) else "in a packed row"
        return f"its log-probabilities of random tokens are not finite {roads}"
    most = float(((shared - plain).abs() / plain.abs().clamp(min=1.0)).max())
    if not most <= _TOLERANCE.get(dtype, _HALF_TOLERANCE):
        return f"a packed row gives it other numbers (log-probabilities off by {most:.1%})"
    return _lost_window(inner.config.get_text_config(), layouts)


def _lost_window(config: Any, layouts: Sequence[TrunkLayout]) -> str | None:
    """A window that a model puts into its masks only is lost on packed rows; rows as short as these do not show it."""
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    slides = bool(window) and (kinds is None or "sliding_attention" in kinds)
    if slides and not any(layout.windows - {None} for layout in layouts):
        return f"its window of {window} tokens is known to its masks only, which packed rows do without"
    return None
