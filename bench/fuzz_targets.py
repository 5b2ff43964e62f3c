"""What reads the generated inputs, and what each reading must come to: a result, or an error that is a sentence."""

import json
from collections.abc import Callable
from functools import cache, cached_property, partial
from pathlib import Path
from shutil import rmtree
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from bench.fuzz_configs import PLANS, any_text, changed, overrides, plans, presets, scribbled
from bench.fuzz_doors import Target, check_sentence
from bench.fuzz_files import CONTAINERS, any_bytes, content, damaged, saved
from bench.fuzz_rows import LAYOUTS, TEXT, rows, sound_rows
from bench.fuzz_runs import RunFolders
from bench.small_policy import write_policy
from betahead.compare.cells import world_of
from betahead.compare.resolved import load_resolved
from betahead.data.describe import describe
from betahead.data.prepare import prepare_pairs
from betahead.data.texts import paragraphs
from betahead.errors import BetaHeadError
from betahead.runs.build import arguments_of, rule_of
from betahead.runs.config import dump_config, load_config
from betahead.runs.overrides import apply_overrides
from betahead.runs.presets import preset_path
from betahead.runs.training import train_run
from betahead.runs.yaml_text import Document, read_yaml
from betahead.worlds.small_tokenizer import trained_tokenizer

MAX_LENGTH = 48


class Doors:
    """The targets, with a folder to write their inputs to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pairs = folder / "pairs"
        self.pairs.mkdir()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A byte-level tokenizer with a chat template: any text has an encoding."""
        return trained_tokenizer(["a b c user assistant"], vocab_size=262, max_length=MAX_LENGTH)

    @cached_property
    def model(self) -> Path:
        """A folder with a Qwen2 of one layer."""
        return write_policy(self.folder / "model", self.tokenizer)

    def targets(self) -> list[Target]:
        """All of them."""
        found = [self._rows(layout, container) for layout in LAYOUTS for container in CONTAINERS]
        found += [self._damaged(container) for container in CONTAINERS]
        for layout in LAYOUTS:
            found.append(Target(name=f"rows/{layout}/saved", inputs=rows(layout), read=self._read_saved, share=1))
            found.append(Target(name=f"rows/{layout}/list", inputs=rows(layout), read=self._read_list, share=2))
        lines = st.lists(TEXT).map(lambda texts: "\n".join(texts).encode("utf-8", errors="surrogatepass"))
        found.append(
            Target(name="texts", inputs=st.one_of(lines, lines.flatmap(damaged)), read=self._read_texts, share=4)
        )
        found += _configs("config", presets(), self._read_config, share=8)
        found += _configs("plan", plans(), _read_plan, share=8)
        found.append(Target(name="config/text", inputs=any_text(), read=self._read_config, share=6))
        found.append(Target(name="overrides", inputs=overrides(), read=_read_overrides, share=10))
        found.append(
            Target(
                name="train", inputs=st.sampled_from(LAYOUTS).flatmap(rows).map(_many), read=self._read_train, share=2
            )
        )
        return [*found, *RunFolders(self.folder / "runs", lambda: self.model).targets()]

    def _rows(self, layout: str, container: str) -> Target:
        def read(given: list[dict[str, Any]]) -> None:
            found = content(given, container)
            if found is None:
                reject()
            self._read_file(container, found)

        return Target(name=f"rows/{layout}/{container}", inputs=rows(layout), read=read, share=2)

    def _damaged(self, container: str) -> Target:
        given = st.one_of(sound_rows(), st.sampled_from(LAYOUTS).flatmap(rows))
        whole = given.map(lambda found: content(found, container) or b"")
        inputs = st.one_of(whole.flatmap(damaged), whole.flatmap(damaged), any_bytes(container))
        return Target(name=f"bytes/{container}", inputs=inputs, read=partial(self._read_file, container), share=6)

    def _read_file(self, container: str, found: bytes) -> None:
        path = self.pairs / f"pairs.{container}"
        path.write_bytes(found)
        try:
            self._read(str(path))
            assert [one.name for one in self.pairs.iterdir()] == [path.name], "a reader left something beside the file"
        finally:
            rmtree(self.pairs)
            self.pairs.mkdir()

    def _read_saved(self, given: list[dict[str, Any]]) -> None:
        folder = self.folder / "saved"
        rmtree(folder, ignore_errors=True)
        if not saved(given, folder):
            reject()
        self._read(str(folder))

    def _read_list(self, given: list[dict[str, Any]]) -> None:
        self._read(given)

    def _read(self, source: Any) -> None:
        """Both roads: what `betahead data` counts, and what training is given."""
        refused: list[BetaHeadError] = []
        try:
            described = describe(source)
            json.dumps(described.to_dict(), ensure_ascii=False).encode()
        except BetaHeadError as error:
            refused.append(error)
        try:
            prepared = prepare_pairs(source, self.tokenizer, max_length=MAX_LENGTH, max_dropped=1.0)
            for record in prepared.dataset:
                _check_record(dict(record), len(self.tokenizer))
        except BetaHeadError as error:
            refused.append(error)
        for error in refused:
            check_sentence(error)
        if len(refused) == 2:
            raise refused[0]

    def _read_texts(self, found: bytes) -> None:
        path = self.folder / "texts.txt"
        path.write_bytes(found)
        for paragraph in paragraphs(path):
            assert paragraph.strip() and paragraph.encode()

    def _read_config(self, text: str) -> None:
        config = load_config(text)
        assert load_config(dump_config(config)) == config
        rule_of(config)
        arguments_of(config, self.folder / "never")
        assert not (self.folder / "never").exists()

    def _read_train(self, given: list[dict[str, Any]]) -> None:
        data, output = self.folder / "train.jsonl", self.folder / "run"
        rmtree(output, ignore_errors=True)
        found = content(given, "jsonl")
        data.write_bytes(found or b"")
        config = load_config(
            f"""
            model: {{name: {self.model}}}
            data: {{train: {data}, max_length: {MAX_LENGTH}, holdout: 0.5, max_dropped: 1.0}}
            beta: {{kind: learned}}
            reference: {{cache: live}}
            train: {{max_steps: 1, per_device_train_batch_size: 2, use_cpu: true}}
            evaluate: {{samples: 0}}
            output: {output}
            """
        )
        try:
            train_run(config, Console(quiet=True), command=["betahead", "train"])
        except BetaHeadError:
            assert not output.exists(), "a run that was refused left a folder"
            raise


def _many(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows and four whole pairs, so that something is left to train on."""
    return [*given, *({"prompt": f"{number}?", "chosen": "a b", "rejected": "c"} for number in range(4))]


def _configs(name: str, trees: dict[str, dict[str, Any]], read: Callable[[str], None], *, share: int) -> list[Target]:
    values = st.sampled_from(sorted(trees)).flatmap(lambda key: changed(trees[key]))
    texts = st.sampled_from(sorted(trees)).flatmap(lambda key: scribbled(_text(name, key)))
    return [
        Target(name=f"{name}/values", inputs=values, read=read, share=2 * share),
        Target(name=f"{name}/lines", inputs=texts, read=read, share=share),
    ]


def _text(name: str, key: str) -> str:
    path = preset_path(key) if name == "config" else PLANS / f"{key}.yaml"
    # Without a GPU nothing that asks for half precision is valid.
    return path.read_text(encoding="utf-8").replace("bf16: true", "bf16: false")


# The same few worlds are asked for again and again, and making one takes longer than reading a plan.
_WORLD_OF = cache(world_of)


def _read_plan(text: str) -> None:
    resolved = load_resolved(text, _WORLD_OF)
    assert len(resolved.hash) == 64


def _read_overrides(words: list[str]) -> None:
    document: Document = apply_overrides(read_yaml(preset_path("learned_beta")), words)
    load_config(json.dumps(document.values))


def _check_record(record: dict[str, Any], vocabulary: int) -> None:
    prompt, chosen, rejected = (record[f"{name}_ids"] for name in ("prompt", "chosen", "rejected"))
    assert prompt and chosen and rejected and chosen != rejected
    assert len(prompt) + max(len(chosen), len(rejected)) <= MAX_LENGTH
    assert all(0 <= one < vocabulary for one in (*prompt, *chosen, *rejected))
    assert len(record["ppl_mask"]) == len(prompt) and not record["ppl_mask"][0]
