"""Make a geometry's pairs and model once, in a folder that every arm reads: `python -m bench.prepare REQUEST`."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from bench.batches import Row, chosen_batches, distinct_tokens
from bench.carrier import EOS_ID, PAD_ID
from bench.geometries import Geometry, MadePairs, ModelShape, PublicPairs, named

SEED = 0


def public_rows(data: PublicPairs, folder: Path, vocab: int) -> list[Row]:
    """The ids of a public data set's pairs, by a tokenizer trained on its own texts; pairs that would be cut are left.

    The tokenizer has at most `vocab` tokens (fewer where the texts give fewer); the model has `vocab` in any case.
    """
    from betahead.data.prepare import prepare_pairs
    from betahead.data.sources import source_rows
    from betahead.worlds.small_tokenizer import trained_tokenizer

    path = str(folder / data.file)
    names = ("prompt", "chosen", "rejected")
    texts = (str(row.values[name]) for row in source_rows(path, "train") for name in names if name in row.values)
    tokenizer = trained_tokenizer(texts, vocab_size=vocab, max_length=data.max_length)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (PAD_ID, EOS_ID)
    pairs = prepare_pairs(path, tokenizer, layout=data.layout, max_length=data.max_length, max_dropped=0.5).dataset
    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = [{name: row[name] for name in columns} for row in pairs]
    return [row for row in rows if row["chosen_ids"][-1] == row["rejected_ids"][-1] == EOS_ID]


def made_rows(data: MadePairs, vocab: int) -> list[Row]:
    """Random ids of the asked lengths; an answer ends with the end token and holds it nowhere else."""
    rng = random.Random(SEED)

    def ids(between: tuple[int, int], end: tuple[int, ...] = ()) -> list[int]:
        length = rng.randint(*between) - len(end)
        return [rng.randrange(EOS_ID + 1, vocab) for _ in range(length)] + list(end)

    return [
        {
            "prompt_ids": ids(data.prompt),
            "chosen_ids": ids(data.chosen, (EOS_ID,)),
            "rejected_ids": ids(data.rejected, (EOS_ID,)),
        }
        for _ in range(data.pairs)
    ]


def fresh_model(shape: ModelShape) -> Qwen2ForCausalLM:
    """A Qwen2 of this shape with seeded random weights, of the default dtype and on the default device."""
    settings: dict[str, Any] = {
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": shape.tied,
        "attention_dropout": 0.0,
        "pad_token_id": PAD_ID,
        "bos_token_id": None,
        "eos_token_id": EOS_ID,
    }
    torch.manual_seed(SEED)
    return Qwen2ForCausalLM(Qwen2Config(**settings))


def prepare(geometry: Geometry, steps: int, data_folder: Path | None, folder: Path) -> None:
    """Write `rows.json` (batches by order, the whole set's size) and `model/`."""
    if isinstance(geometry.data, PublicPairs):
        assert data_folder is not None
        rows = public_rows(geometry.data, data_folder, geometry.shape.vocab)
    else:
        rows = made_rows(geometry.data, geometry.shape.vocab)
    orders = sorted({arm.order for arm in geometry.arms})
    batches = {order: chosen_batches(rows, geometry.pairs_per_step, steps, order) for order in orders}
    whole = {"pairs": len(rows), "tokens": sum(map(distinct_tokens, rows))}
    folder.mkdir(parents=True)
    (folder / "rows.json").write_text(json.dumps({"whole": whole, "batches": batches}))
    if geometry.saved:
        fresh_model(geometry.shape).save_pretrained(folder / "model")


def main(request: dict[str, Any]) -> None:
    """Prepare the geometry that the request names."""
    data = None if request["data"] is None else Path(request["data"])
    prepare(named(request["geometry"]), request["steps"], data, Path(request["folder"]))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
