"""The entry point of the `affectory` command.

Each process that a run starts, its workers and their decoders, imports the program's main module anew. This one imports
nothing by itself, so that they do not pay for commands that they never run.
"""


def main() -> None:
    """Runs the command, see `pipeline.cli.main`."""
    from pipeline.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
