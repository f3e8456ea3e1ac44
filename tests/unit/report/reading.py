"""Read a page as a strict reader would: every tag is closed, and text is what a person sees."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "source", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """`problems`: tags that do not balance. `text`: by section id, whitespace collapsed. `cells`: tables' rows.

    `code`: what is set as code.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.problems: list[str] = []
        self.code: list[str] = []
        self.section = "header"
        self._text: dict[str, list[str]] = {}
        self.rows: dict[str, list[list[str]]] = {}
        self.feed(html)
        self.close()
        self.problems += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "br":
            self.handle_data(" ")
        if tag == "section":
            self.section = dict(attrs)["id"] or ""
        if tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        if tag == "td":
            self.rows[self.section][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> at line {self.getpos()[0]} closes another tag")

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self._text.setdefault(self.section, []).append(data)
        if self.open[-1:] == ["code"]:
            self.code.append(data)
        if "td" in self.open:
            self.rows[self.section][-1][-1] += data

    def text(self, section: str | None = None) -> str:
        parts = [part for name, texts in self._text.items() if section in (None, name) for part in texts]
        return " ".join(" ".join(parts).split())

    def table(self, section: str) -> list[list[str]]:
        return [[" ".join(cell.split()) for cell in row] for row in self.rows.get(section, []) if row]

    def resources(self) -> list[str]:
        return [
            value
            for _, attributes in self.tags
            for name in ("src", "href", "srcset")
            if (value := attributes.get(name))
        ]
