"""What is computed once: keys, records, the store, its shards, remotes, and what keeps them sound and small."""
