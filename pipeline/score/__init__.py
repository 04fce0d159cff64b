"""Predictions -> scores with intervals; probes of features."""
