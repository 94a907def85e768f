"""The store's files: sealed headers, shards, indexes, and the table of a feature space."""
