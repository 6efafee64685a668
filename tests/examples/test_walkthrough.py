"""What follows the example pages tells a true page from a false one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from walkthrough import Command, File, agrees, follow, steps_of

PAGES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.md"))

PAGE = """Text. `notes/a.txt`:

```text
one
```

<!-- numbers within 10 % -->
```console
$ cat notes/a.txt \\
    notes/a.txt
one
one
$ cd notes
```

```python
print("no file: nobody named it")
```
"""


def test_files_and_commands_are_found_in_order() -> None:
    assert steps_of(PAGE) == [
        File("notes/a.txt", "one\n"),
        Command("cat notes/a.txt \\\n    notes/a.txt", "one\none\n", 0.1),
        Command("cd notes", "", 0.1),
    ]


@pytest.mark.parametrize(
    ("expected", "found", "within", "answer"),
    [
        ("a 1.50 b", "a  1.50 b\n", 0.0, True),
        ("a 1.50 b", "a 1.51 b", 0.0, False),
        ("a 1.50 b", "a 1.51 b", 0.05, True),
        ("a 1.50 b", "a 1.70 b", 0.05, False),
        ("a 1.50 b", "a -1.50 b", 0.05, False),
        ("0 of 3", "7 of 9", float("inf"), True),
        ("0 of 3", "seven of 9", float("inf"), False),
        ("-13.0", "-13.0", 0.0, True),
        ("12,345 events", "12,999 events", 0.1, True),
        ("3 passed in 4.2 s", "3 passed in 61.07s", 0.0, False),
        ("3 passed in 4.2s", "3 passed in 61.07s", 0.0, True),
        ("3 passed in 4.2s", "2 passed in 4.2s", 0.0, False),
        ("first\n...\nlast", "first\nlast", 0.0, True),
        ("first\n...\nlast", "first\nx\ny\nlast", 0.0, True),
        ("first\n...\nlast", "first\nx\nlast\nmore", 0.0, False),
        ("key ... end", "key anything end", 0.0, True),
        ("[1, 2]", "[1, 2]", 0.0, True),
        ("a.b", "axb", 0.0, False),
        ("one", "", 0.0, False),
    ],
)
def test_what_counts_as_the_same_output(expected: str, found: str, within: float, answer: bool) -> None:
    assert agrees(expected, found, within) is answer


def test_a_page_is_followed_and_a_directory_lasts(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE + "```console\n$ cat a.txt\none\n```\n")
    (tmp_path / "reader").mkdir()
    assert follow(page, tmp_path / "reader", os.environ)["cat a.txt"] == "one\n"


@pytest.mark.parametrize("wrong", ["$ echo one\ntwo", "$ false", "$ echo one\none\ntwo"])
def test_a_page_that_is_not_true_is_noticed(tmp_path: Path, wrong: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```console\n{wrong}\n```\n")
    (tmp_path / "reader").mkdir()
    with pytest.raises(AssertionError, match=r"page\.md: \$ "):
        follow(page, tmp_path / "reader", os.environ)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere_and_every_page_has_a_test(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(((?!http)[^)#]+)", text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"
    assert (Path(__file__).parent / f"test_example_{page.stem}.py").is_file()
