"""What rnnkit costs beside what one would use instead: `make bench` writes docs/reports/benchmarks.md."""
