"""What the history knows of a model: found again for exactly the same, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dioe.profiling import BlockTiming, CopyCosts, History
from dioe.tuning.known import Known, Ratio
from dioe.tuning.targets import Candidate
from dioe.types import OpTime, Precision, Resources, Support, Target, TargetReport

A = Target("cpu", "a")
B = Target("cpu", "b")
LOW = Target("cpu", "a", (Precision.BF16,))
ALL = Support(frozenset({"op"}))
CANDIDATE = Candidate(A, Resources(), ALL)
OK = TargetReport("cpu/a/fp32", "ok", "", 1.5, 1.75, 2.5, 0.25, 40, 2e-5)
TIMES = [
    OpTime("matmul", "MatMul", ("m0", "m1"), 12.0, 6, "fp32"),
    OpTime("reorder", "Reorder", (), 0.5, 6),
]
TIMING = BlockTiming(1.0, 1.25, 1.5, 0.125, 30, False)


@pytest.fixture
def known() -> Known:
    return Known(
        History(None), "model", {"x": (1, 3)}, "samples", "machine",
        {"a": "1", "b": "1", "unused": "1"},
    )  # fmt: skip


# --- whole targets ------------------------------------------------------------------------------


def test_a_report_comes_back_as_it_was(known: Known) -> None:
    assert known.report(CANDIDATE, 1e-4) is None
    known.keep_report(CANDIDATE, OK)
    assert known.report(CANDIDATE, 1e-4) == OK
    assert known.ratio(CANDIDATE) is None


@pytest.mark.parametrize(
    "other",
    [
        {"model_sha256": "another"},
        {"shapes": {"x": (2, 3)}},
        {"samples": "others"},
        {"hardware": "another"},
        {"versions": {"a": "2", "b": "1"}},
    ],
    ids=lambda other: next(iter(other)),
)
def test_it_is_nothing_else_s(known: Known, other: dict[str, object]) -> None:
    known.keep_report(CANDIDATE, OK)
    known.keep_op_times(A, Resources(), 1.5, TIMES, runs=6, noisy=False)
    known.keep_search([A, B], {"notes": []}, noisy=False)
    elsewhere = replace(known, **other)  # type: ignore[arg-type]
    assert elsewhere.report(CANDIDATE, 1e-4) is None
    assert elsewhere.op_times(A, Resources()) is None
    assert elsewhere.search([A, B]) is None


@pytest.mark.parametrize(
    "candidate",
    [
        replace(CANDIDATE, target=B),
        replace(CANDIDATE, target=LOW),
        replace(CANDIDATE, resources=Resources(threads=1)),
        replace(CANDIDATE, resources=Resources(spin=False)),
    ],
)
def test_nor_another_target_s(known: Known, candidate: Candidate) -> None:
    known.keep_report(CANDIDATE, OK)
    assert known.report(candidate, 1e-4) is None


def test_another_backend_s_version_doesnt_matter(known: Known) -> None:
    known.keep_report(CANDIDATE, OK)
    newer = replace(known, versions={"a": "1", "b": "2"})
    assert newer.report(CANDIDATE, 1e-4) == OK


@pytest.mark.parametrize(
    ("state", "error", "limit", "judged"),
    [
        ("ok", 2e-5, 1e-4, "ok"),
        ("ok", 2e-5, 1e-5, "infidel"),
        ("infidel", 2e-5, 1e-5, "infidel"),
        ("infidel", 2e-5, 2e-5, "ok"),
        ("infidel", None, 1e9, "infidel"),  # another shape, or not a number
        ("slow", None, 1e-4, "slow"),
        ("unsupported", None, 1e-4, "unsupported"),
    ],
)
def test_another_limit_judges_anew(
    known: Known, state: str, error: float | None, limit: float, judged: str
) -> None:
    known.keep_report(CANDIDATE, replace(OK, state=state, reason="why", relative_l2=error))
    found = known.report(CANDIDATE, limit)
    assert found is not None
    assert found.state == judged
    assert found.relative_l2 == error
    if judged == "infidel" and error is not None:
        assert f"limit {limit:g}" in found.reason
    elif state == judged:
        assert found.reason == "why"
    else:
        assert found.reason == ""


def test_the_reason_is_by_the_present_limit_and_names_the_output(known: Known) -> None:
    before = "output 'y': error 0.05 is above the limit 0.03"
    known.keep_report(CANDIDATE, replace(OK, state="infidel", reason=before, relative_l2=0.05))
    found = known.report(CANDIDATE, 0.01)
    assert found is not None
    assert found.reason == "output 'y': error 0.05 is above the limit 0.01"


def test_copies_are_a_device_s_and_no_model_s(known: Known) -> None:
    costs = CopyCosts(0.1, 2e-7, 0.05, 4e-7)
    assert known.copies(A, Resources()) is None
    known.keep_copies(A, Resources(), costs, noisy=False)
    assert known.copies(A, Resources()) == costs
    assert replace(known, model_sha256="another", shapes={}).copies(A, Resources()) == costs
    assert known.copies(B, Resources()) is None
    known.keep_copies(B, Resources(), costs, noisy=True)
    assert known.copies(B, Resources()) is None


def test_what_failed_is_tried_anew(known: Known) -> None:
    known.keep_report(CANDIDATE, replace(OK, state="failed", reason="out of memory"))
    assert known.report(CANDIDATE, 1e-4) is None


def test_what_fails_is_no_longer_known(known: Known) -> None:
    """It worked in a first look, and then didn't."""
    known.keep_report(CANDIDATE, OK, Ratio(1.0, "only"), took_s=0.5)
    known.keep_report(CANDIDATE, replace(OK, state="failed", reason="out of breath"))
    assert known.report(CANDIDATE, 1e-4) is None
    assert known.ratio(CANDIDATE) is None
    assert known.took_s(CANDIDATE) == 0.0
    known.keep_report(CANDIDATE, OK)
    assert known.report(CANDIDATE, 1e-4) == OK


def test_what_a_look_took_is_kept(known: Known) -> None:
    assert known.took_s(CANDIDATE) == 0.0
    known.keep_report(CANDIDATE, OK, took_s=0.5)
    assert known.took_s(CANDIDATE) == 0.5


def test_what_is_noisy_isnt_known(known: Known) -> None:
    known.keep_report(CANDIDATE, replace(OK, noisy=True))
    known.keep_op_times(A, Resources(), 1.5, TIMES, runs=6, noisy=True)
    known.keep_block("block", A, Resources(), replace(TIMING, noisy=True))
    known.keep_search([A], {}, noisy=True)
    assert known.report(CANDIDATE, 1e-4) is None
    assert known.op_times(A, Resources()) is None
    assert known.block("block", A, Resources()) is None
    assert known.search([A]) is None


def test_noise_doesnt_make_known_costs_unknown(known: Known) -> None:
    known.keep_report(CANDIDATE, OK)
    known.keep_report(CANDIDATE, replace(OK, p50_ms=9.0, noisy=True))
    assert known.report(CANDIDATE, 1e-4) == OK


def test_ratios_are_kept_with_their_rounds(known: Known) -> None:
    known.keep_report(CANDIDATE, OK, Ratio(1.25, "first"))
    assert known.ratio(CANDIDATE) == Ratio(1.25, "first")


# --- parts --------------------------------------------------------------------------------------


def test_op_times_come_back_as_they_were(known: Known) -> None:
    assert known.op_times(A, Resources()) is None
    known.keep_op_times(A, Resources(spin=False), 1.5, TIMES, runs=6, noisy=False)
    assert known.op_times(A, Resources(spin=False)) == (1.5, TIMES)
    assert known.op_times(A, Resources()) is None
    assert known.op_times(LOW, Resources(spin=False)) is None


def test_a_block_is_known_in_every_model(known: Known) -> None:
    known.keep_block("block", A, Resources(), TIMING)
    elsewhere = replace(known, model_sha256="another", shapes={"y": (4,)}, samples="others")
    assert elsewhere.block("block", A, Resources()) == TIMING
    assert known.block("another block", A, Resources()) is None
    assert known.block("block", B, Resources()) is None
    assert replace(known, hardware="another").block("block", A, Resources()) is None
    assert replace(known, versions={"a": "2"}).block("block", A, Resources()) is None


# --- searches -----------------------------------------------------------------------------------


def test_a_search_is_known_for_its_targets_and_goal(known: Known) -> None:
    found = {"plans": [], "notes": ["none"]}
    known.keep_search([A, B], found, noisy=False, limit=1e-4)
    assert known.search([A, B], limit=1e-4) == found
    assert known.search([A, B], limit=1e-3) is None
    assert known.search([A, B]) is None
    assert known.search([B, A], limit=1e-4) is None
    assert known.search([A], limit=1e-4) is None


def test_a_search_depends_on_the_versions_of_its_backends(known: Known) -> None:
    known.keep_search([A, B], {}, noisy=False)
    assert replace(known, versions={"a": "1", "b": "2"}).search([A, B]) is None
    assert replace(known, versions={"a": "1", "b": "1"}).search([A, B]) == {}


def test_all_of_it_is_there_for_another_process(known: Known, tmp_path: Path) -> None:
    """As far as another history of one folder stands for one."""
    first = replace(known, history=History(tmp_path))
    first.keep_report(CANDIDATE, OK, Ratio(1.0, "only"))
    first.keep_op_times(A, Resources(), 1.5, TIMES, runs=6, noisy=False)
    first.keep_block("block", A, Resources(), TIMING)
    first.keep_search([A], {"notes": ["none"]}, noisy=False)
    second = replace(known, history=History(tmp_path))
    assert second.report(CANDIDATE, 1e-4) == OK
    assert second.ratio(CANDIDATE) == Ratio(1.0, "only")
    assert second.op_times(A, Resources()) == (1.5, TIMES)
    assert second.block("block", A, Resources()) == TIMING
    assert second.search([A]) == {"notes": ["none"]}


def test_costs_of_parts_hold_under_any_memory_limit(known: Known) -> None:
    capped = Resources(memory_limit_bytes=1 << 20)
    known.keep_op_times(A, Resources(), 1.5, TIMES, runs=6, noisy=False)
    known.keep_block("structure", A, capped, TIMING)
    known.keep_report(CANDIDATE, OK)
    assert known.op_times(A, capped) == (1.5, TIMES)
    assert known.block("structure", A, Resources()) == TIMING
    assert known.report(replace(CANDIDATE, resources=capped), 1e-4) is None  # it may not fit
