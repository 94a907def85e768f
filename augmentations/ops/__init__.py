"""Tensor operations below the augmentations: value ranges, pointwise and resampling kernels, their Triton twins."""
