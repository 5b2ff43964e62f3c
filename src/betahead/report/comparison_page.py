"""The page of a comparison: verdicts in words first, then what they rest on."""

from betahead.compare.scope import HOLDS, LEADS, Scope, Searches, consequence
from betahead.report.evidence_file import EvidenceFile
from betahead.report.facts import described, software_and_hardware
from betahead.report.headroom import headroom
from betahead.report.html import Html, element, joined
from betahead.report.label_noise import noise_sweep
from betahead.report.ledger import budget, calibration
from betahead.report.numbers import NONE, count, finite, shown
from betahead.report.page import KeyNumber, Section, page
from betahead.report.run_files import at, mapped
from betahead.report.searches import best_of_n, reward_and_kl
from betahead.report.tables import details, sentences, table
from betahead.report.topics import beta_by_topic
from betahead.report.verdicts import by_cell, effects, in_words, secondary
from betahead.runs.yaml_text import to_yaml


def comparison_page(evidence: EvidenceFile, footer: str) -> str:
    """The document of a comparison; of a folder without readable evidence it says so."""
    if not evidence.values:
        return page(
            kind="No comparison",
            title=evidence.path.name or "comparison",
            lead="This folder holds no evidence that can be read.",
            keys=[],
            sections=[
                Section(name="summary", title="What was looked for", body=joined(sentences("warn", [evidence.broken])))
            ],
            footer=footer,
        )
    sections = [
        Section(
            name="verdicts", title="Verdicts", body=joined(in_words(evidence), _scope(evidence), by_cell(evidence))
        ),
        Section(name="effect", title="Effects", body=joined(effects(evidence), secondary(evidence))),
        Section(name="search", title="Best of n", body=best_of_n(evidence)),
        Section(name="kl", title="Reward and KL", body=reward_and_kl(evidence)),
        Section(name="topics", title="β per topic", body=beta_by_topic(evidence)),
        Section(name="room", title="Headroom", body=headroom(evidence)),
        Section(name="noise", title="Label noise", body=noise_sweep(evidence)),
        Section(name="calibration", title="Calibration", body=calibration(evidence)),
        Section(name="budget", title="Budget", body=budget(evidence)),
        Section(name="plan", title="What was run", body=_plan(evidence)),
    ]
    return page(
        kind="Comparison",
        title=evidence.text("name") or evidence.path.name,
        lead=evidence.text("question"),
        keys=_keys(evidence),
        sections=sections,
        footer=footer,
    )


def _scope(evidence: EvidenceFile) -> Html | None:
    """For what the intervals and p-values hold; None where the evidence does not tell."""
    scope = evidence.values.get("scope", _scope_of_plan(evidence))
    if not isinstance(scope, str) or scope not in HOLDS:
        return None
    return element("p", f"{LEADS[scope]}{consequence(scope)}", class_="note")


def _scope_of_plan(evidence: EvidenceFile) -> Scope | None:
    """The scope that older evidence, which does not name it, has by its plan."""
    places = (("pool", "configurations"), ("pool", "trials"), ("finals", "seeds"))
    numbers = [number for place in places if isinstance(number := at(evidence.plan, *place), int) and number > 0]
    if len(numbers) < len(places):
        return None
    configurations, trials, finals = numbers
    return Searches(configurations=configurations, trials=trials, finals=finals).scope


def _keys(evidence: EvidenceFile) -> list[KeyNumber]:
    tests = evidence.rows("tests", "verdict")
    finals = at(evidence.plan, "finals", "seeds")
    rope = finite(evidence.values.get("rope"))
    family = evidence.values.get("tests_per_family")
    counts = {
        word: sum(one["verdict"] == word for one in tests) for word in ("better", "worse", "equivalent", "inconclusive")
    }
    found = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    return [
        KeyNumber(label="cells", value=count(len(evidence.cells)), detail="worlds that a claim is counted over"),
        KeyNumber(label="methods", value=count(len(evidence.methods)), detail="oracles and placebos among them"),
        KeyNumber(label="tests", value=count(len(tests)), detail=found),
        KeyNumber(label="finals a test", value=count(finals), detail="fresh seeds, opened once"),
        KeyNumber(
            label="smallest effect worth having", value=NONE if rope is None else f"{rope:g}", detail=evidence.metric
        ),
        KeyNumber(
            label="alpha, after Holm",
            value=shown(evidence.values.get("alpha"), 2),
            detail=f"over {count(family)} p-values",
        ),
    ]


def _plan(evidence: EvidenceFile) -> Html:
    methods = evidence.plan.get("methods")
    spaces = at(evidence.values, "plan", "spaces")
    rows = [
        ["test opened", evidence.text("test_opened")],
        ["hash of the plan", evidence.text("plan_hash")],
        *software_and_hardware(evidence.values),
    ]
    ranges: list[list[str]] = []
    for method in mapped(methods):
        axes = at(spaces, method)
        words = [
            f"{name} {shown(at(one, 'low'))} to {shown(at(one, 'high'))}{' (log)' if at(one, 'log') else ''}"
            for name, one in mapped(axes).items()
        ]
        ranges.append([method, ", ".join(words)])
    return joined(
        element("h3", "Repeat it"),
        element("pre", evidence.text("command"), class_="command"),
        described(rows),
        details("Ranges that were searched", table(["method", "ranges"], ranges, texts=(1,))) if ranges else None,
        details("The plan", element("pre", to_yaml(evidence.plan))) if evidence.plan else None,
    )
