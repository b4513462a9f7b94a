"""Files that commands write: whole or not at all, and never in the place of a device."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dioe.cli import files
from dioe.cli.files import check_output, check_place, write_files, write_text
from dioe.types import ConfigError, InputError
from tests.unit.cli.conftest import QUICK, Dioe, files_in, is_told, rows


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_a_pipe_is_never_replaced(pipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no regular file"):
        check_place(pipe)
    with pytest.raises(ConfigError, match="no regular file"):
        write_files({tmp_path / "first": b"1", pipe: b"2"})
    assert pipe.is_fifo()
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize("link", [False, True])
def test_neither_is_a_device_behind_a_link(tmp_path: Path, link: bool) -> None:
    path = Path(os.devnull)
    if link:
        path = tmp_path / "nowhere"
        path.symlink_to(os.devnull)
    with pytest.raises(ConfigError, match="no regular file"):
        write_text(path, "text")
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize("there", [False, True])
def test_a_link_stays_and_its_file_is_written(tmp_path: Path, there: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    file, link = tmp_path / "elsewhere" / "file", tmp_path / "link"
    if there:
        file.write_text("old")
    link.symlink_to(file)
    write_text(link, "new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert files_in(tmp_path) == {"elsewhere/file", "link"}


def test_links_in_a_circle_are_no_place(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.symlink_to(second)
    second.symlink_to(first)
    with pytest.raises(ConfigError):
        write_text(first / "file", "text")


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    for name in ("x" * 300, "circle", "a\0b"):
        with pytest.raises(ConfigError, match="can't write"):
            write_text(tmp_path / name, "text")


def test_the_command_refuses_before_any_work(dioe: Dioe, pipe: Path) -> None:
    for place in (os.devnull, pipe):
        is_told(dioe("plan", "missing.onnx", "-o", place), 19, place, "no regular file")
    assert Path(os.devnull).is_char_device()
    assert pipe.is_fifo()


# --- nothing else is overwritten ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.onnx", "link.onnx", "hard.onnx"])
def test_no_command_writes_over_what_it_reads(
    dioe: Dioe, model: Path, x: Path, plan: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "link.onnx").symlink_to(model)
    (tmp_path / "hard.onnx").hardlink_to(model)
    content, place = model.read_bytes(), f"{tmp_path}/{name}"
    is_told(dioe("plan", model, "-o", place, *QUICK), 11, place, "reads")
    is_told(dioe("inspect", model, "--html", place), 11, place, "reads")
    given = f"x={x}"
    is_told(dioe("plan", model, "--input", given, "-o", x, *QUICK), 11, x, "reads")
    is_told(dioe("inspect", model, "--input", given, "--html", x), 11, x, "reads")
    is_told(dioe("inspect", model, "--plan", plan, "--html", plan), 11, plan, "reads")
    is_told(dioe("plan", "--from", plan, "-o", plan), 11, plan, "reads")
    assert model.read_bytes() == content
    np.testing.assert_array_equal(np.load(x), rows())


def test_no_pool_is_written_over_the_one_that_is_read(dioe: Dioe, tmp_path: Path) -> None:
    pool = tmp_path / "pool.yaml"
    assert dioe("devices", "--write", pool).code == 0
    content = pool.read_bytes()
    is_told(dioe("devices", "--hardware", pool, "--write", pool), 11, pool, "reads")
    assert pool.read_bytes() == content


def test_outputs_do_not_go_over_inputs(dioe: Dioe, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "arrays"
    folder.mkdir()
    np.save(folder / "y.npy", rows())  # the model's output is called so
    given = ["run", model, "--input", f"x={folder / 'y.npy'}", *QUICK]
    is_told(dioe(*given, "--output", folder), 11, folder / "y.npy", "reads")
    np.testing.assert_array_equal(np.load(folder / "y.npy"), rows())
    assert dioe(*given, "--output", tmp_path / "other").code == 0


def test_the_history_is_no_place_for_its_export(dioe: Dioe, model: Path, tmp_path: Path) -> None:
    assert dioe("plan", model, "--tuning-budget", "0.3").code == 0
    (history,) = (tmp_path / "dioe-cache").glob("history.sqlite")
    content = history.read_bytes()
    is_told(dioe("cache", "export", history, "--force"), 11, history, "reads")
    assert history.read_bytes() == content


def test_another_kind_of_file_is_kept(
    dioe: Dioe, model: Path, x: Path, plan: Path, tmp_path: Path
) -> None:
    page, other, text = tmp_path / "page.html", tmp_path / "other.onnx", tmp_path / "text.yaml"
    assert dioe("inspect", model, "--html", page).code == 0
    shutil.copy(model, other)
    text.write_text("notes:\n  - mine\n")
    for path in (other, page, text, x):
        before = path.read_bytes()
        is_told(dioe("plan", model, "-o", path, *QUICK), 11, path, "isn't a plan")
        is_told(dioe("devices", "--write", path), 11, path, "isn't a pool")
        assert path.read_bytes() == before
    for path in (other, text, plan, x):
        before = path.read_bytes()
        is_told(dioe("inspect", model, "--html", path), 11, path, "isn't an HTML page")
        assert path.read_bytes() == before
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "y.npy").write_text("no array")
    call = ["run", model, "--input", f"x={x}", "--output", folder, *QUICK]
    is_told(dioe(*call), 11, "y.npy", "isn't a .npy array")
    assert (folder / "y.npy").read_text() == "no array"
    is_told(dioe("demo", "--picture", other), 11, other, "isn't a picture")


def test_its_own_kind_is_replaced(dioe: Dioe, model: Path, x: Path, tmp_path: Path) -> None:
    plan, page, pool = (tmp_path / name for name in ("plan.json", "page.html", "pool.yaml"))
    for path in (plan, page, pool):
        path.touch()  # as mktemp leaves it
    for _ in range(2):
        assert dioe("plan", model, "-o", plan, *QUICK).code == 0
        assert dioe("inspect", model, "--html", page).code == 0
        assert dioe("devices", "--write", pool).code == 0
        call = ["run", model, "--input", f"x={x}", "--output", tmp_path / "out", *QUICK]
        assert dioe(*call).code == 0


@pytest.mark.parametrize(
    ("kind", "text", "fits"),
    [
        (files.PLAN, '{"b": [1], "format": "dioe-plan"}', True),
        (files.PLAN, '\n{"format":"dioe-pipeline-plan"', True),
        (files.PLAN, '{"format": "other"}', False),
        (files.PLAN, '["format": "dioe-plan"]', False),
        (files.POOL, "# mine\n\nformat: dioe-pool\n", True),
        (files.POOL, "version: 1\ndevices:\n- id: cpu\n", True),
        (files.POOL, "services:\n  web:\n    devices:\n", False),
        (files.POOL, "# modelled\ndevices:\n- id: npu:0\n  peak_tflops: {fp16: 5}\n", False),
        (files.HTML, "<!DOCTYPE html><html>", True),
        (files.HTML, "\ufeff<!-- mine -->\n<HTML lang=en>", True),
        (files.HTML, "<svg></svg>", False),
        (files.HTML, "# <html>", False),
    ],
)
def test_kinds(tmp_path: Path, kind: files.Kind, text: str, fits: bool) -> None:
    path = tmp_path / "there"
    path.write_text(text, encoding="utf-8")
    if fits:
        check_output(path, kind, [])
        return
    with pytest.raises(InputError, match=kind.name):
        check_output(path, kind, [])
