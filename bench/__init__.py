"""Side-by-side benchmarks: one harness, every arm in a process of its own. `python -m bench --help`."""
