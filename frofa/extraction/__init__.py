"""From images to features: requests, look-up in the store, batches, the engine, sinks."""
