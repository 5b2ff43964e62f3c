"""What is measured on: model shapes, where the pairs come from, and how often each arm runs."""

from dataclasses import dataclass, replace
from typing import Literal

from bench.arms import (
    FIXED,
    FIXED_GROUPED,
    LEARNED_POLICY,
    LEARNED_REFERENCE,
    PLAIN,
    TRL_BEST,
    TRL_DEFAULT,
    Arm,
)


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A Qwen2: an MLP of five to six times the width and few key-value heads, as the real ones have."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    tied: bool = True

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden // self.heads


@dataclass(frozen=True, kw_only=True)
class PublicPairs:
    """Pairs of a public data set, in a file of the folder that `BETAHEAD_DATA` names."""

    file: str
    layout: str
    max_length: int = 1024


@dataclass(frozen=True, kw_only=True)
class MadePairs:
    """Random ids; each length is drawn evenly from its closed range."""

    prompt: tuple[int, int]
    chosen: tuple[int, int]
    rejected: tuple[int, int]
    pairs: int


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """One model on one set of pairs.

    Args:
        key: the letter that `--only` takes; geometries that share it are interleaved with one another.
        name: distinct among all geometries.
        title: for the table.
        pairs_per_step: pairs of one optimizer step, the same for all arms.
        rounds: how often the sequence of arms is run through.
        steps: counted steps of a run (an arm may walk over them several times).
        square: side of the square matrices that the matmul rate is also measured with.
        dtype: of the weights.
        adapter: train a LoRA instead of all weights.
        saved: the model is written once and loaded by each arm; otherwise each arm makes it from its seed.
    """

    key: str
    name: str
    title: str
    shape: ModelShape
    data: PublicPairs | MadePairs
    arms: tuple[Arm, ...]
    pairs_per_step: int = 8
    rounds: int = 3
    steps: int = 2
    square: int = 2048
    dtype: Literal["float32", "bfloat16"] = "float32"
    adapter: bool = False
    saved: bool = True


SMALL = ModelShape(layers=6, hidden=256, heads=4, kv_heads=2, intermediate=1408, vocab=32_000)
WIDE = ModelShape(layers=12, hidden=1024, heads=16, kv_heads=2, intermediate=5504, vocab=32_000)
TINY = ModelShape(layers=2, hidden=32, heads=2, kv_heads=1, intermediate=64, vocab=300)

_EVEN = MadePairs(prompt=(128, 128), chosen=(64, 64), rejected=(64, 64), pairs=256)
_PUBLIC_ARMS = (TRL_DEFAULT, TRL_BEST, PLAIN, FIXED, FIXED_GROUPED, LEARNED_POLICY, LEARNED_REFERENCE)


def _growth() -> tuple[Geometry, ...]:
    """Time as pairs grow, memory as the vocabulary grows."""
    start = Geometry(
        key="d",
        name="d-pairs-8",
        title="growth: 8 pairs a step",
        shape=SMALL,
        data=_EVEN,
        arms=(FIXED,),
        rounds=2,
        steps=1,
    )
    pairs = (replace(start, name=f"d-pairs-{n}", title=f"growth: {n} pairs a step", pairs_per_step=n) for n in (16, 32))
    vocabularies = (
        replace(start, name=f"d-vocab-{v}", title=f"growth: vocabulary {v:,}", shape=replace(SMALL, vocab=v))
        for v in (8_000, 32_000, 152_000)
    )
    return (start, *pairs, *vocabularies)


GEOMETRIES: tuple[Geometry, ...] = (
    Geometry(
        key="a",
        name="a-hh",
        title="HH transcripts, 6 × 256, vocabulary 32,000",
        shape=SMALL,
        data=PublicPairs(file="hh_harmless_transcripts.jsonl.gz", layout="hh"),
        arms=_PUBLIC_ARMS,
        rounds=2,
        steps=2,
    ),
    Geometry(
        key="b",
        name="b-alpaca",
        title="AlpacaEval pairs, 6 × 256, vocabulary 32,000",
        shape=SMALL,
        data=PublicPairs(file="alpaca_eval_pairs.jsonl.gz", layout="explicit"),
        arms=tuple(arm for arm in _PUBLIC_ARMS if arm is not PLAIN),
        rounds=1,
        steps=1,
    ),
    Geometry(
        key="c",
        name="c-512-64-64",
        title="synthetic 512/64/64 tokens, 6 × 256, vocabulary 32,000",
        shape=SMALL,
        data=MadePairs(prompt=(512, 512), chosen=(64, 64), rejected=(64, 64), pairs=64),
        arms=(PLAIN, FIXED, LEARNED_POLICY, LEARNED_REFERENCE),
        rounds=2,
        steps=1,
    ),
    *_growth(),
    Geometry(
        key="e",
        name="e-12x1024",
        title="synthetic 96/48/48 tokens, 12 × 1024, vocabulary 32,000",
        shape=WIDE,
        data=MadePairs(prompt=(96, 96), chosen=(48, 48), rejected=(48, 48), pairs=32),
        arms=(FIXED,),
        rounds=2,
        steps=1,
    ),
    Geometry(
        key="f",
        name="f-short-prompts",
        title="synthetic 8/160–224/160–224 tokens, 6 × 256, vocabulary 32,000",
        shape=SMALL,
        data=MadePairs(prompt=(8, 8), chosen=(160, 224), rejected=(160, 224), pairs=64),
        arms=(PLAIN, FIXED),
        rounds=2,
        steps=1,
    ),
)

QUICK = Geometry(
    key="quick",
    name="quick",
    title="tiny, for the test of the harness",
    shape=TINY,
    data=MadePairs(prompt=(6, 12), chosen=(3, 6), rejected=(3, 6), pairs=24),
    arms=(TRL_BEST, PLAIN, FIXED),
    pairs_per_step=2,
    rounds=1,
    steps=2,
    square=128,
)

# DeepSeek-R1-Distill-Qwen-1.5B.
_R1_DISTILL = ModelShape(layers=28, hidden=1536, heads=12, kv_heads=2, intermediate=8960, vocab=151_936, tied=False)
_GPU_FULL = Geometry(
    key="gpu",
    name="gpu-full",
    title="DeepSeek-R1-Distill-Qwen-1.5B, all weights",
    shape=_R1_DISTILL,
    data=MadePairs(prompt=(256, 768), chosen=(64, 256), rejected=(64, 256), pairs=256),
    arms=_PUBLIC_ARMS,
    rounds=2,
    steps=4,
    square=8192,
    dtype="bfloat16",
    saved=False,
)
GPU: tuple[Geometry, ...] = (
    _GPU_FULL,
    replace(_GPU_FULL, name="gpu-lora", title="DeepSeek-R1-Distill-Qwen-1.5B, LoRA", adapter=True, rounds=1),
)
GPU_TINY: tuple[Geometry, ...] = tuple(
    replace(
        geometry,
        name=f"{geometry.name}-tiny",
        title=f"tiny, {'LoRA' if geometry.adapter else 'all weights'}",
        shape=replace(TINY, tied=False),
        data=QUICK.data,
        arms=(TRL_BEST, PLAIN, FIXED, LEARNED_POLICY),
        pairs_per_step=2,
        rounds=1,
        steps=1,
        square=128,
    )
    for geometry in GPU
)


def named(name: str) -> Geometry:
    """The geometry of this name."""
    return next(geometry for geometry in (*GEOMETRIES, QUICK, *GPU, *GPU_TINY) if geometry.name == name)
