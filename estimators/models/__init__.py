"""Token heads as pure functions: forward passes, gradients written out, starting values."""
