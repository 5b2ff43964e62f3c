"""The configuration of a run: one YAML file, complete, checked before anything is loaded.

Unknown keys are refused, types are not converted, and a part that comes in kinds names its `kind`. Rules that a
component has of its own (which settings of a learned β fit together) are asked of the component, not repeated here.
Environment variables and `~` in paths stay as they are written: `data.sources` expands them when it reads, so that a
run folder's config names no machine.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from betahead.data.formats import checked_layout
from betahead.errors import ConfigError
from betahead.forward.agreed import reads_reference
from betahead.forward.choice import ForwardKind, check_forward
from betahead.forward.layout import Kernel
from betahead.runs.beta_section import BetaSection
from betahead.runs.complaints import complaint
from betahead.runs.loss_section import LossSection
from betahead.runs.model_section import ModelSection
from betahead.runs.overrides import apply_overrides
from betahead.runs.section import Count, Section, Text, left_out
from betahead.runs.train_fields import checked_train_fields
from betahead.runs.yaml_text import read_yaml, to_yaml


def _layout(value: str) -> str:
    checked_layout(value)
    return value


class DataSection(Section):
    """The preference pairs: a path (with `$VARIABLES`, which stay text here) or a Hub name.

    Args:
        holdout: share of the *prompts* kept for evaluation when `eval` is not given; default 0.05.
        max_dropped: share of rows that may be unusable before it is an error.
        max_pairs: at most so many training pairs; None for all.
    """

    train: Text
    eval: Text | None = None
    split: Text = "train"
    layout: Annotated[str, AfterValidator(_layout)] = "auto"
    prompt_template: Literal["auto", "none"] = "auto"
    max_length: Annotated[int, Field(ge=2)] = 1024
    holdout: Annotated[float, Field(gt=0, lt=1)] | None = None
    max_dropped: Annotated[float, Field(ge=0, le=1)] = 0.1
    max_pairs: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_holdout(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("eval") is None and values.get("holdout") is None:
            return {**values, "holdout": 0.05}
        return values

    @model_validator(mode="after")
    def _one_split(self) -> Self:
        if self.eval is not None:
            left_out(self, "holdout", "`data.eval` is given, so nothing is split off")
        return self


class ForwardSection(Section):
    """How pairs go through the model.

    Args:
        kind: `shared` (each prompt once, both answers after it), `separate` (a padded row per answer), or `auto`, which
            is shared wherever the model gives the same numbers on it.
        attention: what carries the attention of the shared road out: `sdpa` anywhere, `varlen` on CUDA in half
            precision, `flex`, or `auto`.
    """

    kind: ForwardKind = "auto"
    attention: Kernel = "auto"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_forward(self.kind, self.attention)
        return self


def _cache(value: str) -> str:
    if value not in {"auto", "live"} and "/" not in value and value[0] not in "$~.":
        raise ConfigError(
            f"`reference.cache` must be auto, live or the path of a folder such as ./{value}, but is {value!r} instead."
        )
    return value


class ReferenceSection(Section):
    """Where the reference's log-probabilities come from.

    Args:
        cache: `auto` scores every pair once, before training, and keeps the scores beside the data
            (`DATA.refcache`) or, where that cannot be, in the user's cache folder; the path of a folder keeps them
            there; `live` scores at every step.
    """

    cache: Annotated[Text, AfterValidator(_cache)] = "auto"

    @property
    def precomputed(self) -> bool:
        """Whether every pair is scored before training."""
        return self.cache != "live"


class EvaluateSection(Section):
    """What is looked at during and after training.

    Args:
        prompts: held-out pairs in every snapshot of prompts.parquet.
        samples: held-out prompts that policy and reference answer, 0 for none.
        max_new_tokens: length of these answers at most.
        batch_size: rows at a time in both.
    """

    prompts: Count = 256
    samples: Annotated[int, Field(ge=0)] = 8
    max_new_tokens: Count = 128
    batch_size: Count = 8


class Config(Section):
    """A whole run. `train` takes the names of `transformers.TrainingArguments` (see `train_fields`)."""

    model: ModelSection
    data: DataSection
    beta: BetaSection
    loss: LossSection = LossSection()
    forward: ForwardSection = ForwardSection()
    reference: ReferenceSection = ReferenceSection()
    train: Annotated[dict[str, Any], AfterValidator(checked_train_fields)] = Field(
        default_factory=dict, validate_default=True
    )
    evaluate: EvaluateSection = EvaluateSection()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    output: Text

    @property
    def reads_reference(self) -> bool:
        """Whether the loss or the rule reads a reference."""
        return reads_reference(self.loss.objective, self.beta.rule())

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        # Asking what loss and rule read refuses those that do not go together.
        if not self.reads_reference and self.reference.cache != "auto":
            raise ConfigError(
                f"`reference.cache` must be left out with `loss.kind` {' and '.join(self.loss.objective.kinds)}, which "
                f"reads no reference, but is {self.reference.cache!r} instead; remove it."
            )
        return self


def load_config(source: Path | str, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a file (a `Path`) or a text (a `str`), with `section.key=value` overrides on top.

    Raises:
        ConfigError: one sentence with file and line, key, value and remedy.
    """
    document = apply_overrides(read_yaml(source), overrides)
    try:
        return Config.model_validate(document.values)
    except ValidationError as error:
        raise ConfigError(complaint(error, document, Config)) from None


def dump_config(config: Config) -> str:
    """The configuration as YAML that `load_config` reads back as an equal one, with every default written out."""
    return to_yaml(config.model_dump(mode="json", exclude_none=True))
