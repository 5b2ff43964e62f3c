"""The configuration tree: what it accepts, what it says of a mistake, and that it reads back what it writes."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from betahead.beta.table import METHODS
from betahead.errors import ConfigError
from betahead.runs.config import Config, dump_config, load_config

KINDS = ", ".join(rule.kind for rule in METHODS)

BASE = """\
model: {name: some/model}
data:
  train: $BETAHEAD_DATA/pairs.jsonl.gz
beta: {kind: fixed}
output: runs/one
"""

FIT = "model: {fit: {kind: small, corpus: c.jsonl, response_field: text}}\n" + BASE.split("\n", 1)[1]

MISTAKES = {
    "beta.bta=3": "command line: `beta.bta` is not a key of `beta`; did you mean `beta`?",
    "beta.zzz=3": "command line: `beta.zzz` is not a key of `beta`; the keys there are kind, beta.",
    "modle.name=x": "command line: `modle` is not a section of the configuration; did you mean `model`?",
    "model.adapter.kind=lora model.adapter.rnk=4": (
        "command line: `model.adapter.rnk` is not a key of `model.adapter`; did you mean `rank`?"
    ),
    "beta.kind=learnd": f"command line: `beta.kind` must be one of {KINDS}, but is 'learnd' instead.",
    "beta={}": f"command line: `beta.kind` is missing; say one of {KINDS}.",
    "beta.beta=0": "command line: `beta.beta` must be greater than 0, but is 0 instead.",
    "beta.beta='0.1'": "command line: `beta.beta` must be a number, but is '0.1' instead.",
    "beta.beta=true": "command line: `beta.beta` must be a number, but is True instead.",
    "beta.beta=.nan": "command line: `beta.beta` must be a finite number, but is nan instead.",
    "seed=-1": "command line: `seed` must be at least 0, but is -1 instead.",
    "seed=4294967296": "command line: `seed` must be less than 4294967296, but is 4294967296 instead.",
    "seed.x=1": "command line: `seed` must be an integer, but is {'x': 1} instead.",
    "reference.cache=liv": (
        "command line: `reference.cache` must be auto, live or the path of a folder such as ./liv, but is 'liv' "
        "instead."
    ),
    "reference.cache=false": "command line: `reference.cache` must be text, but is False instead.",
    "output=": "command line: `output` must be text, but is None instead.",
    "output=''": "command line: `output` must be text that is not empty, but is '' instead.",
    "model=3": "command line: `model` must be a section of keys, but is 3 instead.",
    "model.name=null": "command line: `model.name` must be a Hub name or a folder, but is missing.",
    "model.dtype=fp16": (
        "command line: `model.dtype` must be one of auto, float32, bfloat16, float16, but is 'fp16' instead."
    ),
    "model.trust_remote_code=1": "command line: `model.trust_remote_code` must be true or false, but is 1 instead.",
    "model.adapter.kind=lora model.adapter.target_modules=[]": (
        "command line: `model.adapter.target_modules` must be `all-linear` or a list of module names, "
        "but is [] instead."
    ),
    "data.max_length=1": "command line: `data.max_length` must be at least 2, but is 1 instead.",
    "data.max_dropped=1.5": "command line: `data.max_dropped` must be at most 1, but is 1.5 instead.",
    "data.layout=foo": (
        "command line: `data.layout` must be one of `auto`, `explicit`, `chat`, `ultrafeedback`, `hh`, `tokenized`, "
        "but is 'foo' instead."
    ),
    "data.eval=x data.holdout=0.1": (
        "command line: `data.holdout` must be left out where `data.eval` is given, so nothing is split off, "
        "but is 0.1 instead; remove it."
    ),
    "loss.kind=ipo loss.label_smoothing=0.1": (
        "command line: `loss.label_smoothing` must be 0 with `loss.kind` ipo, but is 0.1 instead; "
        "use sigmoid or robust to smooth labels."
    ),
    "forward.kind=padded": (
        "command line: `forward.kind` must be one of auto, shared, separate, but is 'padded' instead."
    ),
    "beta.kind=learned beta.initial_beta=-1": (
        "command line: `beta.initial_beta` must be a positive number, but is -1.0 instead."
    ),
    "beta.kind=learned beta.max_correction=1.5": (
        "command line: `beta.max_correction` must be in [0, 1), but is 1.5 instead."
    ),
    "beta.kind=learned beta.form=direct beta.ppl_exponent=1": (
        "command line: `beta.ppl_exponent` applies only with form: banded, but is 1.0 here; remove it."
    ),
    "beta.kind=learned beta.learning.rho=0.1": (
        "command line: `beta.learning.rho` applies only with learning.kind: perspective, but is 0.1 here; remove it."
    ),
    "beta.kind=learned beta.learning.kind=budget": (
        "command line: `beta.learning.target_kl` must be given with learning.kind: budget; say how many nats per "
        "answer the policy may move."
    ),
    "beta.kind=learned beta.learning.target_kl=2": (
        "command line: `beta.learning.target_kl` applies only with learning.kind: budget, but is 2.0 here; remove it."
    ),
    "beta.kind=learned beta.learning.kind=budget beta.learning.target_kl=2 beta.learning.kl_every=0": (
        "command line: `beta.learning.kl_every` must be a whole number of at least 1, but is 0 instead."
    ),
    "beta.kind=learned beta.learning.kind=perspective beta.prior_weight=0.1": (
        "command line: `beta.prior_weight` applies only with learning.kind: joint, but is 0.1 here; remove it."
    ),
    "beta.kind=learned beta.ppl_exponent=lerned": (
        "command line: `beta.ppl_exponent` must be a finite number or `learned`, but is 'lerned' instead."
    ),
    "beta.kind=learned beta.bounds=[0.1]": (
        "command line: `beta.bounds` must be a list of two numbers, [low, high], but is [0.1] instead."
    ),
    "model.fit.kind=small model.fit.corpus=train": (
        "configuration, line 1: `model.name` must be left out where `model.fit` makes the model, "
        "but is 'some/model' instead; remove it."
    ),
    "model.fit.kind=small": "command line: `model.fit.corpus` is missing; add it.",
    "model.fit.kind=small model.fit.corpus=c.txt model.fit.response_field=text": (
        "command line: `model.fit.response_field` must be left out where `corpus` is a text file, which has no "
        "columns, but is 'text' instead; remove it."
    ),
    "model.fit.kind=small model.fit.corpus=c.jsonl": (
        "command line: `model.fit.response_field` must name the column of the texts in `corpus`, but is missing."
    ),
    "model.fit.kind=small model.fit.corpus=train model.fit.prompt_field=p": (
        "command line: `model.fit.prompt_field` must be left out where `corpus` is `train`, whose answers are read, "
        "but is 'p' instead; remove it."
    ),
    "model.fit.kind=small model.fit.corpus=train model.fit.heads=5 model.fit.hidden_size=96": (
        "command line: `model.fit.hidden_size` must be a multiple of twice the heads (2 × 5), but is 96 instead."
    ),
}


@pytest.mark.parametrize("overrides", MISTAKES)
def test_each_mistake_is_one_sentence_with_place_key_and_value(overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(BASE, overrides.split(" "))
    assert str(caught.value) == MISTAKES[overrides]


def test_a_mistake_in_a_file_names_file_and_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(BASE.replace("kind: fixed", "kind: fixed, beta: high"))
    with pytest.raises(ConfigError, match=r"^mine.yaml, line 4: `beta.beta` must be a number, but is 'high' instead.$"):
        load_config(path)


def test_a_misspelt_key_is_named_before_the_key_that_is_missing_because_of_it():
    with pytest.raises(ConfigError, match="did you mean `train`"):
        load_config(BASE.replace("  train:", "  trian:"))


@pytest.mark.parametrize("section", ["model", "data", "beta", "output"])
def test_a_missing_section_is_named(section):
    values = Config.model_validate(load_config(BASE)).model_dump(exclude_none=True)
    del values[section]
    with pytest.raises(ConfigError, match=rf"^configuration: `{section}` is missing; add it.$"):
        load_config(str(values))


def test_the_corpus_of_a_fit_keeps_held_out_prompts_out_unless_told_otherwise():
    with_prompts = load_config(FIT, ["model.fit.prompt_field=prompt", "model.fit.corpus_prompts=all"])
    assert with_prompts.model.fit is not None
    assert with_prompts.model.fit.corpus_prompts == "all"
    with pytest.raises(ConfigError, match="corpus_prompts` must be left out where there is no `prompt_field`"):
        load_config(FIT, ["model.fit.corpus_prompts=train"])


def test_a_share_of_prompts_is_held_out_when_no_evaluation_data_is_given():
    assert load_config(BASE).data.holdout == 0.05
    assert load_config(BASE, ["data.eval=other.jsonl"]).data.holdout is None


def test_environment_variables_in_paths_stay_text(monkeypatch):
    monkeypatch.setenv("BETAHEAD_DATA", "/somewhere")
    config = load_config(BASE)
    assert config.data.train == "$BETAHEAD_DATA/pairs.jsonl.gz"
    assert "/somewhere" not in dump_config(config)


def test_a_number_without_a_point_is_a_number():
    config = load_config(BASE, ["train.learning_rate=5e-7", "beta.beta=1"])
    assert config.train["learning_rate"] == 5e-7
    assert config.beta.kind == "fixed" and config.beta.beta == 1.0


def test_the_arguments_of_a_learned_beta_are_those_of_its_class():
    from betahead.beta.learned import LearnedBeta

    config = load_config(BASE, ["beta.kind=learned", "beta.learning.kind=perspective", "beta.bounds=[0.01, 2]"])
    assert config.beta.kind == "learned"
    rule = LearnedBeta(**config.beta.arguments)
    assert rule.kind == "learned"
    assert config.beta.arguments["bounds"] == (0.01, 2.0)


TEXT = st.text(min_size=1, max_size=12)
SMALL = st.floats(1e-6, 1.0, exclude_max=True)
FIXED = st.fixed_dictionaries({"kind": st.just("fixed"), "beta": SMALL})
JOINT = st.fixed_dictionaries(
    {"kind": st.just("learned"), "net": st.sampled_from(["linear", "mlp", "transformer"])},
    optional={
        "form": st.just("banded"),
        "max_correction": SMALL,
        "ppl_exponent": st.one_of(st.just("learned"), st.integers(-2, 2), st.floats(-2, 2)),
        "bounds": st.just([0.001, 7]),
        "prior_weight": SMALL,
        "prior_on": st.sampled_from(["level", "each"]),
        "couple": st.booleans(),
        "learning_rate": SMALL,
        "learning": st.just({"kind": "joint"}),
    },
)
PERSPECTIVE = st.fixed_dictionaries(
    {"kind": st.just("learned"), "form": st.just("direct")},
    optional={
        "learning": st.fixed_dictionaries(
            {"kind": st.just("perspective")},
            optional={"regulariser": st.sampled_from(["quadratic", "linear"]), "rho": st.floats(0.01, 0.6)},
        )
    },
)
BUDGET = st.fixed_dictionaries(
    {
        "kind": st.just("learned"),
        "learning": st.fixed_dictionaries(
            {"kind": st.just("budget"), "target_kl": SMALL},
            optional={
                "allocation": st.sampled_from(["joint", "perspective", "none"]),
                "kl_every": st.integers(1, 99),
                "level_rate": SMALL,
            },
        ),
    }
)
ADAPTER = st.one_of(
    st.just({"kind": "none"}),
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["lora", "dora"])},
        optional={
            "rank": st.integers(1, 99),
            "dropout": SMALL,
            "target_modules": st.lists(TEXT, min_size=1),
            "modules_to_save": st.lists(TEXT),
            "merge": st.booleans(),
        },
    ),
    st.fixed_dictionaries({"kind": st.just("qlora")}, optional={"quantization": st.sampled_from(["nf4", "fp4"])}),
    st.fixed_dictionaries({"kind": st.just("saved"), "path": TEXT}, optional={"merge": st.booleans()}),
)
CONFIGS = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries({"name": TEXT}, optional={"adapter": ADAPTER}),
        "data": st.one_of(
            st.fixed_dictionaries({"train": TEXT}, optional={"holdout": SMALL, "max_pairs": st.integers(1, 10**9)}),
            st.fixed_dictionaries({"train": TEXT, "eval": TEXT}),
        ),
        "beta": st.one_of(FIXED, JOINT, PERSPECTIVE, BUDGET),
        "output": TEXT,
    },
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "loss": st.fixed_dictionaries({"kind": st.just("robust"), "label_smoothing": st.floats(0, 0.49)}),
        "train": st.fixed_dictionaries(
            {},
            optional={
                "learning_rate": SMALL,
                "report_to": st.sampled_from([None, "none", "all", ["none"]]),
                "fsdp_config": st.dictionaries(TEXT, st.one_of(st.none(), TEXT, st.booleans(), SMALL), max_size=3),
            },
        ),
    },
).filter(lambda values: "loss" not in values or "learning" not in values["beta"])  # perspective has one loss


@settings(deadline=None)
@given(CONFIGS)
def test_what_is_written_reads_back_equal(values):
    config = Config.model_validate(values)
    again = load_config(dump_config(config))
    assert again == config
    assert dump_config(again) == dump_config(config)


def test_the_written_configuration_can_be_read_from_a_file(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(load_config(BASE)), encoding="utf-8")
    assert load_config(path) == load_config(BASE)
