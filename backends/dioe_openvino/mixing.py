"""Layers that keep fp32 in a model compiled with a bf16 hint."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Set
from pathlib import Path

import openvino as ov
from openvino._offline_transformations import apply_moc_transformations

from dioe_openvino.errors import compile_error

# The attribute as OpenVINO's serializer writes it: "dynamic" is any low precision. It can't be
# set from Python (a plain value under its key is no such attribute), so it goes through the IR.
_ATTRIBUTE = {"name": "DisablePrecisionConversion", "version": "0", "value": "dynamic:f16"}


def fuse_first(model: ov.Model) -> None:
    """Run OpenVINO's common transformations now, in place.

    They make new layers (a convolution with its batch norm folded in) that would lose the
    attribute; it survives in what they leave. The CPU plugin's own fusion of a bias into a matrix
    product loses it still.
    """
    apply_moc_transformations(model, cf=True, smart_reshape=False)


def keep_fp32(core: ov.Core, model: ov.Model, layers: Set[str]) -> ov.Model:
    """``model`` with the named layers marked to stay in fp32; raises UnsupportedError."""
    with tempfile.TemporaryDirectory(prefix="dioe-ir-") as folder:
        description, weights = Path(folder, "model.xml"), Path(folder, "model.bin")
        try:
            ov.serialize(model, description, weights)
            tree = ET.parse(description)
            for layer in tree.iterfind("layers/layer"):
                if layer.get("name") in layers:
                    info = layer.find("rt_info")
                    if info is None:
                        info = ET.Element("rt_info")
                        data = layer.find("data")  # the schema's order: data, rt_info, input
                        layer.insert(0 if data is None else 1, info)
                    ET.SubElement(info, "attribute", _ATTRIBUTE)
            tree.write(description)
            return core.read_model(description, weights)  # weights stay mapped after unlinking
        except (RuntimeError, ET.ParseError) as error:
            raise compile_error(error) from error
