"""`show`: the source of the package, printed in the page, so that page and code cannot drift apart."""

import html
import inspect
import textwrap
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from pygments.style import Style
from pygments.token import Comment, Keyword, Name, Number, Operator, String, Token

import minirl
from minirl.book.plots import MUTED, Shown, framed


class Light(Style):
    """Dark ink on white, each with a contrast above 5:1, which no style that comes with pygments has throughout."""

    background_color = "#ffffff"
    styles = {  # noqa: RUF012 (pygments reads a plain dict)
        Token: "#1b1f24",
        Comment: "italic #57606a",
        Keyword: "bold #8f1a63",
        Operator.Word: "bold #8f1a63",
        Name.Function: "bold #00598c",
        Name.Class: "bold #00598c",
        Name.Decorator: "#00598c",
        Name.Builtin: "#00598c",
        Name.Builtin.Pseudo: "#8f1a63",
        Number: "#9a3b00",
        String: "#116329",
        String.Doc: "italic #116329",
    }


PRE_CSS = "margin:0;padding:0;border:0;background:#fff;font-size:.875rem;line-height:1.5;color:inherit;overflow:visible"


def show(*objs):
    """Show the source of functions or classes, highlighted; make it the last line of a cell.

    TypeError when one has no Python source (a builtin, a constant, a result).
    """
    parts = [source_of(obj) for obj in objs]
    page = "".join(code_page(*part) for part in parts)
    return Shown(page, "\n\n".join(f"# {place}\n{code}" for _, place, code in parts))


def source_of(obj):
    """(name, "file, line n", source without the indentation of its surroundings)."""
    name = getattr(obj, "__name__", type(obj).__name__)
    try:
        lines, first = inspect.getsourcelines(obj)
        file = inspect.getsourcefile(obj)
    except (TypeError, OSError):
        raise TypeError(f"show() prints functions and classes written in Python; {name} is not one") from None
    return name, f"{short_path(file)}, line {max(first, 1)}", textwrap.dedent("".join(lines)).rstrip()


def short_path(file):
    """Path below the checkout; the bare name of a file elsewhere. A cell's file exists in memory only."""
    root = Path(minirl.__file__).parents[1]
    path = Path(file)
    if not path.is_file():
        return "this notebook"
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def code_page(name, place, code):
    """The source as HTML. Long lines wrap, indented below their start: nobody scrolls sideways on a projector."""
    body = highlight(code, PythonLexer(), HtmlFormatter(style=Light, noclasses=True, nowrap=True))
    lines = zip(code.split("\n"), body.rstrip("\n").split("\n"), strict=True)
    wrapped = "".join(wrap(len(plain) - len(plain.lstrip()) + 4, line) for plain, line in lines)
    head = f'<div style="font-size:.875rem;color:{MUTED};margin-bottom:6px">{html.escape(place)}</div>'
    name = html.escape(name)
    return framed(
        "source", f'{head}<pre style="{PRE_CSS}">{wrapped}</pre>', f'role="group" aria-label="Source of {name}"'
    )


def wrap(indent, line):
    css = f"display:block;white-space:pre-wrap;overflow-wrap:anywhere;padding-left:{indent}ch;text-indent:-{indent}ch"
    return f'<span style="{css}">{line or " "}</span>'
