"""The section `model`: a Hub name or folder, or a small model fitted on the spot, and the adapter on it."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from betahead.data.texts import is_plain_text
from betahead.errors import ConfigError
from betahead.runs.section import Count, Positive, Section, Text, left_out
from betahead.worlds.small_model import SmallModelSpec


def _modules(value: object) -> object:
    if isinstance(value, str) or (isinstance(value, list) and value and all(isinstance(one, str) for one in value)):
        return value
    raise ValueError("`all-linear` or a list of module names")


class NoAdapter(Section):
    """All weights of the model are trained."""

    kind: Literal["none"] = "none"

    @property
    def merge(self) -> bool:
        """There is nothing to merge."""
        return False


class LoraAdapter(Section):
    """Low-rank adapters are trained; the reference is the same model with the adapters off.

    Args:
        kind: `dora` also learns the length of every row of the weights apart from its direction.
        target_modules: `all-linear` (every linear layer but the LM head) or names of layers, `lm_head` among them if
            need be.
        modules_to_save: layers that are trained as a whole beside the adapters, such as `lm_head`.
        merge: leave an ordinary whole model in `policy/` at the end; the adapter is then kept in `adapter/`.
    """

    kind: Literal["lora", "dora"]
    rank: Count = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[str | list[str], BeforeValidator(_modules)] = "all-linear"
    modules_to_save: list[Text] | None = None
    merge: bool = False


class QLoraAdapter(LoraAdapter):
    """Low-rank adapters on weights of four bits; needs a CUDA device and bitsandbytes.

    Args:
        quantization: how four bits stand for a weight.
        double_quantization: quantize the scales of the weights too.
    """

    kind: Literal["qlora"]  # pyright: ignore[reportIncompatibleVariableOverride]
    quantization: Literal["nf4", "fp4"] = "nf4"
    double_quantization: bool = True


class SavedAdapter(Section):
    """An adapter that was trained on the model before is trained further; the reference is the adapter as it was.

    Args:
        path: its folder, such as `RUN/policy`.
        merge: as in `LoraAdapter`.
    """

    kind: Literal["saved"]
    path: Text
    merge: bool = False


class SmallFit(Section):
    """A small Qwen2 and its tokenizer, fitted before training; policy and reference both start from it.

    Args:
        corpus: a file with one text or one prompt and response a row, a text file (`.txt`, `.txt.gz`), whose paragraphs
            are read, or `train`: the answers of `data.train`.
        prompt_field: column of the prompt in the file; None for `train`, for texts without prompts and for a text file.
        response_field: column of the response (or of the text) in the file; None for `train` and for a text file.
        corpus_prompts: `train` (default, of a file with prompts) leaves out every row whose prompt is in the held-out
            pairs, without which the reference would have read the examination; `all` keeps them.
        tokens: positions fitted on, the budget that decides how long it takes; sizes as in `SmallModelSpec`.
    """

    kind: Literal["small"]
    corpus: Text
    prompt_field: Text | None = None
    response_field: Text | None = None
    corpus_prompts: Literal["train", "all"] | None = None
    vocab_size: int = SmallModelSpec.vocab_size
    hidden_size: int = SmallModelSpec.hidden_size
    layers: int = SmallModelSpec.layers
    heads: int = SmallModelSpec.heads
    kv_heads: int = SmallModelSpec.kv_heads
    intermediate_size: int = SmallModelSpec.intermediate_size
    tokens: int = SmallModelSpec.tokens
    row_tokens: int = SmallModelSpec.row_tokens
    batch_rows: int = SmallModelSpec.batch_rows
    learning_rate: float = SmallModelSpec.learning_rate

    @property
    def spec(self) -> SmallModelSpec:
        """The sizes, as the world's own builder takes them."""
        sizes = self.model_dump(exclude={"kind", "corpus", "prompt_field", "response_field", "corpus_prompts"})
        return SmallModelSpec(**sizes)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _ = self.spec
        if self.corpus == "train":
            for key in ("prompt_field", "response_field", "corpus_prompts"):
                left_out(self, key, "`corpus` is `train`, whose answers are read")
        elif is_plain_text(self.corpus):
            for key in ("prompt_field", "response_field", "corpus_prompts"):
                left_out(self, key, "`corpus` is a text file, which has no columns")
        elif self.response_field is None:
            raise ConfigError("`response_field` must name the column of the texts in `corpus`, but is missing.")
        elif self.prompt_field is None:
            left_out(self, "corpus_prompts", "there is no `prompt_field` to compare")
        return self


class ModelSection(Section):
    """Where policy and reference come from: a Hub name or folder, or a small model fitted on the spot."""

    name: Text | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    trust_remote_code: bool = False
    adapter: Annotated[NoAdapter | LoraAdapter | QLoraAdapter | SavedAdapter, Field(discriminator="kind")] = NoAdapter()
    fit: SmallFit | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.name is None and self.fit is None:
            raise ConfigError("`name` must be a Hub name or a folder, but is missing.")
        if self.fit is not None:
            left_out(self, "name", "`model.fit` makes the model")
        return self
