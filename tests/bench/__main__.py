"""All measures one after the other, or those that are named: `python -m tests.bench [views media ...]`.

Each is a program of its own, which says in its first lines what it prints. All of them take several hours.
"""

from __future__ import annotations

import subprocess
import sys

MEASURES = (
    "stages",
    "views",
    "training",
    "media",
    "backends",
    "together",
    "whole",
    "nothing",
    "simulate_scale",
    "mulg_mult",
)


def main() -> int:
    """Runs them; 1 if one fails, or if there is none of a name."""
    chosen = sys.argv[1:] or MEASURES
    if unknown := sorted(set(chosen) - set(MEASURES)):
        sys.stderr.write(f"no measure is named {', '.join(unknown)}: there are {', '.join(MEASURES)}\n")
        return 1
    return max(_run(name) for name in chosen)


def _run(name: str) -> int:
    sys.stdout.write(f"\n== {name}\n")
    sys.stdout.flush()
    return int(subprocess.run([sys.executable, "-m", f"tests.bench.{name}"]).returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
