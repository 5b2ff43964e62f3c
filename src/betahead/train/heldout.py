"""The passes of held-out learning: what one step of the policy would do to held-out pairs, as the head's gradient."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import Accelerator
from datasets import Dataset
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from betahead.beta.controls import ControlledBeta
from betahead.beta.heldout import beta_slopes, chained, coefficient, held_out_loss
from betahead.beta.learned import LearnedBeta
from betahead.data.passes import PassCollator
from betahead.forward.model import PreferenceModel
from betahead.forward.modes import evaluating
from betahead.forward.roads import pair_forward, scores_without_gradient
from betahead.train.arguments import DPOConfig
from betahead.train.heldout_cost import HeldOutCost
from betahead.train.heldout_rows import rows_of_estimate
from betahead.train.lookahead import NextStep, clip_factor, put_back
from betahead.train.stopwatch import Stopwatch
from betahead.types import PromptFeatures, Shaping, bundled, on_device

_NATS = 100.0
"""A log-probability of the size that answers have, whose rounding limits a difference of two of them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Read:
    """What the rule read of a training pass, and what it made of it."""

    features: PromptFeatures
    margin: Tensor
    beta: Tensor
    level: Tensor


_Window = Sequence[tuple[dict[str, Any], _Read]]
"""The training passes of a step: their batches, and what was read of them."""


class HeldOutGradient:
    """Gives a head the derivative that the policy's coming step has on held-out pairs.

    Between the gradients of a step and the step itself, the trained weights are moved to where the step leads, for the
    gradient of the held-out loss there, then to and fro along it for the derivative of every training margin, and
    are then put back from a copy, to the last bit. Nothing but the head's gradient is changed.

    The derivative along a direction is a central difference. Both of its passes run alike, without dropout, autocast
    or recomputing, so a training pass that had these does not matter as it would for a one-sided one; and its
    error falls with the square of the perturbation. How large that is can be said in nats for every model and
    optimizer: margins move by about (100·ε)^⅓ nats, ε the rounding of the weights' precision, where the error by
    rounding meets that by curvature.

    Args:
        model: policy and rule; the rule is a `LearnedBeta` with `held_out`, or a control of one.
        dataset: the held-out records.
        collate: cuts and collates.
        completed: puts the reference's columns into a batch that lacks them.
        args: settings.
        accelerator: knows the precision and the other processes.
    """

    def __init__(
        self,
        model: PreferenceModel,
        dataset: Dataset,
        collate: PassCollator,
        completed: Callable[[dict[str, Any]], dict[str, Any]],
        args: DPOConfig,
        accelerator: Accelerator,
    ) -> None:
        self._model, self.dataset, self._collate, self._completed = model, dataset, collate, completed
        self._args, self._accelerator = args, accelerator
        self._rule = steered(model.rule)
        assert self._rule.held_out is not None
        self.settings = self._rule.held_out
        self._prompts = len(set(dataset["prompt_id"]))
        self._watch = Stopwatch(args.device)
        self._estimates = 0
        self._window: list[tuple[dict[str, Any], _Read]] = []
        self._pairs: int | Tensor = 0
        self._read: _Read | None = None
        self._loss: Tensor | None = None
        self._shown = 0
        self._rule.register_forward_hook(self._remember)

    def _remember(self, module: nn.Module, given: tuple[PromptFeatures, Tensor], shaping: Shaping) -> None:
        if module.training and torch.is_grad_enabled():
            features, margin = given
            # The row's first push is half of weight·β: β₀, whatever a budget has made of β, times the loss's weight. An
            # anchor knows no margin, and acts on the estimate by the step alone.
            level = shaping.weight * shaping.beta * self._model.objective.compared_weight
            self._read = _Read(
                features=features, margin=margin.detach(), beta=shaping.beta.detach(), level=level.detach()
            )

    def saw(self, batch: dict[str, Any], pairs: int | Tensor) -> None:
        """Keep a training pass until the step.

        Args:
            batch: with the reference's columns.
            pairs: those of the whole step on all ranks.
        """
        assert self._read is not None, "the pass must have gone through the rule"
        self._window.append((batch, self._read))
        self._pairs, self._read = pairs, None

    def set_gradient(self, optimizer: Optimizer, *, step: int, norm: Tensor | None = None) -> None:
        """Set the head's gradient to dL/dφ for the step that is due; between estimates it has none.

        Args:
            optimizer: about to take the step.
            step: number of steps taken before; it alone decides which held-out pairs are read.
            norm: of the policy's gradients before they were clipped, or None when they were not.
        """
        window, self._window = self._window, []
        own = [p for p in self._rule.parameters() if p.requires_grad]
        if step % self.settings.every != 0:
            for parameter in own:
                parameter.grad = None
            return
        with self._watch.running():
            clipped = 1.0 if norm is None else clip_factor(norm, self._args.max_grad_norm)
            along = self._along_held_out(window, NextStep(optimizer, clipped), step)
            for parameter, gradient in zip(own, self._by_head(window, along, own), strict=True):
                parameter.grad = gradient
        self._estimates += 1

    def _by_head(self, window: _Window, along: Sequence[Tensor], own: list[nn.Parameter]) -> list[Tensor]:
        """The derivatives of the margins carried on to the head, summed over passes and ranks."""
        total = [torch.zeros_like(p) for p in own]
        for (_, one), differences in zip(window, along, strict=True):
            beta = self._rule.explain(one.features).beta
            slopes = beta_slopes(one.beta, one.margin, differences, level=one.level, pairs=self._pairs)
            total = [a + b for a, b in zip(total, chained(beta, slopes.to(beta.dtype), own), strict=True)]
        return [self._summed(one) for one in total]

    def _along_held_out(self, window: _Window, ahead: NextStep, step: int) -> list[Float[Tensor, " pairs"]]:
        """D_w h of the pairs of every pass; the weights are what they were afterwards."""
        policy = [p for p in self._model.policy.parameters() if p.requires_grad and p.grad is not None]
        batches = self._held_out_batches(step)
        with put_back(policy) as start:
            with torch.no_grad():
                for parameter in policy:
                    parameter.copy_(ahead.weights(parameter))
            direction, push = self._held_out_gradient(batches, policy)
            with torch.no_grad():
                fall, taken = torch.zeros(2, dtype=torch.float64, device=self._args.device).unbind()
                for gradient, parameter, weight in zip(direction, policy, start, strict=True):
                    parameter.copy_(weight)
                    gain = ahead.gain(parameter)
                    taken += (ahead.gradient(parameter).square() * abs(gain)).sum()
                    moved = gradient * gain
                    fall += (gradient * moved).abs().sum()
                    gradient.copy_(moved)
                # Nats that margins move a unit of the direction, at most and on average: those held out, whose loss
                # falls by `push` a nat; and those of the step, by Cauchy and Schwarz under the weights |P|.
                nats = torch.maximum(fall / push, (fall * taken).sqrt() / self._own_push(window))
                length = torch.where(fall > 0, _nats(self._model.policy) / nats, 0.0)
                above = self._margins(window, policy, start, direction, length)
                below = self._margins(window, policy, start, direction, -length)
                return [
                    torch.where(length > 0, (high - low).double() / (2.0 * length), 0.0)
                    for high, low in zip(above, below, strict=True)
                ]

    def _held_out_batches(self, step: int) -> list[dict[str, Any]]:
        """The held-out pairs of an estimate that fall to this rank, in passes no larger than those of training."""
        rows = rows_of_estimate(
            len(self.dataset), self.settings.pairs, step // self.settings.every, seed=self._args.seed
        )
        rows = rows[self._accelerator.process_index :: self._accelerator.num_processes]
        size = self._args.per_device_train_batch_size
        batches: list[dict[str, Any]] = []
        for at in range(0, len(rows), size):
            records = [self.dataset[row] for row in rows[at : at + size]]
            batches += [self._completed(on_device(one, self._args.device)) for one in self._collate(records)["passes"]]
        return batches

    def _held_out_gradient(
        self, batches: Sequence[dict[str, Any]], policy: list[nn.Parameter]
    ) -> tuple[list[Tensor], Tensor]:
        """∇L of the held-out loss, and the mean of β₀·σ(−β₀h), by how much L falls when every margin rises by a nat."""
        level = self._rule.base
        each = min(self.settings.pairs, len(self.dataset))
        total = [torch.zeros_like(p) for p in policy]
        seen = torch.zeros(2, dtype=torch.float64, device=self._args.device)
        for batch in batches:
            # In the mode of training, so that activations are recomputed where training recomputes them.
            with self._accelerator.autocast():
                margin = self._margin(batch, pair_forward, kernel=self._model.kernel)
                loss = held_out_loss(margin, level).sum() / each
            gradients = torch.autograd.grad(loss, policy, materialize_grads=True)
            with torch.no_grad():
                for kept, found in zip(total, gradients, strict=True):
                    kept.add_(found)
                push = -coefficient(torch.zeros_like(margin) + level, margin, level).sum() / each
                seen += torch.stack([loss, push]).detach()
        loss, push = self._summed(seen).unbind()
        self._loss = loss if self._loss is None else self._loss + loss
        self._shown += 1
        return [self._summed(one) for one in total], push

    def _own_push(self, window: _Window) -> Float[Tensor, ""]:
        """The mean of −c over the pairs of the step."""
        pushes = [-coefficient(one.beta, one.margin, one.level).double().sum() for _, one in window]
        return (self._summed(torch.stack(pushes).sum()) / self._pairs).clamp(min=torch.finfo(torch.float64).tiny)

    def _margin(self, batch: dict[str, Any], score: Callable[..., Any], **keywords: Any) -> Float[Tensor, " pairs"]:
        """h of the run's loss."""
        pairs, objective = bundled(batch), self._model.objective
        policy, _ = score(self._model.policy, pairs, common=objective.needs_common, **keywords)
        chosen, rejected = objective.sides(policy, pairs.reference)
        return chosen - rejected

    def _margins(
        self,
        window: _Window,
        policy: list[nn.Parameter],
        start: list[Tensor],
        direction: list[Tensor],
        length: Tensor,
    ) -> list[Float[Tensor, " pairs"]]:
        """The margins of the step's own pairs at the weights moved by so much along a direction."""
        for parameter, weight, along in zip(policy, start, direction, strict=True):
            parameter.copy_(weight + length.to(weight.dtype) * along)
        found: list[Tensor] = []
        with evaluating(self._model):
            for batch, _ in window:
                # The kernel suits the precision, which is that of the weights here.
                found.append(self._margin(batch, scores_without_gradient))
        return found

    def _summed(self, value: Tensor) -> Tensor:
        return cast("Tensor", self._accelerator.reduce(value, reduction="sum"))

    @property
    def cost(self) -> HeldOutCost:
        """What it takes, and what it has taken so far."""
        args = self._args
        own = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        each = min(self.settings.pairs, len(self.dataset))
        return HeldOutCost(
            pairs=len(self.dataset),
            prompts=self._prompts,
            each=each,
            every=self.settings.every,
            work=1.0 + (2 * own + 3 * each) / (3 * own * self.settings.every),
            estimates=self._estimates,
            seconds=self._watch.seconds,
        )

    def state_dict(self) -> dict[str, Any]:
        """What `log_metrics` has not told yet, for a checkpoint."""
        return {"loss": self._loss, "shown": self._shown}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from what `state_dict` gave."""
        self._loss, self._shown = None if state["loss"] is None else state["loss"].to(device), state["shown"]

    def log_metrics(self) -> dict[str, Tensor]:
        """The held-out loss one step ahead, the mean over the estimates since the last call."""
        if self._loss is None:
            return {}
        mean = self._loss / self._shown
        self._loss, self._shown = None, 0
        return {"heldout/loss": mean}


def following(
    model: PreferenceModel,
    dataset: Dataset | None,
    collate: PassCollator,
    completed: Callable[[dict[str, Any]], dict[str, Any]],
    args: DPOConfig,
    accelerator: Accelerator,
) -> HeldOutGradient | None:
    """The `HeldOutGradient` of these parts, or None without held-out records."""
    return None if dataset is None else HeldOutGradient(model, dataset, collate, completed, args, accelerator)


def steered(rule: nn.Module) -> LearnedBeta:
    """The rule that learns: the one given, or that inside of a control."""
    while isinstance(rule, ControlledBeta):
        rule = rule.of
    assert isinstance(rule, LearnedBeta)
    return rule


def _nats(policy: nn.Module) -> float:
    """By how many nats margins are moved for a derivative: as the coarsest precision among the weights allows."""
    coarsest = max(torch.finfo(p.dtype).eps for p in policy.parameters() if p.is_floating_point())
    return (_NATS * coarsest) ** (1.0 / 3.0)
