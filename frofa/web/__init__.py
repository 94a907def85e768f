"""Ground of all pages: theme, security, data in HTML, thumbnails."""
