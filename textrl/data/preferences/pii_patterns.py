"""Patterns of personal data with what a check digit or a registry can decide; one function finds them all.

Names, street addresses and birthdays are not looked for: no pattern tells them from ordinary words.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Finding(NamedTuple):
    """Personal data in a text: its kind and where it stands, as a slice."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Kind:
    """One kind of personal data.

    Attributes:
        name: As the command line has it.
        what: For the page and the help.
        pattern: What it looks like.
        needs: A character without which it cannot be there: a cheap test before the pattern.
        holds: Whether a match is one in truth.
    """

    name: str
    what: str
    pattern: re.Pattern[str]
    needs: str
    holds: Callable[[str], bool]


#: Length of an IBAN by country, from the registry of SWIFT (ISO 13616).
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29,
    "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28,
    "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip


def luhn(digits: str) -> bool:
    """Check the last digit of a card's number (ISO/IEC 7812-1, annex B)."""
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + index % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban(text: str) -> bool:
    """Check an IBAN's length and check digits: rearranged it is 1 modulo 97 (ISO 13616, ISO 7064)."""
    compact = text.replace(" ", "").upper()
    if IBAN_LENGTHS.get(compact[:2]) != len(compact):
        return False
    return int("".join(str(int(letter, 36)) for letter in compact[4:] + compact[:4])) % 97 == 1


def card(text: str) -> bool:
    """Check the length, the issuer's range and the check digit of a payment card's number."""
    digits = re.sub(r"\D", "", text)
    return bool(_ISSUERS.fullmatch(digits)) and luhn(digits)


def public_ip(text: str) -> bool:
    """Tell an address that belongs to somebody from loopback, private, documentation and reserved ones."""
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def ssn(text: str) -> bool:
    """Check that a number of the form of a US social security number is one that may be given out."""
    area, group, serial = text.replace(" ", "-").split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def phone(text: str) -> bool:
    """Check the number of digits: ITU-T E.164 has at most 15, and fewer than 8 are no whole number."""
    digits = re.sub(r"\D", "", text)
    return 8 <= len(digits) <= 15 and len(set(digits)) > 1


_ISSUERS = re.compile(
    r"4\d{12}(?:\d{3}){0,2}"  # Visa
    r"|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|[689]\d)\d{11}"  # Diners Club
    r"|(?:6011|65\d{2}|64[4-9]\d)\d{12}"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|62\d{14,17}"  # UnionPay
)
_PHONE = re.compile(
    r"(?<![\w.+/-])(?:"
    r"\+\d{1,3}(?:[ .\-/]?\(?\d{1,4}\)?){2,6}"  # international: a plus sign and groups
    r"|(?:1[ .\-])?\(\d{3}\)[ .\-]?\d{3}[ .\-]\d{4}"  # North America with parentheses
    r"|(?:1[ .\-])?[2-9]\d{2}([ .\-])\d{3}\1\d{4}"  # and without, one kind of separator
    r"|\(?0\d{2,4}\)?[ /\-]\d{3,4}[ \-]?\d{3,5}"  # national with a leading 0 and a separated area code
    r")(?![\w-]|\.\d)"
)
#: In order of precedence: where two overlap, the earlier kind is reported.
KINDS: tuple[Kind, ...] = (
    Kind(
        "email",
        "e-mail address",
        re.compile(
            r"(?<![\w.+%-])[A-Za-z0-9_%+-]+(?:\.[A-Za-z0-9_%+-]+)*"
            r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![\w-])"
        ),
        "@",
        lambda text: True,
    ),
    Kind(
        "iban",
        "bank account (IBAN, check digits right)",
        re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{1,4}){3,8}(?![A-Za-z0-9])"),
        "",
        iban,
    ),
    Kind(
        "card",
        "payment card (issuer's range, check digit right)",
        re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)"),
        "",
        card,
    ),
    Kind(
        "ssn",
        "number of the form of a US social security number",
        re.compile(r"(?<![\w.-])\d{3}(?:-\d{2}-|\x20\d{2}\x20)\d{4}(?![\w-]|\.\d)"),
        "",
        ssn,
    ),
    Kind(
        "ip",
        "public IP address, version 4 or 6",
        re.compile(
            r"(?<![\w.:-])(?:\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)"
            r"|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:-]))"
        ),
        "",
        public_ip,
    ),
    Kind("phone", "telephone number", _PHONE, "", phone),
)
NAMES = tuple(kind.name for kind in KINDS)
_DIGIT = re.compile(r"\d")


def find(text: str, kinds: tuple[str, ...] = NAMES) -> list[Finding]:
    """Return what is found in a text, in its order, without overlaps.

    Args:
        text: Any.
        kinds: Names in `NAMES` to look for.
    """
    found: list[Finding] = []
    has_digit = _DIGIT.search(text) is not None
    for kind in KINDS:
        if kind.name not in kinds or kind.needs not in text or not (has_digit or kind.needs):
            continue
        for start, end in _matches(kind, text):
            if all(end <= other.start or start >= other.end for other in found):
                found.append(Finding(kind.name, start, end))
    return sorted(found, key=lambda item: item.start)


def _matches(kind: Kind, text: str) -> Iterator[tuple[int, int]]:
    """Yield the matches that hold; an IBAN with words behind it is tried without them."""
    for match in kind.pattern.finditer(text):
        start, end = match.span()
        if kind.name == "iban":
            end = _iban_end(text, start, end)
        if kind.holds(text[start:end]):
            yield start, end


def _iban_end(text: str, start: int, end: int) -> int:
    """Return where the IBAN ends by its country's length: the next word may look like a group of it."""
    left = IBAN_LENGTHS.get(text[start : start + 2].upper(), 0)
    for index in range(start, end):
        left -= text[index] != " "
        if left == 0:
            whole = index + 1 == len(text) or not text[index + 1].isalnum()
            return index + 1 if whole else end
    return end
