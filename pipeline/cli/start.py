"""The entry point of the `affectory` command.

Each process that a run starts, its workers and their decoders, imports the program's main module anew. This one imports
nothing by itself, so that they do not pay for commands that they never run.
"""

import sys


def main() -> None:
    """Runs the command, see `pipeline.cli.main`."""
    from pipeline import interruption

    interruption.listen()
    try:
        from pipeline.cli.main import main as command
    except interruption.Interrupted as stop:
        sys.stderr.write(f"\n{interruption.line(stop)}\n")
        sys.exit(interruption.INTERRUPTED)
    command()


if __name__ == "__main__":
    main()
