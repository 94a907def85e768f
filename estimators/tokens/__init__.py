"""Token grids as heads read them: lazy, padded, batched, and seen through augmented views."""
