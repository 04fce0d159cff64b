"""Each file is one stage, found by its name. Files that start with an underscore are helpers."""
