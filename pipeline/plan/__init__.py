"""From rows to jobs: which rows are asked for, which are cached, and which jobs are still to do. Computes nothing."""
