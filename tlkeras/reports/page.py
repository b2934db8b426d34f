"""HTML as values: `tag` escapes whatever is not HTML already, so a label can never become markup; and the
page around it, with its style sheet.
"""

import html
import re
import unicodedata

# Letters of a name that change how the rest of the line reads; joiners stay, Persian and emoji need them.
_TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
_MARKS = "\u200b\u200e\u200f\u061c\ufeff"
_VOID = {"img", "meta", "wbr"}
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
PERCENT = "\u00a0%"  # never parted from its number
LONGEST = 80  # characters of a label; of a file name the last 200


class Html(str):
    """Text that is HTML already."""


def tag(element: str, *children, **attributes) -> Html:
    """One element. Children that are None or '' are left out, those that are no Html are escaped.

    Attributes: `class_` is class, `aria_label` aria-label; None and False leave an attribute out.
    """
    given = []
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        given.append(f" {name}" if value is True else f' {name}="{escaped(value)}"')
    start = f"<{element}{''.join(given)}>"
    return Html(start if element in _VOID else f"{start}{join(*children)}</{element}>")


def join(*parts) -> Html:
    """Several elements or texts, one after the other; lists of them are taken apart."""
    flat = []
    for part in parts:
        if isinstance(part, (list, tuple)):
            flat.append(join(*part))
        elif part is not None and part != "":
            flat.append(part if isinstance(part, Html) else escaped(part))
    return Html("".join(flat))


def escaped(value) -> str:
    """Text as HTML, with characters written out that cannot be seen but change what is."""
    return html.escape(
        "".join(c if _harmless(c) else c.encode("unicode_escape", "surrogatepass").decode() for c in str(value))
    )


def _harmless(c: str) -> bool:
    if " " <= c <= "~" or c in "\n\t":
        return True
    return (
        unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp")
        and unicodedata.bidirectional(c) not in _TURNING
        and c not in _MARKS
    )


def name(value) -> Html:
    """A label or file name, kept apart from the direction of the text around it, cut where it is very long."""
    text = str(value)
    return tag("bdi", text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


def file(path) -> Html:
    """A file name that is broken over lines where a person would."""
    text = str(path)
    text = text if len(text) <= 200 else f"…{text[-200:]}"
    return tag(
        "bdi",
        *(part if i % 2 == 0 else join(part, tag("wbr")) for i, part in enumerate(re.split(r"([/_.-])", text))),
        dir="ltr",
    )


def names(values, most: int = 5) -> Html:
    """'a, b and c', or 'a, b and 7 more'."""
    values = list(values)
    shown = [name(v) for v in values[:most]]
    if len(values) > most:
        shown.append(f"{len(values) - most} more")
    return join(*(join(", " if 0 < i < len(shown) - 1 else " and " if i else "", s) for i, s in enumerate(shown)))


def command(text: str) -> Html:
    return tag("p", tag("code", text), class_="command")


def table(head, rows, caption=None, numbers=(), class_=None) -> Html:
    """A table; `numbers` are the columns set right, the first cell of a row is its heading.

    A cell is text, or (text, attributes of its cell).
    """

    def cell(element, i, content, **more):
        content, attributes = content if isinstance(content, tuple) else (content, {})
        return tag(element, content, **({"class_": "n"} if i in numbers else {}) | more | attributes)

    top = tag("tr", *(cell("th", i, h, scope="col") for i, h in enumerate(head)))
    body = [
        tag("tr", *(cell("td" if i else "th", i, c, **({} if i else {"scope": "row"})) for i, c in enumerate(row)))
        for row in rows
    ]
    # A table that scrolls must be reachable by keyboard, so its frame takes the focus.
    return tag(
        "div",
        tag(
            "table",
            tag("caption", tag("span", caption)) if caption else None,
            tag("thead", top),
            tag("tbody", body),
            class_=class_,
        ),
        class_="wide",
        tabindex=0,
    )


def details(summary, *content, open_: bool = False) -> Html:
    return tag("details", tag("summary", summary), *content, open=open_)


def section(anchor: str, title: str, *content) -> Html:
    return tag(
        "section", tag("h2", title, id=f"{anchor}-title"), *content, id=anchor, aria_labelledby=f"{anchor}-title"
    )


def document(title: str, header: Html, sections: list[tuple[str, str, Html]]) -> str:
    """The whole file: `sections` are (anchor, title, content)."""
    links = tag("nav", tag("ul", [tag("li", tag("a", t, href=f"#{a}")) for a, t, _ in sections]), aria_label="Sections")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        # Nothing is loaded and nothing runs, whatever a label may hold.
        tag(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; img-src data:; style-src 'unsafe-inline'",
        ),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    body = tag("body", tag("header", header), links, tag("main", [section(*one) for one in sections]))
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}{PERCENT}"


def figure(value: float, digits: int = 4) -> str:
    """A number in `digits` significant digits, or with an exponent where that would be long."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
    digit, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
    digit = digit.rstrip("0").rstrip(".") if "." in digit else digit
    return f"{digit}×10{str(int(exponent)).translate(_RAISED)}"


def size(count: float) -> str:
    """Bytes as people read them."""
    return next(
        f"{count / unit:,.1f} {letter}"
        for unit, letter in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))
        if count >= unit or unit == 1
    )


def plural(n: int, one: str, many: str = "") -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


# Blue and vermilion of Okabe & Ito, told apart with every kind of colour vision; lighter ones on dark paper.
STYLE = """
:root{color-scheme:light dark;--paper:#fdfdfb;--ink:#1e1e1c;--soft:#62615b;--line:#dedcd4;--tint:#f4f3ee;--blue:0 98 160;--red:190 74 0;
--serif:Charter,"Bitstream Charter","Iowan Old Style","Source Serif 4",Cambria,Georgia,"Noto Serif",serif;
--mono:ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono","DejaVu Sans Mono",monospace}
@media(prefers-color-scheme:dark){:root{--paper:#15161a;--ink:#e8e6e0;--soft:#a4a29a;--line:#34363c;--tint:#1e2025;--blue:110 180 240;--red:245 150 90}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0 auto;max-width:58rem;padding:clamp(1.25rem,4vw,3.5rem) clamp(1rem,4vw,2.5rem) 5rem;background:var(--paper);color:var(--ink);
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif;font-variant-numeric:tabular-nums lining-nums;overflow-wrap:anywhere}
h1,h2,.verdict{font-family:var(--serif);font-weight:600;line-height:1.2;text-wrap:balance}
h1{font-size:1.25rem;margin:0}
h2{font-size:1.5rem;margin:0 0 1rem;padding-top:1.25rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:2rem 0 .5rem}
p{margin:.6rem 0;max-width:44rem}
section{margin-top:3rem;scroll-margin-top:1rem}
small,.soft,caption,figcaption{color:var(--soft);font-size:.875rem}
a{color:inherit;text-decoration-color:var(--soft);text-underline-offset:.15em}
a:hover{text-decoration-color:currentcolor}
:focus-visible{outline:2px solid rgb(var(--blue));outline-offset:2px}
.about{color:var(--soft);margin:.2rem 0 2.25rem}
.facts{margin-top:2rem}
.verdict{font-size:clamp(3.25rem,12vw,5.5rem);line-height:1;letter-spacing:-.02em;margin:0}
.lead{font-size:1.2rem;line-height:1.45;margin:.75rem 0 0;text-wrap:pretty}
.scale{margin:1.75rem .5rem 3rem 0;max-width:44rem}
.scale .ends{display:flex;justify-content:space-between;font-size:.8rem;color:var(--soft)}
.scale .track{position:relative;height:.3rem;margin:.6rem 0 0;background:var(--line);border-radius:1px}
.scale .band{position:absolute;top:-.4rem;bottom:-.4rem;background:rgb(var(--blue)/.28);border-radius:2px}
.scale .dot{position:absolute;top:-.35rem;width:1rem;height:1rem;margin-left:-.5rem;border-radius:50%;background:rgb(var(--blue))}
.scale .mark{position:absolute;top:-.45rem;height:1.2rem;border-left:2px solid var(--ink);margin-left:-1px}
.scale .words{position:absolute;top:1.35rem;left:0;width:max-content;max-width:min(20rem,80vw);font-size:.85rem;line-height:1.2}
.command{margin:.75rem 0}
.command code{display:inline-block;background:var(--tint);border:1px solid var(--line);border-radius:.3rem;padding:.45rem .75rem}
code,pre{font-family:var(--mono);font-size:.85em}
pre{overflow-x:auto;background:var(--tint);padding:1rem;border-radius:.3rem;line-height:1.45;overflow-wrap:normal}
.mind{margin:2rem 0 0;padding:.1rem 0 .1rem 1.1rem;border-left:3px solid rgb(var(--red))}
.mind h2{font:600 1rem/1.4 inherit;font-family:inherit;font-size:1rem;border:0;padding:0;margin:.25rem 0}
.mind ul{margin:.25rem 0;padding-left:1.1rem}
.mind li{margin:.35rem 0;max-width:44rem}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;margin:2.5rem 0 0;padding:0}
nav{font-size:.95rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.25rem;margin:.75rem 0}
dt{color:var(--soft)}dd{margin:0}
.wide{overflow-x:auto;margin:1rem 0;max-width:100%}
table{overflow-wrap:break-word;border-collapse:collapse;font-size:.925rem;line-height:1.4}
caption{text-align:left;padding:0 0 .4rem}
caption span{display:block;position:sticky;left:0;width:fit-content;max-width:min(44rem,calc(100vw - 2.2rem))}
table:has(caption):not(.confusion){min-width:min(33rem,100%)}
th,td{padding:.38rem 1.1rem .38rem 0;text-align:left;vertical-align:top;font-weight:400;border-bottom:1px solid var(--line)}
thead th{color:var(--soft);font-size:.85rem;vertical-align:bottom;border-bottom-color:var(--soft)}
th.n,td.n{text-align:right;white-space:nowrap}
th:last-child,td:last-child{padding-right:.25rem}
th[scope=row]{min-width:6rem}th:has(bdi){max-width:20rem}
.off{color:var(--soft)}
.term small{display:block}
@media(min-width:46rem){.term{display:grid;grid-template-columns:9.5rem minmax(0,27rem)}}
.bar{display:inline-block;width:4rem;height:.5em;margin-left:.6rem;background:var(--line);border-radius:1px}
.bar i{display:block;height:100%;background:rgb(var(--blue));border-radius:1px}
.confusion{border-collapse:separate;border-spacing:2px}
.confusion th,.confusion td{border:0;padding:.4rem .5rem}
.confusion th{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.confusion tbody th{min-width:0;text-align:right;position:sticky;left:0;background:var(--paper);max-width:11rem}
.confusion thead th{text-align:center;vertical-align:bottom;max-width:8rem}
.confusion.many thead th{writing-mode:vertical-rl;text-align:right;max-height:11rem;padding:.4rem .2rem}
.confusion thead th:first-child{writing-mode:horizontal-tb!important;text-align:right;font-size:.75rem}
.confusion td{min-width:2.6rem;text-align:center;border-radius:2px;background:var(--tint)}
.confusion.many td{min-width:1.55rem;padding:.25rem .1rem;font-size:.8rem}.confusion.many tbody th{padding:.25rem .5rem}
.confusion td.right{background:rgb(var(--blue)/calc(var(--a)*.42 + .08));font-weight:600}
.confusion td.wrong{background:rgb(var(--red)/calc(var(--a)*.35 + .14))}
.confusion td.none{color:transparent}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(19rem,100%),1fr));gap:1.5rem 2.5rem;margin:1.25rem 0}
figure{margin:0;min-width:0;max-width:28rem}
.charts figcaption{color:var(--ink);margin-bottom:.35rem}
svg{display:block;width:100%;height:auto;overflow:visible;font-family:inherit}
svg text{fill:var(--soft);font-size:11px}
svg .axis{stroke:var(--soft);stroke-width:1}
svg .grid{stroke:var(--line);stroke-width:1}
svg .rule{stroke:var(--soft);stroke-width:1;stroke-dasharray:2 3}
svg .a{stroke:rgb(var(--blue))}svg .b{stroke:rgb(var(--red))}
svg path.a,svg path.b{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
svg path.b{stroke-dasharray:5 4}
svg circle.a{fill:rgb(var(--blue));stroke:none}svg circle.b{fill:rgb(var(--red));stroke:none}
svg circle.dot{fill:rgb(var(--blue)/.55);stroke:rgb(var(--blue));stroke-width:.75}
svg circle.ring{fill:none;stroke:var(--ink);stroke-width:1.5}
svg line.gap{stroke:rgb(var(--red));stroke-width:1.5}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(7.5rem,1fr));gap:1.5rem 1.1rem;list-style:none;padding:0;margin:1rem 0}
.pictures li{min-width:0;break-inside:avoid}
.frame{display:flex;align-items:center;justify-content:center;aspect-ratio:1;background:var(--tint);border-radius:.25rem;overflow:hidden;color:var(--soft);font-size:.8rem;text-align:center;padding:0}
.frame img{display:block;width:100%;height:100%;object-fit:contain}
.frame.none{padding:.75rem;border:1px dashed var(--line)}
.pictures:has(blockquote){grid-template-columns:repeat(auto-fill,minmax(15rem,1fr))}
.pictures blockquote{margin:0;padding:.1rem 0 .1rem .7rem;border-left:3px solid var(--line);font-size:.95rem;line-height:1.4;overflow-wrap:anywhere}
.pictures.strip:has(blockquote){grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:.8rem 1.1rem}
.pictures p{margin:.4rem 0 0;font-size:.875rem;line-height:1.35}
.pictures .file{overflow-wrap:break-word;color:var(--soft);font-size:.75rem;margin-top:.2rem;line-height:1.3}
.drawn{display:grid;gap:2.25rem;list-style:none;padding:0;margin:1rem 0}
.drawn li{min-width:0;break-inside:avoid}
.drawn .row{display:flex;gap:.4rem}.drawn figure{flex:0 1 auto;max-width:none}
.drawn img{display:block;max-width:100%;height:auto;border-radius:.25rem}
.drawn p{margin:.3rem 0 0;font-size:.875rem;line-height:1.4}
.drawn .file{color:var(--soft);font-size:.75rem}
.key{white-space:nowrap;margin-right:.9rem}.key i{display:inline-block;width:.75em;height:.75em;margin-right:.35em;border-radius:2px}
.aligned{line-height:1.35}.aligned span{display:inline-block;margin:0 .5rem .5rem 0;vertical-align:top}
.aligned span>*{display:block}
.said{color:rgb(var(--red));font-weight:600}.true{color:rgb(var(--blue));font-weight:600}
.sure{display:block;height:3px;margin-top:.4rem;background:var(--line)}
.sure i{display:block;height:100%;background:var(--soft)}
.pictures.strip{grid-template-columns:repeat(var(--each),minmax(0,4.5rem));gap:.4rem;margin:.35rem 0 0}
.pictures.strip p{margin-top:.2rem;font-size:.8rem;color:var(--soft)}
.classes{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(max(6.5rem,var(--each)*4rem),100%),1fr));gap:1.25rem 2rem;margin:1rem 0}
.class{break-inside:avoid}
.class h3{margin:0;font-weight:400}
details{margin:.75rem 0}
summary{cursor:pointer;padding:.2rem 0}
summary::marker{color:var(--soft)}
summary:hover{text-decoration:underline;text-decoration-color:var(--soft);text-underline-offset:.15em}
@media(max-width:34rem){th,td{padding-right:.8rem}.bar{display:none}dl{column-gap:.9rem}.pictures{grid-template-columns:repeat(auto-fill,minmax(6rem,1fr));gap:1.25rem .8rem}
.confusion thead th{writing-mode:vertical-rl;text-align:right;max-height:11rem;padding:.4rem .2rem}.confusion td{min-width:1.9rem;padding:.35rem .1rem}}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--soft:#555;--line:#ccc;--tint:#f4f4f4;--blue:0 98 160;--red:190 74 0}
body{max-width:none;padding:0;font-size:10pt}nav{display:none}.wide{overflow:visible}section{margin-top:1.5rem}h2,h3{break-after:avoid}
figure,tr,li,.scale{break-inside:avoid}td,i,.key i,.sure,.bar,.frame,.track,.mark{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
