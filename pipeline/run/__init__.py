"""From jobs to shards: drives workers, which decode clips, call stages, fit them, and save shards."""
