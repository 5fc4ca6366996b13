"""The command line, `vectable`. Nothing heavy is imported before a command runs."""


def main() -> None:
    """The program `vectable`: runs the command line of this process and exits with its code."""
    import sys

    from vectable.cli.entry import run

    sys.exit(run(sys.argv[1:]))
