"""The command line, `vectable`. Nothing heavy is imported before a command runs."""


def main() -> None:
    """The program `vectable`: runs the command line of this process and exits with its code."""
    import os
    import sys

    from vectable.cli.entry import run

    # Only the command line reads `.env`: a library does not look around in directories it was not shown.
    os.environ.setdefault("VECTABLE_ENV_FILE", ".env")
    sys.exit(run(sys.argv[1:]))
