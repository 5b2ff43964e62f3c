"""γ-PO: one budget of target margin, shared out over the latest pairs so that clear pairs get more of it."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from betahead.beta.allocation import allocation
from betahead.beta.batch_rule import BatchRule
from betahead.beta.card import MethodCard
from betahead.beta.draws import checked_seed, uniform
from betahead.beta.head_settings import number, one_of
from betahead.beta.plain_shaping import plain_shaping
from betahead.beta.rule import MarginOf
from betahead.types import PromptFeatures, Shaping

_QUEUE, _POOL, _SEEDED = 2048, 256, 8

Margin = Literal["policy", "reference", "reference_sums"]
# What the margin is, and the β and γ₀/β that go with its unit.
_MARGINS: dict[Margin, tuple[MarginOf, float, float]] = {
    "policy": ("policy", 10.0, 0.4),
    "reference": ("reference_means", 10.0, 0.4),
    "reference_sums": ("reference", 0.1, 40.0),
}


class AllocatedTarget(BatchRule):
    """Target γ_i/β (or (γ_i − γ₀)/β) with γ_i from `allocation` over the batch and a sample of the latest pairs.

    Args:
        beta: β > 0; per nat a token, 10 when None, or per nat with `reference_sums`, 0.1 when None.
        gamma: γ₀/β ≥ 0; 0 leaves no target. None is 0.4 nats a token, or 40 nats with `reference_sums`.
        temperature: τ > 0 of the KL that holds the shares together; the larger, the more equal.
        margin: `policy` takes SimPO's margin, of which γ_i is the target; `reference` that of means per token to the
            reference, as the authors' DPO form has it, whose target has mean 0; `reference_sums` DPO's own, likewise.
        seed: of the samples, in [0, 2³²).

    Raises:
        ConfigError: for a value out of range.

    Gradient:
        Into the margin alone; the target is a constant.

    Source:
        Sun et al. 2025, https://arxiv.org/abs/2506.03690.
    """

    kind: ClassVar[str] = "gamma_po"
    links: frozenset[str] | None = frozenset({"sigmoid", "robust", "hinge"})
    moves_target: bool = True
    card: ClassVar[MethodCard] = MethodCard(
        title="γ-PO",
        formula=(
            "g_i = β·h_i over the batch and latest pairs, 256 together\n"
            "p = argmin of mean(−log σ(g_i − γ₀·n·p_i)) + τ·KL(p ‖ uniform)\n"
            "target_i = γ₀·n·p_i/β (margin: policy) or γ₀·(n·p_i − 1)/β (reference, reference_sums)"
        ),
        cost=(
            "one gather of a number a pair, a queue of 2,048 numbers, some 2,000 small operations a pass for the "
            "optimum; no reference with margin: policy"
        ),
        source="Sun et al. 2025, https://arxiv.org/abs/2506.03690",
        deviates=(
            "the optimum itself instead of 20 exponentiated-gradient steps, which end there for the authors' τ of 3 to "
            "20 and go to and fro below about 2; one queue for all ranks instead of one each; evaluation reads the "
            "queue and adds nothing to it; margin: reference_sums is not the authors', whose h is of means per token: "
            "its beta and gamma are theirs for answers of 100 tokens"
        ),
        checked="code",
    )
    queue: Tensor
    added: Tensor

    def __init__(
        self,
        beta: float | None = None,
        gamma: float | None = None,
        temperature: float = 10.0,
        margin: Margin = "policy",
        seed: int = 0,
    ) -> None:
        super().__init__()
        one_of("margin", margin, tuple(_MARGINS))
        self.margin: Margin = margin
        self.margin_of, own_beta, own_gamma = _MARGINS[margin]
        self.beta = number("beta", own_beta if beta is None else beta, "a positive number", 0, inside=False)
        self.gamma = number("gamma", own_gamma if gamma is None else gamma, "a number that is at least 0", 0)
        self.temperature = number("temperature", temperature, "a positive number", 0, inside=False)
        if margin == "reference":
            # Of the losses with a reference, this one has the rule's margin by itself.
            self.links = frozenset({"sigmoid", "sigmoid_norm", "robust", "hinge"})
        self.seed = checked_seed(seed)
        queue = torch.zeros(_QUEUE)
        queue[:_SEEDED] = torch.randn(_SEEDED, generator=torch.Generator().manual_seed(self.seed))
        self.register_buffer("queue", queue)
        self.register_buffer("added", torch.full((), _SEEDED, dtype=torch.long))

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """β for every pair, and its target."""
        gaps = self.beta * self.everyone(margin)
        pool, counted = self._pool(gaps)
        gamma = self.gamma * self.beta
        with torch.no_grad():
            given = allocation(pool, counted, gamma=gamma, temperature=self.temperature)[: len(gaps)]
            if self.training:
                self._add(gaps)
        target = (given if self.margin == "policy" else given - gamma) / self.beta
        return plain_shaping(margin, beta=self.beta, target=self.mine(target))

    def _pool(self, gaps: Float[Tensor, " everyone"]) -> tuple[Float[Tensor, " pool"], Bool[Tensor, " pool"]]:
        """The batch, then a sample of the queue; which entries are pairs."""
        others = max(0, _POOL - len(gaps))
        # Slots that nothing was written to get numbers below 0, and so are taken last and not counted.
        written = torch.arange(_QUEUE, device=gaps.device) < self.added
        keys = torch.where(written, uniform(_QUEUE, seed=self.seed, counter=self.added), -1.0)
        best = keys.topk(others)
        pool = torch.cat([gaps, self.queue[best.indices].to(gaps.dtype)])
        return pool, torch.cat([torch.ones_like(gaps, dtype=torch.bool), best.values > 0])

    def _add(self, gaps: Float[Tensor, " everyone"]) -> None:
        """Write the gaps over the oldest of the queue."""
        latest = gaps[-_QUEUE:]
        slots = (self.added + torch.arange(len(latest), device=gaps.device)) % _QUEUE
        self.queue.index_copy_(0, slots, latest.to(self.queue))
        self.added.add_(len(latest))
