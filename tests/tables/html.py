"""A page, parsed."""

from html.parser import HTMLParser

_VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Texts of all tables' cells, and what else tests ask for; refuses elements that are not closed in order."""

    def __init__(self, source):
        super().__init__()
        self.tables, self.addresses, self.ids, self.keys, self.text = [], [], set(), [], ""
        self._open = []
        self.feed(source)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.addresses += [found[key] for key in ("src", "href") if key in found]
        self.ids |= {found["id"]} if "id" in found else set()
        self.keys += [found["data-key"]] if "data-key" in found else []
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag in ("td", "th"):
            self.tables[-1][-1][-1] = " ".join(self.tables[-1][-1][-1].split())

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data
            if {"td", "th"} & set(self._open):
                self.tables[-1][-1][-1] += data
