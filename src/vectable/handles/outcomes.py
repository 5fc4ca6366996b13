"""What work on a table reports back: readable where it is printed, plain fields for programs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from vectable.core.plan import Plan
from vectable.core.rows import InsertResult as EngineInsertResult

if TYPE_CHECKING:
    from vectable.engine.jobs import Job


@dataclass(slots=True, repr=False)
class InsertResult(EngineInsertResult):
    """What an insert did. `ids`: each row's key, in the order given. `pending` cells are still embedded by
    `job` (None: nothing is left to do); `errors` cells could not be embedded and keep their error:
    `refresh(column, errors_only=True)` tries those again."""

    failure: str | None = None
    """Why the job that was waited for ended early: its cells stay pending, the rows are kept."""

    @classmethod
    def of(cls, result: EngineInsertResult) -> Self:
        """The engine's result, printable."""
        return cls(**{f.name: getattr(result, f.name) for f in fields(EngineInsertResult)})

    def __repr__(self) -> str:
        parts = [_counted(self.inserted, "inserted")]
        parts += [
            _counted(n, what) for n, what in ((self.replaced, "replaced"), (self.skipped, "skipped")) if n
        ]
        count = self.inserted + self.replaced + self.skipped
        text = f"{_things(count, 'row')}: {', '.join(parts)}"
        return text + _left(self.pending, self.errors, self.job) + _stopped(self.failure)


@dataclass(frozen=True, slots=True, repr=False)
class Filled:
    """What adding or refreshing an embedding column came to. `states` counts the column's cells: ready, new,
    stale, error, empty, in_progress. `job` is the id of the job that embeds (None: there was nothing to
    do)."""

    column: str
    model: str
    dimensions: int
    matched: int
    """Cells there were to embed."""
    job: str | None = None
    states: dict[str, int] = field(default_factory=dict)
    failure: str | None = None
    """Why the job that was waited for ended early."""

    def __repr__(self) -> str:
        parts = [f"{count:,} {state}" for state, count in self.states.items() if count]
        cells = ", ".join(parts) or "no rows yet"
        waiting = self.states.get("in_progress") or self.states.get("new")
        text = f"{self.column} ({self.model}, {self.dimensions} dimensions): {cells}"
        return text + (_running(self.job) if waiting else "") + _stopped(self.failure)


@dataclass(frozen=True, slots=True, repr=False)
class Explained:
    """A plan that prints readably; `.plan` has the fields."""

    plan: Plan

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.plan, name)

    def __repr__(self) -> str:
        from vectable.handles.show import plan_text

        return plan_text(self.plan)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}"


def _things(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _left(pending: int, errors: int, job: str | None) -> str:
    text = f"; {_things(pending, 'cell')} still to embed" + _running(job) if pending else ""
    if errors:
        failed = f"{_things(errors, 'cell')} could not be embedded"
        text += f"; {failed}: refresh(column, errors_only=True) tries again"
    return text


def _running(job: str | None) -> str:
    return f" (job {job})" if job else ""


def _stopped(failure: str | None) -> str:
    return f"; embedding stopped: {failure}" if failure else ""


def stopped(job: Job) -> str | None:
    """Why a job ended before its work was done; None when it did not."""
    if job.status == "done":
        return None
    return job.error or f"the job is {job.status}"
