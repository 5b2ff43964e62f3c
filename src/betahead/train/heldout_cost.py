"""What held-out learning costs: said before training, and measured in it."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class HeldOutCost:
    """What held-out learning takes.

    Args:
        pairs: held out for it.
        prompts: of these pairs.
        each: held-out pairs of an estimate.
        every: steps from one estimate to the next.
        work: of a step with its share of an estimate, over that of the step alone; a backward pass counts as two
            forward ones.
        estimates: made so far.
        seconds: spent on them.
    """

    pairs: int
    prompts: int
    each: int
    every: int
    work: float
    estimates: int
    seconds: float

    def line(self) -> str:
        """What is to come, in one line."""
        when = "every step" if self.every == 1 else f"every {self.every} steps"
        return (
            f"β follows {self.pairs:,} pairs of {self.prompts:,} training prompts that are held out for it; {when} a "
            f"forward and backward pass over {self.each} of them and two forward passes over the step's own pairs, "
            f"about {self.work:.1f} times the work, and two more copies of the trained weights"
        )

    def spent(self, training_seconds: float) -> str:
        """What it came to, in one line."""
        slower = self.measured(training_seconds)["times_slower"]
        return (
            f"{self.estimates:,} estimates took {self.seconds:.1f} s of {training_seconds:.1f} s: training was "
            f"{slower:.1f} times as slow as without"
        )

    def measured(self, training_seconds: float) -> dict[str, float]:
        """The numbers, with how many times slower training has been for it."""
        rest = max(training_seconds - self.seconds, 1e-9)
        return {**asdict(self), "times_slower": training_seconds / rest}
