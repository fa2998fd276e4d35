"""The continuous-batching llama.cpp engine that the chat and vision services run in their worker processes."""
