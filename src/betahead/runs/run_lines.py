"""What a person reads while a run is being made ready: one line for each thing that is done or found."""

from rich.console import Console

from betahead.runs.build import Data, Fitted, OnFit
from betahead.runs.config import Config
from betahead.train.scoring import OnScoring, ScoringProgress
from betahead.train.trainer import DPOTrainer
from betahead.worlds.small_model import FitProgress


def fit_lines(console: Console, lines: int = 10) -> OnFit:
    """So many lines over the whole fit, so that a log file says how far it got too."""

    def show(progress: FitProgress) -> None:
        if progress.step % max(1, progress.steps // lines) == 0 or progress.step == progress.steps:
            console.print(
                f"fitting    {progress.step:>5}/{progress.steps} steps  loss {progress.loss:.3f} nats per token  "
                f"{progress.seconds:.0f} s",
                highlight=False,
                soft_wrap=True,
            )

    return show


def scoring_lines(console: Console, seconds: float = 10.0) -> OnScoring:
    """A line every so many seconds while the reference scores pairs, and one for each data set that is done."""
    shown = 0.0

    def show(progress: ScoringProgress) -> None:
        nonlocal shown
        report = progress.report
        if report is not None:
            shown = 0.0
            lines = [f"reference  {report.line()}", *(f"skipped    {sentence}" for sentence in report.skipped)]
        elif progress.seconds - shown >= seconds:
            shown = progress.seconds
            lines = [f"scoring    {progress.pairs:>5,}/{progress.of:,} pairs  {progress.seconds:.0f} s"]
        else:
            lines = []
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return show


def fitted_line(fitted: Fitted) -> str:
    """What fitting a reference came to."""
    report = fitted.report
    return (
        f"reference  {report.parameters / 1e6:.2f} M parameters, vocabulary {report.vocabulary:,}, fitted on "
        f"{report.documents:,} documents ({report.tokens:,} tokens, {report.epochs:.1f} epochs) in "
        f"{report.seconds:.0f} s"
    )


def scoring_line(config: Config, data: Data) -> str:
    """How many pairs there are, and when the reference scores them."""
    mode = "scored once, before training" if config.reference.precomputed else "scored at every step"
    mode = mode if config.reads_reference else "not read"
    counts = f"{len(data.train):,} to train on, {len(data.held_out):,} held out by prompt"
    return f"pairs      {counts}; the reference is {mode}"


def leak_line(data: Data) -> str:
    """How many held-out prompts are trained on."""
    prompts = len(set(data.held_out["prompt_id"]))
    return (
        f"leak       {data.shared_prompts:,} of the {prompts:,} held-out prompts are trained on too; what is "
        "measured on them says nothing about new ones"
    )


def calibration_line(trainer: DPOTrainer) -> str:
    """What calibrating found; of a trainer that did."""
    found = trainer.calibration
    assert found is not None
    return (
        f"calibrated log PPL has geometric mean {found.scale:.3f} nats per token over {found.prompts} prompts "
        f"({found.seconds:.1f} s)"
    )
