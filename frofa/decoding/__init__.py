"""Decoding in processes of their own, straight into shared memory."""
