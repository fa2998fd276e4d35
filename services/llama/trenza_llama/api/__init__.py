"""What the services that converse have in common between their API and the engine: conversations in, answers out."""
