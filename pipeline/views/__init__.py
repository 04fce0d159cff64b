"""From shards to batches: aligned columns on disk, and what gathers minibatches of them."""
