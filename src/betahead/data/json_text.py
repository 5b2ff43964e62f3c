"""JSON as rows hold it: each key once, no deeper and with no longer numbers than Python reads."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from betahead.data.rows import shown
from betahead.errors import DataError


class _GivenTwiceError(ValueError):
    """A key that stands twice in an object."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def parsed_json(document: str, place: Callable[[int], str], *, whole: str) -> Any:
    """The value of a JSON text.

    Args:
        document: one JSON value.
        place: how errors call a line of it.
        whole: how errors call all of it.

    Raises:
        DataError: malformed, nested too deeply, with a key twice in one object, or with a number that is too long.
    """
    try:
        return json.loads(document, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{place(error.lineno)}: the text must be JSON, but is malformed at column {error.colno} ({error.msg}); "
            "correct or remove it."
        ) from None
    except RecursionError:
        raise DataError(f"{whole}: the JSON must be flat, but is nested too deeply to be read.") from None
    except _GivenTwiceError as error:
        raise DataError(
            f"{whole}: a JSON object must give each key once, but one gives {shown(error.key)} twice; remove one of "
            "the two."
        ) from None
    except ValueError:  # of `int`, whose conversion takes quadratic time
        raise DataError(
            f"{whole}: the numbers must be of a size that can be computed with, but one has thousands of digits; "
            "correct it or write it as text."
        ) from None


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _GivenTwiceError(key)
            seen.add(key)
    return found
