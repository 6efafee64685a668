"""Parses a page with html.parser and remembers what the tests ask about."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        elements: (tag, attributes, text inside) in order of their start.
        problems: Unbalanced tags.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.problems: list[str] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()
        self.problems += [f"<{self.elements[i][0]}> is not closed" for i in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.problems.append(f"<{tag}> has an attribute twice: {names}")
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self.elements[self._open[-1]][0] != tag:
            self.problems.append(f"</{tag}> closes nothing")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for index in self._open:
            self.elements[index][2].append(data)

    def all(self, tag: str, css: str = "") -> list[tuple[dict[str, str], str]]:
        """Return (attributes, text) of every such element."""
        return [
            (attributes, "".join(text))
            for name, attributes, text in self.elements
            if name == tag and (not css or css in attributes.get("class", "").split())
        ]

    def text(self) -> str:
        """Return everything a reader can see."""
        return "".join(text for _, text in self.all("header") + self.all("main") + self.all("footer"))
