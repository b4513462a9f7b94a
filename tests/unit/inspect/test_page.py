"""The page: alone in the world, and safe whatever the model's names are."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from dioe.graph import Model, OpGraph
from dioe.types import Support
from dioe_inspect import inspect_model, render_html
from tests.unit.inspect.models import HOSTILE, OPENVINO, ORT, answers, graph_of, plan_of, small


class Page(HTMLParser):
    """Elements with attributes, and the texts of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.texts.append((self.inside[-1] if self.inside else "", data))

    def text_of(self, tag: str) -> list[str]:
        return [text for inside, text in self.texts if inside == tag]

    @property
    def data(self) -> dict[str, Any]:
        """The JSON that the script draws."""
        loaded: dict[str, Any] = json.loads(self.text_of("script")[0])
        return loaded


def _page(name: str = "first", *, plan: bool = False) -> tuple[str, Page]:
    graph = graph_of(small(name))
    support = {**answers(graph), HOSTILE: Support(frozenset(), {name: HOSTILE})}
    inspection = inspect_model(graph, support, plan=plan_of(graph) if plan else None)
    text = render_html(inspection, graph)
    return text, Page(text)


def test_nothing_is_loaded() -> None:
    text, page = _page()
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "href", "style", "srcset", "action"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    outside = set(re.findall(r"https?://[^\"'\s<]+", text))
    assert outside <= {"http://www.w3.org/2000/svg"}  # a namespace, never fetched
    assert "@import" not in text
    assert "url(" not in text.replace("url(#arrow)", "")


@pytest.mark.parametrize(
    "word", ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "fetch("]
)
def test_scripts_make_text_only(word: str) -> None:
    folder = files("dioe_inspect")
    for name in ("panel.js", "page.js"):
        script = (folder / name).read_text(encoding="utf-8")
        assert word not in script
        assert "</script" not in script


def test_only_its_own_script_may_run() -> None:
    _, page = _page()
    policy = next(a["content"] for tag, a in page.elements if "content-security" in str(a).lower())
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    for directive, text in (
        ("script-src", page.text_of("script")[1]),
        ("style-src", page.text_of("style")[0]),
    ):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]


def test_hostile_names() -> None:
    text, page = _page(HOSTILE)
    _, plain = _page()
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert "<img" not in text
    assert page.data["ops"][0]["id"] == HOSTILE
    assert HOSTILE in [target["target"] for target in page.data["targets"]]


def test_what_is_drawn() -> None:
    _, page = _page()
    data = page.data
    nodes = data["nodes"]
    drawn = sorted(op for node in nodes for op in node["ops"])
    assert drawn == list(range(len(data["ops"])))
    assert [node["label"] for node in nodes if node["kind"] == "value"] == ["x", "y"]
    for edge in data["edges"]:
        source, destination = nodes[edge["s"]], nodes[edge["d"]]
        assert len(edge["bends"]) == destination["layer"] - source["layer"] - 1
    for node in nodes:
        inner = node["inner"]
        assert (inner is None) == (len(node["ops"]) <= 1)
        if inner is not None:
            assert len(inner["x"]) == len(inner["layer"]) == len(node["ops"])
    refused = [op["id"] for op in data["ops"] if op["refused"]]
    assert refused == ["pool"]
    assert [group["letter"] for group in data["groups"]] == ["A", "B"]
    assert data["ops"][-1]["refusals"][1] == "no pooling here"


def test_coloured_by_plan() -> None:
    text, page = _page(plan=True)
    labels = [group["label"] for group in page.data["groups"]]
    assert labels == [f"s0 on {OPENVINO}", f"s1 on {ORT}"]
    assert [op["group"] for op in page.data["ops"]] == [0] * 5 + [1]
    assert "target by the plan" in text
    assert "1.250 ms (measured)" in text


def test_a_thousand_ops() -> None:
    chance = np.random.default_rng(3)
    nodes = [helper.make_node("Relu", ["x"], ["v0"])]
    for i in range(1, 1000):
        other = f"v{max(0, i - int(chance.integers(1, 40)))}"
        kind = chance.choice(["Softmax", "Relu", "Add"])
        inputs = [f"v{i - 1}", other] if kind == "Add" else [f"v{i - 1}"]
        nodes.append(helper.make_node(kind, inputs, [f"v{i}"]))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", onnx.TensorProto.FLOAT, [1, 16])],
        [value("v999", onnx.TensorProto.FLOAT, [1, 16])],
    )
    opset = helper.make_opsetid("", 17)
    model = Model.load(helper.make_model(graph, opset_imports=[opset], ir_version=9))
    built = OpGraph.build(model)
    text = render_html(inspect_model(built, {ORT: Support(frozenset(built.ids))}), built)
    assert len(Page(text).data["ops"]) == 1000
    assert len(text) < 4_000_000


def test_a_model_without_shapes() -> None:
    graph = graph_of(batch=None)
    data = Page(render_html(inspect_model(graph, {}), graph)).data
    assert data["targets"] == []
    assert data["nodes"][0]["sub"] == "float32[n, 4, 8, 8]"
    assert all(op["flops"] is None for op in data["ops"])
