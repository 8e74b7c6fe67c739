"""The look of every evaluation report: one HTML file without scripts or links to elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

__all__ = ["Html", "cells", "headline", "interval", "page", "section", "table"]


class Html(str):
    """Text that is markup already; all other text is escaped."""

    __slots__ = ()


_STYLE = """
body{font:16px/1.5 system-ui,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;color:#1b2733;margin:0;background:#f4f6f8}
main{max-width:900px;margin:0 auto;padding:32px 24px;background:#fff}
h1{font-size:26px;margin:0 0 4px} h2{font-size:19px;margin:34px 0 8px} p{margin:6px 0}
.muted{color:#5a6b7b;font-size:14px}
.headline{font-size:18px;padding:12px 16px;border-left:5px solid #157f5b;background:#eaf6f1;margin:16px 0}
.headline.bad{border-color:#b3402a;background:#fbeeeb} .headline.plain{border-color:#1f5fa8;background:#eef4fb}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;margin:10px 0;font-variant-numeric:tabular-nums}
th,td{padding:7px 10px;border-bottom:1px solid #dde4ea;text-align:right} th:first-child,td:first-child{text-align:left}
th{font-size:14px;color:#3b4b5a} td small{display:block;color:#5a6b7b;max-width:330px}
td+td small{margin-left:auto;font-weight:400} .left{text-align:left}
td.best{font-weight:700;color:#0e6a4b} td.bad{font-weight:700;color:#b3402a}
svg{max-width:100%;height:auto} td svg{display:block;margin-left:auto;min-width:190px}
figure{margin:10px 0} figcaption{font-size:14px;color:#5a6b7b} .pair{display:flex;flex-wrap:wrap;gap:16px}
.pair figure{flex:1 1 380px}
"""


def page(title: str, under: str, parts: Iterable[str]) -> str:
    """The whole document; `under` stands in small below the title."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>
<h1>{escape(title)}</h1>
<p class="muted">{escape(under)}</p>
{"".join(parts)}
</main></body></html>
"""


def headline(sentence: str, tone: str = "", after: str = "") -> str:
    """The outcome in one sentence; `tone` is "" for good, "bad" or "plain"; `after` is markup below it."""
    return f'<p class="headline {tone}">{escape(sentence)}{after}</p>\n'


def section(title: str, *parts: str, note: str = "") -> str:
    """A question that people have, the markup that answers it, and a note in small."""
    small = f'<p class="muted">{escape(note)}</p>' if note else ""
    return f"<h2>{escape(title)}</h2>{''.join(parts)}{small}\n"


def table(heads: Sequence[str], rows: Iterable[str], left: Collection[int] = ()) -> str:
    """A table of rows that `cells` made; no head where `heads` is empty; heads of texts stand `left`."""
    named = (f"<th{' class=left' if n in left else ''}>{escape(name)}</th>" for n, name in enumerate(heads))
    head = f"<tr>{''.join(named)}</tr>" if heads else ""
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'


def cells(*values: str, marks: dict[int, str] | None = None) -> str:
    """A row; `marks` gives cells a class by their place: best, bad or left."""
    found = []
    for place, value in enumerate(values):
        mark = f' class="{(marks or {})[place]}"' if place in (marks or {}) else ""
        found.append(f"<td{mark}>{value if isinstance(value, Html) else escape(value)}</td>")
    return f"<tr>{''.join(found)}</tr>"


def interval(low: float | None, high: float | None, form: str = ".4f") -> str:
    """Both ends, or nothing."""
    return "" if low is None or high is None else f"{low:{form}}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high:{form}}"
