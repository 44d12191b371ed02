"""The packages whose extension modules are used in isolated interpreters.

Run as a script it prints requirements for pip, one a line: ext_packages.py SET, which is
quick, all, or alone (those to be installed without what they depend on).
"""

import dataclasses
import importlib.metadata
import importlib.util
import sys

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"


@dataclasses.dataclass(frozen=True)
class Package:
    """A package, and how it is used."""

    name: str
    #: What pip is asked for.
    requirement: str
    #: What the use imports.
    imports: tuple[str, ...]
    #: The use: tests/extensions/uses/<use>.py.
    use: str
    #: Is it small and fast enough for `make test`?
    quick: bool = False
    #: Is it installed without its dependencies, which the use does not need?
    alone: bool = False
    #: Why it cannot be tested with a version of CPython ("3.15": why).
    missing_on: dict[str, str] = dataclasses.field(default_factory=dict)

    def installed(self) -> bool:
        try:
            return all(importlib.util.find_spec(name) is not None for name in self.imports)
        except ModuleNotFoundError:  # not even the package that it is in
            return False

    def version(self) -> str:
        return importlib.metadata.version(self.requirement.partition("[")[0])


def package(
    name: str,
    *imports: str,
    use: str = "",
    requirement: str = "",
    quick: bool = False,
    alone: bool = False,
    missing_on: dict[str, str] | None = None,
) -> Package:
    return Package(
        name,
        requirement or name,
        imports or (name,),
        use or name.lower().replace("-", "_"),
        quick,
        alone,
        missing_on or {},
    )


NO_WHEEL = "there is no wheel"

PACKAGES = [
    package("numpy", quick=True),
    package("scipy"),
    package("pandas"),
    package("scikit-learn", "sklearn"),
    package("pyarrow"),
    package("polars"),
    package("matplotlib"),
    package("numba"),
    package("h5py", missing_on={"3.15": NO_WHEEL}),
    package("lxml", quick=True),
    package("pydantic", quick=True),
    package("cryptography"),
    package("orjson", quick=True),
    package("msgspec"),
    package("msgpack", quick=True),
    package("ujson"),
    package("regex", quick=True),
    package("psutil", quick=True),
    package("zstandard", missing_on={"3.15": NO_WHEEL}),
    package("Pillow", "PIL", quick=True),
    package("greenlet", quick=True),
    package("gevent"),
    package("uvloop"),
    package("aiohttp"),
    package("multidict", quick=True),
    package("pyzmq", "zmq"),
    package("grpcio", "grpc"),
    package("protobuf", "google.protobuf"),
    package("PyYAML", "yaml", quick=True, missing_on={"3.15": NO_WHEEL}),
    package("cffi", quick=True),
    package("shapely"),
    package("pymongo", "pymongo", "bson"),
    package("psycopg", "psycopg", "psycopg_binary", requirement="psycopg[binary]"),
    package("asyncpg"),
    package("sqlalchemy"),
    package("tokenizers", alone=True),  # the rest is for downloads, and needs PyYAML
    package("tiktoken"),
    package("lz4", missing_on={"3.15": NO_WHEEL}),
    package("xxhash"),
    package("bcrypt"),
    package("pynacl", "nacl"),
]
BY_NAME = {package.name: package for package in PACKAGES}
QUICK = [package for package in PACKAGES if package.quick]


def requirements(what: str, minor: str = MINOR) -> list[str]:
    """What pip is asked for: of "quick", "all" or "alone"."""
    return [
        package.requirement
        for package in PACKAGES
        if minor not in package.missing_on
        and package.alone == (what == "alone")
        and (package.quick or what != "quick")
    ]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))
