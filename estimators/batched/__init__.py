"""Many fits as one: jobs, the data that they share, chunks that fit into memory."""
