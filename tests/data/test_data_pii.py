"""Personal data: what is one and what only looks like one, and what each action leaves."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textrl.cli import main
from textrl.data.preferences.pii import half_hidden, mask
from textrl.data.preferences.pii_patterns import find, iban, luhn

# Numbers that their issuers publish as examples.
HOLDS = [
    ("email", "ann.lee+x@mail.example.co.uk"),
    ("email", "a_b@x.io"),
    ("iban", "DE89370400440532013000"),
    ("iban", "GB29 NWBK 6016 1331 9268 19"),
    ("iban", "FR14 2004 1010 0505 0001 3M02 606"),
    ("card", "4111 1111 1111 1111"),
    ("card", "378282246310005"),
    ("card", "5555-5555-5555-4444"),
    ("ssn", "078-05-1120"),
    ("ip", "8.8.8.8"),
    ("ip", "2001:4860:4860::8888"),
    ("phone", "+44 20 7946 0958"),
    ("phone", "+1-202-555-0143"),
    ("phone", "(202) 555-0143"),
    ("phone", "202.555.0143"),
    ("phone", "030/1234567"),
]
LOOKS_LIKE = [
    "ann at example dot com",
    "@handle and x@y",
    "DE89370400440532013001",  # a wrong check digit
    "GB29 NWBK 6016 1331 9268",  # too short for its country
    "4111 1111 1111 1112",
    "1234567812345670",  # passes Luhn, no issuer
    "000-12-3456",
    "666-12-3456",
    "900-12-3456",
    "127.0.0.1 and 192.168.1.1 and 10.0.0.7",
    "999.1.1.1",
    "version 1.2.3.4.5",
    "12:30:45",
    "1999-2004 or 2026-11-21",
    "3.14159265358979",
    "1,234,567,890",
    "order 20261121",
    "0.123 0.456 0.789",
]


@pytest.mark.parametrize(("kind", "text"), HOLDS)
def test_what_is_personal_data(kind: str, text: str) -> None:
    around = f"Reach me: {text}, or not."
    assert [(one.kind, around[one.start : one.end]) for one in find(around)] == [(kind, text)]
    assert mask(around) == f"Reach me: [{kind.upper()}], or not."


@pytest.mark.parametrize("text", LOOKS_LIKE)
def test_what_only_looks_like_it(text: str) -> None:
    assert find(f"It says {text}.") == []


def test_an_iban_ends_where_its_country_says() -> None:
    assert mask("to DE89 3704 0044 0532 0130 00 now please") == "to [IBAN] now please"


@given(st.text("0123456789", min_size=11, max_size=18))
def test_exactly_one_last_digit_passes_luhn(digits: str) -> None:
    assert sum(luhn(digits + str(last)) for last in range(10)) == 1


@given(st.text("0123456789", min_size=18, max_size=18), st.integers(0, 17), st.integers(1, 9))
def test_an_iban_notices_a_changed_digit(account: str, place: int, more: int) -> None:
    # 98 minus the remainder with check digits 00: the rule by which a bank makes them.
    number = int(account + "1314" + "00")
    whole = f"DE{98 - number % 97:02d}{account}"
    assert iban(whole)
    changed = account[:place] + str((int(account[place]) + more) % 10) + account[place + 1 :]
    assert not iban(whole[:4] + changed)


@given(st.text(max_size=60))
def test_masking_leaves_the_rest_and_nothing_to_find(text: str) -> None:
    found = find(text)
    assert all(one.end <= two.start for one, two in pairwise(found))
    if not found:
        assert mask(text) == text


def test_a_finding_is_half_hidden() -> None:
    assert half_hidden("ann@example.com") == "ann*********com"
    assert half_hidden("a@b.co") == "a****o"


MESSAGES = [{"role": "user", "content": "I am ann@example.com"}, {"role": "assistant", "content": "Hello"}]
RECORDS: list[dict[str, Any]] = [
    {"prompt": "Hello", "completion": "Hi"},
    {"prompt": "Call +44 20 7946 0958", "completions": ["ok", "write to bob@example.org"], "ranks": [1, 2]},
    {"messages": MESSAGES, "user_id": "ann@example.com"},
]


def screened(tmp_path: Path, *options: str) -> int:
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in RECORDS), encoding="utf-8")
    return main(["data", "screen", str(source), *options])


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert screened(tmp_path, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["records"], report["affected"]) == (3, 2)
    assert report["findings"] == {"phone": 1, "email": 2}
    assert report["columns"] == {"prompt": 1, "completions": 1, "messages": 1}
    assert report["places"]["phone"] == [{"row": 2, "column": "prompt", "text": "+44**********958"}]
    assert "ann@example.com" not in json.dumps(report)


def test_mask_and_drop(tmp_path: Path) -> None:
    masked, dropped = tmp_path / "m.jsonl", tmp_path / "d.jsonl"
    assert screened(tmp_path, "--action", "mask", "--out", str(masked)) == 0
    assert screened(tmp_path, "--action", "drop", "--out", str(dropped)) == 0
    lines = [json.loads(line) for line in masked.read_text().splitlines()]
    assert lines[0] == RECORDS[0]
    assert lines[1] == {"prompt": "Call [PHONE]", "completions": ["ok", "write to [EMAIL]"], "ranks": [1, 2]}
    assert lines[2]["messages"] == [{"role": "user", "content": "I am [EMAIL]"}, MESSAGES[1]]
    assert lines[2]["user_id"] == "ann@example.com"  # no text column
    assert dropped.read_text() == json.dumps(RECORDS[0]) + "\n"


def test_only_some_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert screened(tmp_path, "--kinds", "phone", "--json") == 0
    assert json.loads(capsys.readouterr().out)["findings"] == {"phone": 1}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--action", "drop"], "name it with --out"),
        (["--out", "x.jsonl"], "add --action mask or --action drop"),
        (["--kinds", "mail"], "Did you mean 'email'?"),
        (["--action", "mask", "--out", "x.parquet"], "must end in .jsonl"),
    ],
)
def test_mistakes_of_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert screened(tmp_path, *options) == 2
    assert said in capsys.readouterr().err
