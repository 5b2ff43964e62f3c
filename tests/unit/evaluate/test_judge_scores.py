"""Judges that grade: order of grades, ties, and reward models that are none."""

import json
import math

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForSequenceClassification

from betahead.errors import ConfigError, DataError
from betahead.evaluate.judge_scores import RewardModel, ScoreJudge, gold_judge, reward_judge
from betahead.evaluate.matches import Match
from betahead.worlds.grammar import GrammarWorld
from betahead.worlds.small_tokenizer import trained_tokenizer

CPU = torch.device("cpu")


def match(answer, other):
    return Match(prompt_id="0", prompt="q", answer=answer, other=other)


def write_classifier(folder, labels=1, limit=64):
    texts = ["What is rain?", "It is water that falls.", "Nobody knows."]
    tokenizer = trained_tokenizer(texts * 20, vocab_size=280, max_length=limit)
    config = Qwen2Config(
        **(tiny._SHAPE | {"vocab_size": len(tokenizer), "max_position_embeddings": limit}),
        num_labels=labels,
    )
    config.pad_token_id = tokenizer.pad_token_id
    Qwen2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_higher_grade_wins_and_equal_ones_tie():
    judge = ScoreJudge(name="by length", grade=lambda _, answer: len(answer))
    seen = []
    found = judge.judgements([match("aa", "b"), match("a", "bb"), match("a", "b")], seen.append)
    assert [one.outcome for one in found] == [1.0, 0.0, 0.5]
    assert found[0].scores == (2, 1) and seen == [1, 1, 1]


def test_a_grade_that_is_no_number_is_refused():
    with pytest.raises(DataError) as caught:
        ScoreJudge(name="x", grade=lambda *_: math.nan).judgements([match("a", "b")])
    assert str(caught.value) == (
        "`--judge` must give finite grades, but x gives nan and nan to answers to 'q'; use another judge."
    )


def test_gold_grades_are_those_of_the_world():
    pair = GrammarWorld().pairs(1, 0, "test")[0]
    one = Match(prompt_id="0", prompt=pair.prompt.text, answer=pair.chosen, other=pair.rejected)
    (found,) = gold_judge().judgements([one])
    assert found.scores == (pair.chosen_gold, pair.rejected_gold)


def test_a_reward_is_the_classifiers_logit_of_the_rendered_conversation(tmp_path):
    folder = write_classifier(tmp_path / "reward")
    judge = reward_judge(str(folder), CPU)
    assert judge.name == f"reward model {folder}"
    model = RewardModel(str(folder), CPU)
    text = model._tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is rain?"}, {"role": "assistant", "content": "Water."}], tokenize=False
    )
    ids = model._tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        wanted = Qwen2ForSequenceClassification.from_pretrained(folder)(ids).logits[0, 0].item()
    assert model("What is rain?", "Water.") == pytest.approx(wanted)
    assert judge.grade("What is rain?", "Water.") == pytest.approx(wanted)


def test_without_a_chat_template_prompt_and_answer_are_a_pair_of_texts(tmp_path):
    folder = write_classifier(tmp_path / "reward")
    (folder / "chat_template.jinja").unlink()
    model = RewardModel(str(folder), CPU)
    ids = model._tokenizer("What is rain?", "Water.", return_tensors="pt").input_ids
    with torch.no_grad():
        wanted = model._model(ids).logits[0, 0].item()
    assert model("What is rain?", "Water.") == pytest.approx(wanted)


def test_an_answer_beyond_what_it_can_read_is_refused_and_not_cut(tmp_path):
    model = RewardModel(str(write_classifier(tmp_path / "reward", limit=16)), CPU)
    with pytest.raises(DataError, match=r"must have at most the 16 tokens that .* can read, but 'What is rain"):
        model("What is rain?", "Water that falls. " * 20)


def test_a_folder_that_holds_no_classifier_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"must name a sequence classifier that can be loaded, but .* is none"):
        reward_judge(str(tmp_path / "nothing"), CPU)


def test_a_classifier_of_several_labels_is_refused(tmp_path):
    folder = write_classifier(tmp_path / "reward", labels=3)
    with pytest.raises(ConfigError) as caught:
        reward_judge(str(folder), CPU)
    assert str(caught.value) == (
        f"`--judge reward:` must name a classifier with 1 label, the reward, but {folder} has 3."
    )


def test_a_language_model_without_a_head_for_rewards_is_refused(tmp_path):
    folder = write_classifier(tmp_path / "reward")
    state = load_file(folder / "model.safetensors")
    del state["score.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"must name a model with all of its weights, but .* lacks score\.weight"):
        reward_judge(str(folder), CPU)


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    folder = write_classifier(tmp_path / "reward")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ConfigError, match="is none"):
        reward_judge(str(folder), CPU)
    assert not (tmp_path / "ran").exists()
