"""Templates and the Supervisor file reach every kind of install: wheel, sdist and editable."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
SOURCES = ["README.md", "pyproject.toml", "setup.cfg", "supervisord.conf.in", "templates"]

# Prints where the package is, and what it reads of both files.
PROBE = """
from importlib.resources import files
package = files("daemon")
print(package)
print("[program:damnit]" in package.joinpath("supervisord.conf.in").read_text())
print("@Variable" in package.joinpath("templates", "context.py").read_text())
print("type: slurm" in package.joinpath("templates", "backends", "slurm.yml").read_text())
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packed, links kept, as a clone has it: building leaves traces."""
    copy = tmp_path_factory.mktemp("sources")
    for name in [*SOURCES, "ctxlib", "daemon"]:
        path = ROOT / name
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, copy / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(path, copy / name)
    return copy


def build(sources: Path, kind: str, target: Path) -> Path:
    """Have setuptools build `kind` ("wheel", "sdist", "editable") in `target`; the file made."""
    code = (
        "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
    )
    target.mkdir()
    subprocess.run(
        [sys.executable, "-c", code, f"build_{kind}", str(target)],
        cwd=sources,
        check=True,
        capture_output=True,
    )
    [made] = target.iterdir()
    return made


def probe_installed(wheel: Path, environment: Path) -> tuple[Path, list[str]]:
    """Install `wheel` into a new venv at `environment`, without network; what the probe prints."""
    python = environment / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    probe = subprocess.run(
        [python, "-c", PROBE], cwd=environment, capture_output=True, text=True, check=True
    )
    commands = {path.name for path in (environment / "bin").iterdir()}
    assert {"runtable", "damnit", "amore-proto"} <= commands
    package, *found = probe.stdout.splitlines()
    return Path(package), found


def test_a_wheel_has_all(sources: Path, tmp_path: Path) -> None:
    wheel = build(sources, "wheel", tmp_path / "dist")
    package, found = probe_installed(wheel, tmp_path / "venv")
    assert package.is_relative_to(tmp_path / "venv")
    assert found == ["True", "True", "True"]


def test_an_sdist_has_all(sources: Path, tmp_path: Path) -> None:
    sdist = build(sources, "sdist", tmp_path / "dist")
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "-xf", sdist, "-C", tmp_path / "unpacked"], check=True)
    [unpacked] = (tmp_path / "unpacked").iterdir()
    wheel = build(unpacked, "wheel", tmp_path / "wheel")
    package, found = probe_installed(wheel, tmp_path / "venv")
    assert package.is_relative_to(tmp_path / "venv")
    assert found == ["True", "True", "True"]


def test_an_editable_install_has_all(sources: Path, tmp_path: Path) -> None:
    wheel = build(sources, "editable", tmp_path / "dist")
    package, found = probe_installed(wheel, tmp_path / "venv")
    assert package == sources / "daemon"
    assert found == ["True", "True", "True"]
