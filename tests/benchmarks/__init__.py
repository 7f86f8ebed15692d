"""What rnnkit costs, against what one would use instead: `make bench` measures it and writes docs/benchmarks.md."""
