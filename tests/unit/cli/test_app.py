"""What every command does with what it can't use: a code of its own, a message, nothing written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from dioe import types
from dioe.cli import app as app_module
from dioe.types import DioeError
from tests.toys import models
from tests.unit.cli.conftest import ORT, QUICK, Dioe, files_in, is_told

COMMANDS = ("inspect", "profile", "plan", "run", "bench")


def arguments(command: str, model: object, x: Path) -> list[object]:
    """A quick call of a command that takes a model."""
    quick = {"profile": ["--time", "0.01"], "bench": [*QUICK, "--time", "0.1"]}
    given = [] if command == "inspect" else ["--input", f"x={x}"]
    return [command, model, *given, *quick.get(command, [] if command == "inspect" else QUICK)]


def test_codes_are_distinct() -> None:
    kinds = [k for k in vars(types).values() if isinstance(k, type) and issubclass(k, DioeError)]
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(kinds) >= 11
    assert not {0, 2, app_module.INTERRUPTED} & set(codes)
    assert types.DioeError.exit_code == app_module.UNEXPECTED == 1


def test_help_and_version(dioe: Dioe) -> None:
    shown = dioe("--help")
    assert shown.code == 0
    for command in (*COMMANDS, "devices", "demo", "node-suite"):
        assert command in shown.out
    assert dioe("-h").out == shown.out
    version = dioe("--version")
    assert version.code == 0
    assert re.fullmatch(r"dioe \d\S*\n", version.out)


@pytest.mark.parametrize("command", [*COMMANDS, "devices", "demo", "node-suite"])
def test_every_command_has_help(dioe: Dioe, command: str) -> None:
    shown = dioe(command, "--help")
    assert shown.code == 0
    assert "--json" in shown.out
    assert "--debug" in shown.out
    flags = [line for line in shown.out.splitlines() if "--json" in line or "--debug" in line]
    assert not [line for line in flags if "<bool>" in line]
    assert "-v      <int>" not in shown.out


@pytest.mark.parametrize(
    "wrong",
    [
        ["nonsense"], ["plan"], ["devices", "--nonsense"], ["plan", "a.onnx", "b.onnx"],
        ["plan", "a.onnx", "--tuning-budget", "soon"], ["devices", "--json=yes"],
    ],
)  # fmt: skip
def test_wrong_usage_is_2(dioe: Dioe, wrong: list[str]) -> None:
    outcome = dioe(*wrong)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Usage" in outcome.err or outcome.err.startswith("Error: ")
    assert "Traceback" not in outcome.err


# --- models that are none -----------------------------------------------------------------------


def png(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + os.urandom(400))


def cut(path: Path) -> None:
    path.write_bytes(models.dense().SerializeToString()[:-150])


def unknown_op(path: Path) -> None:
    model = models.relu()
    model.graph.node[0].op_type = "Wobble"
    path.write_bytes(model.SerializeToString())


def unknown_domain(path: Path) -> None:
    model = models.relu()
    model.graph.node[0].domain = "acme"
    path.write_bytes(model.SerializeToString())


def external(path: Path, location: str) -> None:
    model = models.dense()
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    content = onnx.load(path, load_external_data=False)
    for tensor in content.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(content.SerializeToString())


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such file"),
    "directory": (lambda path: path.mkdir(), "directory"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
    "pipe": (os.mkfifo, "no regular file"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("not a model\n"), "not an ONNX model"),
    "png": (png, "not an ONNX model"),
    "cut": (cut, "cut short"),
    "unknown op": (unknown_op, "Wobble"),
    "unknown domain": (unknown_domain, "'acme'"),
    "missing data": (lambda path: external(path, "gone.bin"), "gone.bin"),
    "data elsewhere": (lambda path: external(path, "../weights.bin"), "leaves the model's folder"),
    "absolute data": (lambda path: external(path, "/etc/passwd"), "leaves the model's folder"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_model_is_10(
    dioe: Dioe, x: Path, tmp_path: Path, command: str, kind: str
) -> None:
    path = tmp_path / "models" / "broken.onnx"
    path.parent.mkdir()
    make, says = BROKEN[kind]
    make(path)
    before = files_in(tmp_path)
    outcome = dioe(*arguments(command, path, x))
    is_told(outcome, 10, path, says)
    assert files_in(tmp_path) == before


def custom_op(path: Path) -> Path:
    """An op of a domain that nobody here knows, imported as it should be."""
    model = models.relu()
    model.graph.node[0].domain = "acme"
    model.graph.node[0].op_type = "Wobble"
    model.opset_import.append(helper.make_opsetid("acme", 1))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("command", ["plan", "run", "bench"])
def test_a_model_nobody_can_run_is_12(dioe: Dioe, tmp_path: Path, command: str) -> None:
    path = custom_op(tmp_path / "custom.onnx")
    np.save(tmp_path / "x.npy", np.ones((1, 4), np.float32))
    outcome = dioe(*arguments(command, path, tmp_path / "x.npy"))
    is_told(outcome, 12, "Wobble", "dioe inspect")


def test_inspect_and_profile_tell_why_nobody_can_run_it(dioe: Dioe, tmp_path: Path) -> None:
    path = custom_op(tmp_path / "custom.onnx")
    for command in ("inspect", "profile"):
        outcome = dioe(command, path)
        assert outcome.code == 0
        assert "Wobble" in outcome.out
        assert outcome.err == ""


# --- wrong inputs and settings ------------------------------------------------------------------


@pytest.mark.parametrize("command", ["profile", "plan", "run", "bench"])
@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("X", np.ones((4, 8), np.float32), "did you mean 'x'"),
        ("x", np.ones((4, 8)), "dtype float64"),
        ("x", np.ones((4, 9), np.float32), "[4, 9]"),
        ("x", np.ones(8, np.float32), "x float32[N,8]"),
    ],
)
def test_a_wrong_input_is_11(
    dioe: Dioe, model: Path, tmp_path: Path, command: str, name: str, array: Any, says: str
) -> None:
    path = tmp_path / "wrong.npy"
    np.save(path, array)
    call = arguments(command, model, path)
    call[call.index(f"x={path}")] = f"{name}={path}"
    is_told(dioe(*call), 11, says)


@pytest.mark.parametrize("command", ["profile", "plan", "run", "bench"])
def test_an_input_that_cant_be_read_is_11(
    dioe: Dioe, model: Path, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "missing.npy"
    is_told(dioe(*arguments(command, model, path)), 11, path)
    path.write_text("1 2 3")
    is_told(dioe(*arguments(command, model, path)), 11, path, "not a .npy file")


@pytest.mark.parametrize(
    ("option", "value", "code", "says"),
    [
        ("--devices", "gpu:7", 11, "gpu:7"),
        ("--precision", "fp31", 11, "fp31"),
        ("--max-relative-l2", "0", 11, "max_relative_l2"),
        ("--tuning-budget", "-1", 11, "tuning_budget_s"),
        ("--tuning-budget", "nan", 11, "tuning_budget_s"),
        ("--shape", "x=1,two", 11, "--shape"),
        ("--shape", "y=1,2", 11, "'y'"),
        ("--shape", "x=1,9", 11, "'x'"),
    ],
)
def test_a_wrong_setting_is_told(
    dioe: Dioe, model: Path, option: str, value: str, code: int, says: str
) -> None:
    is_told(dioe("plan", model, *QUICK, option, value), code, says)


@pytest.mark.parametrize("command", ["inspect", "profile", "plan", "run", "bench", "devices"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("devices: [", "pool.yaml:"),
        ("just text", "pool.yaml"),
        ("", "pool.yaml"),
        ("format: dioe-pool\nversion: 1\ndevices: 3\n", "pool.yaml:3"),
        ("format: dioe-pool\nversion: 1\ndevises: []\n", "did you mean 'devices'"),
        (None, "pool.yaml"),
    ],
)
def test_a_pool_that_is_none_is_19(
    dioe: Dioe, model: Path, x: Path, tmp_path: Path, command: str, text: str | None, says: str
) -> None:
    pool = tmp_path / "pool.yaml"
    if text is not None:
        pool.write_text(text)
    call = ["devices"] if command == "devices" else arguments(command, model, x)
    is_told(dioe(*call, "--hardware", pool), 19, says)


# --- errors nobody expected ---------------------------------------------------------------------


def test_debug_shows_the_traceback(dioe: Dioe, tmp_path: Path) -> None:
    outcome = dioe("plan", tmp_path / "missing.onnx", "--debug")
    assert outcome.code == 10
    assert "error: " in outcome.err
    assert "Traceback" in outcome.err
    assert "ModelError" in outcome.err
    assert "Traceback" not in dioe("plan", tmp_path / "missing.onnx").err


def test_debug_may_come_from_the_environment(
    dioe: Dioe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIOE_DEBUG", "1")
    assert "Traceback" in dioe("plan", tmp_path / "missing.onnx").err


@pytest.mark.parametrize("debug", [False, True])
def test_an_unexpected_error_is_1(dioe: Dioe, monkeypatch: pytest.MonkeyPatch, debug: bool) -> None:
    def fail(*_: object) -> None:
        raise LookupError("who would have thought")

    monkeypatch.setattr("dioe.hardware.pool_from", fail)
    outcome = dioe("devices", *(["--debug"] if debug else []))
    assert outcome.code == 1
    assert "unexpected LookupError: who would have thought" in outcome.err
    assert "--debug" in outcome.err
    assert ("Traceback" in outcome.err) is debug


def test_no_memory_is_16(dioe: Dioe, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("dioe.hardware.pool_from", fail)
    assert dioe("devices").code == 16


def test_an_interrupt_is_130(dioe: Dioe, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dioe.hardware.pool_from", fail)
    outcome = dioe("devices")
    assert outcome.code == 130
    assert "interrupted" in outcome.err
    assert outcome.out == ""


# --- as a process of its own --------------------------------------------------------------------


def start(*given: object, tmp_path: Path, **settings: Any) -> subprocess.Popen[str]:
    """``python -m``-like: the installed command, with temporary files and caches of its own."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    env = os.environ | {"TMPDIR": str(scratch), "DIOE_CACHE_DIR": str(tmp_path / "dioe-cache")}
    main = "import sys; sys.argv[0] = 'dioe'; from dioe.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", main, *map(str, given)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        **settings,
    )  # fmt: skip


def wait_for_measuring(process: subprocess.Popen[str], tmp_path: Path) -> None:
    lock = tmp_path / "scratch" / "dioe-measuring.lock"
    for _ in range(600):
        if lock.exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()
    time.sleep(0.5)


@pytest.mark.parametrize("command", ["plan", "run", "bench"])
def test_ctrl_c_in_the_middle_is_130_and_leaves_nothing(
    model: Path, x: Path, tmp_path: Path, command: str
) -> None:
    where = {"plan": ["-o", "plan.json"], "run": ["--output", "outputs"]}.get(command, [])
    given = ["--input", f"x={x}", "--tuning-budget", "60"]
    before = files_in(tmp_path)
    process = start(command, model, *given, *where, tmp_path=tmp_path)
    wait_for_measuring(process, tmp_path)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "interrupted; nothing was written but the costs measured so far" in err
    assert "Traceback" not in err
    # the lock stays for the next measurement, costs for the next command; ONNX Runtime keeps a
    # number of its own in .ses
    kept = {name for name in files_in(tmp_path) if name.startswith("dioe-cache/history.sqlite")}
    new = files_in(tmp_path) - before - kept
    assert new <= {"scratch/dioe-measuring.lock", "scratch/.ses"}


def test_a_reader_that_leaves_early_is_no_error(model: Path, tmp_path: Path) -> None:
    for given in (["devices"], ["devices", "--json"], ["inspect", model, "--json"]):
        process = start(*given, tmp_path=tmp_path)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        process.stderr.close()
        assert process.wait(60) == 0, err
        assert err == ""


def dioe_in_shell(line: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """What ``python -m dioe`` does with redirections of a shell."""
    return subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -W error -m dioe {line}"],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60,
        env=os.environ | {"DIOE_CACHE_DIR": str(tmp_path / "dioe-cache")},
    )  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["devices", "devices --json", "--help", "--version"])
def test_output_that_doesnt_fit_is_19(tmp_path: Path, command: str) -> None:
    found = dioe_in_shell(f"{command} >/dev/full", tmp_path)
    assert found.returncode == 19
    assert found.stderr.startswith("dioe: error: stdout: the output can't be written: No space")
    assert "Traceback" not in found.stderr
    assert "report it" not in found.stderr


def test_closed_streams(tmp_path: Path) -> None:
    told = dioe_in_shell("inspect missing.onnx 2>&-", tmp_path)
    assert (told.returncode, told.stdout, told.stderr) == (10, "", "")
    told = dioe_in_shell("inspect missing.onnx >&- <&-", tmp_path)
    assert told.returncode == 10
    assert "no such file" in told.stderr
    shown = dioe_in_shell("devices 2>&-", tmp_path)
    assert shown.returncode == 0
    assert "This machine" in shown.stdout


def test_an_empty_name_is_no_model(dioe: Dioe) -> None:
    is_told(dioe("inspect", ""), 10, "its path is empty")


def test_the_command_starts_without_heavy_imports(tmp_path: Path) -> None:
    code = (
        "import sys; from dioe.cli.app import run; code = run(['--version']);"
        "heavy = {'torch', 'onnxruntime', 'openvino', 'onnx'} & set(sys.modules);"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert found.returncode == 0, found.stderr


def test_stderr_is_quiet_and_logs_come_with_v(dioe: Dioe, model: Path) -> None:
    assert dioe("plan", model, "--tuning-budget", "0.2", *ORT).err == ""
    assert dioe("cache", "clear", "--yes").code == 0  # so that there is something to measure
    told = dioe("plan", model, "--tuning-budget", "0.2", *ORT, "-v")
    assert told.code == 0
    assert "cpu/onnxruntime/fp32: ok" in told.err
