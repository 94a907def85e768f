"""Common ground of all heads: scikit-learn's contract, the checked support set, linear decision functions."""
