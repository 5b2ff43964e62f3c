"""Formulas of the documentation as MathML, which browsers draw by themselves: no script, no font, no request.

It reads the part of TeX that the pages use. A command that it does not know is an error, so no formula is left out.
"""

import re
from collections.abc import Callable
from html import escape

_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\d+(?:\.\d+)?|\s+|.", re.DOTALL)
_GROUP = re.compile(r"\{([^{}]*)\}")

_GREEK = {
    "beta": "β", "pi": "π", "tau": "τ", "sigma": "σ", "rho": "ρ", "theta": "θ", "ell": "ℓ", "varepsilon": "ε",
    "epsilon": "ϵ", "eta": "η", "phi": "φ", "lambda": "λ", "delta": "δ", "omega": "ω", "partial": "∂", "nabla": "∇",
}  # fmt: skip
_OPERATORS = {
    "cdot": "⋅", "ast": "∗", "sim": "∼", "succ": "≻", "mid": "∣", "|": "‖", "Vert": "‖", "vert": "|", "in": "∈",
    "le": "≤", "ge": "≥", "approx": "≈", "propto": "∝", "leftarrow": "←", "pm": "±", "sum": "∑",
}  # fmt: skip
_FUNCTIONS = ("log", "exp", "tanh", "min", "max")
_WIDTHS = {",": "0.167em", ";": "0.278em", "quad": "1em", "qquad": "2em"}
_ACCENTS = {"hat": "^", "tilde": "~"}
_SIZES = {"big": "1.2em", "Big": "1.8em"}
_BLACKBOARD = {"E": "𝔼"}
_LIMITS = ("sum", "min", "max")
_RIGHT = "\\right"
_OPENING = ("(", "[", "\\big", "\\Big", "\\left")


def to_mathml(tex: str, *, display: bool) -> str:
    """A formula as a `math` element.

    Args:
        tex: without its dollar signs.
        display: whether it stands on a line of its own.

    Raises:
        ValueError: for a command that is not known, or a group without its end.
    """
    kind = ' display="block"' if display else ""
    return f"<math{kind}><mrow>{_Reader(tex, display=display).whole()}</mrow></math>"


def _space(width: str) -> str:
    return f'<mspace width="{width}"></mspace>'


def _words(text: str) -> str:
    return escape(text).replace(" ", "&#160;")


def _plain(token: str) -> str:
    """A letter, a number or a sign."""
    if token.isalpha():
        return f"<mi>{token}</mi>"
    if token[:1].isdigit():
        return f"<mn>{token}</mn>"
    fixed = ' stretchy="false"' if token in "()[]|/" else ""
    return f"<mo{fixed}>{escape(token).replace('-', '−')}</mo>"


_SYMBOLS = {
    **{name: f"<mi>{sign}</mi>" for name, sign in _GREEK.items()},
    **{name: f'<mo stretchy="false">{sign}</mo>' for name, sign in _OPERATORS.items()},
    **{name: f"<mi>{name}</mi>" for name in _FUNCTIONS},
    **{name: _space(width) for name, width in _WIDTHS.items()},
}


class _Reader:
    """Reads a formula from left to right."""

    def __init__(self, tex: str, *, display: bool) -> None:
        self.tex = tex
        self.display = display
        self.tokens = [(one[0], one.start()) for one in _TOKEN.finditer(tex) if not one[0].isspace()]
        self.place = 0
        self.built: dict[str, Callable[[], str]] = {
            "frac": self._fraction,
            "tfrac": self._fraction,
            "sqrt": lambda: f"<msqrt>{self._argument()}</msqrt>",
            "text": lambda: f"<mtext>{_words(self._text())}</mtext>",
            "mathrm": lambda: f'<mi mathvariant="normal">{_words(self._text())}</mi>',
            "operatorname": lambda: f'<mi mathvariant="normal">{_words(self._text())}</mi>',
            "mathbb": lambda: f"<mi>{_BLACKBOARD[self._text()]}</mi>",
            "left": lambda: f"<mrow>{_plain(self._next())}{self._row(_RIGHT)}{_plain(self._next())}</mrow>",
            "underbrace": lambda: f"<munder>{self._argument()}<mo>⏟</mo></munder>",
            # Lines are drawn by the style sheet: few fonts have a line that stretches.
            "bar": lambda: f'<mrow class="over">{self._argument()}</mrow>',
            "overline": lambda: f'<mrow class="over">{self._argument()}</mrow>',
            "boxed": lambda: f'<mrow class="boxed">{self._argument()}</mrow>',
            "begin": self._matrix,
        }

    def whole(self) -> str:
        """The whole formula."""
        parts: list[str] = []
        while self._ahead():
            parts.append(self._scripted())
        return "".join(parts)

    def _ahead(self) -> str:
        """The next token, which stays; nothing at the end."""
        return self.tokens[self.place][0] if self.place < len(self.tokens) else ""

    def _next(self) -> str:
        if not self._ahead():
            raise ValueError(f"the formula {self.tex!r} must be whole, but ends where a group or an argument is due.")
        self.place += 1
        return self.tokens[self.place - 1][0]

    def _row(self, end: str) -> str:
        """What stands up to `end`, which is read too."""
        parts: list[str] = []
        while self._ahead() != end:
            parts.append(self._scripted())
        self._next()
        return "".join(parts)

    def _argument(self) -> str:
        """A group, or one token."""
        if self._ahead() != "{":
            return self._atom()
        self._next()
        return f"<mrow>{self._row('}')}</mrow>"

    def _text(self) -> str:
        """The text of a group as it stands, its spaces included."""
        group = _GROUP.match(self.tex, self.tokens[self.place][1]) if self._ahead() else None
        if group is None:
            raise ValueError(f"the formula {self.tex!r} must have a group after a command that takes text.")
        while self._next() != "}":
            pass
        return group[1]

    def _scripted(self) -> str:
        """An atom with what stands below and above it, and the space around a function."""
        name = self._ahead().removeprefix("\\")
        base = self._atom()
        below, above = "", ""
        while self._ahead() in ("^", "_", "'"):
            mark = self._next()
            if mark == "_":
                below = self._argument()
            else:
                above += "<mo>′</mo>" if mark == "'" else self._argument()
        limits = (self.display and name in _LIMITS) or name == "underbrace"
        under, over, both = ("munder", "mover", "munderover") if limits else ("msub", "msup", "msubsup")
        above = above and f"<mrow>{above}</mrow>"
        if below or above:
            kind = both if below and above else under if below else over
            base = f"<{kind}>{base}{below}{above}</{kind}>"
        if name not in (*_FUNCTIONS, "operatorname"):
            return base
        thin = _space(_WIDTHS[","])
        return thin + base + (thin if self._ahead() and self._ahead() not in _OPENING else "")

    def _atom(self) -> str:
        token = self._next()
        name = token.removeprefix("\\")
        if token == "{":
            return f"<mrow>{self._row('}')}</mrow>"
        if name == token:
            return _plain(token)
        if name in _SYMBOLS:
            return _SYMBOLS[name]
        if name in _ACCENTS:
            return f'<mover accent="true">{self._argument()}<mo>{_ACCENTS[name]}</mo></mover>'
        if name in _SIZES:
            return f'<mo minsize="{_SIZES[name]}" maxsize="{_SIZES[name]}">{escape(self._next())}</mo>'
        if name not in self.built:
            raise ValueError(f"the formula {self.tex!r} must have commands of mathml.py, but has {token} instead.")
        return self.built[name]()

    def _fraction(self) -> str:
        r"""A fraction; `\frac12` has two arguments of one digit."""
        parts: list[str] = []
        for _ in range(2):
            token, start = self.tokens[self.place] if self._ahead() else ("", 0)
            if len(token) > 1 and token.isdigit():
                self.tokens[self.place : self.place + 1] = [(one, start + at) for at, one in enumerate(token)]
            parts.append(self._argument())
        return f"<mfrac>{''.join(parts)}</mfrac>"

    def _matrix(self) -> str:
        kind = self._text()
        if kind != "pmatrix":
            raise ValueError(f"the formula {self.tex!r} must have no environment but pmatrix, but has {kind}.")
        rows = [[""]]
        while self._ahead() != "\\end":
            if self._ahead() == "&":
                self._next()
                rows[-1].append("")
            elif self._ahead() == "\\\\":
                self._next()
                rows.append([""])
            else:
                rows[-1][-1] += self._scripted()
        self._next()
        self._text()
        cells = "".join(f"<mtr>{''.join(f'<mtd>{cell}</mtd>' for cell in row)}</mtr>" for row in rows)
        return f"<mrow><mo>(</mo><mtable>{cells}</mtable><mo>)</mo></mrow>"
