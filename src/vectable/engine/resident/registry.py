"""All resident rows of a process under one budget of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vectable.engine.resident.background import Background
from vectable.engine.resident.resident import Resident, ResidentKey
from vectable.interfaces import VectorLibrary

DEFAULT_BUDGET = 1 << 30


class ResidentRegistry:
    """Shared by every database of the process. The unit of eviction is a version; one in use is never
    evicted. `budget` 0 keeps nothing: every search is answered by its backend."""

    def __init__(
        self, library: VectorLibrary, budget: int = DEFAULT_BUDGET, background: Background | None = None
    ) -> None:
        self.library = library
        self.budget = budget
        self.background = background or Background()
        self._lock = threading.Lock()
        self._held: OrderedDict[ResidentKey, Resident] = OrderedDict()
        self._users: dict[ResidentKey, int] = {}
        self._owed: dict[ResidentKey, int] = {}
        """Bytes granted before they are there."""
        self._owners: dict[str, int] = {}

    @contextmanager
    def use(self, key: ResidentKey, make: Callable[[], Resident]) -> Iterator[Resident]:
        """The resident of that key, safe from eviction inside the block."""
        resident = self.enter(key, make)
        try:
            yield resident
        finally:
            self.leave(key)

    def enter(self, key: ResidentKey, make: Callable[[], Resident]) -> Resident:
        """The resident of that key, safe from eviction until `leave`."""
        with self._lock:
            resident = self._held.get(key)
            if resident is None:
                resident = self._held[key] = make()
            self._held.move_to_end(key)
            self._users[key] = self._users.get(key, 0) + 1
            return resident

    def leave(self, key: ResidentKey) -> None:
        """Undoes one `enter`."""
        with self._lock:
            left = self._users[key] - 1
            if left:
                self._users[key] = left
            else:
                del self._users[key]

    def peek(self, key: ResidentKey) -> Resident | None:
        """The resident of that key, if it is held now."""
        with self._lock:
            return self._held.get(key)

    def touch(self, key: ResidentKey) -> Resident | None:
        """`peek`, and it is now the one used last."""
        with self._lock:
            resident = self._held.get(key)
            if resident is not None:
                self._held.move_to_end(key)
            return resident

    def held(self) -> int:
        """Bytes held and granted now."""
        with self._lock:
            return self._sum()

    def _sum(self) -> int:
        return sum(max(r.nbytes, self._owed.get(k, 0)) for k, r in self._held.items())

    def grant(self, resident: Resident, nbytes: int) -> bool:
        """Makes room for `resident` to hold `nbytes`, evicting what was used longest ago and is not in use.
        False when that is not enough."""
        with self._lock:
            if nbytes > self.budget:
                return False
            others = self._sum() - max(resident.nbytes, self._owed.get(resident.key, 0))
            for key in list(self._held):
                if others + nbytes <= self.budget:
                    break
                if key == resident.key or self._users.get(key):
                    continue
                evicted = self._held.pop(key)
                others -= max(evicted.nbytes, self._owed.pop(key, 0))
                evicted.forget()
            if others + nbytes > self.budget:
                return False
            self._owed[resident.key] = nbytes
            return True

    def fits(self, resident: Resident, more: int = 0) -> bool:
        """Grants what `resident` holds now, and so much `more`; if need be, without its rows of hits."""
        if self.grant(resident, resident.nbytes + more):
            return True
        resident.drop_recent()
        return self.grant(resident, resident.nbytes + more)

    def has_room(self, nbytes: int) -> bool:
        """Whether so much more can be held without evicting anything."""
        with self._lock:
            return self._sum() + nbytes <= self.budget

    def settle(self, resident: Resident) -> None:
        """What was granted is loaded: from now on its real size counts."""
        with self._lock:
            self._owed.pop(resident.key, None)

    def attach(self, owner: str) -> None:
        """One more searcher uses what `owner` holds."""
        with self._lock:
            self._owners[owner] = self._owners.get(owner, 0) + 1

    def detach(self, owner: str) -> None:
        """One searcher fewer; the last one takes everything of the owner with it."""
        with self._lock:
            self._owners[owner] = self._owners.get(owner, 1) - 1
            if self._owners[owner] > 0:
                return
            del self._owners[owner]
            for key in [k for k in self._held if k.owner == owner]:
                self._owed.pop(key, None)
                self._held.pop(key).forget()

    def close(self) -> None:
        """Forgets everything and stops the worker."""
        self.background.stop()
        with self._lock:
            for resident in self._held.values():
                resident.forget()
            self._held.clear()
            self._owed.clear()
