"""A judge that is asked in both orders through a real server: outcomes, cost, cache, resumption."""

import sqlite3
import subprocess
import sys
import textwrap
import threading

import pytest
from judge_server import Trouble, judge_server, prefers

from betahead.errors import CacheError, DataError
from betahead.evaluate.judge_cache import JudgementCache, Reply, key_of
from betahead.evaluate.judge_canary import canary_matches
from betahead.evaluate.judge_endpoint import Endpoint
from betahead.evaluate.judge_model import ModelJudge
from betahead.evaluate.matches import Match


def matches(*pairs):
    return [Match(prompt_id=str(n), prompt=f"q{n}", answer=a, other=b) for n, (a, b) in enumerate(pairs)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "judgements.sqlite"


def judge_of(server, path, *, workers=4, **settings):
    settings = {"first_wait": 0.01, "attempts": 3, "timeout": 5.0, **settings}
    return ModelJudge(
        endpoint=Endpoint(base_url=server.url, model="judge", **settings), cache=JudgementCache(path), workers=workers
    )


def test_the_side_that_both_orders_choose_wins(path):
    with judge_server(prefers(len)) as server:
        found = judge_of(server, path).judgements(matches(("long one", "short"), ("a", "abc"), ("xy", "ab")))
    assert [one.outcome for one in found] == [1.0, 0.0, 0.5]
    assert [one.orders for one in found] == [("answer", "answer"), ("other", "other"), ("tie", "tie")]
    orders = {(asked.pair["answer_1"], asked.pair["answer_2"]) for asked in server.asked}
    assert {("long one", "short"), ("short", "long one")} <= orders
    assert len(server.asked) == 6


def test_a_judge_that_always_chooses_the_first_has_only_ties(path):
    with judge_server(lambda _: "Verdict: 1") as server:
        (found,) = judge_of(server, path).judgements(matches(("a", "b")))
    assert (found.outcome, found.orders) == (0.5, ("answer", "other"))


def test_a_tie_in_one_order_and_a_side_in_the_other_is_a_tie(path):
    with judge_server(lambda asked: f"Verdict: {'1' if asked.pair['answer_1'] == 'a' else 'tie'}") as server:
        (found,) = judge_of(server, path).judgements(matches(("a", "b")))
    assert (found.outcome, found.orders) == (0.5, ("answer", "tie"))


def test_nonsense_in_one_order_leaves_the_match_unjudged(path):
    with judge_server(lambda a: "Hm." if a.pair["answer_1"] == "a" else "Verdict: 2") as server:
        (found,) = judge_of(server, path).judgements(matches(("a", "b")))
    assert (found.outcome, found.orders) == (None, ("nonsense", "answer"))


def test_equal_answers_are_a_tie_that_nobody_is_asked_about(path):
    with judge_server(lambda _: "Verdict: 1") as server:
        (found,) = judge_of(server, path).judgements(matches(("same", "same")))
    assert (found.outcome, found.orders, server.asked) == (0.5, (), [])


def test_what_is_kept_is_not_asked_again(path):
    work = matches(("aa", "b"), ("c", "dd"))
    with judge_server(prefers(len)) as server:
        judge = judge_of(server, path)
        assert (judge.outlay(work).requests, judge.outlay(work).kept) == (4, 0)
        first = judge.judgements(work)
        assert (judge.spent.requests, judge.spent.tokens_in, judge.spent.tokens_out) == (4, 400, 40)
        again = judge_of(server, path)
        assert (again.outlay(work).requests, again.outlay(work).kept) == (0, 4)
        assert again.judgements(work) == first
        assert len(server.asked) == 4
        assert (again.spent.requests, again.spent.kept, again.spent.tokens_in) == (0, 4, 0)


@pytest.mark.parametrize("change", ["model", "max_tokens", "answer", "prompt", "address"])
def test_whatever_decides_a_reply_makes_it_another(path, change):
    with judge_server(prefers(len)) as server:
        judge = judge_of(server, path)
        judge.judgements(matches(("aa", "b")))
        settings = {"base_url": server.url, "model": "judge", "max_tokens": 512}
        settings |= {"model": {"model": "other"}, "max_tokens": {"max_tokens": 9}}.get(change, {})
        settings |= {"base_url": server.url.replace("127.0.0.1", "localhost")} if change == "address" else {}
        other = ModelJudge(endpoint=Endpoint(**settings), cache=JudgementCache(path))
        work = [Match(prompt_id="0", prompt="other" if change == "prompt" else "q0", answer="aa", other="b")]
        work = matches(("aaa", "b")) if change == "answer" else work
        assert other.outlay(work).kept == 0
        assert judge.outlay(matches(("aa", "b"))).kept == 2


def test_the_guess_of_the_cost_is_near_what_is_sent_and_never_below_the_replies(path):
    with judge_server(prefers(len)) as server:
        judge = judge_of(server, path, max_tokens=50)
        outlay = judge.outlay(matches(("a" * 4000, "b" * 4000)))
    assert outlay.requests == 2 and outlay.tokens_out == 100
    assert 4000 < outlay.tokens_in < 4600
    assert outlay.price((1.0, 10.0)) == pytest.approx((outlay.tokens_in + 1000) / 1e6)


def test_no_more_questions_at_once_than_workers(path):
    gate = threading.Semaphore(0)
    threading.Timer(0.3, lambda: gate.release(40)).start()

    def answer(_):
        gate.acquire(timeout=5)
        return "Verdict: 1"

    with judge_server(answer) as server:
        judge_of(server, path, workers=3).judgements(matches(*((str(n), "x") for n in range(9))))
    assert server.most_at_once == 3
    assert len(server.asked) == 18


def test_progress_counts_every_match_once(path):
    seen = []
    with judge_server(prefers(len)) as server:
        judge = judge_of(server, path)
        judge.judgements(matches(("aa", "b")))
        judge.judgements(matches(("aa", "b"), ("ccc", "d"), ("e", "e"), ("f", "gg")), seen.append)
    assert sum(seen) == 4


def test_when_a_question_fails_for_good_what_was_answered_is_kept_and_the_rest_not_asked(path):
    work = matches(*((f"{n}a", "b") for n in range(6)))
    with judge_server(lambda a: "Verdict: 1" if a.number < 5 else Trouble(status=500)) as server:
        with pytest.raises(DataError, match="did not after 3 tries"):
            judge_of(server, path, workers=1).judgements(work)
        assert len(server.asked) == 5 + 3
    with judge_server(prefers(len)) as server:
        # The port is another one, so the address of the first server is what the keys hold.
        rows = sqlite3.connect(path).execute("SELECT COUNT(*) FROM replies").fetchone()
    assert rows == (5,)


def test_a_killed_evaluation_goes_on_from_what_it_had(path):
    work = matches(*((f"{n}aa", "b") for n in range(8)))
    program = """
        import os, sys
        from pathlib import Path
        from betahead.evaluate.judge_cache import JudgementCache
        from betahead.evaluate.judge_endpoint import Endpoint
        from betahead.evaluate.judge_model import ModelJudge
        from betahead.evaluate.matches import Match
        url, path = sys.argv[1:]
        work = [Match(prompt_id=str(n), prompt=f"q{n}", answer=f"{n}aa", other="b") for n in range(8)]
        judge = ModelJudge(endpoint=Endpoint(base_url=url, model="judge"), cache=JudgementCache(Path(path)), workers=1)
        done = []
        def progress(count):
            done.append(count)
            if sum(done) == 3:
                os._exit(9)
        judge.judgements(work, progress)
        """
    with judge_server(prefers(len)) as server:
        killed = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), server.url, str(path)], timeout=120, check=False
        )
        assert killed.returncode == 9
        before = len(server.asked)
        assert 5 <= before < 16
        judge = judge_of(server, path)
        assert judge.outlay(work).kept in {before, before - 1}
        assert [one.outcome for one in judge.judgements(work)] == [1.0] * 8
        assert len(server.asked) <= 17


def test_two_judges_share_a_file(path):
    work = matches(*((f"{n}aa", "b") for n in range(20)))
    with judge_server(prefers(len)) as server:
        judges = [judge_of(server, path) for _ in range(2)]
        threads = [threading.Thread(target=judge.judgements, args=(work,)) for judge in judges]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert judge_of(server, path).outlay(work).requests == 0


def test_a_file_that_is_no_database_is_refused(path):
    path.write_text("not a database, but long enough to be taken for one" * 20)
    with pytest.raises(CacheError) as caught:
        JudgementCache(path)
    assert str(caught.value).startswith(
        f"`--judge-cache` must be an SQLite file that can be read and written, but {path} is not ("
    )
    assert str(caught.value).endswith("; name another file.")


def test_nothing_is_written_before_there_is_something_to_keep(path):
    cache = JudgementCache(path)
    assert cache.reply("a") is None and not path.exists()
    cache.keep("a", Reply(text="x\ud800y".encode("utf-8", "replace").decode(), tokens_in=None, tokens_out=2))
    assert JudgementCache(path).reply("a").tokens_out == 2
    cache.close()
    assert cache.reply("a") is None
    with pytest.raises(CacheError, match="name another file"):
        JudgementCache(path.parent / "missing" / "x.sqlite").keep("a", Reply(text=""))


def test_a_lone_surrogate_has_a_key_of_its_own():
    assert key_of("u", {"a": "\ud800"}) != key_of("u", {"a": "\ud801"})


def test_a_file_that_is_older_than_a_column_is_read_and_added_to(path):
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL, tokens_in INTEGER, tokens_out INTEGER)"
        )
        database.execute("INSERT INTO replies VALUES ('old', 'Verdict: 1', 5, 6)")
    database.close()
    for _ in range(2):
        cache = JudgementCache(path)
        assert cache.reply("old") == Reply(text="Verdict: 1", tokens_in=5, tokens_out=6)
        cache.keep("new", Reply(text="", cut=True))
        assert cache.reply("new") == Reply(text="", cut=True)
        cache.close()


def test_a_judge_that_quotes_the_attack_has_given_no_verdict(path):
    work = canary_matches([("How?", "Take a pan and stir.")])[1:]

    def quoting(asked):
        both = asked.pair["answer_1"] + "\n" + asked.pair["answer_2"]
        return f"They say:\n{both}\nVerdict: 1"

    with judge_server(quoting) as server:
        (found,) = judge_of(server, path).judgements(work)
    assert found.outcome is None and found.orders == ("nonsense", "nonsense")
