"""The policy's model card, README.md of its folder: what the run was, what came of it, and how to use and repeat it.

The card may be published with the policy, so it names no path of this machine, and what users wrote is shown as text:
none of it can become a heading, a link or a key of the metadata.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from betahead.data.paths import expanded
from betahead.runs.atomic import write_text
from betahead.runs.config import Config, load_config
from betahead.runs.folder import RunFolder
from betahead.runs.redaction import redacted
from betahead.runs.yaml_text import to_yaml

FILE = "README.md"
PLACE = "PATH_OR_NAME"
"""What stands for the policy's place in the card of a run that was not uploaded."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~$&:.@-])")
_Numbers = Mapping[str, Any]


def write_card(folder: RunFolder, summary: Mapping[str, Any] | None = None) -> None:
    """Write or renew the card in the policy's folder; a run without a summary did not finish and gets none.

    Args:
        folder: of the run.
        summary: the content of summary.json, where that is not yet written.
    """
    text = card_of(folder, summary)
    if text is not None:
        write_text(folder.policy / FILE, text)


def card_of(folder: RunFolder, summary: Mapping[str, Any] | None = None, *, place: str = PLACE) -> str | None:
    """The card's text, or None for a run without a summary.

    Args:
        folder: of the run.
        summary: as for `write_card`.
        place: the path or name under which readers load the policy.
    """
    found = summary if summary is not None else _json(folder.path / "summary.json")
    if found is None:
        return None
    config = load_config(folder.config)
    adapter = (folder.policy / "adapter_config.json").is_file()
    parts = [
        f"---\n{yaml.safe_dump(_metadata(config, adapter), sort_keys=False, allow_unicode=True)}---",
        _opening(config, found),
        _use(place, adapter),
        _training(config, found, _json(folder.path / "run.json") or {}),
        _results(found, _json(folder.path / "eval.json")),
        _limits(found),
        _repeating(config, _json(folder.path / "run.json") or {}),
    ]
    return redacted("\n\n".join(parts) + "\n")


def as_text(value: object) -> str:
    """Any value as one line of Markdown that shows it and does nothing else."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _hub_name(name: str | None) -> str | None:
    """The name where it is one of the Hub; a path of this machine is none."""
    bare = (name or "").partition(":")[0]
    return bare if _HUB_NAME.fullmatch(bare) and not Path(expanded(bare)).exists() else None


def _shown_source(source: str) -> str:
    """A data set or model by the name that others know it by: of a path the last part only."""
    return source if _hub_name(source) else Path(source).name


def _metadata(config: Config, adapter: bool) -> dict[str, Any]:
    """The card's head, as the Hub reads it; what is not known (language, licence) is left out."""
    start = _hub_name(config.model.name)
    data = [name for name in (_hub_name(config.data.train), _hub_name(config.data.eval)) if name is not None]
    found: dict[str, Any] = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["betahead", "dpo", "preference-optimization", "alignment", f"beta-{config.beta.rule().kind}"],
    }
    if start is not None:
        found |= {"base_model": start, "base_model_relation": "adapter" if adapter else "finetune"}
    if data:
        found["datasets"] = list(dict.fromkeys(data))
    return found


def _opening(config: Config, summary: _Numbers) -> str:
    name = as_text(Path(config.output).name)
    start = config.model.name
    base = "a small model that was fitted for the run" if start is None else f"**{as_text(_shown_source(start))}**"
    count = summary["pairs"]["train"]
    return (
        f"# {name}\n\nA language model, {base}, fine-tuned on {count:,} preference pairs of "
        f"**{as_text(_shown_source(config.data.train))}** with BetaHead: direct preference optimization with the β "
        f"rule `{config.beta.rule().kind}`."
    )


def _use(place: str, adapter: bool) -> str:
    vllm = "vllm serve BASE_MODEL --enable-lora --lora-modules policy=" if adapter else "vllm serve "
    evaluate = f"pretrained=BASE_MODEL,peft={place}" if adapter else f"pretrained={place}"
    return f"""## Use

The policy is an ordinary model of `transformers`; nothing of BetaHead is needed to run it.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{place}")
model = AutoModelForCausalLM.from_pretrained("{place}")
```

```sh
{vllm}{place}
lm_eval --model hf --model_args {evaluate} --tasks hellaswag
```"""


def _training(config: Config, summary: _Numbers, record: _Numbers) -> str:
    start, end = (summary[name] for name in ("beta_start", "beta_end"))
    parameters = summary["parameters"]
    rows = [
        ("β rule", f"`{config.beta.rule().kind}`"),
        ("loss", f"`{' + '.join(config.loss.objective.kinds)}`"),
        ("β of held-out pairs before", _spread(start)),
        ("β of held-out pairs after", _spread(end)),
        ("pairs trained on", f"{summary['pairs']['train']:,}"),
        ("pairs held out", f"{summary['pairs']['held_out']:,}"),
        (
            "parameters",
            f"{parameters['total']:,}, of which {parameters['trained']:,} trained; the β rule has "
            f"{parameters['beta_head']:,} of its own, which the policy does not need",
        ),
        ("seed", f"{config.seed}"),
        ("time", f"{summary['seconds'] / 60:.1f} minutes"),
    ]
    for role, data in summary["data"].items():
        dropped = data["rows"] - data["kept"]
        rows.append((f"rows of {role}", f"{data['rows']:,}, {dropped:,} of them left out"))
    for role, data in record.get("data", {}).items():
        print_of = data.get("sha256") or data.get("fingerprint")
        rows.append((f"fingerprint of {role}", f"`{as_text(print_of)}`"))
    return "## Training\n\n" + _table(("", ""), rows)


def _spread(beta: _Numbers) -> str:
    return f"median {beta['median']:.3g}, from {beta['min']:.3g} to {beta['max']:.3g}"


def _results(summary: _Numbers, evaluation: _Numbers | None) -> str:
    if evaluation is None:
        accuracy = summary["held_out"]["rewards/accuracies"]
        return (
            "## Results\n\n"
            f"On the held-out pairs the policy prefers the chosen answer in {accuracy:.3f} of cases. Intervals, "
            "calibration and the KL to the reference come with `betahead eval RUN --save`, which renews this card."
        )
    pairs = evaluation["pairs"]
    rows = [
        ("implicit-reward accuracy", _interval(pairs["accuracy"])),
        ("accuracy of choosing the longer answer", _interval(pairs["longer_wins"])),
        ("difference of the two", _interval(pairs["gain"], "+.3f")),
        ("NLL (a coin: 0.693)", _interval(pairs["nll"])),
        ("Brier (a coin: 0.25)", _interval(pairs["brier"])),
        ("ECE, 15 bins", _interval(pairs["ece"])),
        ("slope (calibrated: 1)", _interval(pairs["slope"], ".3g")),
        (f"margin, {as_text(pairs['margin_unit'])}", _interval(pairs["margin"], "+.3f")),
    ]
    kl, answers, wins = (evaluation[name] for name in ("kl", "answers", "win_rate"))
    if kl is not None:
        error = kl["standard_error"]
        spread = "" if error is None else f" ± {error:.2g} (standard error)"
        rows.append(("KL to the reference, nats an answer", f"{kl['nats']:.4g}{spread}"))
    if answers is not None:
        rows.append(("tokens of an answer, policy", _interval(answers["policy_tokens"], ".1f")))
        rows.append(("tokens of an answer, reference", _interval(answers["reference_tokens"], ".1f")))
    if wins is not None:
        rows.append((f"win rate over the reference, judged by {as_text(wins['judge'])}", _interval(wins["win_rate"])))
        if wins["length_controlled"] is not None:
            rows.append(("the same, had answers been equally long", _interval(wins["length_controlled"])))
    source = evaluation["data"].removeprefix("held out of ")
    shown = f"{'held out of ' if source != evaluation['data'] else ''}{as_text(_shown_source(source))}"
    return (
        f"## Results\n\n{pairs['pairs']:,} pairs of {pairs['prompts']:,} prompts, {shown}; 95 % intervals "
        f"from resampling prompts.\n\n{_table(('measure', 'value'), rows)}"
    )


def _interval(estimate: _Numbers, form: str = ".3f") -> str:
    # Numbers that JSON does not have stand in eval.json as text.
    value, low, high = (
        None if estimate[name] is None else float(estimate[name]) for name in ("estimate", "low", "high")
    )
    if value is None or low is None or high is None:
        return "—" if value is None else f"{value:{form}}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _limits(summary: _Numbers) -> str:
    shared = summary["held_out_prompts_trained_on"]
    leak = (
        f"- {shared:,} prompts of the held-out pairs were trained on too; what is measured on them says nothing about "
        "new ones.\n"
        if shared
        else ""
    )
    return f"""## Limits

- The policy learned which of two answers was preferred in one data set. That is no measure of truth, safety or skill.
- Implicit-reward accuracy is about pairs of that data set, not about the answers that the policy writes.
- β is a quantity of training. It is not a confidence, and the policy does not use it when it answers.
{leak}- What the base model and the data set do not permit, this model does not permit either: see their licences."""


def _repeating(config: Config, record: _Numbers) -> str:
    sections = config.model_dump(mode="json", exclude_none=True, include={"beta", "loss", "train", "seed"})
    sections["train"] = {key: value for key, value in sections["train"].items() if not _is_path(value)}
    software = record.get("software", {})
    versions = {"python": software.get("python"), **software.get("packages", {})}
    listed = ", ".join(f"{as_text(name)} {as_text(version)}" for name, version in versions.items() if version)
    return f"""## Repeat

With the run's `config.yaml`: `betahead train config.yaml output=OTHER`. Its sections that decide what was learned:

```yaml
{_fenced(to_yaml(sections))}
```

Versions: {listed}."""


def _is_path(value: object) -> bool:
    return isinstance(value, str) and ("/" in value or "\\" in value)


def _fenced(text: str) -> str:
    """The text without anything that could end the block of code it stands in."""
    return text.replace("```", "'''").strip()


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
