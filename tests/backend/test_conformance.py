"""The built-in backends and the sample plugin pass the conformance suite.

Each in a process of its own, from a folder that knows nothing of this checkout, as the author of
a plugin runs it; as many at a time as there are cores.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from dioe_cambricon.host import VARIABLE
from dioe_torch.inductor import lacks
from dioe_torch.simulated import reason_unavailable
from dioe_torch.simulated.build import library
from tests.backend import software_gpu
from tests.backend.cambricon import vendor

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "docs/examples/numpy_backend"
SUITE = "dioe.testing.conformance"
COMPILED = ("declarations", "refusals", "requests", "buffers", "options", "threads")
SERVED = tuple(f"{SUITE}.test_{section}" for section in ("requests", "errors", "lifetime"))
ON_FAKES = tuple(
    f"{SUITE}.test_{section}"
    for section in (
        "declarations",
        "models",
        "errors",
        "options",
        "refusals",
        "requests",
        "buffers",
    )
)
IN_CARD_MEMORY = tuple(f"{SUITE}.test_{section}" for section in ("buffers", "requests", "lifetime"))
ALL = re.compile(r"^all +(\d+) +(\d+) +(\d+) +(\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Expected:
    """How a run of the suite is started, and what it has to show: at least so many tests covered,
    no more not covered, and exactly so many known failures. ``lacks`` says why it can't be run."""

    arguments: tuple[str, ...]
    covered: int
    not_covered: int
    listed: int = 0
    lacks: str = ""


def of(backend: str, *modules: str) -> tuple[str, ...]:
    return ("--pyargs", *(modules or (SUITE,)), "--backend", backend)


RUNS = {  # the longest first
    "openvino": Expected(of("openvino"), 570, 60, 10),
    "onnxruntime": Expected(of("onnxruntime"), 460, 20),
    "reference": Expected(of("reference"), 470, 5),
    "sample": Expected((), 180, 320),  # it has 18 ops
    "torch": Expected(of("torch"), 580, 45),
    "inductor": Expected(  # the rest of it is slow
        of("torch.inductor", *(f"{SUITE}.test_{section}" for section in COMPILED)),
        60,
        20,
        lacks=lacks("cpu"),
    ),
    "webgpu": Expected(of("onnxruntime.webgpu"), 330, 165, lacks=software_gpu.missing()),
    "cambricon": Expected(of("cambricon.magicmind", *ON_FAKES), 190, 30, lacks=vendor.missing()),
    "cambricon.torch": Expected(  # the rest of it is that of torch
        of("cambricon.torch", *IN_CARD_MEMORY),
        39,
        0,
        lacks=vendor.missing() or reason_unavailable() or "",
    ),
    "null": Expected(of("null"), 70, 5),
    "served": Expected((*of("onnxruntime", *SERVED), "--worker"), 50, 0),
}
"""Runs by name; ``served`` is a backend in a worker process, where the way to it matters;
``webgpu`` has a device with its own memory, the software GPU; ``cambricon`` and
``cambricon.torch`` run on strict fakes of the vendor's libraries, in a worker; the tensors of the
latter are in the memory of a simulated device."""

Done = subprocess.CompletedProcess[str]


def suite(
    folder: Path, *arguments: str, path: Path, more: dict[str, str], limit_s: float = 400
) -> Done:
    """The suite run in ``folder``, with the distributions in ``path`` and ``more`` variables."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(path)} | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=limit_s,
    )


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sample plugin's source, copied, and the folder that it is installed in."""
    source, target = tmp_path_factory.mktemp("sample") / "source", tmp_path_factory.mktemp("site")
    shutil.copytree(SAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    how = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *how, str(source)], check=True, capture_output=True
    )
    return source, target


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest,
    sample: tuple[Path, Path],
    simulated_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[Done]]]:
    """The runs that the selected tests ask for, started at once."""
    source, target = sample
    empty = tmp_path_factory.mktemp("elsewhere")
    lacking = bool(software_gpu.missing())
    gpu = {} if lacking else software_gpu.environment(tmp_path_factory.mktemp("vulkan"))
    fakes = {VARIABLE: str(vendor.make_vendor_python(tmp_path_factory.mktemp("vendor")))}
    variables = {"webgpu": gpu, "cambricon": fakes, "cambricon.torch": fakes}
    asked = {
        item.callspec.params.get("run")
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    }
    if "cambricon.torch" in asked and not RUNS["cambricon.torch"].lacks:
        library()  # here, for it may take longer than a worker may
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        yield {
            name: pool.submit(
                suite,
                source if name == "sample" else empty,
                *expected.arguments,
                path=target,
                more=variables.get(name, {}),
            )
            for name, expected in RUNS.items()
            if name in asked and not expected.lacks
        }


@pytest.mark.parametrize("run", RUNS)
def test_suite(runs: dict[str, Future[Done]], run: str) -> None:
    """Nothing fails but what is listed, and no less is covered than was once."""
    expected = RUNS[run]
    if expected.lacks:
        pytest.skip(expected.lacks)
    done = runs[run].result()
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    covered, not_covered, failed, known = map(int, ALL.findall(done.stdout)[-1])
    assert (failed, known) == (0, expected.listed)
    assert covered >= expected.covered
    assert not_covered <= expected.not_covered
    if run == "sample":
        assert "test_reasons" in done.stdout  # its own tests ran too


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(bool(lacks("cpu")), reason=lacks("cpu"))
def test_inductor_passes_the_whole_suite(tmp_path: Path) -> None:
    done = suite(tmp_path, *of("torch.inductor"), path=tmp_path, more={}, limit_s=3600)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    covered, not_covered, failed, known = map(int, ALL.findall(done.stdout)[-1])
    assert (failed, known) == (0, 0)
    assert covered >= 480
    assert not_covered <= 160


def test_the_sample_is_complete(sample: tuple[Path, Path]) -> None:
    names = {path.name for path in (sample[1] / "dioe_numpy").iterdir()}
    assert {"known_failures.txt", "py.typed", "backend.py"} <= names
