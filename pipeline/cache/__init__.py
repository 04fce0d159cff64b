"""The cache: everything that is computed once, found by keys, shared over remotes, and kept sound and small."""
