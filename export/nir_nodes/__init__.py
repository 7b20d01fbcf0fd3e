"""What each NIR node means, and which nodes can be lowered."""
