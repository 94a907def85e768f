"""Labels for other tools and from them: Label Studio's JSON, and FiftyOne's formats of samples."""
