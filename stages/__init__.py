"""One stage is one file, found by its name; files that start with an underscore are helpers."""
