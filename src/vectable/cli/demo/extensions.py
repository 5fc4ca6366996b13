"""What the library's C modules document: they have no Python source, so they are imported and looked at."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import types
from collections.abc import Iterator
from typing import Any

from vectable.cli.demo.sources import Entry, short

# (public module, modules its C parts say they come from, file in CPython's repository). Only modules whose
# import does nothing but define names: readline, for one, writes to the terminal.
_MODULES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("builtins", ("builtins",), "Python/bltinmodule.c"),
    ("array", ("array",), "Modules/arraymodule.c"),
    ("asyncio", ("_asyncio",), "Modules/_asynciomodule.c"),
    ("atexit", ("atexit",), "Modules/atexitmodule.c"),
    ("binascii", ("binascii",), "Modules/binascii.c"),
    ("bisect", ("_bisect",), "Modules/_bisectmodule.c"),
    ("bz2", ("_bz2",), "Modules/_bz2module.c"),
    ("cmath", ("cmath",), "Modules/cmathmodule.c"),
    ("codecs", ("_codecs",), "Modules/_codecsmodule.c"),
    ("collections", ("collections", "_collections"), "Modules/_collectionsmodule.c"),
    ("contextvars", ("_contextvars", "contextvars"), "Python/context.c"),
    ("csv", ("_csv",), "Modules/_csv.c"),
    ("ctypes", ("_ctypes",), "Modules/_ctypes/_ctypes.c"),
    ("datetime", ("datetime", "_datetime"), "Modules/_datetimemodule.c"),
    ("decimal", ("decimal", "_decimal"), "Modules/_decimal/_decimal.c"),
    ("errno", ("errno",), "Modules/errnomodule.c"),
    ("faulthandler", ("faulthandler",), "Modules/faulthandler.c"),
    ("fcntl", ("fcntl",), "Modules/fcntlmodule.c"),
    ("functools", ("functools", "_functools"), "Modules/_functoolsmodule.c"),
    ("gc", ("gc",), "Modules/gcmodule.c"),
    ("grp", ("grp",), "Modules/grpmodule.c"),
    ("hashlib", ("_hashlib", "_blake2"), "Modules/_hashopenssl.c"),
    ("heapq", ("_heapq",), "Modules/_heapqmodule.c"),
    ("io", ("io", "_io"), "Modules/_io/_iomodule.c"),
    ("itertools", ("itertools",), "Modules/itertoolsmodule.c"),
    ("json", ("_json",), "Modules/_json.c"),
    ("lzma", ("_lzma",), "Modules/_lzmamodule.c"),
    ("marshal", ("marshal",), "Python/marshal.c"),
    ("math", ("math",), "Modules/mathmodule.c"),
    ("mmap", ("mmap",), "Modules/mmapmodule.c"),
    ("operator", ("operator", "_operator"), "Modules/_operator.c"),
    ("os", ("os", "posix", "nt"), "Modules/posixmodule.c"),
    ("pickle", ("_pickle",), "Modules/_pickle.c"),
    ("pwd", ("pwd",), "Modules/pwdmodule.c"),
    ("queue", ("_queue",), "Modules/_queuemodule.c"),
    ("random", ("_random",), "Modules/_randommodule.c"),
    ("re", ("re", "_sre"), "Modules/_sre/sre.c"),
    ("resource", ("resource",), "Modules/resource.c"),
    ("select", ("select",), "Modules/selectmodule.c"),
    ("signal", ("signal", "_signal"), "Modules/signalmodule.c"),
    ("socket", ("_socket",), "Modules/socketmodule.c"),
    ("sqlite3", ("sqlite3", "_sqlite3"), "Modules/_sqlite/module.c"),
    ("ssl", ("_ssl", "ssl"), "Modules/_ssl.c"),
    ("struct", ("_struct",), "Modules/_struct.c"),
    ("sys", ("sys",), "Python/sysmodule.c"),
    ("syslog", ("syslog",), "Modules/syslogmodule.c"),
    ("termios", ("termios",), "Modules/termios.c"),
    ("threading", ("_thread", "_threading_local"), "Modules/_threadmodule.c"),
    ("time", ("time",), "Modules/timemodule.c"),
    ("tracemalloc", ("_tracemalloc",), "Modules/_tracemalloc.c"),
    ("types", ("builtins", "types"), "Objects/typeobject.c"),
    ("unicodedata", ("unicodedata",), "Modules/unicodedata.c"),
    ("uuid", ("_uuid",), "Modules/_uuidmodule.c"),
    ("weakref", ("weakref", "_weakref"), "Modules/_weakref.c"),
    ("xml.etree.ElementTree", ("_elementtree", "xml.etree.ElementTree"), "Modules/_elementtree.c"),
    ("xml.parsers.expat", ("pyexpat",), "Modules/pyexpat.c"),
    ("zlib", ("zlib",), "Modules/zlibmodule.c"),
    ("zoneinfo", ("zoneinfo", "_zoneinfo"), "Modules/_zoneinfo.c"),
)
# Where the types of `builtins` are written, unless it is Objects/NAMEobject.c.
_TYPES = {
    "bytearray": "bytearrayobject", "dict": "dictobject", "int": "longobject", "str": "unicodeobject",
    "super": "typeobject", "type": "typeobject", "object": "typeobject", "frozenset": "setobject",
    "property": "descrobject", "classmethod": "funcobject", "staticmethod": "funcobject",
    "reversed": "enumobject", "enumerate": "enumobject", "memoryview": "memoryobject", "slice": "sliceobject",
}  # fmt: skip
_IN_BLTINMODULE = frozenset({"filter", "map", "zip"})
_CALLABLE = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.WrapperDescriptorType,
)


def read_extensions() -> Iterator[Entry]:
    """Every documented or undocumented public name those modules of this Python hold, in a fixed order."""
    for public, implementing, file in _MODULES:
        try:
            module = importlib.import_module(public)
        except ImportError:
            continue  # built without it, or another platform's
        # A module with Python source is described from that.
        if not getattr(module, "__file__", None) or not str(module.__file__).endswith(".py"):
            yield Entry(public, public, "module", file, None, inspect.getdoc(module) or "", language="C")
        for name in sorted(vars(module)):
            if not name.startswith("_"):
                yield from _member(public, implementing, file, name, vars(module)[name])


def _member(public: str, implementing: tuple[str, ...], file: str, name: str, value: Any) -> Iterator[Entry]:
    if getattr(value, "__module__", None) not in implementing or getattr(value, "__name__", "") != name:
        return
    if isinstance(value, types.BuiltinFunctionType):
        yield _entry(f"{public}.{name}", public, "function", file, value)
    elif isinstance(value, type) and _in_c(value):
        if public == "builtins":
            file = _file_of(value)
        yield _entry(f"{public}.{name}", public, "class", file, value)
        for member in sorted(vars(value)):
            found = vars(value)[member]
            function = found.__func__ if isinstance(found, staticmethod) else found
            if not member.startswith("_") and isinstance(function, _CALLABLE):
                yield _entry(f"{public}.{name}.{member}", public, "method", file, function)


def _in_c(cls: type) -> bool:
    own = vars(cls).values()
    functions = any(isinstance(v, types.FunctionType | property) for v in own)
    return not functions and "__firstlineno__" not in vars(cls) and "__annotations__" not in vars(cls)


def _file_of(cls: type) -> str:
    if issubclass(cls, BaseException):
        return "Objects/exceptions.c"
    if cls.__name__ in _IN_BLTINMODULE:
        return "Python/bltinmodule.c"
    return f"Objects/{_TYPES.get(cls.__name__, cls.__name__ + 'object')}.c"


def _text(value: Any) -> str:
    text = getattr(value, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else ""


def _entry(name: str, module: str, kind: str, file: str, value: Any) -> Entry:
    parameters, signature = _signature(getattr(value, "__text_signature__", None))
    return Entry(name, module, kind, file, None, _text(value), parameters, signature, "C")


def _signature(text: str | None) -> tuple[tuple[str, ...], str]:
    """From "($self, x, /, *, y=1)". Read, not evaluated: defaults may name what only their module knows."""
    if not text:
        return (), ""
    plain = re.sub(r"\(\$\w+(, /)?(, )?", "(", text, count=1)
    try:
        call = ast.parse(f"lambda {plain[1:-1]}: 0", mode="eval").body
    except SyntaxError:
        return (), ""
    if not isinstance(call, ast.Lambda):
        return (), ""
    arguments = call.args
    named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    return tuple(a.arg for a in named), short(plain)
