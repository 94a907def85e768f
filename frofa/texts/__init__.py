"""Text to frozen features of a pretrained text tower."""
