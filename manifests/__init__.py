"""Readers: one file for each corpus, found by its name. A file whose name begins with an underscore is a helper."""
