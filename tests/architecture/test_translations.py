"""A page in Chinese says what its English page says: the same commands, programs, numbers, links and parts."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from betahead.compare.plan import Plan

ROOT = Path(__file__).parents[2]
PAIRS = [
    ("README.md", "README.zh-CN.md"),
    ("docs/guide.md", "docs/guide.zh-CN.md"),
    ("docs/proving-it.md", "docs/proving-it.zh-CN.md"),
    ("docs/related-work.md", "docs/related-work.zh-CN.md"),
]
FENCED = re.compile(r"^( *)```(?P<kind>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
LABELS = ["论文/资源标题", "作者/来源", "发表平台/链接", "简要摘要/描述"]
MIRRORED = ["Paper / resource title", "Authors / source", "Venue / link", "Summary / description"]

both = pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=[chinese for _, chinese in PAIRS])


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(name: str) -> str:
    return FENCED.sub("", text_of(name))


def programs(name: str) -> list[str]:
    """Commands, programs and data of a page, without the comments that are translated."""
    return [
        "\n".join(re.sub(r"\s+#.*", "", line) for line in match["text"].splitlines())
        for match in FENCED.finditer(text_of(name))
        if match["kind"] != "text"
    ]


def tables(name: str) -> list[list[str]]:
    """The rows of every table."""
    found: list[list[str]] = []
    before = ""
    for line in prose(name).splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append([])
            found[-1].append(line)
        before = line
    return found


def links(name: str) -> Counter[str]:
    """Where a page leads, whatever its language: anchors of translated headings left out."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(name))
    other = {english: chinese for pair in PAIRS for english, chinese in (pair, pair[::-1])}[name]
    inward = [link for link in found if not link.startswith("#") and link != Path(other).name]
    return Counter(re.sub(r"\.zh-CN(?=\.md)", "", link) for link in inward)


@both
def test_commands_and_programs_are_the_same(english: str, chinese: str) -> None:
    assert programs(chinese) == programs(english)
    inline = [set(re.findall(r"`(betahead [^`]+)`", prose(name))) for name in (english, chinese)]
    assert inline[1] == inline[0]


@both
def test_the_parts_are_the_same(english: str, chinese: str) -> None:
    levels = [re.findall(r"^(#+) ", prose(name), re.MULTILINE) for name in (english, chinese)]
    assert levels[1] == levels[0]


@both
def test_the_tables_have_the_same_rows_and_the_same_numbers(english: str, chinese: str) -> None:
    def numbers(rows: list[str]) -> list[list[str]]:
        return [sorted(re.findall(r"\d+(?:\.\d+)?", row)) for row in rows]

    ours, theirs = tables(chinese), tables(english)
    assert [len(rows) for rows in ours] == [len(rows) for rows in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert [row.count("|") for row in mine] == [row.count("|") for row in other]
        assert numbers(mine[2:]) == numbers(other[2:])


@both
def test_every_link_of_one_is_a_link_of_the_other(english: str, chinese: str) -> None:
    if english == "README.md":  # which has its tree in English alone
        assert set(links(chinese)) <= set(links(english)) | {"README.md#the-source"}
        return
    assert links(chinese) == links(english)


@pytest.mark.parametrize("name", [chinese for _, chinese in PAIRS])
def test_no_sign_of_emphasis_is_left_between_chinese_letters(name: str) -> None:
    """`**…。**…` is no emphasis to GitHub: the closing sign follows a stop and stands before a letter."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text_of(name))
    left = [
        child.content
        for token in tokens
        for child in token.children or ()
        if child.type == "text" and "*" in child.content.replace("*)", "")
    ]
    assert [text for text in left if not re.search(r"[τβhu]\*", text)] == []


def test_the_measured_tables_of_the_readme_are_the_same_in_chinese() -> None:
    block = re.compile(r"<!-- bench:begin -->.*<!-- bench:end -->", re.DOTALL)
    ours, theirs = (block.search(text_of(name)) for name in ("README.zh-CN.md", "README.md"))
    assert ours is not None and theirs is not None
    assert ours[0] == theirs[0], "copy the block of README.md, or write both with `python -m bench.table`"


def entries(name: str, labels: list[str]) -> list[dict[str, str]]:
    """The entries of the survey, by label."""
    sections = re.split(r"^### (.+)$", text_of(name), flags=re.MULTILINE)[1:]
    found: list[dict[str, str]] = []
    for heading, body in zip(sections[::2], sections[1::2], strict=True):
        bullets = re.findall(r"^- \*\*(.+?):?\*\*：? ?(.+)$", body.partition("\n## ")[0], re.MULTILINE)
        assert [label for label, _ in bullets] == labels, heading
        found.append(
            {"check": heading[heading.rindex("[") :], **dict(zip(MIRRORED, dict(bullets).values(), strict=True))}
        )
    return found


def test_every_work_of_the_survey_has_its_four_labelled_bullets_in_both_languages() -> None:
    english = entries("docs/related-work.md", MIRRORED)
    chinese = entries("docs/related-work.zh-CN.md", LABELS)
    assert len(english) > 50
    for ours, theirs in zip(chinese, english, strict=True):
        assert ours["check"] == theirs["check"]
        assert ours["Paper / resource title"].split(" (")[0] == theirs["Paper / resource title"].split(" (")[0]
        assert all(part.strip("*") for part in (*ours.values(), *theirs.values()))
        marked = "not verified" in theirs["Venue / link"] or "no link" in theirs["Venue / link"]
        assert "](https://" in theirs["Venue / link"] or marked, theirs


def test_the_keys_that_the_case_names_are_those_of_plan_and_evidence() -> None:
    page = text_of("docs/proving-it.md")
    schema = json.loads(text_of("src/betahead/compare/evidence.schema.json"))
    parts = {key: set(schema["properties"]) for key in ("",)}
    for key, record in (("panels", "Panels"), ("tests", "TestRecord"), ("claims", "ClaimRecord")):
        parts[key] = set(schema["$defs"][record]["properties"])
    named = re.findall(r"`(panels|tests|claims)\.(\w+)[\w.]*`", page)
    assert len(named) > 20
    assert [f"{part}.{key}" for part, key in named if key not in parts[part]] == []
    assert set(schema["$defs"]["ClaimCell"]["properties"]) >= {"no_better_than"}
    assert set(schema["$defs"]["BudgetRow"]["properties"]) >= {"picked_at_an_edge"}
    assert {"plan_hash", "test_opened", "tests_per_family", "secondary"} <= parts[""]
    rows = re.findall(r"\| plan ((?:`\w+`(?:, )?)+)", page)
    keys = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert keys <= Plan.model_fields.keys()
