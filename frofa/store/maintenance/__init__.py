"""Care of a store: verify, salvage, repair, compact, and what it holds."""
