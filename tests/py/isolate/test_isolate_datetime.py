"""Packages that derive from datetime's classes and have an extension module that uses
its C API, which comes later (bson): on 3.13 they begin with the pure classes."""

import subprocess
import sysconfig

import pytest
from support import check_python

MODULE = """
#include <Python.h>
#include <datetime.h>

static PyObject *
stamp(PyObject *self, PyObject *zone)
{
    return PyDateTimeAPI->DateTime_FromDateAndTime(
        2024, 2, 29, 12, 0, 0, 0, zone, PyDateTimeAPI->DateTimeType);
}

static PyMethodDef functions[] = {{"stamp", stamp, METH_O, NULL}, {NULL}};
static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_zones", .m_size = -1, .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__zones(void)
{
    PyDateTime_IMPORT;
    return PyDateTimeAPI == NULL ? NULL : PyModule_Create(&definition);
}
"""

PACKAGE = """
from datetime import datetime, timedelta, tzinfo

class Zone(tzinfo):
    def utcoffset(self, when):
        return timedelta(hours=2)
    def dst(self, when):
        return timedelta(0)
    def tzname(self, when):
        return "zone"

class Stamp(datetime):
    pass

from ._zones import stamp
"""


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """Packages `zones`, and `outer.zones`, which is further below."""
    folder = tmp_path_factory.mktemp("datetime")
    (folder / "_zones.c").write_text(MODULE)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for package in ("zones", "outer/zones"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(PACKAGE)
        subprocess.run(
            [
                "cc", "-shared", "-fPIC", "-I", sysconfig.get_paths()["include"],
                folder / "_zones.c", "-o", folder / package / f"_zones{suffix}",
            ],
            check=True,
        )
    (folder / "outer" / "__init__.py").write_text("value = 1\n")
    return str(folder)


USE = """
import sys
sys.path.insert(0, {place!r})
import datetime
from {module} import Stamp, Zone, stamp
when = stamp(Zone())
assert type(when) is datetime.datetime
assert when.utcoffset() == datetime.timedelta(hours=2)
assert str(when) == "2024-02-29 12:00:00+02:00" and when.tzname() == "zone"
assert Stamp(2024, 2, 29, 12, tzinfo=Zone()) == when
assert isinstance(Stamp.now(Zone()), datetime.datetime)
"""


@pytest.mark.parametrize("module", ["zones", "outer.zones"])
@pytest.mark.parametrize("before", ["", "import datetime, zoneinfo, sqlite3"])
def test_derived_before_the_c_module_is_there(place, module, before):
    use = USE.format(place=place, module=module)
    check_python(f"""
import atoll
made = [atoll.create() for _ in range(3)]
for interp in made:
    interp.exec({before!r})
    interp.exec({use!r})
for interp in made:
    interp.close()
exec({use!r}, {{}})
""")


def test_packages_without_such_a_module_change_nothing(place):
    """And what cannot be read is no error."""
    check_python(f"""
import sys
sys.path.insert(0, {place!r})
import atoll
with atoll.create() as interp:
    interp.exec('''
import sys
import outer, email, datetime, types
known = sys.version_info >= (3, 14) or sys.modules["_datetime"] is None
assert known and outer.value == 1
package = types.ModuleType("outer")
package.__path__ = ["/nowhere", "\\\\udc80", 1, None]
package.__spec__ = outer.__spec__
outer.__loader__.exec_module(package)
assert package.value == 1
''')
""")
