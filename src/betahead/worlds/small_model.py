"""A small Qwen2 fitted on texts on the spot and saved as an ordinary Hugging Face folder."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging as transformers_logging

from betahead.errors import ConfigError, DataError
from betahead.worlds.packing import PackedRows, packed_rows
from betahead.worlds.small_tokenizer import TEMPLATE_WORDS, rendered_prompt, token_ids, trained_tokenizer

Document = str | tuple[str, str]
"""A plain text, or a prompt with its response."""


@dataclass(frozen=True, kw_only=True)
class SmallModelSpec:
    """Size of the model and how long it is fitted.

    Args:
        vocab_size: upper limit of the vocabulary (a small corpus may give fewer tokens).
        tokens: positions fitted on, padding included: the budget that decides how long fitting takes.
        row_tokens: length of a packed row, and the longest sequence the model is made for.
        batch_rows: packed rows a step.
        warmup: share of the steps in which the learning rate rises; after it, it falls to 0 along a cosine.
    """

    vocab_size: int = 2048
    hidden_size: int = 128
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    intermediate_size: int = 384
    tokens: int = 1_000_000
    row_tokens: int = 256
    batch_rows: int = 4
    learning_rate: float = 4e-3
    warmup: float = 0.05
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built.

        Raises:
            ConfigError: names the field, the rule and the value.
        """
        for name in ("hidden_size", "layers", "heads", "kv_heads", "intermediate_size", "tokens", "batch_rows"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"`{name}` must be at least 1, but is {value} instead.")
        if self.row_tokens < 2:
            raise ConfigError(f"`row_tokens` must be at least 2, but is {self.row_tokens} instead.")
        if self.hidden_size % (2 * self.heads):
            raise ConfigError(
                f"`hidden_size` must be a multiple of twice the heads (2 × {self.heads}),"
                f" but is {self.hidden_size} instead."
            )
        if self.heads % self.kv_heads:
            raise ConfigError(f"`kv_heads` must divide `heads` ({self.heads}), but is {self.kv_heads} instead.")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"`warmup` must be in [0, 1), but is {self.warmup} instead.")
        if not self.learning_rate > 0:
            raise ConfigError(f"`learning_rate` must be above 0, but is {self.learning_rate} instead.")
        if self.weight_decay < 0:
            raise ConfigError(f"`weight_decay` must be at least 0, but is {self.weight_decay} instead.")


@dataclass(frozen=True, kw_only=True)
class FitProgress:
    """Where a fit stands after `step` of `steps`; the loss is that step's, in nats per token."""

    step: int
    steps: int
    loss: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """What a fit cost and reached; losses are means over the first and the last tenth of the steps, nats per token."""

    parameters: int
    vocabulary: int
    documents: int
    tokens: int
    epochs: float
    steps: int
    loss_first: float
    loss_last: float
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Positions fitted per second, tokenizer training and saving included."""
        return self.tokens / self.seconds


def fit_small_model(
    documents: Sequence[Document],
    folder: str | Path,
    *,
    spec: SmallModelSpec,
    seed: int,
    device: str | torch.device = "cpu",
    on_progress: Callable[[FitProgress], None] | None = None,
) -> FitReport:
    """Train a tokenizer and a small Qwen2 on the documents, and save both in `folder`.

    A plain text is fitted between the beginning- and the end-of-text token. A prompt with its response is fitted as
    one turn of the tokenizer's chat template with the response and the end-of-turn token appended: what preference
    training shows the model later. Documents share rows, but none sees another. The same documents, spec, seed and
    number of threads give the same weights bit for bit; the global random state is left as it was.

    Args:
        documents: plain texts or (prompt, response) pairs.
        folder: created if need be; `AutoModelForCausalLM` and `AutoTokenizer` open it afterwards.
        seed: decides initial weights and the order of the documents.
        on_progress: called after every step.

    Raises:
        DataError: there is no document to fit on.
    """
    if not any("".join(document) for document in documents):
        raise DataError("`documents` must hold at least one text that is not empty, but holds none.")
    start = time.perf_counter()
    texts = (text for document in documents for text in _texts(document))
    tokenizer = trained_tokenizer(texts, vocab_size=spec.vocab_size, max_length=spec.row_tokens)
    rng = np.random.default_rng(seed)
    rows = packed_rows(document_ids(tokenizer, documents), row_tokens=spec.row_tokens, rng=rng)
    model = _fresh_model(tokenizer, spec, seed)
    cast("nn.Module", model).to(device)

    losses: list[float] = []
    steps = math.ceil(spec.tokens / (spec.batch_rows * spec.row_tokens))
    for loss in _fitted_losses(model, rows, spec, steps, rng):
        losses.append(loss)
        if on_progress is not None:
            seconds = time.perf_counter() - start
            on_progress(FitProgress(step=len(losses), steps=steps, loss=loss, seconds=seconds))
    model.eval()
    with _no_progress_bar():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tenth = max(1, len(losses) // 10)
    tokens = len(losses) * spec.batch_rows * spec.row_tokens
    return FitReport(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        vocabulary=len(tokenizer),
        documents=len(documents),
        tokens=tokens,
        epochs=tokens / rows.input_ids.numel(),
        steps=len(losses),
        loss_first=float(np.mean(losses[:tenth])),
        loss_last=float(np.mean(losses[-tenth:])),
        seconds=time.perf_counter() - start,
    )


def document_ids(tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document]) -> list[list[int]]:
    """The token ids of each document, with the tokens that begin and end it."""
    heads = [
        str(tokenizer.bos_token) if isinstance(document, str) else rendered_prompt(tokenizer, document[0])
        for document in documents
    ]
    bodies = [document if isinstance(document, str) else document[1] for document in documents]
    end = cast("int", tokenizer.eos_token_id)
    # Apart, as preference data is tokenized: no merge crosses from the prompt into the answer.
    pairs = zip(token_ids(tokenizer, heads), token_ids(tokenizer, bodies), strict=True)
    return [[*head, *body, end] for head, body in pairs]


def _texts(document: Document) -> Iterator[str]:
    """What the tokenizer learns its merges from: the texts, and the role names that the template puts around them."""
    if isinstance(document, str):
        yield document
    else:
        yield from (*TEMPLATE_WORDS, *document)


def _fresh_model(tokenizer: PreTrainedTokenizerFast, spec: SmallModelSpec, seed: int) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        max_position_embeddings=spec.row_tokens,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        pad_token_id=cast("int", tokenizer.pad_token_id),
        bos_token_id=cast("int", tokenizer.bos_token_id),
        eos_token_id=cast("int", tokenizer.eos_token_id),
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Qwen2ForCausalLM(config)


def _fitted_losses(
    model: Qwen2ForCausalLM, rows: PackedRows, spec: SmallModelSpec, steps: int, rng: np.random.Generator
) -> Iterator[float]:
    """The loss of each step, after the step."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=spec.learning_rate,
        betas=(0.9, 0.95),
    )
    model.train()
    queue = np.empty(0, dtype=np.int64)
    for step in range(steps):
        while len(queue) < spec.batch_rows:
            queue = np.concatenate([queue, rng.permutation(rows.input_ids.shape[0])])
        batch, queue = queue[: spec.batch_rows], queue[spec.batch_rows :]
        for group in optimizer.param_groups:
            group["lr"] = spec.learning_rate * _schedule(step, steps, spec.warmup)
        loss = _next_token_loss(model, rows.rows(torch.from_numpy(batch)))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item()


def _next_token_loss(model: Qwen2ForCausalLM, rows: PackedRows) -> Tensor:
    """Mean negative log-probability of the tokens that have a predecessor in their document."""
    device = model.device
    hidden = model.model(
        input_ids=rows.input_ids.to(device),
        attention_mask=rows.attention.to(device),
        position_ids=rows.position.to(device),
        use_cache=False,
    ).last_hidden_state
    predicts = rows.predicts
    targets = rows.input_ids[:, 1:][predicts[:, :-1]].to(device)
    # The LM head is the dearest layer of a small model: it sees only positions that predict something.
    logits = model.lm_head(hidden[predicts.to(device)])
    return F.cross_entropy(logits.float(), targets)


@contextmanager
def _no_progress_bar() -> Generator[None]:
    """Keep transformers' bar for writing one small file off the screen."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _schedule(step: int, steps: int, warmup: float) -> float:
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
