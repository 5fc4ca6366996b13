"""Conformance tests for backends. An adapter's author subclasses `BackendSuite`, gives one fixture, and runs
it with pytest and pytest-asyncio (mode "auto"):

    class TestMine(BackendSuite):
        @pytest.fixture
        async def backend(self, tmp_path):
            backend = MyBackend(tmp_path)
            await backend.open()
            yield backend
            await backend.close()
"""

from vectable.testing.backend_suite.cell_tests import CellTests
from vectable.testing.backend_suite.change_tests import ChangeTests
from vectable.testing.backend_suite.concurrency_tests import ConcurrencyTests
from vectable.testing.backend_suite.filter_tests import FilterTests
from vectable.testing.backend_suite.fixtures import Reopen
from vectable.testing.backend_suite.index_tests import IndexTests
from vectable.testing.backend_suite.nearest_tests import NearestTests
from vectable.testing.backend_suite.read_tests import ReadTests
from vectable.testing.backend_suite.schema_tests import SchemaTests
from vectable.testing.backend_suite.subject import Subject
from vectable.testing.backend_suite.write_tests import WriteTests

__all__ = ["BackendSuite", "Reopen", "Subject"]


class BackendSuite(
    SchemaTests,
    WriteTests,
    CellTests,
    ReadTests,
    FilterTests,
    ChangeTests,
    NearestTests,
    IndexTests,
    ConcurrencyTests,
):
    """What every Backend keeps. A subclass gives

    - a fixture `backend`: an open Backend, with storage of its own for each test;
    - where storage outlives the backend, a fixture `reopen`: an async function that closes (or kills)
      `backend` and returns a new, open one over the same storage;
    - `known_gaps`: {name of a test: reason} for what is known not to hold. Each is a strict expected failure,
      so a gap that is closed must be struck from the list.

    What a backend's capabilities do not offer is asserted to be refused. Skipped is only what cannot be
    asserted: that views stand still where they say they do not, durability where nothing is to last, and how
    indexes serve where none are built."""
