"""What a file says about itself in its first bytes, read without decoding anything."""
