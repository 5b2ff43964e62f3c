"""A small model and pairs of the built-in world, made on the spot: the examples need no download."""

import json
from pathlib import Path

from betahead.worlds.grammar import GrammarWorld
from betahead.worlds.small_model import SmallModelSpec, fit_small_model

FOLDER = Path("small")


def model_and_pairs(tokens: int = 60_000, pairs: int = 160) -> tuple[Path, Path]:
    """A model fitted on the world's corpus, and a file of labelled pairs; both are made once and found again.

    Args:
        tokens: positions that the model is fitted on: seconds. It learns the world's words and little more.
        pairs: rows of the file. Some labels are flipped, more in some topics than in others.
    """
    world = GrammarWorld()
    model, data = FOLDER / "model", FOLDER / "pairs.jsonl"
    if not model.is_dir():
        print(f"fitting a small model on {tokens:,} tokens")
        spec = SmallModelSpec(hidden_size=64, layers=2, intermediate_size=192, vocab_size=1024, tokens=tokens)
        fit_small_model(world.corpus(2_000, seed=0), model, spec=spec, seed=0)
    if not data.is_file():
        rows = [pair.row for pair in world.pairs(pairs, seed=0, split="train")]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return model, data
