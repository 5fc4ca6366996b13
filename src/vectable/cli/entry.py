"""From arguments to an exit code. Whatever goes wrong becomes one sentence and a hint on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from vectable.cli.report import report
from vectable.errors import VectableError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def run(arguments: Sequence[str]) -> int:
    """Runs one command line: 0 when it did what was asked, 1 when it could not, 2 when it was not understood,
    130 when interrupted. A reader that stops reading (`vectable … | head`) is no failure."""
    from vectable.cli.commands import ReaderGone, vectable

    as_json = "--json" in arguments
    try:
        code = vectable.main(list(arguments), prog_name="vectable", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else OK
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return OK
    except click.UsageError as error:
        report("usage", error.format_message().rstrip("."), _usage_hint(error), as_json)
        return USAGE
    except click.ClickException as error:
        report("error", error.format_message(), None, as_json)
        return error.exit_code
    except VectableError as error:
        report(error.code, error.detail, error.hint, as_json, error.context)
        return FAILED
    except (BrokenPipeError, ReaderGone):
        _silence_output()
        return OK
    except (KeyboardInterrupt, click.Abort):
        report("interrupted", "interrupted", None, as_json)
        return INTERRUPTED
    except click.exceptions.Exit as error:
        return error.exit_code
    except Exception as error:
        if os.environ.get("VECTABLE_DEBUG"):
            raise
        detail = f"unexpected {type(error).__name__}: {error}"
        report("bug", detail, "this is a defect of Vectable: VECTABLE_DEBUG=1 shows where", as_json)
        return FAILED


def _usage_hint(error: click.UsageError) -> str | None:
    from vectable.cli.commands import NoCommand

    if isinstance(error, NoCommand):
        return error.hint
    return f"see {error.ctx.command_path} --help" if error.ctx is not None else None


def _silence_output() -> None:
    """What is still buffered goes nowhere: the interpreter's last flush must not meet the closed pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
