"""The comparison of heads: what needs no tuning against today's defaults and against tuned probes."""
