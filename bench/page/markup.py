"""HTML as text. What is not Html already is escaped: nothing from a result file gets into the page as markup."""
from html import escape

VOID = ("meta", "wbr")


class Html(str):
    """Markup that is not to be escaped again."""


def text(value):
    return value if isinstance(value, Html) else Html(escape(str(value)))


def tag(name, /, *children, **attributes):
    """<name attributes>children</name>; `class_` is class, `data_x` data-x."""
    head = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
                   for key, value in attributes.items() if value is not None)
    if name in VOID:
        return Html(f"<{name}{head}>")
    return Html(f"<{name}{head}>{''.join(map(text, children))}</{name}>")


def joined(parts, between=""):
    return Html(str(text(between)).join(text(part) for part in parts))


def breakable(name):
    """A name that may be broken behind its underlines."""
    return joined([part for n, word in enumerate(str(name).split("_")) for part in
                   ([Html("_<wbr>"), word] if n else [word])])


def table(head, rows, caption=None, numbers_from=1):
    """The first column names its row; from `numbers_from` on cells are set as numbers."""
    header = tag("tr", *(tag("th", breakable(cell), scope="col", class_="n" if n >= numbers_from else None)
                         for n, cell in enumerate(head)))
    body = [tag("tr", *(tag("th", cell, scope="row") if n == 0 else
                        tag("td", cell, class_="n" if n >= numbers_from else None) for n, cell in enumerate(row)))
            for row in rows]
    return tag("div", tag("table", *([tag("caption", caption)] if caption else []), tag("thead", header),
                          tag("tbody", *body)), class_="scroll", tabindex="0", role="group",
               aria_label=caption or "table")
