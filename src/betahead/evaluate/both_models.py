"""Policy and reference side by side on the same answers, whichever way the reference is kept."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from betahead.evaluate.generate import Prompt, left_padded
from betahead.forward.modes import evaluating
from betahead.forward.token_logps import token_logps


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenLogps:
    """What two models make of each token of one answer, nats.

    Args:
        policy: log π_θ(y_t | x, y_<t).
        reference: log π_ref(y_t | x, y_<t).
    """

    policy: Float[np.ndarray, " tokens"]
    reference: Float[np.ndarray, " tokens"]


@contextmanager
def as_reference(policy: nn.Module, reference: nn.Module | None) -> Generator[nn.Module]:
    """The reference as a model to call: itself, or the policy with its adapters off while inside."""
    if reference is not None:
        yield reference
        return
    assert hasattr(policy, "disable_adapter"), f"{type(policy).__name__} has no adapters and no reference was given"
    with cast("Any", policy).disable_adapter():
        yield policy


def logits_of_both(
    policy: nn.Module, reference: nn.Module | None, rows: Sequence[tuple[Prompt, Sequence[int]]]
) -> Generator[tuple[Tensor, Tensor, Tensor]]:
    """For each row, the logits of policy and of reference that predict its answer, and the answer's ids.

    Args:
        reference: None for a PEFT policy whose reference is itself with the adapters off.
        rows: prompt and answer as token ids, run as one batch.
    """
    # Rows end together, so the answers lie in the last columns and only those see the LM head.
    ids, mask = left_padded([[*prompt, *answer] for prompt, answer in rows], pad=0)
    longest = max(len(answer) for _, answer in rows)
    policy_logits = _answer_logits(policy, ids, mask, longest)
    with as_reference(policy, reference) as model, evaluating(model):
        reference_logits = _answer_logits(model, ids, mask, longest)
    # One answer at a time: a whole batch of full softmaxes would need several times the memory of its logits.
    for number, (_, answer) in enumerate(rows):
        labels = torch.tensor(answer, device=policy_logits.device)
        of_policy, of_reference = (
            logits[number, longest - len(answer) :].to(labels.device) for logits in (policy_logits, reference_logits)
        )
        yield of_policy, of_reference, labels


def token_logps_of_both(
    policy: nn.Module, reference: nn.Module | None, rows: Sequence[tuple[Prompt, Sequence[int]]]
) -> list[TokenLogps]:
    """The log-probability of every token of each row's answer under both models; arguments as in `logits_of_both`."""
    with evaluating(policy), torch.no_grad():
        return [
            TokenLogps(
                policy=token_logps(of_policy, labels).cpu().numpy(),
                reference=token_logps(of_reference, labels).cpu().numpy(),
            )
            for of_policy, of_reference, labels in logits_of_both(policy, reference, rows)
        ]


def _answer_logits(model: nn.Module, ids: Tensor, mask: Tensor, longest: int) -> Float[Tensor, "rows tokens vocab"]:
    """The logits that predict the last `longest` tokens of each row."""
    device = next(model.parameters()).device
    output = cast("Any", model)(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0).to(device),
        logits_to_keep=longest + 1,
        use_cache=False,
    )
    return output.logits[:, :-1]
