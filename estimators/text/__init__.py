"""Class names as knowledge of a head: templates, embeddings of classes, and the classifier that needs no image."""
