"""Facts of a report, computed, without HTML."""
