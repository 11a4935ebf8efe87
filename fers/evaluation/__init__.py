"""Protocol, metrics, statistics, tables and figures of the experiments."""
