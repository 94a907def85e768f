"""Minibatch training of many heads at once: schedules, streams of batches, gradients, SGD."""
