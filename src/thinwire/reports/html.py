"""A comparison as one HTML file that needs nothing else: no network, no script, light and dark, and good on paper."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from thinwire.reports.files import write_text
from thinwire.reports.plots import DARK, LIGHT, figure_bytes, latency_plot, quality_plot
from thinwire.reports.rows import HONEST_NOTE, Row, as_percent, bandwidths, caution, in_order, is_single, number
from thinwire.reports.table import columns, latency_model_text, split_text

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --faint: #667085; --paper: #ffffff; --panel: #f6f8fb;
  --line: #e3e7ee; --accent: #0072b2; --mark: #eef6fc; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf2; --faint: #98a2b3; --paper: #141a24; --panel: #1b2330;
  --line: #2b3444; --accent: #4ba3e3; --mark: #1a2a3c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 78rem; margin: 0 auto; padding: 2.2rem 1.4rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .7rem; }
p { margin: .4rem 0; } .faint, footer { color: var(--faint); }
.promise { border-left: 4px solid var(--accent); background: var(--mark); padding: .6rem 1rem; margin: 1.1rem 0;
  border-radius: 0 6px 6px 0; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem 1.4rem;
  margin: 1.2rem 0; }
dl.facts dt { color: var(--faint); font-size: .82rem; } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
pre, code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .86em; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { padding: .42rem .5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { vertical-align: bottom; font-weight: 600; background: var(--panel); white-space: normal; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
th:first-child { background: var(--panel); } tbody tr:last-child td { border-bottom: 0; }
td small { color: var(--faint); } tr.single td { background: var(--mark); font-weight: 600; }
tr.next td { border-top: 2px solid var(--line); }
dl.meaning { columns: 2 24rem; column-gap: 2rem; font-size: .86rem; color: var(--faint); margin: .9rem 0 0; }
dl.meaning div { break-inside: avoid; margin-bottom: .3rem; } dl.meaning dt { display: inline; color: var(--ink); }
dl.meaning dd { display: inline; margin: 0; }
figure { margin: 1.4rem 0; } figure img { width: 100%; height: auto; display: block; border: 1px solid var(--line);
  border-radius: 8px; }
.texts { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1rem; }
.texts section { border: 1px solid var(--line); border-radius: 8px; padding: .7rem .9rem; background: var(--panel); }
.texts h3 { margin: 0 0 .4rem; font-size: .86rem; color: var(--accent); }
.texts p { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
footer { margin-top: 2.5rem; font-size: .84rem; border-top: 1px solid var(--line); padding-top: .8rem; }
@media print { main { max-width: none; padding: 0; } body { font-size: 11px; } .scroll { overflow: visible; border: 0; }
  table { font-size: 8px; } th, td { padding: .2rem .3rem; } figure, .texts section, tr { break-inside: avoid; }
  th:first-child, td:first-child { position: static; } @page { size: A4 landscape; margin: 12mm; } }
"""


def html_report(
    document: Mapping[str, Any],
    continuations: Sequence[Mapping[str, Any]] = (),
    title: str | None = None,
) -> str:
    """The page as text. `continuations` are dicts of `strategy` and `text`, shown side by side."""
    rows: list[Row] = in_order(document.get("rows") or [])
    model = str(document.get("model") or "a model")
    devices, tokens = document.get("devices", "?"), document.get("tokens", "?")
    heading = title or f"{model} on {devices} devices joined by thin links"
    body = [
        f"<h1>{escape(heading)}</h1>",
        f'<p class="faint">{escape(_subtitle(document, rows, tokens))}</p>',
        f'<p class="promise"><strong>{escape(HONEST_NOTE)}</strong> {escape(latency_model_text(document))}</p>',
        _facts(document),
        "<h2>Strategies</h2>",
        _table(rows),
        _caution(document),
        _meaning(rows),
        "<h2>Pictures</h2>",
        picture(quality_plot(rows, LIGHT), quality_plot(rows, DARK), _quality_alt(rows)),
    ]
    if bandwidths(rows):
        alt = "Predicted latency of one forward pass over the bandwidth of each link, a line for every strategy."
        body.append(picture(latency_plot(rows, LIGHT), latency_plot(rows, DARK), alt))
    if continuations:
        body += ["<h2>The same prompt, continued</h2>", _continuations(continuations)]
    return page(heading, body, document)


def page(heading: str, body: Sequence[str], document: Mapping[str, Any]) -> str:
    """A whole page around its parts."""
    version = escape(f"thinwire {document.get('thinwire', '')}".strip())
    parts = [*body, f"<footer>Made by {version}. Everything on this page is in this one file.</footer>"]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(heading)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def write_html(
    path: str | Path,
    document: Mapping[str, Any],
    continuations: Sequence[Mapping[str, Any]] = (),
    title: str | None = None,
) -> Path:
    """Write the page to `path` atomically."""
    return write_text(path, html_report(document, continuations, title))


def _subtitle(document: Mapping[str, Any], rows: Sequence[Row], tokens: Any) -> str:
    compared = sum(not is_single(row) for row in rows)
    source = f" of {document['prompt_source']}" if document.get("prompt_source") else ""
    return f"{tokens} tokens{source}; {compared} ways to share the work, beside the single device."


def _facts(document: Mapping[str, Any]) -> str:
    facts = [
        ("Model", document.get("model")),
        ("Model's SHA-256", str(document.get("model_sha256") or "")[:16]),
        ("Devices", document.get("devices")),
        ("Tokens by device", split_text(document.get("split")) if document.get("split") is not None else None),
        ("Seed", document.get("seed")),
        ("Platform", document.get("platform")),
        ("jax", document.get("jax")),
        ("Python", document.get("python")),
    ]
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in facts
        if value is not None and value != ""
    )
    command = document.get("command")
    return f'<dl class="facts">{items}</dl>' + (f"<pre>{escape(str(command))}</pre>" if command else "")


def _caution(document: Mapping[str, Any]) -> str:
    words = caution(document.get("windows"))
    return f'<p class="faint">{escape(words)}</p>' if words else ""


def _table(rows: Sequence[Row]) -> str:
    used = columns(rows)
    head = "".join(f'<th scope="col" title="{escape(what)}">{escape(name)}</th>' for name, what, _ in used)
    lines = []
    for before, row in zip([None, *rows], rows, strict=False):
        name = str(row.get("strategy", "?"))
        new_family = before is not None and name.split(":")[0] != str(before.get("strategy", "?")).split(":")[0]
        css = "single" if is_single(row) else "next" if new_family else ""
        cells = "".join(f"<td>{_two_lines(escape(cell(row)))}</td>" for _, _, cell in used)
        lines.append(f'<tr class="{css}"><td><code>{escape(name)}</code></td>{cells}</tr>')
    return (
        f'<div class="scroll"><table><thead><tr><th scope="col">strategy</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _two_lines(cell: str) -> str:
    """`28.6 s (0.027×)` with the speed-up under the seconds, to save width."""
    value, bracket, rest = cell.partition(" (")
    return f"{value}<br><small>{rest.rstrip(')')}</small>" if bracket else cell


def _meaning(rows: Sequence[Row]) -> str:
    fixed = [(name, what) for name, what, _ in columns(rows) if not name.endswith("predicted")]
    fixed.append(
        ("predicted", "Time of one forward pass over links of that bandwidth, and the speed-up over one device.")
    )
    items = "".join(f"<div><dt>{escape(name)}:</dt> <dd>{escape(what)}</dd></div>" for name, what in fixed)
    return f'<dl class="meaning">{items}</dl>'


def picture(light: Figure, dark: Figure, alt: str) -> str:
    """A figure in the look that the reader prefers."""
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{_data(dark)}">'
        f'<img src="{_data(light)}" alt="{escape(alt)}"></picture></figure>'
    )


def _data(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(figure_bytes(figure, "svg")).decode("ascii")


def _quality_alt(rows: Sequence[Row]) -> str:
    named = [
        f"{row.get('strategy')} agrees on {as_percent(number(row, 'top1_agreement'))}"
        for row in rows
        if not is_single(row)
    ]
    return "Perplexity against the single device's over bits per token and layer. " + "; ".join(named) + "."


def _continuations(continuations: Sequence[Mapping[str, Any]]) -> str:
    pairs = ((escape(str(item.get("strategy", "?"))), escape(str(item.get("text", "")))) for item in continuations)
    sections = "".join(f"<section><h3>{name}</h3><p>{text}</p></section>" for name, text in pairs)
    return f'<div class="texts">{sections}</div>'
