import numpy as np
import pytest

from betahead.compare.cells import refuse_seen_prompts, world_of
from betahead.compare.plan import load_plan
from betahead.compare.resolved import resolve
from betahead.compare.sequence_methods import METHODS
from betahead.compare.sequence_reference import fitted_reference
from betahead.compare.sequence_world import SequenceSize, SequenceWorld
from betahead.compare.work import worked_alone
from betahead.errors import ConfigError
from betahead.worlds.small_model import SmallModelSpec

SPEC = SmallModelSpec(
    vocab_size=400, hidden_size=32, layers=1, heads=2, kv_heads=1, intermediate_size=48, tokens=60_000
)
SIZE = SequenceSize(
    spec=SPEC, documents=400, pairs=48, prompts=6, samples=2, max_new_tokens=12, checkpoints=(0.0, 0.5, 1.0)
)
OWN = {"rho": 0.1, "beta_learning_rate": 3e-3}


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return tmp_path_factory.mktemp("references")


@pytest.fixture(scope="module")
def world(references):
    return SequenceWorld("grammar", SIZE, references)


def test_a_run_is_scored_along_its_path_from_the_reference(world):
    configurations = [{"learning_rate": rate, "beta": 0.1} for rate in (1e-3, 4e-3)]
    outcome = world.run("fixed", configurations, [1, 2], split="eval")
    assert outcome.reward.shape == outcome.kl.shape == outcome.win_rate.shape == (2, 2, 3, 6)
    assert outcome.finite.all() and outcome.same_prompts
    np.testing.assert_array_equal(outcome.kl[:, :, 0], 0.0)
    assert len({tuple(path) for path in outcome.reward[:, :, 0].reshape(4, -1).tolist()}) == 1
    assert (outcome.kl[:, :, 1:].mean(-1) > 0).all()
    # A larger step goes further, and another seed another way.
    assert (outcome.kl[1, :, 1].mean(-1) > outcome.kl[0, :, 1].mean(-1)).all()
    assert outcome.kl[0, 0, -1].mean() != outcome.kl[0, 1, -1].mean()


def test_a_run_is_the_same_whatever_runs_beside_it(world):
    one = {"learning_rate": 2e-3, "beta": 0.1}
    alone = world.run("fixed", [one], [3], split="test")
    beside = world.run("fixed", [{"learning_rate": 1e-3, "beta": 0.3}, one], [2, 3], split="test")
    np.testing.assert_array_equal(alone.kl[0, 0], beside.kl[1, 1])


@pytest.mark.parametrize("method", [name for name, one in METHODS.items() if one.axes])
def test_a_learned_beta_and_its_placebo_train(world, method):
    outcome = world.run(method, [{"learning_rate": 1e-3, "beta": 0.1, **OWN}], [1], split="eval")
    assert outcome.finite.all() and (outcome.kl[..., 1:, :].mean(-1) > 0).all()


def test_a_run_that_diverges_is_recorded(world):
    outcome = world.run("fixed", [{"learning_rate": 1e30, "beta": 0.1}], [1], split="eval")
    assert not outcome.finite.any()
    assert np.isfinite(outcome.reward[..., 0, :]).all() and np.isnan(outcome.reward[..., -1, :]).all()


def test_the_reference_is_fitted_once(references):
    folder = fitted_reference(SPEC, SIZE.documents, 0, references)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert fitted_reference(SPEC, SIZE.documents, 0, references) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert [path.name for path in references.iterdir()] == [folder.name]


def test_no_test_prompt_of_the_world_is_trained_on(world):
    refuse_seen_prompts(world, "sequence/grammar")
    assert len(world.prompt_texts("train")) > 10_000 and len(world.prompt_texts("test")) == 6


def test_a_cell_names_the_world_and_a_method_must_be_known(world):
    assert world_of("sequence/grammar").kl_targets() == (1.0, 2.0, 5.0)
    with pytest.raises(ConfigError, match="`world` must be grammar, but is 'grammer' instead"):
        world_of("sequence/grammer")
    with pytest.raises(ConfigError, match=r"`method` must be one of fixed, .*, but is 'fixt' instead"):
        world.run("fixt", [], [], split="eval")


def test_its_reference_has_at_most_a_million_parameters():
    spec = SequenceSize().spec
    attention = spec.hidden_size * (2 * spec.hidden_size + 2 * spec.hidden_size * spec.kv_heads // spec.heads)
    layer = attention + 3 * spec.hidden_size * spec.intermediate_size
    assert spec.vocab_size * spec.hidden_size + spec.layers * layer < 1_000_000


PLAN = """\
name: tiny
question: Does the protocol run on a language model?
cells: [sequence/grammar]
methods: {fixed: {}, perspective_quadratic: {}}
axes:
  learning_rate: {low: 0.001, high: 0.004}
  beta: {low: 0.1, high: 0.3}
pool: {configurations: 1, trials: 1, seeds: 1}
finals: {seeds: 6}
rope: 0.02
comparisons: [{a: perspective_quadratic, b: fixed}]
"""


@pytest.mark.slow
def test_a_comparison_keeps_the_prompts_that_its_finals_share(references):
    resolved = resolve(load_plan(PLAN), lambda _: SequenceWorld("grammar", SIZE, references))
    finished = worked_alone(resolved)
    assert finished.finals["sequence/grammar", "fixed"][1].values["gold_at_kl_0"].shape == (6, 6)
