"""Opens picture files from strangers safely: PNG, JPEG, WebP and GIF become plain pixels."""
