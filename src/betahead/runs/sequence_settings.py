"""How large the sequence world of comparisons is, and where the reference that all its runs share lies."""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from betahead.errors import ConfigError
from betahead.runs.quiet import quieted
from betahead.worlds.grammar import GrammarWorld
from betahead.worlds.small_model import SmallModelSpec, fit_small_model

MOST_PARAMETERS = 1_000_000
_WHOLE = "fitted.json"


@dataclass(frozen=True, kw_only=True)
class SequenceSettings:
    """Sizes of the sequence world, chosen for at most 90 seconds a run on two cores.

    Args:
        corpus: documents that the reference is fitted on.
        reference: its size, and how long it is fitted.
        pairs: training pairs of a run; every seed has its own.
        batch_pairs: pairs of a step.
        eval_prompts: prompts that selection is made on.
        test_prompts: prompts of the final number.
        samples: answers per prompt.
        max_new_tokens: at which an answer is cut.
        held_out_pairs: labelled pairs of unseen prompts that are measured.
        corpus_texts: texts of the reference's corpus, none of which it was fitted on, that are measured.
        checkpoints: shares of training after which the policy is sampled, rising, the last of them 1.
    """

    corpus: int = 20_000
    reference: SmallModelSpec = field(default_factory=SmallModelSpec)
    pairs: int = 960
    batch_pairs: int = 8
    eval_prompts: int = 64
    test_prompts: int = 128
    samples: int = 2
    max_new_tokens: int = 48
    held_out_pairs: int = 128
    corpus_texts: int = 64
    checkpoints: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 1.0)

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be run.

        Raises:
            ConfigError: names the field and the value.
        """
        for name, value in vars(self).items():
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"`{name}` must be at least 1, but is {value} instead.")
        shares = self.checkpoints
        if list(shares) != sorted(set(shares)) or not shares or shares[0] <= 0 or shares[-1] != 1:
            raise ConfigError(f"`checkpoints` must be rising shares in (0, 1] that end at 1, but are {shares} instead.")

    @property
    def steps(self) -> int:
        """Steps of a run: each pair once."""
        return -(-self.pairs // self.batch_pairs)

    @property
    def scored_steps(self) -> dict[int, float]:
        """The steps after which the policy is sampled, with their share; few steps may make shares coincide."""
        return {max(1, round(share * self.steps)): share for share in self.checkpoints}


def default_cache() -> Path:
    """Where fitted references are kept between comparisons."""
    above = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(above) / "betahead" / "references"


def shared_reference(settings: SequenceSettings, cache: Path) -> Path:
    """The folder of the reference, fitted now if no earlier comparison has; the same settings give the same folder.

    Args:
        settings: of the world; what the reference depends on names the folder.
        cache: may be shared by several processes: whoever is done first leaves its reference to the others.

    Raises:
        ConfigError: the reference has more than a million parameters.
    """
    world = GrammarWorld()
    described = {"world": world.name, "corpus": settings.corpus, "reference": asdict(settings.reference)}
    corpus = world.corpus(settings.corpus, 0)
    content = hashlib.sha256(json.dumps([described, corpus]).encode()).hexdigest()[:16]
    folder = cache / f"sequence-{content}"
    if (folder / _WHOLE).is_file():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".fitting-", dir=cache))
    try:
        with quieted():
            report = fit_small_model(corpus, made, spec=settings.reference, seed=0)
        if report.parameters > MOST_PARAMETERS:
            raise ConfigError(
                f"`reference` must have at most {MOST_PARAMETERS:,} parameters, but has {report.parameters:,} instead."
            )
        (made / _WHOLE).write_text(json.dumps(described | asdict(report), indent=2) + "\n", encoding="utf-8")
        try:
            made.rename(folder)
        except OSError:
            # Another process was faster; a folder with this name holds the same reference.
            if not (folder / _WHOLE).is_file():
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder
