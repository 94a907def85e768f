"""Class means of the shrinkage discriminant that learn from images without labels."""
