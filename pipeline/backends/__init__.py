"""Runs a network by the fastest of equal ways on this machine, and counts what each way took."""
