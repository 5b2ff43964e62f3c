"""The matmul rate of the machine, at the model's own shapes and at a square one: `python -m bench.rates REQUEST`."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bench.geometries import ModelShape, named


def rate(
    rows: int,
    inner: int,
    columns: int,
    *,
    seconds: float,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> float:
    """Operations per second of [rows, inner] @ [inner, columns], the fastest of as many products as fit the time."""
    left = torch.randn(rows, inner, device=device, dtype=dtype)
    right = torch.randn(inner, columns, device=device, dtype=dtype)
    repeats = 1
    best, spent = float("inf"), 0.0
    left @ right
    while spent < seconds:
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        took = time.perf_counter() - start
        spent += took
        best = min(best, took / repeats)
        if took < seconds / 20:
            repeats *= 2
    return 2 * rows * inner * columns / best


def products(shape: ModelShape, tokens: int, scored: int) -> list[tuple[int, int, int, int]]:
    """(rows, inner, columns, how often) of the forward pass's matrix products."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return [
        (tokens, shape.hidden, queries, 2 * shape.layers),
        (tokens, shape.hidden, keys, 2 * shape.layers),
        (tokens, shape.hidden, shape.intermediate, 2 * shape.layers),
        (tokens, shape.intermediate, shape.hidden, shape.layers),
        (scored, shape.hidden, shape.vocab, 1),
    ]


def rate_at_shapes(
    shape: ModelShape,
    tokens: int,
    scored: int,
    *,
    seconds: float,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> float:
    """Operations per second over all products of a forward pass, each at its own rate."""
    work = products(shape, tokens, scored)
    operations = [2 * rows * inner * columns * times for rows, inner, columns, times in work]
    needed = sum(
        done / rate(rows, inner, columns, seconds=seconds / len(work), device=device, dtype=dtype)
        for done, (rows, inner, columns, _) in zip(operations, work, strict=True)
    )
    return sum(operations) / needed


def main(request: dict[str, Any]) -> None:
    """Measure and write the rates of one geometry."""
    torch.set_num_threads(request["threads"])
    geometry = named(request["geometry"])
    seconds, side, device = request["seconds"], geometry.square, request["device"]
    kind = {"device": device, "dtype": getattr(torch, geometry.dtype)}
    found = {
        "geometry": geometry.name,
        "round": request["round"],
        "threads": torch.get_num_threads(),
        "model_shapes": rate_at_shapes(geometry.shape, request["tokens"], request["scored"], seconds=seconds, **kind),
        "square": rate(side, side, side, seconds=seconds / 2, **kind),
        "side": side,
    }
    Path(request["result"]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
