"""Settings: what targets may use beside others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dioe.hardware import load_pool
from dioe.tuning.beside import settings_beside
from dioe.tuning.targets import Candidate
from dioe.types import Resources, Support, Target
from tests.unit.tuning.test_mixed import pool

__all__ = ["pool"]

OWN = Resources(spin=False)


def candidate(name: str = "a", **changes: object) -> Candidate:
    plain = Candidate(Target("cpu", name), Resources(), Support(frozenset({"m0"})))
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_nothing_spins_beside_others(pool: Path) -> None:
    settings = settings_beside([candidate("a"), candidate("b")], load_pool(pool))
    assert [(s.name, s.resources) for s in settings] == [
        ("cpu/a/fp32", OWN),
        ("cpu/a/fp32 on 1 thread", Resources(threads=1, spin=False)),
        ("cpu/b/fp32", OWN),
        ("cpu/b/fp32 on 1 thread", Resources(threads=1, spin=False)),
    ]


def test_one_thread_only_where_pieces_are_small_and_there_are_more(
    pool: Path, tmp_path: Path
) -> None:
    assert len(settings_beside([candidate()], load_pool(pool), small_pieces=False)) == 1
    single = candidate(resources=Resources(threads=1))
    assert [s.name for s in settings_beside([single], load_pool(pool))] == ["cpu/a/fp32"]
    small = tmp_path / "small.yaml"
    small.write_text(pool.read_text().replace("capacity: 2", "capacity: 1"))
    assert len(settings_beside([candidate()], load_pool(small))) == 1


def test_what_is_held_back_or_takes_nothing_is_no_setting(pool: Path) -> None:
    nothing = Support(frozenset(), {"m0": "no"})
    refusing = [candidate(held_back="a last resort"), candidate("b", support=nothing)]
    refusing.append(candidate("d", compiles_long=True))
    assert settings_beside(refusing, load_pool(pool)) == []
    partial = candidate("c", support=Support(frozenset({"m0"}), {"g0": "no"}))
    assert settings_beside([partial], load_pool(pool))
