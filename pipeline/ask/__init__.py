"""Answers in the terminal: what a row, a shard and a plan are made of, and how far an extraction has come."""
