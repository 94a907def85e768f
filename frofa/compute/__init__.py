"""Devices, memory, recorded CUDA graphs and digests of arrays and modules: the ground that knows torch."""
