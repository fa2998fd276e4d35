"""What the vision service decides without looking at anything outside."""
