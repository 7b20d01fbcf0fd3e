"""What several tests share: references, random networks, and comparisons."""
