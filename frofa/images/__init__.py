"""Images of any origin: folders, tables, archives, data sets, videos and arrays, listed and decoded."""
