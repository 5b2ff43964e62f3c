"""Where labels are noise, held-out learning ends with a larger β than where they are not."""

import math
import random
from pathlib import Path

import pytest
import tiny
import torch
from datasets import Dataset

from betahead.beta.learned import LearnedBeta
from betahead.forward.roads import scores_without_gradient
from betahead.train.parts import tokenized
from betahead.train.trainer import DPOTrainer
from betahead.types import bundled

NOISY, CLEAN = "word1", "word2"
ANSWERS = {NOISY: ("word5", "word6"), CLEAN: ("word3", "word4")}


def two_topics(prompts: int, noise: float, seed: int) -> Dataset:
    """Prompts that end in the word of their topic; of the two answers of a topic the first is the better one."""
    rng = random.Random(seed)
    rows: list[dict[str, str]] = []
    for topic, (good, bad) in ANSWERS.items():
        for _ in range(prompts):
            flipped = topic == NOISY and rng.random() < noise
            chosen, rejected = (bad, good) if flipped else (good, bad)
            prompt = " ".join([*rng.choices(tiny.WORDS[10:], k=5), topic])
            rows.append({"prompt": prompt, "chosen": f" {chosen}", "rejected": f" {rejected}"})
    return Dataset.from_list(rows)


def noisy_over_clean(folder: Path, seed: int) -> float:
    """The ratio of β, geometric means over new prompts, after a policy has begun to learn flips by heart."""
    trainer = DPOTrainer(
        tiny.qwen2(seed),
        args=tiny.arguments(
            folder,
            per_device_train_batch_size=32,
            max_steps=45,
            learning_rate=5e-4,
            seed=seed,
            logging_steps=1000,
        ),
        train_dataset=two_topics(150, 0.45, seed),
        processing_class=tiny.tokenizer(),
        beta=LearnedBeta(
            form="direct",
            initial_beta=1.0,
            learning={"kind": "heldout", "held_out_share": 0.3, "held_out_pairs": 32},
            learning_rate=2e-2,
        ),
    )
    trainer.train()
    fresh = tokenized(two_topics(30, 0.0, seed + 1000), tiny.tokenizer(), trainer.settings, trainer.rule).to_list()
    _, features = scores_without_gradient(trainer.model.policy, bundled(trainer.collate(fresh)), trainer.rule.needs)
    with torch.no_grad():
        log_beta = trainer.rule.explain(features).beta.log()
    noisy = torch.tensor([NOISY in record["prompt"].split() for record in fresh])
    return float((log_beta[noisy].mean() - log_beta[~noisy].mean()).exp())


def test_a_noisy_topic_ends_with_the_larger_beta(tmp_path: Path) -> None:
    assert noisy_over_clean(tmp_path, 0) > 1.5


@pytest.mark.slow
def test_a_noisy_topic_ends_with_a_several_times_larger_beta_over_seeds(tmp_path: Path) -> None:
    ratios = [noisy_over_clean(tmp_path / str(seed), seed) for seed in range(5)]
    assert min(ratios) > 1.0
    assert math.exp(sum(map(math.log, ratios)) / len(ratios)) > 2.0
