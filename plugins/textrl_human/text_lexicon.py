"""Values of words: the built-in list, and lists in files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from textrl.errors import UserError
from textrl.tamer.text.reading import WORD

#: Value -> words of praise (above 0) and blame, as reviews have them: 1 mild, 2 clear, 3 strong.
_BUILT_IN: dict[int, str] = {
    3: "amazing awesome beautiful best brilliant delightful excellent fabulous fantastic love loved "
    "magnificent marvellous masterpiece outstanding perfect perfectly superb terrific wonderful "
    "wonderfully",
    2: "adorable charming clever enjoy enjoyable enjoyed excited exciting favorite favourite fun funny "
    "glad good great happiness happy heartfelt hilarious hope joy kind laugh laughed lovely nice "
    "pleasant pleased remarkable smile smiled success sweet thank thanks touching warm win wise witty "
    "won",
    1: "better bright calm clean clear comfortable easy enough fair fine fresh friend friendly gentle "
    "healthy help helpful interesting like liked okay peace pretty quality recommend safe smart "
    "smooth strong useful well worth",
    -1: "cheap cold confusing doubt dull flat hard lack lacks long loud mediocre odd old predictable "
    "problem silly slow strange tired trouble uneven unlikely weak worry",
    -2: "afraid angry annoying bad badly bland bored boring broken clumsy cry dead die died dirty "
    "disappointed disappointing fail failed failure fear forgettable lame lie loss lost mess painful "
    "poor poorly sad scared shame sick sorry stupid tedious ugly unfunny unhappy unpleasant waste "
    "wasted wrong",
    -3: "appalling atrocious awful crap cruel disaster disgusting dreadful garbage hate hated hateful "
    "hideous horrible horribly horrific pathetic terrible terribly trash unbearable unwatchable worse "
    "worst worthless",
}


def built_in() -> dict[str, float]:
    """Return the built-in list: word -> value, from -3 to 3."""
    return {word: float(value) for value, words in _BUILT_IN.items() for word in words.split()}


def plain(word: str) -> str:
    """Return a word as lexicons have it: in lower case, with straight apostrophes."""
    return word.lower().replace("’", "'")


def look_up(lexicon: Mapping[str, float], word: str) -> float:
    """Return a word's value, 0 where it has none; "film's" is looked up as "film" where it is not there."""
    key = plain(word)
    if key not in lexicon and key.endswith("'s"):
        key = key[:-2]
    return lexicon.get(key, 0.0)


def checked(entries: Mapping[str, float]) -> dict[str, float]:
    """Return a lexicon that a config holds.

    Raises:
        UserError: When it is empty, or an entry is no single word, has no finite value, or is there twice.
    """
    if not entries:
        raise UserError("The reader's lexicon is empty; give words and their values.")
    for key in entries:
        if not WORD.fullmatch(plain(key)):
            raise UserError(
                f"The reader's lexicon holds '{key}', which is no single word and would never be met; give "
                "words of letters and digits."
            )
    return _collected((f"The reader's lexicon, '{key}'", key, value) for key, value in entries.items())


def read_lexicon(path: str | Path) -> dict[str, float]:
    """Return the lexicon of a file; emoticons and phrases in it, which no word is, are passed over.

    Args:
        path: JSON (an object word -> value) where the name ends in ``.json``; else text, each line a word,
            a tab and its value. Further columns, empty lines and lines that begin with ``#`` do not count.

    Raises:
        UserError: When it cannot be read, a value is no finite number, two entries contradict each other,
            or no word is left; names file and line.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"The reader's lexicon {path} cannot be read ({reason}).") from error
    rows = _json_rows(path, text) if str(path).endswith(".json") else _tab_rows(path, text)
    found = _collected(row for row in rows if WORD.fullmatch(plain(row[1])))
    if not found:
        raise UserError(f"The reader's lexicon {path} holds no words; give lines of word, tab and value.")
    return found


def _json_rows(path: str | Path, text: str) -> Iterator[tuple[str, str, object]]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"The reader's lexicon {path} is not JSON ({error}).") from error
    if not isinstance(found, dict):
        raise UserError(f"The reader's lexicon {path} is no JSON object; write {{word: value, ...}}.")
    for word, value in found.items():
        yield f"The reader's lexicon {path}, '{word}'", word, value


def _tab_rows(path: str | Path, text: str) -> Iterator[tuple[str, str, object]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        where = f"The reader's lexicon {path}, line {number}"
        word, tab, rest = line.partition("\t")
        if not tab:
            raise UserError(f"{where}: there is no tab in '{line:.40}'; write a word, a tab and its value.")
        shown = rest.split("\t")[0].strip()
        try:
            yield where, word.strip(), float(shown)
        except ValueError:
            raise UserError(f"{where}: the value '{shown:.40}' is no number.") from None


def _collected(rows: Iterable[tuple[str, str, object]]) -> dict[str, float]:
    """Return word -> value of (place, word, value)."""
    found: dict[str, float] = {}
    for where, word, value in rows:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{where}: the value is {value!r}; give a finite number.")
        key, worth = plain(word), float(value)
        if found.setdefault(key, worth) != worth:
            raise UserError(
                f"{where}: '{key}' is there twice, with the values {found[key]:g} and {worth:g}; upper and "
                "lower case are one word."
            )
    return found
