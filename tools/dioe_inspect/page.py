"""An inspection as one page that needs nothing else: no network, no server, no library.

Trust: names in a model are anyone's. They enter the page escaped, in its head, and as JSON that
can't close its element; the script puts them into text nodes only; and a content security policy
lets no script run but that one, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib.resources import files
from pathlib import PurePath
from string import Template

from dioe.graph import OpGraph
from dioe_inspect.groups import Grouping, group_ops, letters
from dioe_inspect.inspection import Inspection
from dioe_inspect.scene import scene
from dioe_inspect.units import amount, bound, count, flop, milliseconds, size


def render_html(inspection: Inspection, graph: OpGraph) -> str:
    """The page: the model's facts, the graph as blocks that open into ops, coloured by target.

    ``graph`` is the one that was inspected.
    """
    folder = files("dioe_inspect")
    template, style, panel, drawing = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("page.html", "page.css", "panel.js", "page.js")
    )
    script = panel + drawing
    grouping = group_ops(inspection)
    path = inspection.model.path
    name = PurePath(path).name if path else "model"
    digest = f"<small>sha256 {inspection.model.sha256[:16]}</small>"
    return Template(template).substitute(
        title=_escape(f"{name} – dioe inspect"),
        heading=_escape(name) + digest,
        facts="\n".join(_fact(name, value) for name, value in _facts(inspection)),
        legend="\n".join(_legend(grouping)),
        style=style,
        style_hash=_csp_hash(style),
        script=script,
        script_hash=_csp_hash(script),
        data=_json(scene(inspection, graph, grouping)),
    )


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: object) -> str:
    """JSON that is safe inside a script element: nothing in it looks like markup."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _escape(text: str) -> str:
    return html.escape(text.encode("utf-8", "replace").decode())


def _fact(name: str, value: str) -> str:
    return f"<div><dt>{_escape(name)}</dt><dd>{_escape(value)}</dd></div>"


def _facts(inspection: Inspection) -> list[tuple[str, str]]:
    model, work = inspection.model, inspection.model.work
    facts = [
        ("ops", str(model.ops)),
        ("parameters", f"{count(work.parameters)} ({size(work.parameter_bytes)})"),
        ("one run", flop(work.flops)),
        ("ops read", amount(work.bytes_read, in_bytes=True)),
        ("and write", amount(work.bytes_written, in_bytes=True)),
        ("opset", ", ".join(f"{d or 'ai.onnx'} {v}" for d, v in model.opsets.items())),
        *(("input", f"{own.name}: {bound(own, here)}") for own, here in model.bound_inputs[:4]),
        *(("output", f"{own.name}: {bound(own, here)}") for own, here in model.bound_outputs[:4]),
    ]
    if model.producer:
        facts.append(("made by", model.producer))
    if inspection.plan is not None and inspection.plan.predicted_ms is not None:
        cost = milliseconds(inspection.plan.predicted_ms)
        facts.append(("plan", f"{cost} ({inspection.plan.basis})"))
    return facts


def _legend(grouping: Grouping) -> list[str]:
    rows = [f'<li class="how">{_escape(grouping.basis)}:</li>']
    for i, label in enumerate(grouping.labels):
        key = f'<span class="key c{i % 8}">{letters(i)}</span>'
        rows.append(f"<li>{key}{_escape(label)}</li>")
    rows.append('<li><span class="key none">–</span>mixed or none</li>')
    if grouping.refused:
        rows.append('<li><span class="key refused">!</span>a target refuses it</li>')
    return rows
