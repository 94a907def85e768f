"""The averaged shrinkage path: linear discriminants for all penalties at once, left out exactly, averaged."""
