"""Tiny models, a tokenizer trained on the spot and random pairs: what the tests of the core are made of."""

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from betahead.beta.learned import LearnedBeta
from betahead.data.collate import PairCollator
from betahead.train.arguments import DPOConfig
from betahead.types import PairBatch, PairReading, PromptFeatures

# PEFT 0.19 reads names that transformers 5.23 has deprecated.
OLD_NAMES = pytest.mark.filterwarnings(r"ignore:`\w*gradient_checkpointing\w*` is deprecated:FutureWarning")

WORDS = [f"word{number}" for number in range(45)]
HIDDEN = 16
VOCAB = 48


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, a pad token that is not the eos token, no chat template."""
    inner = Tokenizer(models.WordLevel(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(special_tokens=["<pad>", "<eos>", "<unk>"], show_progress=False)
    inner.train_from_iterator([" ".join(WORDS)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    # Wide enough that prompts differ in perplexity.
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}


def qwen2(seed: int = 0, **changes: Any) -> Qwen2ForCausalLM:
    """A Qwen2 of two layers with tied embeddings; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(Qwen2Config(**(_SHAPE | {"tie_word_embeddings": True} | changes)))


def llama(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """A Llama of two layers with an LM head of its own; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(**(_SHAPE | {"tie_word_embeddings": False} | changes)))


POLICIES = {"qwen2": qwen2, "llama": llama}


def in_float64(model: PreTrainedModel) -> PreTrainedModel:
    """The model in float64, its norms included, which otherwise compute in float32 whatever they are given."""
    model = model.double()
    for name, module in list(model.named_modules()):
        if type(module).__name__.endswith("RMSNorm"):
            norm = torch.nn.RMSNorm(module.weight.shape, eps=module.variance_epsilon, dtype=torch.float64)
            norm.load_state_dict(module.state_dict())
            model.set_submodule(name, norm)
    return model


def pairs(count: int, seed: int = 0, prompts: int | None = None) -> Dataset:
    """Text pairs of ragged lengths, over `prompts` distinct prompts (as many as pairs when None)."""
    rng = random.Random(seed)

    def text(least: int, most: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(least, most)))

    distinct = [text(2, 6) for _ in range(prompts or count)]
    rows = [
        {"prompt": distinct[i % len(distinct)], "chosen": " " + text(1, 5), "rejected": " " + text(1, 5)}
        for i in range(count)
    ]
    return Dataset.from_list([row for row in rows if row["chosen"] != row["rejected"]])


def records(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Tokenized records of ragged lengths."""
    rng = random.Random(seed)

    def ids(least: int, most: int) -> list[int]:
        return [rng.randrange(3, VOCAB) for _ in range(rng.randint(least, most))]

    made: list[dict[str, Any]] = []
    for number in range(count):
        prompt = ids(2, 6)
        made.append(
            {
                "prompt_ids": prompt,
                "chosen_ids": [*ids(1, 5), 1],
                "rejected_ids": [*ids(1, 5), 1],
                "ppl_mask": [False] + [True] * (len(prompt) - 1),
                "prompt_id": str(number),
            }
        )
    return made


def batch(count: int, seed: int = 0) -> dict[str, Tensor]:
    """A collated batch of random pairs, without reference columns."""
    return PairCollator(pad_token_id=0)(records(count, seed))


def scored_batch(count: int, reference: PreTrainedModel, seed: int = 0) -> dict[str, Tensor]:
    """The same with the reference's columns, its log PPL included."""
    from betahead.reference.frozen import FrozenReference

    made = batch(count, seed)
    scores = FrozenReference(reference, wants_log_ppl=True).scores(PairBatch.from_dict(made))
    return made | scores.columns()


def features(
    count: int, seed: int = 0, *, hidden: int = HIDDEN, tokens: int = 5, dtype: torch.dtype = torch.float32
) -> PromptFeatures:
    """Random features of every kind, ragged."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, tokens + 1, (count,), generator=rng)
    lengths[0] = tokens
    return PromptFeatures(
        pairs=count,
        log_ppl=(0.1 + 4 * torch.rand(count, generator=rng)).to(dtype),
        has_ppl=torch.ones(count, dtype=torch.bool),
        last_hidden=torch.randn(count, hidden, generator=rng).to(dtype),
        hidden=torch.randn(count, tokens, hidden, generator=rng).to(dtype),
        hidden_mask=torch.arange(tokens) < lengths.unsqueeze(1),
        pair=reading(-20 * torch.rand(4, count, generator=rng).to(dtype)),
    )


def reading(logps: Tensor) -> PairReading:
    """Answers of three tokens with log-probabilities of the policy, chosen and rejected, and of the reference."""
    three = torch.full(logps.shape[1:], 3)
    return PairReading(
        chosen_logps=logps[0],
        rejected_logps=logps[1],
        reference_chosen_logps=logps[2],
        reference_rejected_logps=logps[3],
        chosen_tokens=three,
        rejected_tokens=three,
    )


def built(hidden: int = HIDDEN, *, scatter: float = 0.0, seed: int = 0, **settings: Any) -> LearnedBeta:
    """A built rule; `scatter` moves every parameter away from its start."""
    rule = LearnedBeta(**settings)
    rule.build(hidden, seed=seed)
    if scatter:
        scattered(rule, scatter, seed)
    return rule


@torch.no_grad()
def scattered(rule: torch.nn.Module, scale: float = 0.3, seed: int = 0) -> None:
    """Add noise to every parameter, so that nothing is zero by its start."""
    rng = torch.Generator().manual_seed(seed)
    for parameter in rule.parameters():
        noise = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
        parameter.add_(scale * noise.to(parameter.dtype))


def arguments(folder: Path, **changes: Any) -> DPOConfig:
    """Quiet settings for a short run on the CPU."""
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 4,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "max_steps": 5,
    }
    return DPOConfig(**(settings | changes))


# Every net, form and kind of learning that go together.
NETS = ("linear", "mlp", "transformer")
FORMS: tuple[dict[str, Any], ...] = (
    {"form": "banded", "ppl_exponent": 1.0},
    {"form": "banded", "ppl_exponent": -1.0},
    {"form": "banded", "ppl_exponent": "learned"},
    {"form": "direct"},
)
LEARNING: tuple[dict[str, Any], ...] = (
    {"learning": "joint", "prior_on": "level"},
    {"learning": "joint", "prior_on": "each"},
    {"learning": "perspective", "regulariser": "quadratic"},
    {"learning": "perspective", "regulariser": "linear"},
    {"learning": {"kind": "budget", "target_kl": 2.0, "kl_from": "answers"}},
    {"learning": {"kind": "budget", "target_kl": 2.0, "kl_from": "answers", "allocation": "joint"}},
)
