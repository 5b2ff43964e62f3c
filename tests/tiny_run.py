"""Finished runs made on the spot: a tiny Qwen2 with a tokenizer of its own, trained for a few steps."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.small_policy import POSITIONS, write_policy
from betahead.runs.config import load_config
from betahead.runs.folder import RunFolder
from betahead.runs.training import train_run
from betahead.worlds.small_tokenizer import trained_tokenizer

_QUESTIONS = ["What is {}?", "Tell me of {}.", "Where does one find {}?", "Why would anybody want {}?"]
_THINGS = ["rain", "bread", "a lamp", "the sea", "silence", "an old horse", "copper wire", "tax law"]


def pair_rows() -> list[dict[str, str]]:
    """Two pairs for each of 32 prompts, in two domains; the longer answer wins in about half of them."""
    rows: list[dict[str, str]] = []
    for number, thing in enumerate(_THINGS):
        for other, question in enumerate(_QUESTIONS):
            prompt = question.format(thing)
            for turn in range(2):
                good, bad = f"It is {thing}, of course.", f"Nobody can say that at all, {turn}."
                if (number + other + turn) % 2:
                    good += " Look it up in a good book."
                rows.append(
                    {"prompt": prompt, "chosen": good, "rejected": bad, "domain": "even" if number % 2 else "odd"}
                )
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSONL file of these rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_model(folder: Path) -> Path:
    """A Qwen2 of one layer with a ChatML tokenizer, as a Hugging Face folder."""
    texts = [text for row in pair_rows() for text in (row["prompt"], row["chosen"], row["rejected"])]
    return write_policy(folder, trained_tokenizer(texts, vocab_size=320, max_length=POSITIONS))


def finished_run(folder: Path, *changes: str, rows: list[dict[str, Any]] | None = None) -> RunFolder:
    """A run of six steps in `folder/run`, with `section.key=value` changes; its data lie in `folder/pairs.jsonl`."""
    data = write_rows(folder / "pairs.jsonl", pair_rows() if rows is None else rows)
    model = write_model(folder / "model")
    text = f"""
        model: {{name: {model}, dtype: float32}}
        data: {{train: {data}, holdout: 0.4, max_length: 96}}
        beta: {{kind: learned, learning_rate: 0.05}}
        train: {{max_steps: 6, per_device_train_batch_size: 4, learning_rate: 5.0e-3, use_cpu: true, logging_steps: 3}}
        evaluate: {{prompts: 64, samples: 1, max_new_tokens: 4}}
        output: {folder / "run"}
        """
    return train_run(load_config(text, changes), Console(quiet=True), command=["betahead", "train"]).folder
