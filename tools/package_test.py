#!/usr/bin/env python3
"""Build the sdist and the wheel as users do, and try what comes out.

    python tools/package_test.py FOLDER

FOLDER is made anew. Everything runs in fresh environments, with no compiler flags and
nothing of the caller's: the sdist is built from the last commit, the wheel from the
sdist, and a program outside of the source tree uses the wheel. `pip install .` is tried
on the unpacked sdist. Needs git, a compiler, and the package index.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# What compilers, meson and pip would take from the environment.
FORGET = re.compile(r"(C|CPP|CXX|LD)FLAGS|CC|CXX|(PYTHON|PIP_(USER|TARGET|PREFIX)|MESON).*")


def run(*command, cwd, env=None):
    print("+", *command, flush=True)
    subprocess.run(list(map(str, command)), cwd=cwd, env=env, check=True)


def clean_environment():
    env = {name: value for name, value in os.environ.items() if not FORGET.fullmatch(name)}
    return {**env, "PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def make_venv(folder):
    run(sys.executable, "-I", "-m", "venv", folder, cwd=ROOT)
    return folder / "bin" / "python"


def version():
    text = (ROOT / "core/include/atoll/atoll.h").read_text()
    return re.search(r'^#define ATOLL_VERSION "(.*)"', text, re.M)[1]


def check_sdist(sdist):
    """All that is in git is there, and nothing else."""
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        names = {name for name in names if archive.getmember(f"{stem(sdist)}/{name}").isfile()}
    expected = {*listed.stdout.splitlines(), "PKG-INFO"}
    assert names == expected, sorted(names ^ expected)


def stem(sdist):
    return sdist.name.removesuffix(".tar.gz")


def check_wheel(wheel):
    """The package and pytest's plugin, all of it, and nothing of tests and tools."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"atoll-{version()}.dist-info/"
        data = archive.read(info + "METADATA").decode()
    package = ROOT / "python"
    sources = {
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.is_file() and path.suffix in (".py", ".pyi", ".typed")
    }
    rest = {name for name in names - sources if not name.startswith(info)}
    assert sources <= names, sorted(sources - names)
    assert len(rest) == 1, sorted(rest)
    assert re.fullmatch(r"atoll/_core\.cpython-\w+-[\w-]+\.so", *rest), rest
    assert "atoll/py.typed" in names and "atoll/_core.pyi" in names
    assert info + "entry_points.txt" in names
    assert any(name.startswith(info) and name.endswith("/LICENSE") for name in names), names
    assert f"\nVersion: {version()}\n" in data
    assert "\nRequires-Dist: cloudpickle" in data


def try_it(python, folder, env):
    run(python, "-I", ROOT / "tests/package/smoke.py", version(), cwd=folder, env=env)
    run(python.parent / "atoll", "--version", cwd=folder, env=env)


def only(paths):
    (path,) = paths
    return path


def main(folder):
    folder = Path(folder).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    out, away = folder / "dist", folder / "away"
    out.mkdir(parents=True)
    away.mkdir()
    env = clean_environment()

    builder = make_venv(folder / "builder")
    run(builder, "-m", "pip", "install", "-q", "build", cwd=away, env=env)
    # Without --sdist or --wheel: the wheel is built from the sdist.
    run(builder, "-m", "build", "-o", out, ROOT, cwd=away, env=env)
    sdist, wheel = only(out.glob("*.tar.gz")), only(out.glob("*.whl"))
    check_sdist(sdist)
    check_wheel(wheel)

    python = make_venv(folder / "wheel")
    run(python, "-m", "pip", "install", "-q", wheel, cwd=away, env=env)
    try_it(python, away, env)

    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    python = make_venv(folder / "source")
    run(python, "-m", "pip", "install", "-q", ".", cwd=folder / stem(sdist), env=env)
    try_it(python, away, env)
    print("sdist, wheel and `pip install .`: OK")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
