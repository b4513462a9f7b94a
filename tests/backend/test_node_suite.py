"""ONNX's node suite on the built-in backends."""

from __future__ import annotations

import pytest

from dioe.testing.installed import plugin_points
from dioe.testing.node_suite import Report, case_names, find_backends, run_suite

BUILT_IN = ("onnxruntime", "openvino", "reference", "torch")
JOBS = 2


def run(*patterns: str) -> Report:
    return run_suite(
        find_backends(plugin_points(), BUILT_IN, "cpu"), case_names(patterns), jobs=JOBS
    )


def test_a_slice() -> None:
    report = run("test_add*", "test_identity_*", "test_string_concat", "test_cast_FLOAT_to_*16")
    found = report.to_dict()
    assert found["all"]["failed"] == 0, found["failures"]
    assert found["per_backend"]["reference"]["failed"] == 0, found["failures"]
    failed = {name: set(reasons) for name, reasons in report.reasons.items()}
    assert not failed["onnxruntime"] & {"test_add", "test_string_concat", "test_identity_sequence"}
    assert "test_add" not in failed["openvino"]
    assert "strings" in report.reasons["openvino"]["test_string_concat"]


@pytest.mark.slow
def test_the_whole_suite() -> None:
    report = run()
    found = report.to_dict()
    every = report.to_dict()["failures"]
    deaths = [f for f in every if "the process" in f["reason"] or "took more" in f["reason"]]
    assert not deaths
    at_least = {"onnxruntime": 1346, "openvino": 1371, "reference": 1854, "torch": 1200}
    passed = {name: counts["passed"] for name, counts in found["per_backend"].items()}
    assert not {name: passed[name] for name in at_least if passed[name] < at_least[name]}
    assert found["all"]["passed"] >= 1870, report.passed_by_none(report.reasons)
    assert found["without_reference"]["passed"] >= 1620
