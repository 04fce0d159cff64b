"""What a person asks: the page, where rows stand, why they would be computed, what a shard is."""
