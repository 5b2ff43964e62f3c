"""Rows that are nearly preference pairs: each layout as it should be, with a few things wrong."""

from typing import Any

from hypothesis import strategies as st

Row = dict[str, Any]

# Characters of every plane, control characters and halves of surrogate pairs among them.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
_WORDS = st.text(st.sampled_from("abc déß東😀 \n"), min_size=1, max_size=20)
_NASTY = st.sampled_from(
    [
        "",
        " \n",
        "\x00",
        "\ud800",
        "\x1b[2J\x1b]0;x\x07",
        "\u202etxt.exe",
        "\u2028",
        "a" * 5000,
        "\n\nHuman: a\n\nAssistant: b",
        "\n\nHuman: a",
        "Assistant:",
        "<think>",
        "<|im_end|>\n<|im_start|>user\n",
        "{{ messages[0].__class__ }}",
        "{% for x in range(9) %}",
        "QzPROBExKQ" + "1" * 5000 + ".",
        "<script>alert(1)</script>",
        "../../etc/passwd",
        "=1+1",
        "nan",
        "1e999",
    ]
)
TEXT = st.one_of(_WORDS, _WORDS, ANY_TEXT, _NASTY)
_NUMBERS = st.one_of(
    st.integers(-5, 400),
    st.sampled_from([2**31, 2**63, -(2**64), 10**400, True, False]),
    st.floats(),
    st.sampled_from([1e300, 1e39, -0.0]),
)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), _NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=8,
)


def _nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


DEEP = st.integers(50, 400).map(_nested)

LAYOUTS = ("explicit", "chat", "ultrafeedback", "hh", "tokenized")
COLUMNS = ("prompt", "chosen", "rejected", "domain", "given_beta", "strength", "reward_margin", "prompt_id", "ppl_mask")
_OF_TOKENS = ("prompt_ids", "chosen_ids", "rejected_ids", "ref_chosen_logps", "ref_log_ppl", "ref_entropy")
_EXTRA = ("tools", "images", "messages", "Chosen", " prompt", "", "\x00", "a" * 300)


@st.composite
def _message(draw: st.DrawFn, role: str) -> dict[str, Any]:
    found: dict[str, Any] = {"role": role, "content": draw(TEXT)}
    change = draw(st.integers(0, 11))
    if change == 0:
        found["role"] = draw(st.one_of(st.sampled_from(["system", "tool", "User", ""]), TEXT, JSON_VALUES))
    elif change == 1:
        found["content"] = draw(JSON_VALUES)
    elif change == 2:
        del found[draw(st.sampled_from(["role", "content"]))]
    return found


@st.composite
def _conversation(draw: st.DrawFn, last: str) -> list[dict[str, Any]]:
    turns = draw(st.integers(0, 2))
    roles = [*(["user", "assistant"] * turns), "user", *(["assistant"] if last == "assistant" else [])]
    return [draw(_message(role)) for role in roles]


@st.composite
def _explicit(draw: st.DrawFn) -> Row:
    return {name: draw(TEXT) for name in ("prompt", "chosen", "rejected")}


@st.composite
def _chat(draw: st.DrawFn) -> Row:
    prompt = draw(_conversation("user"))
    answers = [[draw(_message("assistant"))] for _ in range(2)]
    if draw(st.booleans()):
        return {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}
    return {"chosen": prompt + answers[0], "rejected": prompt + answers[1]}


@st.composite
def _ultrafeedback(draw: st.DrawFn) -> Row:
    prompt = draw(TEXT)
    asked = [{"role": "user", "content": prompt}]
    chosen, rejected = ([*asked, draw(_message("assistant"))] for _ in range(2))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


@st.composite
def _hh(draw: st.DrawFn) -> Row:
    asked = "".join(f"\n\nHuman: {draw(TEXT)}\n\nAssistant: {draw(TEXT)}" for _ in range(draw(st.integers(0, 2))))
    asked += f"\n\nHuman: {draw(TEXT)}\n\nAssistant:"
    return {"chosen": f"{asked} {draw(TEXT)}", "rejected": f"{asked} {draw(TEXT)}"}


@st.composite
def _tokenized(draw: st.DrawFn) -> Row:
    ids = st.lists(st.integers(0, 259), min_size=1, max_size=6)
    found: Row = {name: draw(ids) for name in ("prompt_ids", "chosen_ids", "rejected_ids")}
    for name in ("ref_chosen_logps", "ref_rejected_logps", "ref_log_ppl"):
        if draw(st.integers(0, 3)) == 0:
            found[name] = draw(st.one_of(st.floats(-50, 0), JSON_VALUES))
    return found


BY_LAYOUT = {
    "explicit": _explicit(),
    "chat": _chat(),
    "ultrafeedback": _ultrafeedback(),
    "hh": _hh(),
    "tokenized": _tokenized(),
}


@st.composite
def nearly_a_pair(draw: st.DrawFn, layout: str) -> Row:
    """A row of the layout, with up to three changes that may break it."""
    row = draw(BY_LAYOUT[layout])
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
        change = draw(st.integers(0, 3))
        if change == 0:
            row.pop(draw(st.sampled_from(sorted(row))), None) if row else None
        elif change == 1:
            name = draw(st.sampled_from([*COLUMNS, *_OF_TOKENS]))
            row[name] = draw(st.one_of(_NUMBERS, JSON_VALUES, TEXT, DEEP))
        elif change == 2:
            row[draw(st.one_of(st.sampled_from(_EXTRA), TEXT))] = draw(JSON_VALUES)
        elif row:
            old = draw(st.sampled_from(sorted(row)))
            row[draw(st.sampled_from(COLUMNS))] = row.pop(old)
    return row


def rows(layout: str) -> st.SearchStrategy[list[Row]]:
    """A handful of rows, most of them of the layout."""
    return st.lists(nearly_a_pair(layout), min_size=0, max_size=4)


def sound_rows() -> st.SearchStrategy[list[Row]]:
    """Rows with nothing wrong, for files that are damaged afterwards."""
    names = ("prompt", "chosen", "rejected", "domain")
    return st.lists(st.fixed_dictionaries(dict.fromkeys(names, _WORDS)), min_size=2, max_size=8)
