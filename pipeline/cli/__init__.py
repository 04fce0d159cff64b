"""The `affectory` command: what it is told, and what it shows."""
