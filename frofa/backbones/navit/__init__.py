"""Images in their own aspect ratio: packed sequences through a vision transformer (NaViT, NaFlex)."""
