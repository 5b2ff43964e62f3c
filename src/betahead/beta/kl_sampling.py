"""How a rule asks the trainer to measure how far the policy has moved, by answers that the policy samples."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class KLSampling:
    """What an estimate is made of.

    Args:
        every: optimizer steps from one estimate to the next.
        prompts: training prompts of an estimate, over all ranks; the policy answers each once.
        max_new_tokens: answers are cut there, and count up to the cut.
    """

    every: int
    prompts: int
    max_new_tokens: int
