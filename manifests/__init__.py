"""Corpora: one file each, found by its name. A file with a leading underscore is a helper."""
