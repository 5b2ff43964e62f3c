"""What a page of methods says of the ways in which a learned β is learned."""

from collections.abc import Mapping
from types import MappingProxyType

from betahead.beta.card import MethodCard

_OWN = "this package, docs/theory.md"
_HONG = "Hong et al. 2024, https://arxiv.org/abs/2406.02764"

LEARNING_CARDS: Mapping[str, MethodCard] = MappingProxyType(
    {
        "joint": MethodCard(
            title="Joint",
            formula="policy and head descend −log σ(β(x)·h) + λ·(mean log β/β₀)²",
            cost="nothing",
            source=_OWN,
            checked="",
        ),
        "perspective": MethodCard(
            title="Perspective",
            formula=(
                "policy and head descend τ·(−log σ(u/τ)) + R(τ), τ = β₀/β(x), u = β₀·h\n"
                "R = ρτ² − τ·log 2 (quadratic) or (ρ − log 2)·τ (linear)"
            ),
            cost="nothing",
            source=f"{_HONG}, whose τ of a pair the head amortises",
            deviates="τ is a function of the prompt that is learned, not the solution of a problem of each pair",
            checked="code",
        ),
        "budget": MethodCard(
            title="Budget",
            formula=(
                "β(x) = e^(L − c) · a(x), L by dual ascent on a KL estimate, a learned in another way\n"
                "weight and penalty those of that way, times e^(−L)\n"
                "c ← c + 0.1 · mean log(β(x)/(β₀·e^L)) where a has no level of its own, else 0"
            ),
            cost="answers sampled every few steps, or nothing with kl_from: answers",
            source=_OWN,
            deviates=(
                "the mean KL ends within 10 % of the budget where estimates are exact; noise of 20 % on each leaves it "
                "within 20 %, and up to 55 % above where prompts have a single pair (then raise kl_prompts)"
            ),
            checked="",
            refuses=(
                "losses without a reference",
                "losses with 1/β in them (ipo, sppo_hard, cal_dpo)",
                "beta.prior_on other than each with allocation: joint",
                "what its allocation is refused with, under that name",
            ),
        ),
        "heldout": MethodCard(
            title="Held-out",
            formula="the head follows d/dβ of −log σ(β₀·h) on held-out prompts after the policy's step",
            cost=(
                "two forward passes over the pairs of a step, forward and backward over held_out_pairs, two copies of "
                "the trained weights"
            ),
            source=_OWN,
            deviates="clipping's factor is held fixed; without clipping the derivative is that of the step",
            checked="",
            refuses=(
                "beta.couple: true, with which the policy would raise β without end, whatever the labels say",
                "training pairs of a single prompt",
                "optimizers other than torch's SGD, Adam and AdamW, or with amsgrad or maximize",
                "FSDP and DeepSpeed",
                "fp16",
                "trained weights of less than float32",
                "reentrant gradient checkpointing",
            ),
        ),
        "none": MethodCard(
            title="Frozen",
            formula="β(x) = w · (log PPL(x))^p as a rule; nothing is learned",
            cost="nothing",
            source=_OWN,
            checked="",
        ),
    }
)
"""By the name that `beta.learning.kind` has."""
