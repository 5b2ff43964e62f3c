"""Where labels are noise, held-out learning ends with a larger β than where they are not."""

import random
from pathlib import Path
from typing import Any

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


def two_topics(prompts: int, each: int, noise: float, seed: int) -> Dataset:
    """Prompts that end in the word of their topic; of the two answers of a topic the first is the better one."""
    rng = random.Random(seed)
    rows: list[dict[str, str]] = []
    for topic, (good, bad) in ANSWERS.items():
        for _ in range(prompts):
            prompt = " ".join([*rng.choices(tiny.WORDS[10:], k=3), topic])
            for _ in range(each):
                flipped = topic == NOISY and rng.random() < noise
                chosen, rejected = (bad, good) if flipped else (good, bad)
                rows.append({"prompt": prompt, "chosen": f" {chosen}", "rejected": f" {rejected}"})
    return Dataset.from_list(rows)


def beta_of_topics(folder: Path, steps: int, seed: int, **learning: Any) -> dict[str, float]:
    """Geometric mean of β by topic after training."""
    trainer = DPOTrainer(
        tiny.qwen2(seed),
        args=tiny.arguments(
            folder,
            per_device_train_batch_size=16,
            max_steps=steps,
            learning_rate=2e-3,
            seed=seed,
            logging_steps=1000,
        ),
        train_dataset=two_topics(40, 2, 0.45, seed),
        processing_class=tiny.tokenizer(),
        beta=LearnedBeta(
            form="direct",
            initial_beta=0.3,
            learning={"kind": "heldout", "held_out_share": 0.25, "held_out_pairs": 16, **learning},
            learning_rate=2e-2,
        ),
    )
    trainer.train()
    found: dict[str, list[float]] = {NOISY: [], CLEAN: []}
    fresh = two_topics(20, 1, 0.0, seed + 1000)
    records = tokenized(fresh, tiny.tokenizer(), trainer.settings, trainer.rule).to_list()
    batch = bundled(trainer.collate(records))
    trainer.model.eval()
    _, features = scores_without_gradient(trainer.model.policy, batch, trainer.rule.needs)
    with torch.no_grad():
        beta = trainer.rule.explain(features).beta
    for row, value in zip(fresh, beta.tolist(), strict=True):
        found[row["prompt"].split()[-1]].append(value)
    return {topic: float(torch.tensor(values).log().mean().exp()) for topic, values in found.items()}


def test_noisy_topics_end_with_the_larger_beta(tmp_path: Path) -> None:
    found = beta_of_topics(tmp_path, 100, 0)
    assert found[NOISY] > 1.2 * found[CLEAN]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noisy_topics_end_with_a_several_times_larger_beta(seed: int, tmp_path: Path) -> None:
    found = beta_of_topics(tmp_path, 300, seed)
    assert found[NOISY] > 2.0 * found[CLEAN]
