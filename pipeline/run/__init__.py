"""Does a plan's jobs: drives workers, which decode, call stages, fit, and save shards."""
