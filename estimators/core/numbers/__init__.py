"""The base of heads with several outputs: numbers, or labels that may hold together."""
