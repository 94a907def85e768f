"""Sources of weights: names, the hub, folders of timm and Hugging Face, big_vision files."""
