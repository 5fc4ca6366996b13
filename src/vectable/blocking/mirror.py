"""Documentation of the synchronous handles, taken from their asynchronous twins."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

C = TypeVar("C", bound=type[Any])


def mirrors(original: type[Any]) -> Any:
    """Class decorator: public members without a docstring get that of the member they mirror."""

    def document(mirror: C) -> C:
        for name, member in vars(mirror).items():
            target = member.fget if isinstance(member, property) else member
            if name.startswith("_") or not inspect.isfunction(target) or target.__doc__:
                continue
            target.__doc__ = inspect.getdoc(inspect.getattr_static(original, name))
            if isinstance(member, property):
                member.__doc__ = target.__doc__
        return mirror

    return document
