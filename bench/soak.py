"""A run killed at random moments and resumed, against the same run left alone: `python -m bench.soak`.

The run is `betahead train … --resume` in a process of its own, which is sent SIGKILL. Its moments are drawn from the
seed: a row that the log must have reached and a delay after it, or, for every second kill, the next time that a
checkpoint is being written and a delay into that. In the end weights, head, optimizer, log, snapshots and samples of
both runs must be the same to the last bit.
"""

import argparse
import datetime
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench.machine import command, machine, versions

RESULTS = Path(__file__).parent / "results"

# A budget and its samples, a network, an adapter's dropout, and orders by length: much for a checkpoint to forget.
CONFIG = """
model:
  name: {model}
  dtype: float32
  adapter: {{kind: lora, rank: 4, dropout: 0.1}}
data: {{train: {data}, holdout: 0.1, max_length: 96}}
beta:
  kind: learned
  net: mlp
  learning_rate: 0.01
  learning: {{kind: budget, target_kl: 2.0, kl_every: 25, kl_prompts: 4, kl_tokens: 8}}
train:
  max_steps: {steps}
  per_device_train_batch_size: 4
  gradient_accumulation_steps: 2
  max_batch_tokens: 160
  train_sampling_strategy: group_by_length
  learning_rate: 1.0e-3
  lr_scheduler_type: cosine
  logging_steps: 3
  save_steps: {save_steps}
  save_total_limit: 3
  use_cpu: true
evaluate: {{prompts: 16, samples: 2, max_new_tokens: 8}}
seed: {seed}
output: {output}
"""
_CLOCK = ("runtime", "samples_per_second", "steps_per_second")


def pair_rows() -> list[dict[str, str]]:
    """Pairs of ragged lengths over 128 prompts."""
    things = ["rain", "bread", "a lamp", "the sea", "silence", "an old horse", "copper wire", "tax law"]
    questions = ["What is {}?", "Tell me of {}.", "Where does one find {}?", "Why would anybody want {}?"]
    rows: list[dict[str, str]] = []
    for turn in range(4):
        for number, thing in enumerate(things):
            for other, question in enumerate(questions):
                good = f"It is {thing}, of course." + " Look it up in a good book." * ((number + turn) % 3)
                bad = f"Nobody can say that at all, {turn}." + " Not even once." * ((other + turn) % 3)
                rows.append({"prompt": f"{question.format(thing)} {turn}", "chosen": good, "rejected": bad})
    return rows


def prepare(folder: Path) -> tuple[Path, Path]:
    """A small random model with a tokenizer, and the pairs."""
    # The processes of the runs are what this is about; only here are models made in this one.
    from bench.small_policy import POSITIONS, write_policy
    from betahead.worlds.small_tokenizer import trained_tokenizer

    rows, data = pair_rows(), folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    texts = [text for row in rows for text in row.values()]
    tokenizer = trained_tokenizer(texts, vocab_size=320, max_length=POSITIONS)
    return write_policy(folder / "model", tokenizer, layers=2, heads=4), data


class Run:
    """A run folder, and the command that begins or resumes it."""

    def __init__(self, config: Path, output: Path) -> None:
        self.config, self.output = config, output

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        """A process that works on it."""
        words = ["-m", "betahead", "train", str(self.config), f"output={self.output}", "--resume"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with log.open("ab") as file:
            apart = {"env": environment, "start_new_session": True}
            return subprocess.Popen([sys.executable, *words], stdout=file, stderr=file, **apart)

    @property
    def begun(self) -> int:
        """How often a process has begun to work on it."""
        record = self.output / "run.json"
        if not record.is_file():
            return 0
        return 1 + len(json.loads(record.read_text(encoding="utf-8")).get("resumptions", []))

    @property
    def logged(self) -> int:
        """Rows in its log."""
        metrics = self.output / "metrics.jsonl"
        return metrics.read_bytes().count(b"\n") if metrics.is_file() else 0

    @property
    def writing(self) -> bool:
        """A checkpoint is being written."""
        room = self.output / "checkpoints" / "_unfinished"
        return any(room.glob("checkpoint-*")) if room.is_dir() else False

    @property
    def saved(self) -> int:
        """The step of its last checkpoint."""
        steps = [int(path.name.rpartition("-")[2]) for path in (self.output / "checkpoints").glob("checkpoint-*")]
        return max(steps, default=0)


def kill(run: Run, log: Path, *, row: int, at_write: bool, delay: float) -> dict[str, Any] | None:
    """Work on the run until its log has so many rows, and kill it; what it was doing, or None when it ended first."""
    before, process = run.begun, run.start(log)
    while process.poll() is None:
        if run.begun > before and run.logged >= row and (run.writing or not at_write):
            break
        time.sleep(0.0005)
    time.sleep(delay)
    if process.poll() is not None:
        return None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return {"log_rows": run.logged, "checkpoint": run.saved, "writing": run.writing}


def content(output: Path) -> Iterator[tuple[str, Any]]:
    """What a finished run came to, by name, without what the clock decides."""
    for name in ("metrics.jsonl", "samples.jsonl"):
        rows = [json.loads(line) for line in (output / name).read_text(encoding="utf-8").splitlines()]
        yield name, [{key: value for key, value in row.items() if not key.endswith(_CLOCK)} for row in rows]
    yield "prompts.parquet", pq.read_table(output / "prompts.parquet").to_pylist()
    last = max((output / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for folder in (output / "policy", last):
        for path in sorted(folder.glob("*.safetensors")):
            if path.name != "course.safetensors":  # which holds the seconds that estimates took
                yield f"{folder.name}/{path.name}", path.read_bytes()
    yield "beta_head.safetensors", (output / "beta_head.safetensors").read_bytes()


def soak(folder: Path, *, steps: int, kills: int, save_steps: int, seed: int, say: Any = print) -> dict[str, Any]:
    """Run both, and compare them.

    Args:
        folder: for everything.
        steps: of the run.
        kills: how often it is killed.
        save_steps: between checkpoints.
        seed: of the run and of the moments.
        say: shown a line for every kill.
    """
    model, data = prepare(folder)
    config = folder / "soak.yaml"
    values = {"model": model, "data": data, "steps": steps, "save_steps": save_steps, "seed": seed}
    config.write_text(CONFIG.format(**values, output=folder / "run"), encoding="utf-8")
    alone, killed, log = Run(config, folder / "alone"), Run(config, folder / "killed"), folder / "log.txt"
    began = time.monotonic()
    _ended(alone.start(log), log)
    seconds = time.monotonic() - began
    rng = random.Random(seed)
    rows = sorted(rng.sample(range(1, steps // 3), kills))
    done: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        at_write, delay = number % 2 == 1, rng.uniform(0.0, 0.01 if number % 2 else 0.3)
        found = kill(killed, log, row=row, at_write=at_write, delay=delay)
        if found is not None:
            done.append(found)
            say(f"killed {len(done):>3}/{kills} at row {found['log_rows']} {'(writing)' if found['writing'] else ''}")
    _ended(killed.start(log), log)
    one, other = dict(content(alone.output)), dict(content(killed.output))
    different = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    resumptions = json.loads((killed.output / "run.json").read_text(encoding="utf-8"))["resumptions"]
    return {
        "steps": steps,
        "kills": len(done),
        "kills_while_a_checkpoint_was_written": sum(one["writing"] for one in done),
        "half_written_checkpoints_removed": sum(len(one["half_written_checkpoints"]) for one in resumptions),
        "resumed_after_steps": [one["after_step"] for one in resumptions],
        "compared": len(one),
        "different": different,
        "equal": not different,
        "seconds_alone": round(seconds, 1),
        "seconds_in_all": round(time.monotonic() - began, 1),
    }


def _ended(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.wait() != 0:
        raise RuntimeError(f"the run ended with exit code {process.returncode}: {log.read_text()[-2000:]}")


def report(result: Mapping[str, Any]) -> str:
    """The result in a few lines."""
    outcome = "equal to the last bit" if result["equal"] else f"DIFFERENT in {', '.join(result['different'])}"
    writing = result["kills_while_a_checkpoint_was_written"]
    return (
        f"{result['steps']:,} steps, {result['kills']} kills, of which {writing} while a checkpoint was being written\n"
        f"{result['compared']} files and tables compared: {outcome}\n"
        f"{result['seconds_alone']} s without kills, {result['seconds_in_all']} s in all"
    )


def main(words: list[str]) -> int:
    """Soak, write the result, print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="A run killed and resumed many times.")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--save-steps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results file")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as scratch:
        result = soak(
            Path(scratch),
            steps=options.steps,
            kills=options.kills,
            save_steps=options.save_steps,
            seed=options.seed,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    about = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": command("bench.soak", words),
        "versions": versions(),
        "machine": machine(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "soak.json").write_text(json.dumps({**about, **result}, indent=2) + "\n", encoding="utf-8")
    print(report(result))
    return 0 if result["equal"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
