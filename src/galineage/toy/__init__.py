"""The toy universe: galaxies whose every answer is known, drawn from published relations. Not a simulation."""
