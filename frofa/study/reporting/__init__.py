"""The study's report: answers, tables, figures."""
