"""The background loop: results, errors, Ctrl-C, forks, ends of interpreters."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from vectable.blocking.loop import Loop, current_loop
from vectable.errors import Unsupported
from vectable.handles.callers import off_loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def python(script: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in a fresh interpreter that turns warnings into noise on standard error."""
    command = [sys.executable, "-X", "dev", "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


async def double(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


async def fail() -> None:
    raise ValueError("as it was")


def test_results_and_errors_come_back(loop: Loop) -> None:
    assert loop.run(double(21)) == 42
    with pytest.raises(ValueError, match="as it was"):
        loop.run(fail())


def test_context_variables_travel_with_the_call(loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("mine")

    async def read() -> str:
        return variable.get()

    assert loop.run(read()) == "mine"


def test_many_threads_share_it(loop: Loop) -> None:
    found: list[int] = []

    def work(n: int) -> None:
        found.extend(loop.run(double(n)) for _ in range(50))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted([2 * n for n in range(8)] * 50)


def test_its_own_thread_is_refused(loop: Loop) -> None:
    async def nested() -> None:
        loop.run(double(1))

    with pytest.raises(Unsupported, match="connect_async"):
        loop.run(nested())


def test_a_callers_own_event_loop_is_no_obstacle(loop: Loop) -> None:
    async def main() -> int:
        return loop.run(double(4))

    assert asyncio.run(main()) == 8


def test_ctrl_c_cancels_and_waits_for_the_outcome(loop: Loop) -> None:
    seen: list[str] = []

    async def shielded() -> None:
        # The main thread waits for this by then, or is just about to.
        timer.start()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            seen.append("cleaned up")
            raise

    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        loop.run(shielded())
    timer.join()
    assert seen == ["cleaned up"]
    assert loop.run(double(1)) == 2


def test_errands_run_on_the_thread_that_asked(loop: Loop) -> None:
    async def ask() -> list[int | None]:
        here = threading.get_ident()
        there = await off_loop(threading.get_ident)
        again = await off_loop(threading.get_ident)
        return [here, there, again]

    here, there, again = loop.run(ask())
    assert there == again == threading.get_ident()
    assert here != there


def test_errands_may_use_the_loop_themselves(loop: Loop) -> None:
    async def ask() -> int:
        return await off_loop(lambda: loop.run(double(3)))

    assert loop.run(ask()) == 6


def test_errors_of_errands_reach_the_coroutine_and_the_caller(loop: Loop) -> None:
    seen: list[str] = []

    def errand() -> None:
        raise LookupError("in the errand")

    async def ask() -> None:
        try:
            await off_loop(errand)
        except LookupError as error:
            seen.append(str(error))
            raise

    with pytest.raises(LookupError):
        loop.run(ask())
    assert seen == ["in the errand"]


def test_ctrl_c_in_an_errand_cancels_and_cleans_up_on_the_same_thread(loop: Loop) -> None:
    cleaned: list[int] = []

    def errand() -> None:
        raise KeyboardInterrupt

    async def ask() -> None:
        try:
            await off_loop(errand)
        finally:
            await off_loop(lambda: cleaned.append(threading.get_ident()))

    with pytest.raises(KeyboardInterrupt):
        loop.run(ask())
    assert cleaned == [threading.get_ident()]


def test_without_a_caller_errands_run_on_a_worker() -> None:
    async def main() -> bool:
        return await off_loop(threading.get_ident) != threading.get_ident()

    assert asyncio.run(main())


def test_iterating_closes_the_source_early(loop: Loop) -> None:
    closed: list[bool] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for n in range(10):
                yield n
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    assert list(loop.iterate(numbers)) == list(range(10))
    assert closed == [True]
    partial = loop.iterate(numbers)
    assert [next(partial), next(partial)] == [0, 1]
    partial.close()
    assert closed == [True, True]


def test_closing_runs_what_is_registered_and_cancels_the_rest() -> None:
    loop = Loop()
    seen: list[Any] = []

    async def close() -> None:
        seen.append("closed")

    async def forever() -> None:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    loop.register(seen, close)
    loop.forget(forever)
    loop.run(double(1))
    loop.close()
    loop.close()
    assert seen == ["closed", "cancelled"]
    with pytest.raises(Unsupported, match="stopped"):
        loop.run(double(1))


def test_a_process_has_one_loop() -> None:
    assert current_loop() is current_loop()


def test_after_a_fork_the_handle_says_so_and_a_new_one_works() -> None:
    done = python(
        """
        import asyncio, os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from vectable.blocking.loop import current_loop
        from vectable.errors import Unsupported
        loop = current_loop()
        loop.run(asyncio.sleep(0, 1))
        pid = os.fork()
        if pid == 0:
            try:
                loop.run(asyncio.sleep(0, 1))
            except Unsupported as error:
                print(error.detail, flush=True)
            print(current_loop().run(asyncio.sleep(0, "new one works")), flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        print(loop.run(asyncio.sleep(0, "parent works")))
        """
    )
    assert done.stdout.splitlines() == [
        "this handle belongs to another process: it was made before a fork",
        "new one works",
        "parent works",
    ]
    assert done.stderr == ""


def test_it_closes_before_the_thread_pools_of_the_interpreter() -> None:
    done = python(
        """
        import asyncio
        from concurrent.futures import ThreadPoolExecutor
        from vectable.blocking.loop import current_loop
        pool = ThreadPoolExecutor(1)
        async def close():
            loop = asyncio.get_running_loop()
            print(await loop.run_in_executor(pool, lambda: "closed with a pool"), flush=True)
        loop = current_loop()
        loop.register(pool, close)
        loop.run(asyncio.sleep(0))
        """
    )
    assert done.stdout.splitlines() == ["closed with a pool"]
    assert done.stderr == ""
    assert done.returncode == 0


def test_ctrl_c_in_a_script_ends_it_with_a_keyboard_interrupt() -> None:
    done = python(
        """
        import asyncio, signal, threading
        from vectable.blocking.loop import current_loop
        main = threading.main_thread().ident
        threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
        current_loop().run(asyncio.sleep(60))
        """
    )
    assert done.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in done.stderr
