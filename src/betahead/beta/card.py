"""What a page of methods says of one of them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MethodCard:
    """Facts about a method that code cannot say of itself.

    Args:
        title: the name its authors use.
        formula: what it does, in the symbols of docs/theory.md, a line for every equation.
        cost: what it needs beyond DPO, in passes and memory.
        source: authors, year and link.
        deviates: from the paper or its code, and why; "" for nothing.
        checked: how far the source was read, `code`, `paper` or `abstract`; "" where it is this package.
        refuses: combinations that are an error and that code cannot say, each as a clause.
    """

    title: str
    formula: str
    cost: str
    source: str
    deviates: str = ""
    checked: str = "paper"
    refuses: tuple[str, ...] = ()
