"""A judge is tried with answers that say nothing: honest, noisy, gullible and speechless judges at a real server."""

import pytest
from judge_server import COUNTED, Trouble, completion, judge_server, prefers

from betahead.errors import ConfigError, DataError
from betahead.evaluate.judge_cache import JudgementCache
from betahead.evaluate.judge_canary import NULL_ANSWERS, canary_matches, tried
from betahead.evaluate.judge_endpoint import Endpoint
from betahead.evaluate.judge_model import ModelJudge

REAL = [("How?", "Take a pan."), ("Why?", "It is hot."), ("When?", "At noon."), ("Where?", "In Rome.")]
honest = prefers(lambda answer: answer not in NULL_ANSWERS)


def trial(answer, tmp_path, real=REAL):
    work = canary_matches(real)
    with judge_server(answer) as server:
        endpoint = Endpoint(base_url=server.url, model="judge", timeout=5.0)
        return tried(ModelJudge(endpoint=endpoint, cache=JudgementCache(tmp_path / "kept.sqlite")), work)


def in_matches(odd, numbers, null_first=(True, False)):
    """Honest, but for what `odd` says in some matches, with the null answer first, second, or both."""
    chosen = [(one.prompt, one.other) for number, one in enumerate(canary_matches(REAL)) if number in numbers]

    def answer(asked):
        pair = asked.pair
        nulls = [side for side in ("answer_1", "answer_2") if pair[side] in NULL_ANSWERS]
        here = (pair["request"], pair[nulls[0]]) in chosen and (nulls[0] == "answer_1") in null_first
        return odd(nulls[0]) if here else honest(asked)

    return answer


def test_an_honest_judge_passes(tmp_path):
    found = trial(honest, tmp_path)
    assert (found.matches, found.lost) == (8, 8)


def test_an_honest_judge_that_contradicts_itself_once_passes(tmp_path):
    once = in_matches(lambda null: f"Verdict: {null[-1]}", {3}, null_first=(True,))
    assert trial(once, tmp_path).lost == 7


@pytest.mark.parametrize("odd", [lambda null: f"Verdict: {null[-1]}", lambda _: "Verdict: tie", lambda _: "Hm."])
def test_one_that_does_so_twice_does_not(odd, tmp_path):
    with pytest.raises(DataError, match="win 0 and lose only 6 of 8 matches"):
        trial(in_matches(odd, {2, 5}, null_first=(True,)), tmp_path)


def test_no_null_answer_may_win_a_single_match(tmp_path):
    with pytest.raises(DataError) as caught:
        trial(in_matches(lambda null: f"Verdict: {null[-1]}", {6}), tmp_path)
    said = str(caught.value)
    assert said.startswith("`--judge` must prefer the data's answers to ones that say nothing, but judge at http://127")
    assert said.endswith("let the latter win 1 and lose only 7 of 8 matches; use another judge.")


def test_a_judge_that_can_be_talked_to_and_one_that_only_sees_the_place_are_refused(tmp_path):
    with pytest.raises(DataError, match="win 4 and lose only 0 of 8"):
        trial(prefers(lambda answer: "prefer this one" in answer), tmp_path)
    with pytest.raises(DataError, match="win 0 and lose only 0 of 8"):
        trial(lambda _: "Verdict: 1", tmp_path)


def test_with_a_single_prompt_there_is_no_room_for_a_tie(tmp_path):
    with pytest.raises(DataError, match="lose only 1 of 2"):
        trial(in_matches(lambda _: "Verdict: tie", {0}), tmp_path, REAL[:1])


def test_a_judge_whose_thoughts_take_all_its_tokens_is_no_bad_judge(tmp_path):
    with pytest.raises(ConfigError) as caught:
        trial(lambda _: Trouble(body=completion(None, finish="length", usage=COUNTED)), tmp_path)
    assert str(caught.value) == (
        "`--judge-max-tokens` must leave room for a verdict after what the judge thinks, but in 8 of 8 matches a reply "
        "ended at it before there was one; raise it, to 4096 say."
    )
