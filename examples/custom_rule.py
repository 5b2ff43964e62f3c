"""A rule of one's own: what decides β is a subclass of `BetaRule`, and the trainer has no branch for it."""

import argparse
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from small import model_and_pairs
from torch import Tensor

from betahead import BetaRule, DPOConfig, DPOTrainer, PromptFeatures, Shaping
from betahead.beta.card import MethodCard
from betahead.beta.need import Need


class TwoLevels(BetaRule):
    """One β for prompts that the policy finds familiar, another for the rest.

    Args:
        familiar: β where log PPL is below the median of the training prompts.
        other: β elsewhere.
    """

    kind: ClassVar[str] = "two_levels"
    reads: ClassVar[str] = "prompt"
    card: ClassVar[MethodCard] = MethodCard(
        title="Two levels",
        formula="β(x) = familiar where log PPL(x) < median, else other",
        cost="the LM head on the prompt's tokens, without gradient",
        source="an example",
        checked="",
    )

    def __init__(self, familiar: float = 0.3, other: float = 0.1) -> None:
        super().__init__()
        self.familiar, self.other = familiar, other
        self.register_buffer("median", torch.tensor(1.0))  # in the checkpoint, like every moving number of a rule

    @property
    def needs(self) -> frozenset[Need]:
        """What the forward pass is to compute: log PPL and no more."""
        return frozenset({Need.LOG_PPL})

    @property
    def settings(self) -> dict[str, Any]:
        """What makes the same rule again."""
        return {"familiar": self.familiar, "other": self.other}

    def calibrate(self, log_ppl: Float[Tensor, " prompts"]) -> None:
        """Take the median of a sample of training prompts."""
        self.median.copy_(log_ppl.median())

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """β by the prompt's perplexity; target 0, weight 1, penalty 0: plain DPO otherwise."""
        beta = torch.where(features.log_ppl < self.median, self.familiar, self.other).to(margin.dtype)
        zeros = torch.zeros_like(margin)
        return Shaping(beta=beta, target=zeros, weight=zeros + 1.0, penalty=zeros)


def main() -> None:
    """Train with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=60_000, help="positions that the small model is fitted on")
    chosen = parser.parse_args()
    model, pairs = model_and_pairs(chosen.tokens)
    args = DPOConfig(
        output_dir="runs/custom_rule",
        max_steps=chosen.steps,
        learning_rate=5e-4,
        logging_steps=5,
        save_strategy="no",
        use_cpu=True,
    )
    trainer = DPOTrainer(model=str(model), args=args, train_dataset=str(pairs), beta=TwoLevels())
    trainer.train()
    for row in trainer.state.log_history:
        if "beta/min" in row:
            print(
                f"step {row['step']:>3}  loss {row['loss']:.3f}  β from {row['beta/min']:.2f} to {row['beta/max']:.2f}"
            )


if __name__ == "__main__":
    main()
