"""Labels on disk: a CSV file that is only appended to."""
