"""Ridge regression of many outputs on the same features: every penalty, every output, and each sample left out."""
