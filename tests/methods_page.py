"""The generated part of docs/methods.md; `python tests/methods_page.py` writes it anew.

Of every section `### NAME` all is made of the tables of methods but the row `tests`, which a person writes and which
stays. What stands before the first section of a group, and after the last, stays too.
"""

import json
import re
from pathlib import Path

from betahead.runs.methods import GROUPS, Method, methods

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
_SECTION = re.compile(r"^### `(?P<name>\w+)`\n(?P<body>.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_TESTS = re.compile(r"^\| tests \| (.*) \|$", re.MULTILINE)


def sections(page: str) -> dict[str, str]:
    """The bodies of the sections by name."""
    return {match["name"]: match["body"] for match in _SECTION.finditer(page)}


def named_tests(body: str) -> list[tuple[str, str]]:
    """File and function of every test that a section names."""
    row = _TESTS.search(body)
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[1]) if row else []


def written(page: str) -> str:
    """The page with every section as the code has it now, in the order of the tables."""
    there = sections(page)
    parts = re.split(r"^## ", page, flags=re.MULTILINE)
    heads = {group: title.split(",")[0].split(" (")[0] for group, title in GROUPS.items()}
    made: list[str] = []
    for part in parts:
        title = part.partition("\n")[0]
        group = next((group for group, head in heads.items() if head == title), None)
        if group is None:
            made.append(part)
            continue
        rows = [method for method in methods() if method.group == group]
        intro = part.partition("### `")[0]
        made.append(intro + "".join(_section(method, there.get(method.name, "")) for method in rows))
    return "## ".join(made)


def _section(method: Method, old: str) -> str:
    tests = _TESTS.search(old)
    rows = {
        "function": f"`{method.where}`",
        "reads": method.reads,
        "needs": method.needs,
        "costs": method.cost,
        "defaults": ", ".join(
            f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in method.defaults.items()
        ),
        "tests": tests[1] if tests else "",
        "refused": "; ".join(method.refuses),
        "deviates": method.deviates or "in nothing",
    }
    table = "\n".join(f"| {label} | {text.replace('|', '&#124;')} |" for label, text in rows.items() if text)
    read = f" (read: {method.checked})" if method.checked else ""
    return (
        f"### `{method.name}`\n\n{method.title}: {method.source}{read}.\n\n"
        f"```text\n{method.formula}\n```\n\n| | |\n|---|---|\n{table}\n\n"
    )


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
