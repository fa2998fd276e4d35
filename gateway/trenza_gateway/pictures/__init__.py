"""The pictures of conversations: decoded from the request or fetched from the net, within limits."""
