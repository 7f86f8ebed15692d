"""The lessons' claims on other random numbers than those of the stored notebooks: `python -m margins`."""
