"""What a judge costs: counted by its provider, or not, or now and then."""

import pytest
from judge_server import COUNTED, Trouble, completion, judge_server

from betahead.evaluate.judge_cache import JudgementCache, Reply
from betahead.evaluate.judge_cost import Outlay, Spent, price_of
from betahead.evaluate.judge_endpoint import Endpoint
from betahead.evaluate.judge_model import ModelJudge
from betahead.evaluate.matches import Match


def spent_at(usage_of, tmp_path):
    """What ten questions cost at a server whose replies have the usage of their number."""

    def answer(asked):
        return Trouble(body=completion("Verdict: 1", usage=usage_of(asked.number)))

    with judge_server(answer) as server:
        endpoint = Endpoint(base_url=server.url, model="judge", timeout=5.0)
        judge = ModelJudge(endpoint=endpoint, cache=JudgementCache(tmp_path / "kept.sqlite"))
        judge.judgements([Match(prompt_id=str(n), prompt=f"q{n}", answer="a", other="b") for n in range(5)])
        return judge.spent.to_dict()


def test_a_provider_that_counts_is_believed(tmp_path):
    cost = spent_at(lambda _: COUNTED, tmp_path)
    assert cost == {"requests": 10, "kept": 0, "counted": 10, "tokens_in": 1000, "tokens_out": 100}
    assert price_of(cost, (2.0, 10.0)) == pytest.approx(0.003)


def test_where_nobody_counts_the_cost_is_unknown_and_not_nothing(tmp_path):
    cost = spent_at(lambda _: None, tmp_path)
    assert cost == {"requests": 10, "kept": 0, "counted": 0, "tokens_in": None, "tokens_out": None}
    assert price_of(cost, (2.0, 10.0)) is None


def test_what_is_counted_now_and_then_is_summed_and_said_to_be_so(tmp_path):
    cost = spent_at(lambda number: COUNTED if number < 3 else None if number < 6 else {"prompt_tokens": 100}, tmp_path)
    assert cost == {"requests": 10, "kept": 0, "counted": 3, "tokens_in": 300, "tokens_out": 30}


def test_replies_that_were_kept_cost_nothing():
    assert Spent(kept=4).to_dict() == {"requests": 0, "kept": 4, "counted": 0, "tokens_in": 0, "tokens_out": 0}
    assert price_of(Spent(kept=4).to_dict(), (1.0, 1.0)) == 0.0
    assert Spent().plus(Reply(text="x", tokens_in=0, tokens_out=0)).counted == 1


def test_a_guess_has_a_price():
    assert Outlay(requests=2, kept=0, tokens_in=1000, tokens_out=100).price((2.0, 10.0)) == pytest.approx(0.003)
