"""From rows to jobs: which shards hold which rows, what the store lacks, what it would cost. Computes nothing."""
