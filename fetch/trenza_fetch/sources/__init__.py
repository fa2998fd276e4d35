"""Where models come from: a hub, a bucket, a mounted folder."""
