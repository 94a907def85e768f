"""What every head shares: scikit-learn's contract, the checked support set, linear decision functions."""
