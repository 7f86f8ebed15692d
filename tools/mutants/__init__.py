"""rnnkit broken on purpose, one small change at a time, to see that its tests notice: `python -m mutants`."""
