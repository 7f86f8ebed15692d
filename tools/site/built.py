"""Look through built pages: nothing is fetched from elsewhere, every image has alternative text, every link arrives.

The standard library is enough, so that the tests can use this without the packages that build the pages.
"""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself while it shows a page; what is behind a link waits for a click.
_FETCHED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "audio": ("src",),
    "video": ("src", "poster"),
    "use": ("href",),
}
_IN_STYLE = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")
_IN_SCRIPT = re.compile(r"""\b(?:import|fetch|importScripts)\b[^;\n]{0,80}?["'](https?:[^"']+)""")


class _Page(HTMLParser):
    """What a page fetches, links to and offers as a target, and its images."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.links, self.targets, self.unnamed = [], [], set(), []
        self._inside = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = {name: value or "" for name, value in attributes}
        self._inside = tag if tag in ("style", "script") else None
        passive = tag == "link" and not re.search(r"stylesheet|icon|load|manifest", attributes.get("rel", ""))
        found = [attributes[name] for name in _FETCHED.get(tag, ()) if name in attributes]
        self.links += found
        if not passive:
            self.fetched += found
        self.fetched += ["".join(found) for found in _IN_STYLE.findall(attributes.get("style", ""))]
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        self.targets |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "img" and not attributes.get("alt", "").strip():
            self.unnamed.append(attributes.get("src", "")[:60])

    def handle_data(self, data):
        if self._inside == "style":
            self.fetched += ["".join(found) for found in _IN_STYLE.findall(data)]
        elif self._inside == "script":
            self.fetched += _IN_SCRIPT.findall(data)

    def handle_endtag(self, tag):
        self._inside = None


def faults(folder):
    """Say what is wrong with the pages and style sheets under a folder.

    Args:
        folder: Where a site or slides were built, a Path.

    Returns:
        list of str: One line a fault: what would be fetched from elsewhere, an image without alternative text, a link
        to a file or an anchor that is not there; empty when all is well.

    Raises:
        ValueError: If there is no page at all.
    """
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    if not pages:
        raise ValueError(f"{folder} holds what was built; it has no page. Run `make {folder.name}`.")
    found = []
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        found += [f"{name} fetches {url}" for url in page.fetched if _elsewhere(url)]
        found += [f"{name} shows an image without alternative text: {source}" for source in page.unnamed]
        found += [
            f"{name} links to {link}, which is not there" for link in page.links if not _arrives(link, path, pages)
        ]
    for path in sorted(folder.rglob("*.css")):
        urls = ["".join(found) for found in _IN_STYLE.findall(path.read_text(encoding="utf-8"))]
        found += [f"{path.relative_to(folder)} fetches {url}" for url in urls if _elsewhere(url)]
    return found


def _elsewhere(url):
    return url.strip().startswith(("http:", "https:", "//"))


def _arrives(link, path, pages):
    """Whether a link within the built folder leads to a file that is there, at an anchor that is there."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True  # to other places, which cannot be looked at offline, or data that is on the spot
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return False
    anchor = unquote(parts.fragment)
    return not anchor or target not in pages or anchor in pages[target].targets
