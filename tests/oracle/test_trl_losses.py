"""Every loss, divergence and weighting that TRL 1.16.0 has, against its own, in float64 on random log-probabilities.

TRL's trainer is a real one; the model that it asks says given log-probabilities, one per token, and gradients are
compared there.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
import trl
from torch import Tensor, nn

from betahead.losses.objective import objective_of
from betahead.types import PairLogps, ReferenceScores, Shaping

pytestmark = pytest.mark.filterwarnings(r"ignore:`(is_)?gradient_checkpointing` is deprecated:FutureWarning")

PAIRS, PROMPT, LONGEST, BETA = 7, 2, 6, 0.3
# Smoothing only where TRL has it: its `sigmoid` ignores it.
LOSSES: dict[str, float] = {
    "sigmoid": 0.0,
    "sigmoid_norm": 0.0,
    "hinge": 0.0,
    "ipo": 0.0,
    "exo_pair": 0.125,
    "nca_pair": 0.0,
    "robust": 0.25,
    "bco_pair": 0.0,
    "sppo_hard": 0.0,
    "aot": 0.25,
    "aot_unpaired": 0.25,
    "apo_zero": 0.0,
    "apo_down": 0.0,
    "discopop": 0.0,
    "sft": 0.0,
}
OF_DIFFERENCES = ("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop")


class Said(nn.Module):
    """A model that says given log-probabilities."""

    def __init__(self, log_probs: Tensor) -> None:
        super().__init__()
        self.log_probs = log_probs

    def forward(self, **asked: Any) -> SimpleNamespace:
        nothing = torch.zeros_like(self.log_probs.detach())
        return SimpleNamespace(
            log_probs=self.log_probs, entropy=nothing, mean_logits=nothing, is_top1=nothing > 0, aux_loss=None
        )


class Batch:
    """Ragged answers with log-probabilities of both models, as both packages take them."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float64, spread: float = 1.5) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.lengths = torch.randint(1, LONGEST + 1, (2 * PAIRS,), generator=rng)
        self.mask = torch.arange(LONGEST) < self.lengths.unsqueeze(1)
        self.said, self.theirs = (
            -spread * torch.rand(2 * PAIRS, LONGEST, generator=rng, dtype=dtype) * self.mask for _ in range(2)
        )
        least = torch.minimum(*self.lengths.chunk(2)).repeat(2)
        self.first = torch.arange(LONGEST) < least.unsqueeze(1)
        self.said.requires_grad_()

    def scores(self, said: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Sums over the answers, and over as many first tokens as both have."""
        return (said * self.mask).sum(1).chunk(2), (said * self.first).sum(1).chunk(2)

    def policy(self) -> PairLogps:
        (chosen, rejected), (first, second) = self.scores(self.said)
        counts = self.lengths.chunk(2)
        return PairLogps(
            chosen=chosen,
            rejected=rejected,
            chosen_tokens=counts[0],
            rejected_tokens=counts[1],
            chosen_common=first,
            rejected_common=second,
        )

    def reference(self) -> ReferenceScores:
        (chosen, rejected), (first, second) = self.scores(self.theirs)
        return ReferenceScores(
            chosen_logps=chosen, rejected_logps=rejected, chosen_common_logps=first, rejected_common_logps=second
        )

    def inputs(self, ld_alpha: float | None) -> dict[str, Tensor]:
        (chosen, rejected), (first, second) = self.scores(self.theirs)
        if ld_alpha is not None:
            chosen, rejected = first + ld_alpha * (chosen - first), second + ld_alpha * (rejected - second)
        completion = torch.cat([torch.zeros(2 * PAIRS, PROMPT, dtype=torch.bool), self.mask], dim=1).long()
        return {
            "input_ids": torch.ones_like(completion),
            "attention_mask": torch.ones_like(completion),
            "completion_mask": completion,
            "ref_chosen_logps": chosen,
            "ref_rejected_logps": rejected,
        }


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("trl")
    args = trl.DPOConfig(
        output_dir=str(folder), bf16=False, gradient_checkpointing=False, use_cpu=True, report_to="none", beta=BETA
    )
    trainer: Any = trl.DPOTrainer(
        tiny.qwen2(), tiny.qwen2(1), args, train_dataset=tiny.pairs(4), processing_class=tiny.tokenizer()
    )
    trainer.precompute_ref_logps = True
    return trainer


def compared(peer: Any, batch: Batch, kinds: list[str], weights: list[float] | None = None, **settings: Any) -> None:
    """Loss and gradient of the same batch, by both."""
    peer.loss_types, peer.loss_weights = kinds, weights or [1.0] * len(kinds)
    peer.label_smoothing = settings.get("label_smoothing", 0.0)
    peer.ld_alpha = settings.get("ld_alpha")
    peer.f_divergence_type = settings.get("f_divergence_type", "reverse_kl")
    peer.f_alpha_divergence_coef = settings.get("f_alpha_divergence_coef", 0.5)
    peer.args.discopop_tau = settings.get("discopop_tau", 0.05)
    # One more position than the answers: the last prompt token's, which TRL masks like any of the prompt.
    padded = nn.functional.pad(batch.said, (PROMPT - 1, 0))
    wanted = peer._compute_loss(Said(padded), batch.inputs(peer.ld_alpha), False)
    (wanted_gradient,) = torch.autograd.grad(wanted, batch.said)

    zeros = torch.zeros(PAIRS, dtype=batch.said.dtype)
    shaping = Shaping(beta=zeros + BETA, target=zeros, weight=zeros + 1, penalty=zeros)
    found = objective_of(kinds, weights, **settings).losses(batch.policy(), batch.reference(), shaping).mean()
    (gradient,) = torch.autograd.grad(found, batch.said)

    tolerance = 1e-6 if batch.said.dtype == torch.float64 else 1e-5
    assert abs(found.item() - wanted.item()) <= tolerance * (1 + abs(wanted.item()))
    largest = wanted_gradient.abs().max().item()
    torch.testing.assert_close(
        gradient * batch.mask, wanted_gradient * batch.mask, rtol=tolerance, atol=tolerance * largest
    )
    assert gradient.abs().max() > 1e-6


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", LOSSES)
def test_values_and_gradients_equal_trls(kind: str, seed: int, peer: Any) -> None:
    compared(peer, Batch(seed), [kind], label_smoothing=LOSSES[kind])


@pytest.mark.parametrize("kind", LOSSES)
def test_they_do_where_policy_and_reference_are_far_apart(kind: str, peer: Any) -> None:
    compared(peer, Batch(11, spread=8.0), [kind], label_smoothing=LOSSES[kind])


@pytest.mark.parametrize("divergence", ["forward_kl", "js_divergence"])
@pytest.mark.parametrize("kind", OF_DIFFERENCES)
def test_they_do_with_another_divergence(kind: str, divergence: str, peer: Any) -> None:
    compared(peer, Batch(5, spread=0.7), [kind], label_smoothing=LOSSES[kind], f_divergence_type=divergence)


@pytest.mark.parametrize("coefficient", [-0.5, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", OF_DIFFERENCES)
def test_they_do_with_an_alpha_divergence(kind: str, coefficient: float, peer: Any) -> None:
    # TRL's has no float64.
    compared(
        peer,
        Batch(6, dtype=torch.float32, spread=0.7),
        [kind],
        label_smoothing=LOSSES[kind],
        f_divergence_type="alpha_divergence",
        f_alpha_divergence_coef=coefficient,
    )


@pytest.mark.parametrize("ld_alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", [kind for kind in LOSSES if kind != "sft"])
def test_they_do_with_long_answers_desensitized(kind: str, ld_alpha: float, peer: Any) -> None:
    compared(peer, Batch(7), [kind], label_smoothing=LOSSES[kind], ld_alpha=ld_alpha)


def test_they_do_for_several_losses_with_weights(peer: Any) -> None:
    compared(peer, Batch(8), ["sigmoid", "bco_pair", "sft"], [0.8, 0.2, 1.0])
    compared(peer, Batch(9), ["ipo", "aot", "sft", "apo_down"], [0.5, 2.0, 0.1, 1.0], ld_alpha=0.5)
    compared(peer, Batch(10, spread=0.7), ["hinge", "sft"], f_divergence_type="forward_kl")


@pytest.mark.parametrize("tau", [0.01, 0.5])
def test_discopop_does_at_other_temperatures(tau: float, peer: Any) -> None:
    compared(peer, Batch(12), ["discopop"], discopop_tau=tau)
