"""What is kept between steps: splits of galaxies (maps and shards come here later)."""
