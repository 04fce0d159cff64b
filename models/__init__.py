"""Models, one in each file. A file without a leading underscore is found by its name."""
