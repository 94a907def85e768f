"""The user's own encoders: the protocol, ready-made wrappers, registered names."""
