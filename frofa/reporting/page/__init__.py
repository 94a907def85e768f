"""Report pages: one self-contained HTML file of the facts."""
