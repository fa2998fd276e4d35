"""What every Trenza process shares, and what model services add to it."""
