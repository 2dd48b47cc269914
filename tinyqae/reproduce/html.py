"""HTML from nested calls, in which every text is escaped that is not an element itself."""
import base64
import html
import io

from PIL import Image

COLOURS = 128


class Markup(str):
    """Text that is HTML already."""


def escaped(child):
    """A child as HTML: an element as it is, a list of children one after the other, anything else escaped."""
    if isinstance(child, Markup):
        return child
    if isinstance(child, list | tuple):
        return Markup("".join(map(escaped, child)))
    return Markup(html.escape(str(child)))


def element(name, *children, **attributes):
    """<name ...>children</name>; an attribute's trailing underscore is left out (class_), None leaves the attribute out."""
    shown = "".join(f' {key.rstrip("_")}="{html.escape(str(value))}"' for key, value in attributes.items()
                    if value is not None)
    return Markup(f"<{name}{shown}>{escaped(children)}</{name}>\n")


def table(headings, rows):
    """A table; headings and cells are children, a cell that is a <td> or <th> already stays one."""
    def cell(child, name):
        return child if isinstance(child, Markup) and child.startswith(("<td", "<th")) else element(name, child)
    head = element("tr", [cell(child, "th") for child in headings])
    return element("div", element("table", element("thead", head), element("tbody", [
        element("tr", [cell(child, "td") for child in row]) for row in rows])), class_="wide")


def png(base64_text, alt, class_=None):
    """A picture inside the page."""
    return Markup(f'<img src="data:image/png;base64,{base64_text}" alt="{html.escape(alt)}"'
                  + (f' class="{html.escape(class_)}"' if class_ else "") + ">\n")


def chart(draw, alt, *arguments):
    """A picture that draw(file, *arguments) writes, one of tinyqae.plots, in COLOURS colours: a third of the bytes."""
    file, smaller = io.BytesIO(), io.BytesIO()
    draw(file, *arguments)
    picture = Image.open(file).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(smaller, "PNG", optimize=True)
    return png(base64.b64encode(smaller.getvalue()).decode(), alt)
