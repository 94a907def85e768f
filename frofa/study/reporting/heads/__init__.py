"""The report on a comparison of heads: methods, the bar, tables and figures."""
