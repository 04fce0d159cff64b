"""Models: one file, one model. Every file without a leading underscore is found by its name."""
