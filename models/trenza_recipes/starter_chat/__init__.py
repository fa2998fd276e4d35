"""The recipe of `starter-chat`, the small chat model that the repository ships."""
