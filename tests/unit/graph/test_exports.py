from __future__ import annotations

import dioe.graph


def test_every_name_is_there_and_sorted() -> None:
    names = dioe.graph.__all__
    assert all(hasattr(dioe.graph, name) for name in names)
    assert sorted(names, key=lambda name: (not name.isupper(), name)) == names


def test_op_types_of_the_kinds_of_blocks_do_not_overlap() -> None:
    sets = [
        getattr(dioe.graph, name) for name in ("CONTROL", "CONV", "MATMUL", "NORM", "RECURRENT")
    ]
    assert all(sets)
    assert len(frozenset().union(*sets)) == sum(map(len, sets))
